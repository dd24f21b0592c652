//! `cargo xtask dashboard`: runs the demo with its metrics served, lets a real Prometheus scrape it, and draws the
//! dashboard over the run.
//!
//! The work is done by the member `tinkex-dashboard`; this command builds the demo and says where the picture goes.

use crate::conformance::program;
use crate::process;
use crate::test::CLIENT_FEATURES;
use crate::workspace::Workspace;

/// The picture, below the root.
const PICTURE: &str = "docs/dashboard.svg";

/// Draws the picture; takes about a minute and a half.
///
/// # Errors
///
/// When a program does not build, when `prometheus` is not installed, or when the demo fails.
pub(crate) fn run(workspace: &Workspace) -> Result<(), String> {
    let features = format!("{CLIENT_FEATURES},prometheus-listener");
    let selection =
        ["-p", "tinkex-client", "--example", "demo", "--no-default-features", "--features", &features];
    let demo = program::build(workspace, &selection)?;
    let mut command = workspace.cargo(&["run", "--locked", "-p", "tinkex-dashboard", "--", &demo, PICTURE]);
    process::run(&mut command).map(|_| ())
}
