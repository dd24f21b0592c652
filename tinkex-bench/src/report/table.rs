//! A table with a title, for the terminal and for Markdown.

use comfy_table::presets::{ASCII_MARKDOWN, NOTHING};
use comfy_table::{CellAlignment, Table as Rows};

/// Where a table is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Terminal,
    Markdown,
}

/// Rows below a header; the first column names what the others measure.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Table {
    pub(super) title: &'static str,
    pub(super) header: Vec<&'static str>,
    pub(super) rows: Vec<Vec<String>>,
}

impl Table {
    /// The title, a blank line, the table, and a line break.
    pub(super) fn render(&self, style: Style) -> String {
        let mut rows = Rows::new();
        rows.load_style(match style {
            Style::Terminal => NOTHING,
            Style::Markdown => ASCII_MARKDOWN,
        });
        rows.set_header(&self.header).add_rows(&self.rows);
        for column in rows.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        match style {
            Style::Terminal => format!("{}\n\n{rows}\n", self.title),
            Style::Markdown => format!("## {}\n\n{rows}\n", self.title),
        }
    }
}
