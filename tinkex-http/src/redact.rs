//! Keeping secrets out of what people read.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue};

const REDACTED: &str = "[REDACTED]";

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

/// Removes a credential from text that came from elsewhere, such as an error body that echoes the request.
pub(crate) fn scrub(text: String, credential: Option<&HeaderValue>) -> String {
    match credential.and_then(|value| value.to_str().ok()) {
        Some(secret) if !secret.is_empty() && text.contains(secret) => text.replace(secret, REDACTED),
        _ => text,
    }
}

/// Headers that must not follow a redirect to another origin: all that identify the caller.
pub(crate) fn drop_credentials(headers: &mut HeaderMap) {
    let secrets: Vec<HeaderName> = headers
        .iter()
        .filter(|(name, value)| {
            value.is_sensitive()
                || matches!(name.as_str(), "authorization" | "cookie" | "proxy-authorization" | "x-api-key")
                || name.as_str().starts_with("cf-access-")
                || name.as_str().starts_with("x-tinker-")
                || name.as_str().starts_with("x-sdk-")
        })
        .map(|(name, _)| name.clone())
        .collect();
    for name in secrets {
        headers.remove(name);
    }
}
