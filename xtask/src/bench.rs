//! `cargo xtask bench`: what the client costs, in release mode, side by side with a yardstick in the same run.

use crate::command_line::Benchmark;
use crate::process;
use crate::workspace::Workspace;

/// Runs a benchmark with the user's arguments.
///
/// # Errors
///
/// When the program does not build or does not exit with success.
pub(crate) fn run(workspace: &Workspace, benchmark: Benchmark, extra: &[String]) -> Result<(), String> {
    let mut arguments = vec!["run", "--release", "--locked"];
    match benchmark {
        Benchmark::Sampling => arguments.extend(["-p", "tinkex-bench"]),
        Benchmark::Wire => arguments.extend(["-p", "tinkex-types", "--example", "bench_wire"]),
    }
    arguments.push("--");
    if benchmark == Benchmark::Sampling {
        arguments.push("sampling");
    }
    let mut command = workspace.cargo(&arguments);
    command.args(extra);
    process::run(&mut command).map(|_| ())
}
