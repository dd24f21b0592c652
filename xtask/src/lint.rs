//! `cargo xtask lint`: every check that needs no test run. All checks are made; each prints one line.

mod banned;
mod inheritance;
mod layers;
mod manifest;
mod sources;

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Instant;

use serde_json::Value;

use crate::workspace::Workspace;
use crate::{process, proto};

/// One check: `Err` says what is wrong and what to do.
struct Check {
    name: &'static str,
    run: fn(&Workspace) -> Result<(), String>,
}

/// The checks, cheap ones first.
const CHECKS: &[Check] = &[
    Check {
        name: "format",
        run: |workspace| cargo(workspace, &["fmt", "--all", "--check"], "run `cargo fmt --all`"),
    },
    Check { name: "source rules", run: sources::check },
    Check { name: "workspace inheritance", run: inheritance::check },
    Check { name: "layers", run: layers::check },
    Check { name: "banned crates", run: banned::check },
    Check { name: "proto drift", run: proto_drift },
    Check { name: "clippy, no features", run: |workspace| clippy(workspace, &["--no-default-features"]) },
    Check { name: "clippy, default features", run: |workspace| clippy(workspace, &[]) },
    Check { name: "clippy, all features", run: |workspace| clippy(workspace, &["--all-features"]) },
    Check { name: "docs", run: docs },
];

/// Runs every check.
///
/// # Errors
///
/// The names of the checks that failed; their findings have been printed.
pub(crate) fn run(workspace: &Workspace) -> Result<(), String> {
    let mut failed = Vec::new();
    for check in CHECKS {
        print!("lint: {} ... ", check.name);
        // The line stands while a slow check runs.
        io::stdout().flush().map_err(|e| e.to_string())?;
        let start = Instant::now();
        match (check.run)(workspace) {
            Ok(()) => println!("ok ({})", process::seconds(start.elapsed())),
            Err(findings) => {
                println!("FAILED ({})\n{findings}\n", process::seconds(start.elapsed()));
                failed.push(check.name);
            }
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(format!("lint failed: {}", failed.join(", "))) }
}

/// Runs cargo silently; a failure carries its output and the advice.
fn cargo(workspace: &Workspace, arguments: &[&str], advice: &str) -> Result<(), String> {
    process::captured(&mut workspace.cargo(arguments))
        .map(|_| ())
        .map_err(|text| format!("{text}\n-> {advice}"))
}

fn clippy(workspace: &Workspace, features: &[&str]) -> Result<(), String> {
    let mut arguments = vec!["clippy", "--quiet", "--locked", "--workspace", "--all-targets"];
    arguments.extend(features);
    arguments.extend(["--", "-D", "warnings"]);
    cargo(workspace, &arguments, "fix the warnings; an exception needs `#[allow(.., reason = \"..\")]`")
}

fn docs(workspace: &Workspace) -> Result<(), String> {
    let arguments = [
        "doc",
        "--quiet",
        "--locked",
        "--workspace",
        "--no-deps",
        "--document-private-items",
        "--all-features",
    ];
    let mut command = workspace.cargo(&arguments);
    command.env("RUSTDOCFLAGS", "-D warnings");
    process::captured(&mut command).map(|_| ()).map_err(|text| format!("{text}\n-> fix the documentation"))
}

fn proto_drift(workspace: &Workspace) -> Result<(), String> {
    process::captured(&mut proto::rebuilt(workspace, true))
        .map(|_| ())
        .map_err(|text| format!("{text}\n-> {}", proto::ADVICE))
}

/// `cargo metadata` of the members alone.
fn metadata(workspace: &Workspace) -> Result<Value, String> {
    let text = process::captured(&mut workspace.cargo(&[
        "metadata",
        "--format-version",
        "1",
        "--no-deps",
        "--locked",
    ]))?;
    serde_json::from_str(&text).map_err(|e| format!("cargo metadata: {e}"))
}

/// The folders of the members, from `cargo metadata`.
fn member_folders(metadata: &Value) -> Vec<PathBuf> {
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    packages
        .iter()
        .filter_map(|package| package["manifest_path"].as_str())
        .filter_map(|manifest| PathBuf::from(manifest).parent().map(PathBuf::from))
        .collect()
}

/// All findings as one text, or success when there are none.
fn verdict(findings: Vec<String>, advice: &str) -> Result<(), String> {
    if findings.is_empty() { Ok(()) } else { Err(format!("{}\n-> {advice}", findings.join("\n"))) }
}
