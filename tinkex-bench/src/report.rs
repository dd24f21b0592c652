//! The report: everything measured, judged against the targets, as text for people, JSON for programs, and a plot.

#[cfg(test)]
mod example;
mod markdown;
mod plot;
mod table;
mod tables;
mod targets;

use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::AnyError;
use crate::instructions::Count;
use crate::machine::Machine;
use crate::rounds::Rounds;
use crate::wire::Timing;

use table::Style;
pub(crate) use targets::{Target, Verdict};

/// Everything that was measured. A part that was not run is empty.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    /// How it was measured, in sentences.
    pub(crate) method: Vec<String>,
    pub(crate) sampling: Vec<Rounds>,
    pub(crate) inflight: Vec<Rounds>,
    pub(crate) metrics: Vec<Rounds>,
    pub(crate) wire: Vec<Timing>,
    pub(crate) instructions: Vec<Count>,
    /// Why something is missing.
    pub(crate) notes: Vec<String>,
    /// What went wrong.
    pub(crate) failures: Vec<String>,
    pub(crate) targets: Vec<Target>,
}

/// The names of the files in the report's folder.
const MARKDOWN: &str = "README.md";
const JSON: &str = "results.json";
const PLOT: &str = "cpu-per-sample.svg";

impl Report {
    /// Judges what was measured, unless there is a reason not to. Where only a part was run, the targets of the other
    /// parts are left out.
    pub(crate) fn judge(&mut self, reason_not_to: Option<&str>, whole: bool) {
        self.targets = targets::judge(self, reason_not_to);
        self.targets.retain(|target| whole || target.found != "-");
    }

    /// The tables for the terminal.
    pub(crate) fn terminal(&self) -> String {
        tables::all(self).iter().map(|table| table.render(Style::Terminal)).collect::<Vec<_>>().join("\n")
    }

    /// Writes the files into a folder, which is made where it is missing.
    pub(crate) fn write(&self, folder: &Path) -> Result<(), AnyError> {
        fs::create_dir_all(folder)?;
        fs::write(folder.join(MARKDOWN), markdown::render(self))?;
        fs::write(folder.join(JSON), format!("{}\n", serde_json::to_string_pretty(self)?))?;
        fs::write(folder.join(PLOT), plot::render(&self.sampling)?)?;
        Ok(())
    }
}
