//! A reader for the part of TOML that our own manifests use: tables of `key = value`, values over several lines.

/// One `key = value` with the table it stands in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The text between the brackets of the table's heading; empty above the first.
    pub(super) table: String,
    /// The key, dots included.
    pub(super) key: String,
    /// The value; line breaks inside brackets become blanks.
    pub(super) value: String,
}

/// Splits a manifest into its entries. Comments are dropped.
pub(super) fn entries(text: &str) -> Vec<Entry> {
    let mut table = String::new();
    let mut found: Vec<Entry> = Vec::new();
    let mut open = 0_usize;
    for line in text.lines() {
        let line = without_comment(line).trim();
        if line.is_empty() {
            continue;
        }
        if open > 0 {
            if let Some(last) = found.last_mut() {
                last.value.push(' ');
                last.value.push_str(line);
            }
            open = balance(line, open);
        } else if line.starts_with('[') {
            table = line.trim_matches(['[', ']']).trim().to_owned();
        } else if let Some((key, value)) = line.split_once('=') {
            found.push(Entry {
                table: table.clone(),
                key: key.trim().to_owned(),
                value: value.trim().to_owned(),
            });
            open = balance(value, 0);
        }
    }
    found
}

/// The line up to a `#` that is not inside a string.
fn without_comment(line: &str) -> &str {
    let mut quoted = false;
    for (at, character) in line.char_indices() {
        match character {
            '"' => quoted = !quoted,
            '#' if !quoted => return &line[..at],
            _ => {}
        }
    }
    line
}

/// How many brackets are open after `text`, if `open` were before it.
fn balance(text: &str, open: usize) -> usize {
    let mut quoted = false;
    text.chars().fold(open, |open, character| match character {
        '"' => {
            quoted = !quoted;
            open
        }
        '[' | '{' if !quoted => open + 1,
        ']' | '}' if !quoted => open.saturating_sub(1),
        _ => open,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_dotted_keys_and_long_values_are_read() {
        let text = "[package]\nname = \"a\" # not b\nversion.workspace = true\n\n[dependencies]\n\
                    tokio = { workspace = true, features = [\n  \"time\", # the clock\n  \"rt\",\n] }\nhttp.workspace = true\n";
        let found = entries(text);
        let pairs: Vec<(&str, &str, &str)> =
            found.iter().map(|e| (e.table.as_str(), e.key.as_str(), e.value.as_str())).collect();
        assert_eq!(
            pairs,
            [
                ("package", "name", "\"a\""),
                ("package", "version.workspace", "true"),
                ("dependencies", "tokio", "{ workspace = true, features = [ \"time\", \"rt\", ] }"),
                ("dependencies", "http.workspace", "true"),
            ]
        );
    }
}
