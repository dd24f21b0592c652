//! The report as Markdown.

use std::fmt::Write as _;

use super::table::Style;
use super::{JSON, PLOT, Report, tables};

/// Everything on one page.
pub(super) fn render(report: &Report) -> String {
    let machine = &report.machine;
    let mut page = String::from(
        "# Benchmarks\n\nMade by `cargo xtask bench`. Do not edit: the next run writes this folder anew.\n\n",
    );
    let about = [
        ("when", machine.date.clone()),
        ("commit", machine.commit.clone()),
        ("processor", format!("{}, {} cores", machine.processor, machine.cores)),
        ("memory", format!("{:.1} GiB", machine.memory_gib)),
        ("kernel", machine.kernel.clone()),
        ("load before the run", machine.load_before.clone()),
        ("compiler", machine.rustc.clone()),
        ("Python", machine.python.clone()),
    ];
    // Writing to a string does not fail.
    for (name, value) in about {
        let _ = writeln!(page, "* {name}: {value}");
    }
    for note in &report.notes {
        let _ = writeln!(page, "\n**{note}**");
    }
    for table in tables::all(report) {
        let _ = write!(page, "\n{}", table.render(Style::Markdown));
        if table.title == "CPU per sample" {
            let _ = writeln!(page, "\n![CPU per sample by samples in flight]({PLOT})");
        }
    }
    let _ = writeln!(page, "\n## Method\n");
    for sentence in &report.method {
        let _ = writeln!(page, "* {sentence}");
    }
    let _ = writeln!(page, "\nEvery single run is in [`{JSON}`]({JSON}).");
    page
}
