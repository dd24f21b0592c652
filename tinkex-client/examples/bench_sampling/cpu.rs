//! What a stretch of work cost this process.

use std::time::Instant;

/// Processor and wall time, in seconds.
pub(crate) struct Cost {
    pub(crate) cpu_seconds: f64,
    pub(crate) wall_seconds: f64,
}

/// A running measurement.
pub(crate) struct Meter {
    cpu: f64,
    wall: Instant,
}

impl Meter {
    #[allow(clippy::disallowed_methods, reason = "wall time is what is measured")]
    pub(crate) fn start() -> Result<Self, crate::AnyError> {
        Ok(Self { cpu: process_cpu_seconds()?, wall: Instant::now() })
    }

    #[allow(clippy::disallowed_methods, reason = "wall time is what is measured")]
    pub(crate) fn stop(self) -> Result<Cost, crate::AnyError> {
        let wall_seconds = Instant::now().duration_since(self.wall).as_secs_f64();
        Ok(Cost { cpu_seconds: process_cpu_seconds()? - self.cpu, wall_seconds })
    }
}

/// User and system time of all threads so far. The kernel counts in hundredths of a second.
fn process_cpu_seconds() -> Result<f64, crate::AnyError> {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat =
        std::fs::read_to_string("/proc/self/stat").map_err(|e| format!("CPU time needs Linux: {e}"))?;
    // The second field, the name, is in parentheses and may hold blanks; utime and stime are fields 14 and 15.
    let after_name = stat.rsplit_once(')').ok_or("unreadable process statistics")?.1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = |index: usize| -> Result<f64, crate::AnyError> {
        Ok(fields.get(index).ok_or("unreadable process statistics")?.parse::<f64>()?)
    };
    Ok((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND)
}
