//! Whether the programs of Prometheus are there.

use std::io::Write as _;

use tinkex_dashboard::prometheus::Program;

/// Set in the continuous integration: what is missing is a failure then.
const REQUIRED: &str = "TINKEX_REQUIRE_PROMETHEUS";

/// `prometheus` and `promtool`. Where one is missing the test is skipped, which standard error says in a line, even where
/// the output of tests is captured.
///
/// # Panics
///
/// Where one is missing and `TINKEX_REQUIRE_PROMETHEUS` is set.
pub(crate) fn programs(test: &str) -> Option<(Program, Program)> {
    let found = Program::find("prometheus").and_then(|server| Ok((server, Program::find("promtool")?)));
    match found {
        Ok(programs) => Some(programs),
        Err(missing) if std::env::var_os(REQUIRED).is_some() => panic!("{REQUIRED} is set, but {missing}"),
        Err(missing) => {
            // Not `eprintln!`, which would be swallowed.
            let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {missing}");
            None
        }
    }
}
