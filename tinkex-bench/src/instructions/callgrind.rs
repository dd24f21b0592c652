//! Runs this program under `valgrind --tool=callgrind` and reads the count.

use std::env;
use std::process::Command;

use crate::AnyError;

/// Whether there is a callgrind.
///
/// # Errors
///
/// A sentence for the report.
pub(super) fn check() -> Result<(), String> {
    match Command::new("valgrind").arg("--version").output() {
        Ok(output) if output.status.success() => Ok(()),
        _ => Err("there is no `valgrind` on this machine".to_owned()),
    }
}

/// The instructions of a whole process that repeats an operation.
pub(super) fn count(operation: &str, repetitions: usize) -> Result<u64, AnyError> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    command.arg(env::current_exe()?).args(["count", operation, &repetitions.to_string()]);
    let output = command.output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let printed = String::from_utf8_lossy(&output.stdout);
        return Err(format!("counting {operation:?} failed: {printed}{errors}").into());
    }
    collected(&errors).ok_or_else(|| format!("callgrind gave no count for {operation:?}: {errors}").into())
}

/// The count in what callgrind prints at the end.
fn collected(printed: &str) -> Option<u64> {
    printed.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_count_is_found() {
        let printed =
            "==7== Events    : Ir\n==7== Collected : 123456\n==7== \n==7== I   refs:      123,456\n";
        assert_eq!(super::collected(printed), Some(123_456));
        assert_eq!(super::collected("==7== nothing\n"), None);
    }
}
