//! `cargo xtask proto`: compiles the protobuf schema into checked-in Rust code, or compares the two.
//!
//! The compiler (protox and prost-build, no `protoc` needed) is an optional dependency. Without the feature `proto` this
//! module calls the same program again, built with it.

#[cfg(feature = "proto")]
mod compile;

use crate::workspace::Workspace;

/// What to do when the checked-in code no longer matches the schema.
pub(crate) const ADVICE: &str = "run `cargo xtask proto` and commit tinkex-types/src/proto/generated";

/// Compiles the schema into the source tree; with `check`, only compares.
///
/// # Errors
///
/// When the schema does not compile, a file cannot be written, or, with `check`, the code differs.
#[cfg(feature = "proto")]
pub(crate) fn run(workspace: &Workspace, check: bool) -> Result<(), String> {
    compile::run(workspace, check)
}

/// Compiles the schema into the source tree; with `check`, only compares.
///
/// # Errors
///
/// When the compiler does not build, or for every reason it has to fail.
#[cfg(not(feature = "proto"))]
pub(crate) fn run(workspace: &Workspace, check: bool) -> Result<(), String> {
    let mut command = rebuilt(workspace, check);
    let status = command.status().map_err(|e| format!("cannot start cargo: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("the protobuf compiler failed ({status})")) }
}

/// The same program, built with the compiler, as a command.
pub(crate) fn rebuilt(workspace: &Workspace, check: bool) -> std::process::Command {
    let mut arguments =
        vec!["run", "--quiet", "--locked", "-p", "xtask", "--features", "proto", "--", "proto"];
    if check {
        arguments.push("--check");
    }
    workspace.cargo(&arguments)
}
