//! The tables of the document: rows, and how they are written.

use std::fmt::Write as _;

use super::seen::Seen;

/// A fault that has been played.
pub(super) struct Played {
    pub(super) fault: String,
    pub(super) once: Option<Seen>,
    pub(super) lasting: Option<Seen>,
}

impl Played {
    /// Under another name than the fault's own.
    pub(super) fn called(self, fault: &str) -> Self {
        Self { fault: fault.to_owned(), ..self }
    }
}

/// A line of a table, with the test that proves it.
pub(super) struct Row {
    pub(super) test: &'static str,
    pub(super) played: Played,
}

/// One table: a kind of call, and what each fault makes of it.
pub(super) struct Table {
    pub(super) title: &'static str,
    /// What is said above it.
    pub(super) about: &'static str,
    /// The path of the tests.
    pub(super) module: &'static str,
    pub(super) rows: Vec<&'static Row>,
}

/// The rows of a table: each is a test, which compares what is seen with the document; and all of them make the table.
/// What was played for one is not played again for the other.
macro_rules! rows {
    ($title:expr, $about:expr; $($test:ident: $played:expr;)*) => {
        use crate::reliability::table::Row;

        $(
            #[test]
            fn $test() {
                crate::reliability::document::assert_holds($title, row::$test());
            }
        )*

        /// Each row, played once.
        mod row {
            #[allow(clippy::wildcard_imports, reason = "the calls and faults that the rows name")]
            use super::*;

            $(
                pub(super) fn $test() -> &'static Row {
                    static ROW: std::sync::OnceLock<Row> = std::sync::OnceLock::new();
                    ROW.get_or_init(|| Row {
                        test: stringify!($test),
                        played: crate::reliability::stage::on_a_runtime($played),
                    })
                }
            )*
        }

        /// All rows, played.
        pub(super) fn table() -> crate::reliability::table::Table {
            let rows = vec![$(row::$test()),*];
            let module = module_path!().split_once("::").map_or("", |(_, path)| path);
            crate::reliability::table::Table { title: $title, about: $about, module, rows }
        }
    };
}
pub(super) use rows;

impl Row {
    /// The cells, without padding.
    pub(super) fn cells(&self) -> Vec<String> {
        let Played { fault, once, lasting } = &self.played;
        let cell = |seen: &Option<Seen>| seen.as_ref().map(Seen::words);
        let mut cells = vec![fault.clone()];
        cells.extend(cell(once));
        cells.extend(cell(lasting));
        cells.push(format!("`{}`", self.test));
        cells.iter().map(|text| text.replace('|', "\\|")).collect()
    }

    /// What is said in the end, as a list item.
    pub(super) fn message(&self) -> Option<String> {
        let Played { fault, once, lasting } = &self.played;
        let said = |seen: &Option<Seen>| seen.as_ref().and_then(Seen::message);
        let messages = match (said(once), said(lasting)) {
            (Some(once), Some(lasting)) if once != lasting => format!("{once}; where it lasts, {lasting}"),
            (once, lasting) => lasting.or(once)?,
        };
        Some(format!("* {fault}: {messages}"))
    }
}

impl Table {
    /// The section of the document.
    pub(super) fn markdown(&self) -> String {
        let mut out = format!("## {}\n\n{}\n\n", self.title, self.about);
        let columns = self.rows.first().map_or(0, |row| row.cells().len());
        let head: &[&str] = match columns {
            4 => &["fault", "it passes", "it lasts", "test"],
            _ => &["fault", "the caller sees", "test"],
        };
        let mut lines: Vec<Vec<String>> = vec![head.iter().map(|text| (*text).to_owned()).collect()];
        lines.extend(self.rows.iter().map(|row| row.cells()));
        let widths: Vec<usize> = (0..columns)
            .map(|column| lines.iter().map(|cells| cells[column].chars().count()).max().unwrap_or_default())
            .collect();
        for (n, cells) in lines.iter().enumerate() {
            for (cell, width) in cells.iter().zip(&widths) {
                let _ = write!(out, "| {cell:<width$} ");
            }
            out.push_str("|\n");
            if n == 0 {
                widths.iter().for_each(|width| out.push_str(&format!("|{}", "-".repeat(width + 2))));
                out.push_str("|\n");
            }
        }
        let messages: Vec<_> = self.rows.iter().filter_map(|row| row.message()).collect();
        if !messages.is_empty() {
            out.push_str("\nWhat is said in the end:\n\n");
            messages.iter().for_each(|line| out.push_str(&format!("{line}\n")));
        }
        let _ = write!(out, "\nTests: `{}::*`.\n", self.module);
        out
    }
}
