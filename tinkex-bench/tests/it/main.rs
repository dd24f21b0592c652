//! The whole program, with numbers so small that they mean nothing.

use std::fs;
use std::path::Path;
use std::process::Command;

/// A smoke run measures every part in processes of their own, and writes all files of the report; what is missing on
/// the machine is said.
#[test]
fn a_smoke_run_goes_through_everything_and_writes_the_report() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("smoke");
    // It may be there from an earlier run.
    drop(fs::remove_dir_all(&folder));
    let mut command = Command::new(env!("CARGO_BIN_EXE_tinkex-bench"));
    // Every machine has the first contenders; Python must be told to be missing, so that this test is the same
    // everywhere.
    command.args(["--smoke", "--python", "no-such-python", "--out"]).arg(&folder);
    let output = command.output().expect("the program starts");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}");

    let read = |name: &str| fs::read_to_string(folder.join(name)).expect("a file of the report");
    let page = read("README.md");
    for part in
        ["## Targets", "## CPU per sample", "## Thousands in flight", "columns of the Python SDK are empty"]
    {
        assert!(page.contains(part), "{part} is missing:\n{page}");
    }
    assert!(read("cpu-per-sample.svg").contains("</svg>"));
    let results: serde_json::Value = serde_json::from_str(&read("results.json")).expect("JSON");
    for (part, cells) in [("sampling", 2), ("inflight", 4)] {
        let measured = results[part].as_array().expect("a list");
        assert_eq!(measured.len(), cells, "{part}");
        for round in measured.iter().flat_map(|rounds| rounds["rounds"].as_array().expect("a list")) {
            for who in ["tinkex", "bare"] {
                let reading = &round[who];
                assert!(reading["samples"].as_u64().expect("a number") >= 20, "{part}, {who}: {reading}");
                assert!(reading["cpu_seconds"].as_f64().expect("a number") > 0.0, "{part}, {who}: {reading}");
            }
            assert!(round["python"].is_null());
        }
    }
    assert_eq!(results["failures"].as_array().map(Vec::len), Some(0));
}

#[test]
fn a_wrong_argument_is_refused_with_the_usage() {
    let output = Command::new(env!("CARGO_BIN_EXE_tinkex-bench")).arg("everything").output();
    let output = output.expect("the program starts");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("usage:"));
}
