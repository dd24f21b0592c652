//! Where the programs of Prometheus are, and what `promtool` says.

use std::env;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Failure;

/// A program of Prometheus that is installed.
#[derive(Clone, Debug)]
pub struct Program(PathBuf);

impl Program {
    /// Looks for it along `PATH`.
    ///
    /// # Errors
    ///
    /// Where it is not installed: one line that says how to get it.
    pub fn find(name: &str) -> Result<Self, Failure> {
        let folders = env::var_os("PATH").unwrap_or_default();
        let found = env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.is_file());
        let missing = || format!("`{name}` is not installed; on Debian: apt-get install prometheus");
        Ok(Self(found.ok_or_else(missing)?))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

/// Lets `promtool check metrics` judge what a scrape would read.
///
/// # Errors
///
/// What it complains about.
pub fn check_exposition(promtool: &Program, exposition: &str) -> Result<(), Failure> {
    check(promtool, "metrics", &[], exposition)
}

/// Lets `promtool check rules` judge a file of alerts.
///
/// # Errors
///
/// What it complains about.
pub fn check_rules(promtool: &Program, rules: &Path) -> Result<(), Failure> {
    check(promtool, "rules", &[rules], "")
}

fn check(promtool: &Program, what: &str, files: &[&Path], input: &str) -> Result<(), Failure> {
    let mut child = Command::new(promtool.path())
        .args(["check", what])
        .args(files)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut pipe) = child.stdin.take() {
        pipe.write_all(input.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    Err(format!("promtool check {what}: {}\n{}", output.status, said.concat()).into())
}
