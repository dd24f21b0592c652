//! Plain-text tables for summaries.

/// Renders a table with left-aligned columns, two spaces between them, a rule under the heading and a final newline.
pub(crate) fn render(heading: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = heading.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> =
            cells.zip(&widths).map(|(cell, width)| format!("{cell:width$}", width = *width)).collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    let rules: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
    let mut text = line(&mut heading.iter().copied());
    text += &line(&mut rules.iter().map(String::as_str));
    for row in rows {
        text += &line(&mut row.iter().map(String::as_str));
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_line_up_and_no_line_ends_in_blanks() {
        let rows =
            vec![vec!["lint".to_owned(), "ok".to_owned()], vec!["conformance".to_owned(), "ok".to_owned()]];
        let text = super::render(&["stage", "result"], &rows);
        assert_eq!(text, "stage        result\n-----------  ------\nlint         ok\nconformance  ok\n");
    }
}
