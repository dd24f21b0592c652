//! The document: compared with what the tests show, or written from it.

use super::table::Row;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reliability.md");
const BLESS: &str = "TINKEX_BLESS";
const COMMAND: &str = "TINKEX_BLESS=1 cargo test -p tinkex-client --test it reliability";

fn blessing() -> bool {
    std::env::var_os(BLESS).is_some_and(|value| !value.is_empty())
}

fn text() -> String {
    std::fs::read_to_string(PATH).unwrap_or_default()
}

/// Cells are padded to the widths of their table, which a single row does not know.
fn squeezed(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Asserts that a section of the document says of a row what was seen.
pub(super) fn assert_holds(title: &str, row: &Row) {
    if blessing() {
        return;
    }
    let text = text();
    let heading = format!("## {title}\n");
    let section = text.split_once(&heading).map(|(_, rest)| rest).unwrap_or_default();
    let section = section.split("\n## ").next().unwrap_or_default();
    let line = format!("| {} |", row.cells().join(" | "));
    for seen in std::iter::once(line).chain(row.message()) {
        let told = section.lines().any(|line| squeezed(line) == squeezed(&seen));
        let similar: Vec<_> =
            section.lines().filter(|line| line.contains(&format!("`{}`", row.test))).map(squeezed).collect();
        assert!(
            told,
            "docs/reliability.md, \"{title}\", does not say what was seen\n  seen: {seen}\n  said: {similar:?}\n  \
             Where what was seen is right: {COMMAND}"
        );
    }
}

/// The whole document is what all rows together make.
#[test]
fn the_document_says_what_the_tests_show() {
    let fresh = written();
    if blessing() {
        std::fs::write(PATH, fresh).unwrap();
        return;
    }
    let told = text();
    let (told, fresh): (Vec<_>, Vec<_>) = (told.lines().collect(), fresh.lines().collect());
    let differs = (0..told.len().max(fresh.len())).find(|n| told.get(*n) != fresh.get(*n));
    if let Some(n) = differs {
        panic!(
            "docs/reliability.md is not what the tests show, from line {} on\n  said: {:?}\n  seen: {:?}\n  \
             Where what was seen is right: {COMMAND}",
            n + 1,
            told.get(n),
            fresh.get(n)
        );
    }
}

fn written() -> String {
    let mut out = include_str!("head.md").to_owned();
    out.push_str("\n## The faults\n\n");
    for fault in super::faults::ALL {
        let super::faults::Fault { name, what, advice, .. } = fault;
        out.push_str(&format!("* **{name}**: {what}. What to do: {advice}.\n"));
    }
    for table in super::tables() {
        out.push('\n');
        out.push_str(&table.markdown());
    }
    out
}
