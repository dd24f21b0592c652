//! Keeping credentials out of events, whatever a server echoes (PROTOCOL 20, security note).
//!
//! Three nets, one behind the other: what is known to be a secret, wherever it stands; what looks like a credential; and,
//! before either, the HTTP layer, which takes the credential of an attempt out of the error that answers it.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use tinkex_http::{REDACTED, scrub_credentials};
use tinkex_types::TelemetryEvent;

/// Shorter texts are no secrets: they stand in any text by accident.
const SHORTEST: usize = 4;
/// The last word of a header value with several is a secret too, such as the token behind `Bearer`, from this length on.
const SHORTEST_WORD: usize = 8;
/// Passing secrets that are remembered: tokens change, and old ones may still be echoed. The oldest is forgotten first.
const MOST_PASSING: usize = 64;
/// What stands where a text was cut, here or by those who made the error.
const CUTS: [&str; 2] = ["…", "..."];
/// No text that is sent is longer than this, in characters.
const LONGEST_TEXT: usize = 1000;
/// Behind it stands a token.
const SCHEME: &str = "bearer ";

/// What no event may hold. It prints nothing.
#[derive(Debug, Default)]
pub(super) struct Secrets(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// Of the client: its key, the values of its headers. Never forgotten.
    fixed: Vec<Secret>,
    /// Of a call, or for a time.
    passing: VecDeque<Secret>,
}

/// A secret in the forms that it has in texts.
#[derive(Debug)]
struct Secret {
    plain: SecretString,
    /// Inside a JSON string, where that is another.
    escaped: Option<SecretString>,
}

impl Secrets {
    /// Adds a secret of the client's, which is never forgotten. A known one is kept once.
    pub(super) fn learn_for_good(&self, secret: &str) {
        for secret in parts(secret) {
            let mut known = self.known();
            if !known.fixed.iter().any(|one| one.is(secret)) {
                known.fixed.push(Secret::new(secret));
            }
        }
    }

    /// Adds a secret that passes, such as a token. Many later ones displace it.
    pub(super) fn learn(&self, secret: &str) {
        for secret in parts(secret) {
            let mut known = self.known();
            if known.fixed.iter().any(|one| one.is(secret)) {
                continue;
            }
            let before = known.passing.iter().position(|one| one.is(secret));
            // What is learned again is the newest.
            let before = before.and_then(|at| known.passing.remove(at));
            if known.passing.len() >= MOST_PASSING {
                known.passing.pop_front();
            }
            known.passing.push_back(before.unwrap_or_else(|| Secret::new(secret)));
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
            let known = self.known();
            for secret in known.fixed.iter().chain(&known.passing) {
                clean = without_beginnings(secret.taken_out_of(clean), secret.plain.expose_secret());
            }
        }
        *text = without_bearers(&scrub_credentials(clean));
        if let Some((end, _)) = text.char_indices().nth(LONGEST_TEXT) {
            text.truncate(end);
            text.push_str(CUTS[0]);
        }
    }
}

impl Secret {
    fn new(secret: &str) -> Self {
        let escaped = serde_json::to_string(secret).unwrap_or_default();
        let escaped = escaped.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or_default();
        let differs = !escaped.is_empty() && escaped != secret;
        Self { plain: SecretString::from(secret), escaped: differs.then(|| SecretString::from(escaped)) }
    }

    fn is(&self, secret: &str) -> bool {
        self.plain.expose_secret() == secret
    }

    fn taken_out_of(&self, text: String) -> String {
        [Some(&self.plain), self.escaped.as_ref()].into_iter().flatten().fold(text, |text, form| {
            let form = form.expose_secret();
            if text.contains(form) { text.replace(form, REDACTED) } else { text }
        })
    }
}

/// What of a value is a secret: all of it, and the last word of several.
fn parts(value: &str) -> impl Iterator<Item = &str> {
    let value = value.trim();
    let whole = (value.len() >= SHORTEST).then_some(value);
    let word = value.rsplit_once(char::is_whitespace).map(|(_, word)| word);
    whole.into_iter().chain(word.filter(|word| word.len() >= SHORTEST_WORD))
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

/// Takes out the tokens behind the word `Bearer`, whatever they look like.
fn without_bearers(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    while let Some(at) = lower[done..].find(SCHEME) {
        let begin = done + at + SCHEME.len();
        let end = token_end(text, begin);
        out.push_str(&text[done..begin]);
        if end - begin >= SHORTEST {
            out.push_str(REDACTED);
            done = end;
        } else {
            done = begin;
        }
    }
    out.push_str(&text[done..]);
    out
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
    }

    /// The key and the headers of a client are known as long as it lives; tokens pass.
    #[test]
    fn what_is_forgotten() {
        let many = Secrets::default();
        many.learn_for_good("the key of the client");
        many.learn("the first token");
        for n in 0..1000 {
            many.learn(&format!("secret-{n:04}"));
            many.learn("renewed-each-time");
        }
        assert_eq!(many.known().passing.len(), MOST_PASSING);
        let mut text = "the key of the client, secret-0000, secret-0999, renewed-each-time".to_owned();
        many.redact_text(&mut text);
        assert_eq!(text, "[REDACTED], secret-0000, [REDACTED], [REDACTED]");
        let shown = format!("{many:?}");
        assert!(!shown.contains("secret-0") && !shown.contains("the key"), "{shown}");
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
            (r#"{"k":"tml-abcd"}"#, r#"{"k":"[REDACTED]"}"#),
            (
                r#"{"k":"line\ntml-abcd, \u003deyJhIjox%3DeyJhIjox"}"#,
                r#"{"k":"line\n[REDACTED], \u003d[REDACTED]%3D[REDACTED]"}"#,
            ),
            (r"line\nBearer abcd-efgh", r"line\nBearer [REDACTED]"),
            ("Bearer tml-0123 and Bearer: none", "Bearer [REDACTED] and Bearer: none"),
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
