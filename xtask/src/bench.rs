//! `cargo xtask bench`: what the client costs, in release mode, beside a bare HTTP loop and the official Python SDK.
//!
//! The work is done by the member `tinkex-bench`; this command builds it and tells it where things are.

use std::ffi::OsString;

use crate::conformance::python;
use crate::process;
use crate::workspace::Workspace;

/// Where a run of everything leaves its report, below the root.
const REPORT: &str = "docs/benchmarks";

/// Runs one part, or all of them, with the user's arguments.
///
/// # Errors
///
/// When the program does not build or does not exit with success.
pub(crate) fn run(workspace: &Workspace, part: Option<&str>, extra: &[String]) -> Result<(), String> {
    let mut command = workspace.cargo(&["run", "--release", "--locked", "-p", "tinkex-bench", "--"]);
    command.args(part);
    command.arg("--python").arg(python::interpreter(&workspace.target_dir()));
    // A part alone, and a run that proves nothing, must not replace the report.
    if part.is_none() && !extra.iter().any(|word| word == "--smoke") {
        command.args([OsString::from("--out"), workspace.root().join(REPORT).into()]);
    }
    // The user's own words come last, so that they win.
    command.args(extra);
    process::run(&mut command).map(|_| ())
}
