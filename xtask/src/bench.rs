//! `cargo xtask bench sampling`: CPU per sample of the client, side by side with a bare HTTP loop.

use crate::process;
use crate::test::CLIENT_FEATURES;
use crate::workspace::Workspace;

/// Runs the sampling benchmark in release mode with the user's arguments.
///
/// # Errors
///
/// When the program does not build or does not exit with success.
pub(crate) fn run(workspace: &Workspace, extra: &[String]) -> Result<(), String> {
    let mut command = workspace.cargo(&[
        "run",
        "--release",
        "--locked",
        "-p",
        "tinkex-client",
        "--example",
        "bench_sampling",
        "--no-default-features",
        "--features",
        CLIENT_FEATURES,
        "--",
    ]);
    command.args(extra);
    process::run(&mut command).map(|_| ())
}
