//! `cargo xtask test`: every test of the workspace, or one suite, with nothing but a Rust toolchain.
//!
//! Suites select by where a test lives. The integration tests of `tinkex-client` sit in modules of one binary
//! (`tests/it`), so a module name is a filter. A run that selects no test at all fails: a renamed module must not turn
//! a suite into an empty success.
//!
//! One run compiles TLS, since nothing else proves certificates, ALPN and tunnels. All others leave it out: they talk to
//! local sockets only, and a TLS stack is the slowest part of a cold build.

use std::time::{Duration, Instant};

use crate::command_line::Suite;
use crate::transports::{EXCEPTIONS, LONG, MODULES, TRANSPORTS, VARIABLE};
use crate::workspace::Workspace;
use crate::{process, table};

/// The features of a workspace-wide test run: the ready-made transport without TLS, the `tower` adapter,
/// compression, the Prometheus helper with its listener, the benchmarks' program.
const WORKSPACE_FEATURES: &str = "tinkex-http/reqwest,tinkex-http/tower,tinkex-http/zstd,tinkex-client/reqwest,\
                                  tinkex-client/tower,tinkex-client/zstd,tinkex-observer/prometheus-listener,\
                                  tinkex-bench/reqwest";
/// The same for a run of `tinkex-client` alone.
pub(crate) const CLIENT_FEATURES: &str = "reqwest,tower,zstd";

/// One invocation of `cargo test`.
struct Run {
    label: &'static str,
    arguments: Vec<&'static str>,
    /// The HTTP stack that the client's tests run on; none for the in-memory one.
    transport: Option<&'static str>,
}

/// What one invocation did.
#[derive(Debug, Default)]
struct Tally {
    passed: u64,
    failed: u64,
    ignored: u64,
    elapsed: Duration,
}

impl Tally {
    /// Adds a line of the shape `test result: ok. 12 passed; 0 failed; 0 ignored; ..`; other lines count nothing.
    fn add_line(&mut self, line: &str) {
        let Some(counts) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". ")) else {
            return;
        };
        for part in counts.1.split("; ") {
            let Some((number, name)) = part.split_once(' ') else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match name {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

/// Runs the selected tests and prints a closing summary.
///
/// # Errors
///
/// When a test fails, when a run selects no test, or when cargo cannot be started. All runs are made first.
pub(crate) fn run(workspace: &Workspace, suite: Option<Suite>) -> Result<(), String> {
    let mut rows = Vec::new();
    let mut problems = Vec::new();
    for run in plan(suite) {
        let (tally, outcome) = execute(workspace, &run);
        let result = match outcome {
            Ok(()) if tally.passed == 0 => {
                problems.push(format!("'{}' ran no test", run.label));
                "NO TESTS"
            }
            Ok(()) => "ok",
            Err(message) => {
                problems.push(message);
                "FAILED"
            }
        };
        rows.push(vec![
            run.label.to_owned(),
            tally.passed.to_string(),
            tally.failed.to_string(),
            tally.ignored.to_string(),
            process::seconds(tally.elapsed),
            result.to_owned(),
        ]);
    }
    println!("\n{}", table::render(&["tests", "passed", "failed", "ignored", "time", "result"], &rows));
    if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
}

fn execute(workspace: &Workspace, run: &Run) -> (Tally, Result<(), String>) {
    let mut tally = Tally::default();
    let start = Instant::now();
    let mut command = workspace.cargo(&run.arguments);
    if let Some(transport) = run.transport {
        println!("\n{VARIABLE}={transport}, without:");
        EXCEPTIONS.iter().for_each(|left_out| println!("  {}: {}", left_out.test, left_out.reason));
        command.env(VARIABLE, transport);
    }
    let outcome = process::run_watched(&mut command, |line| tally.add_line(line));
    tally.elapsed = start.elapsed();
    (tally, outcome)
}

/// The invocations behind a suite; without one, everything.
fn plan(suite: Option<Suite>) -> Vec<Run> {
    match suite {
        None => [workspace_run("workspace", &["--no-fail-fast"], &[])]
            .into_iter()
            .chain(TRANSPORTS.map(|(name, label)| transport_run(name, label, &LONG)))
            // Its own run: the tokenizer crates are large, and everything else does not need them.
            .chain([Run {
                label: "tokenizers",
                arguments: cargo_test(
                    &["-p", "tinkex-client", "--lib", "--test", "it"],
                    "reqwest,zstd,tokenizers",
                    &["tokenizer"],
                ),
                transport: None,
            }])
            .chain([tls_run()])
            .collect(),
        Some(Suite::Unit) => vec![
            workspace_run("unit", &["--no-fail-fast", "--lib", "--bins"], &[]),
            workspace_run("doctests", &["--doc"], &[]),
        ],
        Some(Suite::Concurrency) => {
            vec![client_run(
                "concurrency",
                &["concurrency::", "cancellation::", "soak::", "training_interleavings::"],
            )]
        }
        Some(Suite::ErrorRecovery) => vec![
            client_run(
                "error recovery",
                &["error_recovery::", "queue_states::", "training::recovery", "training_regressions::"],
            ),
            Run {
                label: "HTTP layer",
                arguments: cargo_test(&["-p", "tinkex-http", "--test", "it"], CLIENT_FEATURES, &[]),
                transport: None,
            },
            Run {
                label: "poller",
                arguments: vec!["test", "--locked", "-p", "tinkex-future", "--test", "it"],
                transport: None,
            },
        ],
        Some(Suite::Training) => vec![
            client_run("training", &["training", "custom_loss", "examples::"]),
            Run {
                label: "fake service",
                arguments: vec![
                    "test",
                    "--locked",
                    "-p",
                    "tinkex-testkit",
                    "--test",
                    "service",
                    "--",
                    "training",
                    "learner",
                ],
                transport: None,
            },
        ],
        Some(Suite::Transports) => TRANSPORTS.map(|(name, label)| transport_run(name, label, &[])).into(),
        Some(Suite::Golden) => vec![workspace_run("golden", &["--no-fail-fast", "--tests"], &["golden"])],
    }
}

fn workspace_run(label: &'static str, selection: &[&'static str], filters: &[&'static str]) -> Run {
    let mut wide = vec!["--workspace"];
    wide.extend(selection);
    Run { label, arguments: cargo_test(&wide, WORKSPACE_FEATURES, filters), transport: None }
}

/// The client's tests over another transport, less those that are too long.
fn transport_run(name: &'static str, label: &'static str, too_long: &[&'static str]) -> Run {
    let run = client_run(label, &MODULES);
    let left_out = EXCEPTIONS.iter().map(|left_out| left_out.test).chain(too_long.iter().copied());
    let skipped = left_out.flat_map(|test| ["--skip", test]);
    let arguments = run.arguments.into_iter().chain(skipped).collect();
    Run { arguments, transport: Some(name), ..run }
}

/// The one binary that needs a TLS stack.
fn tls_run() -> Run {
    Run {
        label: "TLS and proxies",
        arguments: cargo_test(&["-p", "tinkex-http", "--test", "tls"], "rustls,zstd", &[]),
        transport: None,
    }
}

fn client_run(label: &'static str, filters: &[&'static str]) -> Run {
    let arguments = cargo_test(&["-p", "tinkex-client", "--test", "it"], CLIENT_FEATURES, filters);
    Run { label, arguments, transport: None }
}

fn cargo_test(
    selection: &[&'static str],
    features: &'static str,
    filters: &[&'static str],
) -> Vec<&'static str> {
    let mut arguments = vec!["test", "--locked"];
    arguments.extend(selection);
    arguments.extend(["--no-default-features", "--features", features]);
    if !filters.is_empty() {
        arguments.push("--");
        arguments.extend(filters);
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_counted_and_others_are_not() {
        let mut tally = Tally::default();
        tally.add_line("running 3 tests");
        tally.add_line(
            "test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 4 filtered out; finished in 0.01s",
        );
        tally.add_line("test result: FAILED. 5 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out");
        tally.add_line("test result: nonsense");
        assert_eq!((tally.passed, tally.failed, tally.ignored), (7, 1, 1));
    }

    /// A second run with TLS would build the stack again, or slow down what does not need it.
    #[test]
    fn one_run_compiles_tls_and_every_run_is_locked() {
        let all = [
            None,
            Some(Suite::Unit),
            Some(Suite::Concurrency),
            Some(Suite::ErrorRecovery),
            Some(Suite::Training),
            Some(Suite::Transports),
            Some(Suite::Golden),
        ];
        for run in all.into_iter().flat_map(plan) {
            let line = run.arguments.join(" ");
            assert!(line.contains("--locked"), "{line}");
            assert_eq!(line.contains("rustls"), run.label == "TLS and proxies", "{line}");
            // These two have no features.
            let featureless = ["tinkex-future", "tinkex-testkit"].iter().any(|name| line.contains(name));
            assert!(line.contains("--no-default-features") || featureless, "{line}");
        }
    }
}
