//! On what and when the figures were taken.

use std::fs;
use std::process::Command;
use std::time::SystemTime;

use serde::Serialize;

/// The machine and what ran on it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Machine {
    pub(crate) date: String,
    pub(crate) commit: String,
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) memory_gib: f64,
    pub(crate) kernel: String,
    /// How many files, and so connections, a process may have open.
    pub(crate) open_files: u64,
    /// Over one, five and fifteen minutes before the measurement: a busy machine is not one to believe.
    pub(crate) load_before: String,
    pub(crate) rustc: String,
    pub(crate) python: String,
}

impl Machine {
    /// Asks the system; what it does not tell is "unknown".
    pub(crate) fn here(python: &Result<String, String>) -> Self {
        let unknown = || "unknown".to_owned();
        let memory = read("/proc/meminfo").and_then(|text| field(&text, "MemTotal"));
        let kib = memory.and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok());
        Self {
            date: now(),
            commit: said("git", &["describe", "--always", "--dirty", "--abbrev=12"]).unwrap_or_else(unknown),
            processor: read("/proc/cpuinfo")
                .and_then(|text| field(&text, "model name"))
                .unwrap_or_else(unknown),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_gib: kib.unwrap_or(0.0) / 1024.0 / 1024.0,
            kernel: read("/proc/sys/kernel/osrelease").unwrap_or_else(unknown),
            open_files: rlimit::Resource::NOFILE.get_hard().unwrap_or_default(),
            load_before: read("/proc/loadavg")
                .map(|text| text.split_whitespace().take(3).collect::<Vec<_>>().join(", "))
                .unwrap_or_else(unknown),
            rustc: said("rustc", &["--version"]).unwrap_or_else(unknown),
            python: python.as_ref().map_or_else(|missing| format!("none: {missing}"), Clone::clone),
        }
    }
}

/// The one place that reads the wall clock.
#[allow(clippy::disallowed_methods, reason = "the report says when it was made")]
fn now() -> String {
    httpdate::fmt_http_date(SystemTime::now())
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// The first value of a `name : value` file.
fn field(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    })
}

/// What a program prints, in the folder of this crate.
fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new(program);
    let output = command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "processor\t: 0\nmodel name\t: Some CPU @ 3:1\nmodel\t: 7\n";
        assert_eq!(super::field(text, "model name").as_deref(), Some("Some CPU @ 3:1"));
        assert_eq!(super::field(text, "name"), None);
    }
}
