//! Tests that need other environment variables: each runs in a process of its own, so that none sees another's.

/// Re-runs one test of this binary with other environment variables; true in the process that has them.
pub(crate) fn in_environment(test: &str, variables: &[(&str, &str)]) -> bool {
    const MARK: &str = "TINKEX_TEST_ENVIRONMENT";
    if std::env::var_os(MARK).is_some_and(|mark| mark == test) {
        return true;
    }
    let program = std::env::current_exe().unwrap();
    let output = std::process::Command::new(program)
        .args([test, "--exact", "--nocapture"])
        .env(MARK, test)
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    false
}
