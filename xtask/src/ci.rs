//! `cargo xtask ci`: the stages of the continuous integration, one after another.

use std::time::Instant;

use crate::workspace::Workspace;
use crate::{conformance, demo, lint, process, table, test};

/// A stage: runs to its end, or says what failed.
type Stage = fn(&Workspace) -> Result<(), String>;

/// The stages in order: the cheap verdicts first. `.ci/run` calls the same commands by name.
const STAGES: [(&str, Stage); 4] = [
    ("lint", lint::run),
    ("test", |workspace| test::run(workspace, None)),
    ("demo", |workspace| demo::run(workspace, &[])),
    ("conformance", conformance::run),
];

/// Runs every stage and prints a closing table; the first failure ends the run.
///
/// # Errors
///
/// The failure of the stage that ended the run.
pub(crate) fn run(workspace: &Workspace) -> Result<(), String> {
    let mut rows = Vec::new();
    let mut failure = None;
    let whole = Instant::now();
    for (name, stage) in STAGES {
        if failure.is_some() {
            rows.push(vec![name.to_owned(), "-".to_owned(), "not run".to_owned()]);
            continue;
        }
        println!("\n=== cargo xtask {name}");
        let start = Instant::now();
        let outcome = stage(workspace);
        let result = if outcome.is_ok() { "ok" } else { "FAILED" };
        rows.push(vec![name.to_owned(), process::seconds(start.elapsed()), result.to_owned()]);
        failure = outcome.err().map(|message| format!("{name}: {message}"));
    }
    let total = if failure.is_none() { "ok" } else { "FAILED" };
    rows.push(vec!["all".to_owned(), process::seconds(whole.elapsed()), total.to_owned()]);
    println!("\n{}", table::render(&["stage", "time", "result"], &rows));
    failure.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_of_the_continuous_integration_runs_the_same_stages() {
        let script = include_str!("../../.ci/run");
        let called: Vec<&str> =
            script.lines().filter_map(|line| line.trim().strip_prefix("stage cargo xtask ")).collect();
        let known: Vec<&str> = STAGES.iter().map(|(name, _)| *name).collect();
        assert_eq!(called, known);
    }
}
