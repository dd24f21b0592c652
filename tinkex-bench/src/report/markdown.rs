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
        ("open files allowed", machine.open_files.to_string()),
        ("load before the run", machine.load_before.clone()),
        ("compiler", machine.rustc.clone()),
        ("Python", machine.python.clone()),
    ];
    // Writing to a string does not fail.
    for (name, value) in about {
        let _ = writeln!(page, "* {name}: {value}");
    }
    for note in report.notes.iter().chain(&report.failures) {
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

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;

    #[test]
    fn the_page_says_on_what_how_and_how_well() {
        let mut report = example::report();
        report.judge(None, true);
        report.notes.push("Something is missing.".to_owned());
        let page = render(&report);
        for part in [
            "Sun, 22 Nov 2026",
            "A processor, 2 cores",
            "**Something is missing.**",
            "## Targets",
            "| CPU per sample, tinkex / bare reqwest ",
            " pass |",
            "## CPU per sample",
            "120.0 (102.0 to 138.0)",
            "1.20",
            "![CPU per sample by samples in flight](cpu-per-sample.svg)",
            "## Thousands in flight",
            "10000 in flight, per-request polling, begun evenly: tinkex",
            "## Encoding and decoding, instructions",
            "## Method",
            "* It was measured with care.",
            "(results.json)",
        ] {
            assert!(page.contains(part), "{part} is missing:\n{page}");
        }
    }

    #[test]
    fn a_contender_that_did_not_run_leaves_a_dash() {
        let mut report = example::report();
        for round in &mut report.sampling[0].rounds {
            round.remove(&crate::contender::Contender::Python);
        }
        report.judge(None, true);
        let page = render(&report);
        assert!(page.contains("not judged: not measured"), "{page}");
        let row = page.lines().find(|line| line.starts_with("| 2048 tokens, 64 in flight")).unwrap();
        assert!(row.contains(" - |"), "{row}");
    }
}
