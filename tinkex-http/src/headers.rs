//! The headers every request carries (PROTOCOL 5.1).

use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};

use crate::{ApiRequest, content_encoding};

pub(crate) const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
pub(crate) const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("x-idempotency-key");
const RETRY_COUNT: HeaderName = HeaderName::from_static("x-stainless-retry-count");
const READ_TIMEOUT: HeaderName = HeaderName::from_static("x-stainless-read-timeout");

/// The headers that are the same for every request of a client: who is speaking, and what it can read.
pub(crate) fn defaults() -> HeaderMap {
    let os = match std::env::consts::OS {
        "linux" => "Linux",
        "macos" => "MacOS",
        "windows" => "Windows",
        "freebsd" => "FreeBSD",
        _ => "Unknown",
    };
    let arch = match std::env::consts::ARCH {
        "x86_64" => "x64",
        "x86" => "x32",
        "aarch64" => "arm64",
        "arm" => "arm",
        _ => "unknown",
    };
    let version = HeaderValue::from_static(tinkex_types::PROTOCOL_SDK_VERSION);
    HeaderMap::from_iter([
        (USER_AGENT, HeaderValue::from_static(concat!("tinkex/", env!("CARGO_PKG_VERSION")))),
        (ACCEPT_ENCODING, HeaderValue::from_static(content_encoding::ACCEPTED)),
        (HeaderName::from_static("x-stainless-package-version"), version),
        (HeaderName::from_static("x-stainless-os"), HeaderValue::from_static(os)),
        (HeaderName::from_static("x-stainless-arch"), HeaderValue::from_static(arch)),
        (HeaderName::from_static("x-stainless-runtime"), HeaderValue::from_static("rust")),
    ])
}

/// The headers of one attempt. Precedence, lowest to highest: the client's, the request's, what the pipeline must
/// say; the credential is set last.
pub(crate) fn for_attempt(
    defaults: &HeaderMap,
    request: &ApiRequest,
    idempotency_key: Option<&HeaderValue>,
    retries: u32,
    credential: Option<HeaderValue>,
) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(defaults.len() + request.headers.len() + 8);
    headers.extend(defaults.iter().map(|(name, value)| (name.clone(), value.clone())));
    headers.insert(ACCEPT, request.accept.clone());
    for (name, value) in &request.headers {
        // `extend` would append: both values would be sent.
        headers.insert(name.clone(), value.clone());
    }
    if let Some(content_type) = &request.content_type {
        headers.insert(CONTENT_TYPE, content_type.clone());
    }
    if let Some(key) = idempotency_key {
        headers.insert(IDEMPOTENCY_KEY, key.clone());
    }
    headers.insert(RETRY_COUNT, number(retries.into()));
    headers.insert(READ_TIMEOUT, number(request.timeout.as_secs().max(1)));
    if let Some(credential) = credential {
        headers.insert(API_KEY, credential);
    }
    headers
}

/// A number as a header value, without an allocation for those that nearly every request carries.
fn number(number: u64) -> HeaderValue {
    match number {
        0 => HeaderValue::from_static("0"),
        45 => HeaderValue::from_static("45"),
        60 => HeaderValue::from_static("60"),
        _ => HeaderValue::from(number),
    }
}
