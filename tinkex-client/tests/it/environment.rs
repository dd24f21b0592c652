//! Tests that need other environment variables: each runs in a process of its own, so that none sees another's.

use std::process::Command;

const MARK: &str = "TINKEX_TEST_ENVIRONMENT";

/// Re-runs one test of this binary with other environment variables; true in the process that has them.
pub(crate) fn in_environment(test: &str, variables: &[(&str, &str)]) -> bool {
    if is_in(test) {
        return true;
    }
    let output = command(test, variables).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    false
}

/// Whether this is the process that [`command`] starts for a test.
pub(crate) fn is_in(test: &str) -> bool {
    std::env::var_os(MARK).is_some_and(|mark| mark == test)
}

/// A process that runs one test of this binary with other environment variables.
pub(crate) fn command(test: &str, variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture"]).env(MARK, test).envs(variables.iter().copied());
    command
}
