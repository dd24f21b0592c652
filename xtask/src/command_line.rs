//! Reads the command line by hand (no parser dependency) and prints the table of commands.

use crate::table;

/// One row per command: how to call it, what it does.
const COMMANDS: &[[&str; 2]] = &[
    [
        "test [--suite SUITE]",
        "run every test and doctest; SUITE is unit, concurrency, error-recovery, training, transports or golden",
    ],
    [
        "demo [-- ARGS]",
        "sample and train against the embedded server; ARGS, such as --url URL, go to the program",
    ],
    ["lint", "formatting, clippy, docs, crate layering, banned crates, proto drift, source rules"],
    ["proto [--check]", "compile the protobuf schema into checked-in code; --check only compares"],
    ["conformance", "drive the fake server with the official Python SDK and check the values"],
    [
        "bench [PART] [-- ARGS]",
        "in release mode, beside a bare HTTP loop and the official Python SDK; PART is sampling, inflight, metrics, wire or \
         instructions; without one all of them, written to docs/benchmarks; ARGS are --quick, --full, --rounds N, ..",
    ],
    ["dashboard", "run the demo with a real Prometheus beside it, and draw docs/dashboard.svg over the run"],
    ["ci", "lint, test, demo and conformance, in this order, with timings"],
    ["help", "this table"],
];

/// A parsed command line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Print the table of commands.
    Help,
    /// Run one suite, or everything.
    Test(Option<Suite>),
    /// Run the demo with these arguments.
    Demo(Vec<String>),
    /// Run all static checks.
    Lint,
    /// Compile the schema, or compare it with the checked-in code.
    Proto {
        /// Compare only, write nothing.
        check: bool,
    },
    /// Drive the fake server with the official Python SDK.
    Conformance,
    /// Run a part of the benchmarks, or all of them, with these arguments.
    Bench(Option<&'static str>, Vec<String>),
    /// Draw the dashboard over a run of the demo.
    Dashboard,
    /// Run what the continuous integration runs.
    Ci,
}

/// The parts of the benchmarks.
const BENCHMARKS: [&str; 5] = ["sampling", "inflight", "metrics", "wire", "instructions"];

/// A part of the tests, selected by where a test lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Suite {
    /// Tests inside the crates, and doctests.
    Unit,
    /// Fan-out, cancellation and the soak.
    Concurrency,
    /// Retries, pauses, the HTTP layer and the poller.
    ErrorRecovery,
    /// Training, custom losses, the learner, and the loops of the examples.
    Training,
    /// The client's tests over every transport instead of in memory.
    Transports,
    /// Recorded traffic and vectors.
    Golden,
}

impl Suite {
    /// Every suite with the name it has on the command line.
    const NAMES: [(&'static str, Suite); 6] = [
        ("unit", Suite::Unit),
        ("concurrency", Suite::Concurrency),
        ("error-recovery", Suite::ErrorRecovery),
        ("training", Suite::Training),
        ("transports", Suite::Transports),
        ("golden", Suite::Golden),
    ];

    fn from_name(name: &str) -> Result<Self, String> {
        let found = Self::NAMES.iter().find(|(known, _)| *known == name);
        found.map(|(_, suite)| *suite).ok_or_else(|| {
            let known: Vec<&str> = Self::NAMES.iter().map(|(known, _)| *known).collect();
            format!("unknown suite '{name}'; known suites: {}", known.join(", "))
        })
    }
}

/// Turns the arguments after the program name into a command.
///
/// # Errors
///
/// A sentence for the user when the command, an option or a suite is unknown.
pub(crate) fn parse(arguments: &[String]) -> Result<Command, String> {
    let mut words = arguments.iter().map(String::as_str);
    let name = words.next().unwrap_or("help");
    let rest: Vec<&str> = words.collect();
    match name {
        "help" | "--help" | "-h" => Ok(Command::Help),
        "test" => match rest.as_slice() {
            [] => Ok(Command::Test(None)),
            ["--suite", suite] => Suite::from_name(suite).map(|suite| Command::Test(Some(suite))),
            [word] if word.starts_with("--suite=") => {
                Suite::from_name(word.trim_start_matches("--suite=")).map(|suite| Command::Test(Some(suite)))
            }
            _ => Err(unexpected(name, &rest)),
        },
        "demo" => Ok(Command::Demo(after_separator(&rest))),
        "lint" if rest.is_empty() => Ok(Command::Lint),
        "proto" => match rest.as_slice() {
            [] => Ok(Command::Proto { check: false }),
            ["--check"] => Ok(Command::Proto { check: true }),
            _ => Err(unexpected(name, &rest)),
        },
        "conformance" if rest.is_empty() => Ok(Command::Conformance),
        "bench" => {
            let part = rest.first().and_then(|word| BENCHMARKS.into_iter().find(|part| part == word));
            let rest = if part.is_some() { &rest[1..] } else { &rest[..] };
            match rest.first() {
                Some(word) if !word.starts_with("--") => Err(unexpected(name, rest)),
                _ => Ok(Command::Bench(part, after_separator(rest))),
            }
        }
        "dashboard" if rest.is_empty() => Ok(Command::Dashboard),
        "ci" if rest.is_empty() => Ok(Command::Ci),
        "lint" | "conformance" | "dashboard" | "ci" => Err(unexpected(name, &rest)),
        _ => Err(format!("unknown command '{name}'; `cargo xtask help` lists the commands")),
    }
}

/// The table that `cargo xtask help` prints.
pub(crate) fn help() -> String {
    let rows: Vec<Vec<String>> =
        COMMANDS.iter().map(|row| row.iter().map(|cell| (*cell).to_owned()).collect()).collect();
    format!("Usage: cargo xtask COMMAND\n\n{}", table::render(&["command", "what it does"], &rows))
}

/// The arguments with a leading `--` taken off: `demo -- --url X` and `demo --url X` mean the same.
fn after_separator(rest: &[&str]) -> Vec<String> {
    let rest = if rest.first() == Some(&"--") { &rest[1..] } else { rest };
    rest.iter().map(|word| (*word).to_owned()).collect()
}

fn unexpected(command: &str, rest: &[&str]) -> String {
    format!("`{command}` does not take '{}'; `cargo xtask help` lists the commands", rest.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        parse(&words)
    }

    #[test]
    fn no_argument_prints_the_help() {
        assert_eq!(parsed(""), Ok(Command::Help));
        assert_eq!(parsed("--help"), Ok(Command::Help));
    }

    #[test]
    fn a_suite_is_read_in_both_spellings() {
        assert_eq!(parsed("test"), Ok(Command::Test(None)));
        assert_eq!(parsed("test --suite error-recovery"), Ok(Command::Test(Some(Suite::ErrorRecovery))));
        assert_eq!(parsed("test --suite=golden"), Ok(Command::Test(Some(Suite::Golden))));
    }

    #[test]
    fn an_unknown_suite_names_the_known_ones() {
        let message = parsed("test --suite slow").unwrap_err();
        for name in ["slow", "unit", "concurrency", "error-recovery", "training", "transports", "golden"] {
            assert!(message.contains(name), "{message}");
        }
    }

    #[test]
    fn arguments_of_the_programs_pass_through() {
        let expected = vec!["--url".to_owned(), "http://localhost:1".to_owned()];
        assert_eq!(parsed("demo -- --url http://localhost:1"), Ok(Command::Demo(expected.clone())));
        assert_eq!(parsed("demo --url http://localhost:1"), Ok(Command::Demo(expected)));
        let samples = vec!["--samples".to_owned()];
        assert_eq!(
            parsed("bench sampling -- --samples"),
            Ok(Command::Bench(Some("sampling"), samples.clone()))
        );
        assert_eq!(parsed("bench --samples"), Ok(Command::Bench(None, samples)));
        assert_eq!(parsed("bench"), Ok(Command::Bench(None, Vec::new())));
        assert_eq!(parsed("bench wire"), Ok(Command::Bench(Some("wire"), Vec::new())));
    }

    #[test]
    fn a_surplus_argument_is_refused() {
        for line in ["lint --fix", "proto --all", "ci fast", "conformance 1", "test unit", "bench training"] {
            assert!(parsed(line).unwrap_err().contains("does not take"), "{line}");
        }
        assert!(parsed("deploy").unwrap_err().contains("unknown command 'deploy'"));
    }

    #[test]
    fn the_help_has_a_row_for_every_command() {
        let help = help();
        for [usage, _] in COMMANDS {
            let name = usage.split_whitespace().next().unwrap();
            assert!(help.contains(usage));
            // No row without a command behind it.
            assert!(
                !matches!(parsed(name), Err(message) if message.starts_with("unknown command")),
                "{name}"
            );
        }
    }
}
