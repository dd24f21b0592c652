//! Keeping secrets out of what people read.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT,
};

use crate::credential_shape;

/// What stands where a secret stood.
pub const REDACTED: &str = "[REDACTED]";

/// Headers that may be shown. Everything else is a secret until proven otherwise.
const SHOWN: [&str; 14] = [
    "accept",
    "accept-encoding",
    "content-encoding",
    "content-length",
    "content-type",
    "retry-after",
    "retry-after-ms",
    "user-agent",
    "x-idempotency-key",
    "x-sdk-method",
    "x-sdk-version",
    "x-should-retry",
    "x-stainless-retry-count",
    "x-tinker-request-type",
];

/// Headers as they may be logged: values outside a short allow-list are replaced.
pub fn shown_headers(headers: &HeaderMap) -> Vec<(&HeaderName, Cow<'_, str>)> {
    let shown =
        |name: &HeaderName, value: &HeaderValue| SHOWN.contains(&name.as_str()) && !value.is_sensitive();
    headers
        .iter()
        .map(|(name, value)| match value.to_str() {
            Ok(text) if shown(name, value) => (name, Cow::Owned(text.to_owned())),
            _ => (name, Cow::Borrowed(REDACTED)),
        })
        .collect()
}

/// Removes a credential, and whatever else looks like one, from text that came from elsewhere, such as an error body that
/// echoes the request.
pub(crate) fn scrub(text: String, credential: Option<&HeaderValue>) -> String {
    let text = match credential.and_then(|value| value.to_str().ok()) {
        Some(secret) => scrub_text(text, secret),
        None => text,
    };
    scrub_credentials(text)
}

/// Removes whatever looks like a credential of the service from text: keys (`tml-..`) and JWTs (`eyJ..`), of eight bytes at
/// least, also directly behind an escape of JSON or of a URL.
pub fn scrub_credentials(text: String) -> String {
    if credential_shape::find(text.as_bytes(), 0).is_none() {
        return text;
    }
    let scrubbed = replaced(text.into(), credential_shape::find);
    String::from_utf8_lossy(&scrubbed).into_owned()
}

/// Removes a secret from text, also in the form that it has inside a JSON string. An empty secret is none.
fn scrub_text(text: String, secret: &str) -> String {
    if secret.is_empty() {
        return text;
    }
    let text = if text.contains(secret) { text.replace(secret, REDACTED) } else { text };
    let escaped = serde_json::to_string(secret).unwrap_or_default();
    let escaped = escaped.trim_matches('"');
    let differs = !escaped.is_empty() && escaped != secret;
    if differs && text.contains(escaped) { text.replace(escaped, REDACTED) } else { text }
}

/// A credential shorter than this, in bytes, may be an ordinary word or number of a body that is still decoded, which it
/// must not break. The keys of the service and its tokens are longer.
const SHORTEST_IN_BODIES: usize = 8;

/// The same for a body that is only shown.
pub(crate) fn shown_body(body: Bytes, credential: Option<&HeaderValue>) -> Bytes {
    replaced(without(body, credential), credential_shape::find)
}

/// The same for a body that is decoded afterwards, such as one with the category of an error.
pub(crate) fn scrub_body(body: Bytes, credential: Option<&HeaderValue>) -> Bytes {
    shown_body(body, credential.filter(|secret| secret.len() >= SHORTEST_IN_BODIES))
}

/// A body, whose bytes need not be text, without the credential. A JSON body may hold it in its escaped form.
fn without(body: Bytes, credential: Option<&HeaderValue>) -> Bytes {
    let Some(secret) = credential.map(HeaderValue::as_bytes).filter(|secret| !secret.is_empty()) else {
        return body;
    };
    let body = replaced(body, |body, from| find(body, secret, from));
    if secret.iter().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\')) {
        return body;
    }
    let escaped = serde_json::to_string(&String::from_utf8_lossy(secret)).unwrap_or_default();
    replaced(body, |body, from| find(body, escaped.trim_matches('"').as_bytes(), from))
}

fn find(body: &[u8], secret: &[u8], from: usize) -> Option<Range<usize>> {
    let rest = body.get(from..)?;
    let found = match (str::from_utf8(rest), str::from_utf8(secret)) {
        // Much faster than the general way, and bodies are nearly always text.
        (Ok(rest), Ok(secret)) => rest.find(secret),
        _ => rest.windows(secret.len()).position(|window| window == secret),
    };
    found.map(|at| from + at..from + at + secret.len())
}

fn replaced(body: Bytes, find: impl Fn(&[u8], usize) -> Option<Range<usize>>) -> Bytes {
    let Some(mut found) = find(&body, 0) else { return body };
    let (mut out, mut done) = (Vec::with_capacity(body.len()), 0);
    loop {
        out.extend_from_slice(&body[done..found.start]);
        out.extend_from_slice(REDACTED.as_bytes());
        done = found.end;
        match find(&body, done) {
            Some(next) => found = next,
            None => break,
        }
    }
    out.extend_from_slice(&body[done..]);
    out.into()
}

/// Headers that may follow a redirect to another origin: what any anonymous client says. Everything else may identify
/// the caller, the caller's own headers included.
const ANONYMOUS: [HeaderName; 5] = [ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, USER_AGENT];

/// Takes out every header that may identify the caller.
pub(crate) fn keep_anonymous(headers: &mut HeaderMap) {
    let rest: Vec<HeaderName> = headers.keys().filter(|name| !ANONYMOUS.contains(name)).cloned().collect();
    for name in rest {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::scrub_text;

    #[test]
    fn a_secret_is_taken_out_of_text_in_both_forms() {
        for (text, secret, expected) in [
            ("no secret", "", "no secret"),
            ("a key and a key", "key", "a [REDACTED] and a [REDACTED]"),
            (r#"{"said":"a\"b"} or a"b"#, "a\"b", r#"{"said":"[REDACTED]"} or [REDACTED]"#),
        ] {
            assert_eq!(scrub_text(text.to_owned(), secret), expected);
        }
    }
}
