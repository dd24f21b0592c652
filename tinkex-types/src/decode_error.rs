//! A body that could not be read.

use std::fmt;

/// What was being read and what is wrong with it. Never retried: the same bytes would fail again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    subject: &'static str,
    detail: String,
}

impl DecodeError {
    /// An error about `subject`, the type or field that was being read.
    pub fn new(subject: &'static str, detail: impl fmt::Display) -> Self {
        Self { subject, detail: detail.to_string() }
    }

    /// An error of the JSON reader. It quotes texts of the body; those are left out, since they may echo what was sent, the
    /// credential included.
    pub fn of_json(subject: &'static str, error: &serde_json::Error) -> Self {
        Self { subject, detail: without_quotes(&error.to_string()) }
    }
}

/// What the JSON reader says, without the texts it quotes: `string ".."`, `unknown variant `..`` and the like. The names
/// behind `expected` are ours and stay.
fn without_quotes(words: &str) -> String {
    let Some((begin, open, close)) = QUOTES
        .iter()
        .filter_map(|(open, close)| Some((words.find(open)?, *open, *close)))
        .min_by_key(|(begin, ..)| *begin)
    else {
        return words.to_owned();
    };
    let quoted = begin + open.len();
    let end = words[quoted..].rfind(close).map_or(words.len(), |length| quoted + length);
    format!("{}…{}", &words[..quoted], &words[end..])
}

/// How the reader begins to quote, and what stands behind a quotation.
const QUOTES: [(&str, &str); 4] = [
    ("string \"", "\", expected "),
    ("character `", "`, expected "),
    ("unknown variant `", "`, expected "),
    ("unknown field `", "`, expected "),
];

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot read {}: {}", self.subject, self.detail)
    }
}

impl std::error::Error for DecodeError {}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::DecodeError;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Word {
        Stop,
        Length,
    }

    #[test]
    fn texts_of_a_body_are_not_quoted() {
        let said = |error| DecodeError::of_json("it", &error).to_string();
        let list = |json| said(serde_json::from_str::<Vec<u8>>(json).unwrap_err());
        let expected = "cannot read it: invalid type: string \"…\", expected a sequence at line 1 column 19";
        assert_eq!(list(r#""a \", expected key""#), expected.replace("19", "20"));
        assert_eq!(list("[1"), "cannot read it: EOF while parsing a list at line 1 column 2");
        let word = said(serde_json::from_str::<Word>(r#""a key""#).unwrap_err());
        assert!(
            word.starts_with("cannot read it: unknown variant `…`, expected `stop` or `length`"),
            "{word}"
        );
    }
}
