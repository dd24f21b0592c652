//! Keeping credentials out of events, whatever a server echoes (PROTOCOL 20, security note).
//!
//! Three nets, one behind the other: what is known to be a secret, wherever it stands; what looks like a credential; and,
//! before either, the HTTP layer, which takes the credential of an attempt out of the error that answers it.

use std::sync::{Mutex, PoisonError};

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use tinkex_http::{REDACTED, scrub_text};
use tinkex_types::TelemetryEvent;

/// Shorter texts are no secrets: they stand in any text by accident.
const SHORTEST: usize = 4;
/// The last word of a header value with several is a secret too, such as the token behind `Bearer`, from this length on.
const SHORTEST_WORD: usize = 8;
/// Secrets that are remembered; tokens change, and old ones may still be echoed. The oldest is forgotten first.
const MOST: usize = 64;
/// What stands where a text was cut, here or by those who made the error.
const CUTS: [&str; 2] = ["…", "..."];
/// No text that is sent is longer than this, in characters.
const LONGEST_TEXT: usize = 1000;
/// How credentials begin (PROTOCOL 3.1).
const PREFIXES: [&str; 2] = ["tml-", "eyJ"];
/// Behind it stands a token.
const SCHEME: &str = "bearer ";

/// What no event may hold. It prints nothing.
#[derive(Debug, Default)]
pub(super) struct Secrets(Mutex<Vec<SecretString>>);

impl Secrets {
    /// Adds a secret. A known one is kept once.
    pub(super) fn learn(&self, secret: &str) {
        let secret = secret.trim();
        self.keep(secret, SHORTEST);
        if let Some((_, word)) = secret.rsplit_once(char::is_whitespace) {
            self.keep(word, SHORTEST_WORD);
        }
    }

    fn keep(&self, secret: &str, shortest: usize) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if secret.len() < shortest || known.iter().any(|one| one.expose_secret() == secret) {
            return;
        }
        if known.len() >= MOST {
            known.remove(0);
        }
        known.push(SecretString::from(secret));
    }

    /// Takes the secrets out of everything in an event that can come from outside.
    pub(super) fn redact(&self, event: &mut TelemetryEvent) {
        match event {
            TelemetryEvent::UnhandledException { error_message, traceback, .. } => {
                self.redact_text(error_message);
                if let Some(traceback) = traceback {
                    self.redact_text(traceback);
                }
            }
            TelemetryEvent::GenericEvent { event_data, .. } => self.redact_value(event_data),
            _ => {}
        }
    }

    fn redact_value(&self, value: &mut Value) {
        match value {
            Value::String(text) => self.redact_text(text),
            Value::Array(list) => list.iter_mut().for_each(|value| self.redact_value(value)),
            Value::Object(object) => object.values_mut().for_each(|value| self.redact_value(value)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// Takes the secrets out of a text.
    pub(super) fn redact_text(&self, text: &mut String) {
        let mut clean = std::mem::take(text);
        {
            let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            for secret in known.iter() {
                clean = without_beginnings(scrub_text(clean, secret.expose_secret()), secret.expose_secret());
            }
        }
        *text = without_credentials(&clean);
        if let Some((end, _)) = text.char_indices().nth(LONGEST_TEXT) {
            text.truncate(end);
            text.push_str(CUTS[0]);
        }
    }
}

/// Takes out the beginning of a secret in the middle of which a text was cut.
fn without_beginnings(text: String, secret: &str) -> String {
    CUTS.iter().fold(text, |text, cut| without_beginnings_before(cut, text, secret))
}

fn without_beginnings_before(cut: &str, text: String, secret: &str) -> String {
    if !text.contains(cut) {
        return text;
    }
    let mut parts: Vec<_> = text.split(cut).map(str::to_owned).collect();
    let last = parts.pop().unwrap_or_default();
    for part in &mut parts {
        let mut lengths = (SHORTEST..secret.len()).rev().filter(|length| secret.is_char_boundary(*length));
        if let Some(length) = lengths.find(|length| part.ends_with(&secret[..*length])) {
            part.truncate(part.len() - length);
            part.push_str(REDACTED);
        }
    }
    parts.push(last);
    parts.join(cut)
}

/// Takes out what looks like a credential: a key, a JWT, a bearer token.
fn without_credentials(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let token = match out.ends_with(|c: char| c.is_ascii_alphanumeric()) {
            true => None,
            false => credential(rest),
        };
        match token {
            Some((kept, end)) => {
                out.push_str(&rest[..kept]);
                out.push_str(REDACTED);
                rest = &rest[end..];
            }
            None => {
                out.push(letter);
                rest = &rest[letter.len_utf8()..];
            }
        }
    }
    out
}

/// Where `text` begins with a credential: how much of it may be shown, and where it ends.
fn credential(text: &str) -> Option<(usize, usize)> {
    if PREFIXES.iter().any(|prefix| text.starts_with(prefix)) {
        let end = token_end(text, 0);
        return (end > SHORTEST).then_some((0, end));
    }
    let scheme = text.get(..SCHEME.len())?;
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return None;
    }
    let end = token_end(text, SCHEME.len());
    (end - SCHEME.len() >= SHORTEST && !text[SCHEME.len()..].starts_with(REDACTED))
        .then_some((SCHEME.len(), end))
}

/// Where the token ends that begins at `from`.
fn token_end(text: &str, from: usize) -> usize {
    let of_token = |c: char| c.is_ascii_alphanumeric() || "-._~+/=".contains(c);
    text[from..].find(|c: char| !of_token(c)).map_or(text.len(), |length| from + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redacted(secrets: &[&str], text: &str) -> String {
        let known = Secrets::default();
        secrets.iter().for_each(|secret| known.learn(secret));
        let mut text = text.to_owned();
        known.redact_text(&mut text);
        text
    }

    #[test]
    fn what_is_known() {
        for (secrets, text, expected) in [
            (&["s3cret-key"][..], "no: s3cret-key!", "no: [REDACTED]!"),
            (&["s3\"cret"], r#"{"detail":"s3\"cret"}"#, r#"{"detail":"[REDACTED]"}"#),
            (&["Basic dXNlcjpwYXNz"], "you sent dXNlcjpwYXNz", "you sent [REDACTED]"),
            (&["a", "yes"], "a yes is a yes", "a yes is a yes"),
            (&["blue", "green"], "blue and green", "[REDACTED] and [REDACTED]"),
        ] {
            assert_eq!(redacted(secrets, text), expected);
        }
        let many = Secrets::default();
        (0..1000).for_each(|n| many.learn(&format!("secret-{n:04}")));
        assert_eq!(many.0.lock().unwrap().len(), MOST);
        assert!(!format!("{many:?}").contains("secret-0"));
    }

    /// Errors keep the beginnings of long answers, and one may end in the middle of a secret.
    #[test]
    fn what_was_cut_off() {
        let secret = "0123456789abcdef";
        for (text, expected) in [
            ("you sent 0123456789abcde…", "you sent [REDACTED]…"),
            (
                "HTTP 500: you sent 01234… (after 3 attempts)",
                "HTTP 500: you sent [REDACTED]… (after 3 attempts)",
            ),
            ("0123456… and 012345…", "[REDACTED]… and [REDACTED]…"),
            ("request r failed: 0123456...; and so on", "request r failed: [REDACTED]...; and so on"),
            ("too little to tell: 012…", "too little to tell: 012…"),
            ("0123456789abcdef…", "[REDACTED]…"),
            ("01234 is shown…", "01234 is shown…"),
        ] {
            assert_eq!(redacted(&[secret], text), expected);
        }
        let long = format!("{}{secret}", "x".repeat(995));
        assert_eq!(redacted(&[secret], &long), format!("{}[REDA…", "x".repeat(995)));
    }

    #[test]
    fn what_looks_like_a_credential() {
        for (text, expected) in [
            ("key tml-abc_123 is unknown", "key [REDACTED] is unknown"),
            (r#"{"k":"tml-abc"}"#, r#"{"k":"[REDACTED]"}"#),
            ("token=eyJhIjoxfQ.eyJleHAiOjF9.s-_g, expired", "token=[REDACTED], expired"),
            ("Authorization: Bearer abc.DEF/1+2==", "Authorization: Bearer [REDACTED]"),
            ("BEARER eyJhIjoxfQ", "BEARER [REDACTED]"),
            ("html-body of a survey about eyJ", "html-body of a survey about eyJ"),
            ("the bearer of bad news", "the bearer of bad news"),
            ("überall tml-ünder", "überall tml-ünder"),
            ("", ""),
        ] {
            assert_eq!(redacted(&[], text), expected);
        }
    }
}
