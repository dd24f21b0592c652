//! The tables of the document: rows, and how they are written.

use std::fmt::Write as _;

use super::seen::Seen;

/// A fault that has been played.
pub(super) struct Played {
    pub(super) fault: String,
    pub(super) once: Option<Seen>,
    pub(super) lasting: Option<Seen>,
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
    pub(super) rows: Vec<Row>,
}

/// The rows of a table: each is a test, which compares what is seen with the document; and all of them make the table.
macro_rules! rows {
    ($title:expr, $about:expr; $($test:ident: $played:expr;)*) => {
        $(
            #[test]
            fn $test() {
                let played = crate::reliability::stage::on_a_runtime($played);
                let row = crate::reliability::table::Row { test: stringify!($test), played };
                crate::reliability::document::assert_holds($title, &row);
            }
        )*

        /// All rows, played.
        #[cfg(feature = "reqwest")]
        pub(super) fn table() -> crate::reliability::table::Table {
            let rows = vec![$(crate::reliability::table::Row {
                test: stringify!($test),
                played: crate::reliability::stage::on_a_runtime($played),
            }),*];
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
        let message = lasting.as_ref().or(once.as_ref())?.message()?;
        Some(format!("* {fault}: {message}"))
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
        lines.extend(self.rows.iter().map(Row::cells));
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
        let messages: Vec<_> = self.rows.iter().filter_map(Row::message).collect();
        if !messages.is_empty() {
            out.push_str("\nWhat is said in the end:\n\n");
            messages.iter().for_each(|line| out.push_str(&format!("{line}\n")));
        }
        let _ = write!(out, "\nTests: `{}::*`.\n", self.module);
        out
    }
}
