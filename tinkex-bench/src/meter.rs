//! What a stretch of work costs this process: processor time, wall time, memory.

use std::fs;
use std::time::Duration;

use cpu_time::ProcessTime;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// A running measurement of time. User and system time of all threads count, nothing of other processes.
pub(crate) struct Stopwatch {
    cpu: ProcessTime,
    wall: Instant,
}

/// What a stopwatch showed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Elapsed {
    pub(crate) cpu: Duration,
    pub(crate) wall: Duration,
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self { cpu: ProcessTime::now(), wall: Instant::now() }
    }

    pub(crate) fn read(&self) -> Elapsed {
        Elapsed { cpu: self.cpu.elapsed(), wall: self.wall.elapsed() }
    }
}

/// Resident memory of this process, in bytes, as Linux accounts for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// Before the first sample.
    pub(crate) baseline_bytes: u64,
    /// The most there was since.
    pub(crate) peak_bytes: u64,
}

impl Memory {
    /// Notes what is resident now, and begins the peak anew. None where the system does not account this way.
    pub(crate) fn baseline() -> Option<u64> {
        // 5 resets the peak (proc(5), clear_refs).
        fs::write("/proc/self/clear_refs", "5").ok()?;
        status("VmRSS")
    }

    /// The peak since the baseline was taken.
    pub(crate) fn since(baseline: Option<u64>) -> Option<Self> {
        Some(Self { baseline_bytes: baseline?, peak_bytes: status("VmHWM")? })
    }

    /// How much the peak is above the baseline.
    pub(crate) fn growth_bytes(&self) -> u64 {
        self.peak_bytes.saturating_sub(self.baseline_bytes)
    }
}

fn status(field: &str) -> Option<u64> {
    value(&fs::read_to_string("/proc/self/status").ok()?, field)
}

/// A value of the status file, which is in kB, in bytes.
fn value(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_file_is_read() {
        let status = "Name:\tx\nVmHWM:\t   2048 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!(value(status, "VmRSS"), Some(1024 * 1024));
        assert_eq!(value(status, "VmHWM"), Some(2048 * 1024));
        assert_eq!(value(status, "VmSwap"), None);
    }
}
