//! Requests in flight as a table for a person.

use std::fmt::{self, Write as _};
use std::time::Duration;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};

use super::{Inflight, InflightRequest, Stage};

/// How many requests are written; of thousands, the oldest tell the most.
const SHOWN: usize = 50;
/// How many characters of a server's own words are written, which stand in the last columns.
const LONGEST_WORDS: usize = 120;
const COLUMNS: [&str; 9] =
    ["#", "request", "stage", "age", "client", "request id", "polls", "queue state", "reason"];
/// Those that hold numbers.
const TO_THE_RIGHT: [usize; 3] = [0, 3, 6];

impl fmt::Display for Inflight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(oldest) = self.oldest_age() else {
            return f.write_str("nothing in flight");
        };
        let [queued, submitting, polling] = Stage::ALL.map(|stage| format!("{} {stage}", self.count(stage)));
        writeln!(f, "{} in flight: {queued}, {submitting}, {polling}; oldest {}", self.len(), Age(oldest))?;
        let shown = &self[..self.len().min(SHOWN)];
        f.write_str(&table(shown).trim_fmt())?;
        match self.len() - shown.len() {
            0 => Ok(()),
            more => write!(f, "\nand {more} more that were started later"),
        }
    }
}

fn table(requests: &[InflightRequest]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(COLUMNS).add_rows(requests.iter().map(cells));
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    for index in TO_THE_RIGHT {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn cells(request: &InflightRequest) -> [String; 9] {
    let state = request.queue_state.as_ref().map(|state| state.as_str());
    [
        request.number.to_string(),
        request.kind.to_string(),
        request.stage.to_string(),
        Age(request.age).to_string(),
        printable(&request.client_id),
        request.request_id.as_deref().map(printable).unwrap_or_default(),
        request.polls.to_string(),
        words(state),
        words(request.reason.as_deref()),
    ]
}

/// What the server said, as far as it belongs into a table.
fn words(text: Option<&str>) -> String {
    let text = text.unwrap_or_default();
    match text.char_indices().nth(LONGEST_WORDS) {
        Some((end, _)) => format!("{}…", printable(&text[..end])),
        None => printable(text),
    }
}

/// Text without line breaks and without anything that could steer a terminal.
fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// An age as people read it: tenths of seconds below a minute, whole seconds below an hour, whole minutes above.
struct Age(Duration);

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tenths, seconds) = (self.0.as_millis() / 100, self.0.as_secs());
        let mut age = String::new();
        match seconds {
            0..60 => write!(age, "{}.{} s", tenths / 10, tenths % 10)?,
            60..3600 => write!(age, "{} min {:02} s", seconds / 60, seconds % 60)?,
            _ => write!(age, "{} h {:02} min", seconds / 3600, seconds / 60 % 60)?,
        }
        f.pad(&age)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_written_for_people() {
        for (millis, text) in [
            (0, "0.0 s"),
            (49, "0.0 s"),
            (3_000, "3.0 s"),
            (59_999, "59.9 s"),
            (60_000, "1 min 00 s"),
            (3_599_999, "59 min 59 s"),
            (3_600_000, "1 h 00 min"),
            (360_000_000, "100 h 00 min"),
        ] {
            assert_eq!(Age(Duration::from_millis(millis)).to_string(), text);
        }
    }

    /// What a server says may be anything; a table has one line for each request.
    #[test]
    fn what_a_server_says_cannot_break_the_table() {
        assert_eq!(words(Some("two\nlines\u{1b}[2J")), "two\\nlines\\u{1b}[2J");
        assert_eq!(words(Some(&"é".repeat(120))), "é".repeat(120));
        assert_eq!(words(Some(&"é".repeat(121))), format!("{}…", "é".repeat(120)));
    }
}
