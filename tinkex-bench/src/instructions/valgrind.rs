//! Runs this program under `valgrind` and reads what it has counted.

use std::env;
use std::process::Command;

use crate::AnyError;

/// Whether there is a valgrind.
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
pub(super) fn instructions(operation: &str, repetitions: usize) -> Result<u64, AnyError> {
    counted(&["--tool=callgrind", "--callgrind-out-file=/dev/null"], operation, repetitions, collected)
}

/// The allocations of such a process.
pub(super) fn allocations(operation: &str, repetitions: usize) -> Result<u64, AnyError> {
    counted(&["--tool=memcheck", "--leak-check=no"], operation, repetitions, allocated)
}

fn counted(
    tool: &[&str],
    operation: &str,
    repetitions: usize,
    read: fn(&str) -> Option<u64>,
) -> Result<u64, AnyError> {
    let mut command = Command::new("valgrind");
    command.args(tool);
    command.arg(env::current_exe()?).args(["count", operation, &repetitions.to_string()]);
    let output = command.output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let printed = String::from_utf8_lossy(&output.stdout);
        return Err(format!("counting {operation:?} failed: {printed}{errors}").into());
    }
    read(&errors).ok_or_else(|| format!("valgrind gave no count for {operation:?}: {errors}").into())
}

/// The count in what callgrind prints at the end.
fn collected(printed: &str) -> Option<u64> {
    printed.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok())
}

/// The count in what memcheck prints at the end.
fn allocated(printed: &str) -> Option<u64> {
    let usage = printed.lines().find_map(|line| Some(line.split_once("total heap usage:")?.1))?;
    usage.split_once(" allocs")?.0.trim().replace(',', "").parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_instructions_are_found() {
        let printed =
            "==7== Events    : Ir\n==7== Collected : 123456\n==7== \n==7== I   refs:      123,456\n";
        assert_eq!(super::collected(printed), Some(123_456));
        assert_eq!(super::collected("==7== nothing\n"), None);
    }

    #[test]
    fn the_allocations_are_found() {
        let printed = "==7== HEAP SUMMARY:\n==7==     in use at exit: 5,120 bytes in 3 blocks\n\
                       ==7==   total heap usage: 12,345 allocs, 12,342 frees, 1,234,567 bytes allocated\n";
        assert_eq!(super::allocated(printed), Some(12_345));
        assert_eq!(super::allocated("==7== nothing\n"), None);
    }
}
