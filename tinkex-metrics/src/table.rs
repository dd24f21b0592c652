//! The contract as the table of `docs/metrics.md`.

use std::fmt::Write as _;

use crate::{LabelDescription, Values, contract};

/// The table of metrics and the table of the labels that several of them have, in Markdown.
pub fn markdown() -> String {
    let mut text = String::from("| metric | type | unit | labels | meaning |\n|---|---|---|---|---|\n");
    for metric in contract::ALL {
        let labels: Vec<_> = metric.labels.iter().map(in_row).collect();
        let labels = if labels.is_empty() { "none".to_owned() } else { labels.join("<br>") };
        let (name, kind, unit, help) = (metric.name, metric.kind, metric.unit.as_str(), metric.help);
        // Writing to a string does not fail.
        let _ = writeln!(text, "| `{name}` | {kind} | {unit} | {labels} | {help} |");
    }
    text.push_str("\n| label | values |\n|---|---|\n");
    let mut told: Vec<&LabelDescription> = Vec::new();
    for label in contract::ALL.iter().flat_map(|metric| metric.labels) {
        if is_shared(label) && !told.contains(&label) {
            told.push(label);
            let _ = writeln!(text, "| `{}` | {} |", label.name, values(label));
        }
    }
    text
}

fn in_row(label: &LabelDescription) -> String {
    match is_shared(label) {
        true => format!("`{}`", label.name),
        false => format!("`{}`: {}", label.name, values(label)),
    }
}

/// Whether several metrics have the label, with the same values.
fn is_shared(label: &LabelDescription) -> bool {
    contract::ALL.iter().filter(|metric| metric.labels.contains(label)).count() > 1
}

fn values(label: &LabelDescription) -> String {
    match label.values {
        Values::Operation => {
            "the name of a call: its URL template below `/api/v1`, such as `asample`".to_owned()
        }
        Values::OneOf(values) => {
            let values: Vec<_> = values.iter().map(|value| format!("`{value}`")).collect();
            values.join(", ")
        }
    }
}
