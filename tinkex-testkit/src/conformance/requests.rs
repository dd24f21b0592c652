//! Requests: they arrive as they were made, and with nothing that was not asked for.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};

use super::rig::{Outcome, Reach, ensure, noise, told};
use crate::{Received, Step};

/// What a transport must not add.
const CREDENTIALS: [&str; 4] = ["authorization", "x-api-key", "cookie", "proxy-authorization"];

pub(super) async fn arrives_as_made(reach: &Reach<'_>) -> Outcome {
    let rig = reach.rig([Step::status(200)]).await?;
    let body = noise(200_000);
    let request = http::Request::put(format!("{}/base/api/v1/x?a=1&b=%2F", rig.url))
        .header("content-encoding", "zstd")
        .body(body.clone())
        .map_err(|e| e.to_string())?;
    rig.exchange(request).await.map_err(told)?;
    let verdict = same_request(&*rig.only_request()?, &body);
    rig.end(verdict)
}

fn same_request(got: &Received, body: &Bytes) -> Outcome {
    ensure(got.method == Method::PUT, || format!("the method was {}", got.method))?;
    ensure((got.base_path.as_str(), got.query.as_deref()) == ("/base", Some("a=1&b=%2F")), || {
        format!("path or query were {} and {:?}", got.base_path, got.query)
    })?;
    ensure(got.header("content-encoding") == Some("zstd"), || "content-encoding was lost".to_owned())?;
    for name in CREDENTIALS {
        ensure(got.header(name).is_none(), || format!("{name} was added"))?;
    }
    ensure(got.body == body, || format!("the body is another, of {} bytes", got.body.len()))
}

/// Header lines that HTTP allows, in the order they have within their name.
pub(super) fn unusual_headers() -> Vec<(HeaderName, HeaderValue)> {
    let many = HeaderName::from_static("x-many");
    let mut lines: Vec<_> =
        ["2", "1", "3, 4", "1"].map(|value| (many.clone(), HeaderValue::from_static(value))).into();
    lines.push((HeaderName::from_static("x-empty"), HeaderValue::from_static("")));
    // Latin-1 and bytes that are no text at all (RFC 9110, 5.5: obs-text).
    if let Ok(opaque) = HeaderValue::from_bytes(b"caf\xe9 \x80\xff") {
        lines.push((HeaderName::from_static("x-opaque"), opaque));
    }
    lines.push((HeaderName::from_static("x-long"), HeaderValue::from_static(LONG)));
    lines
}

/// As long as a credential may be.
const LONG: &str = {
    const BYTES: [u8; 4096] = [b'k'; 4096];
    match std::str::from_utf8(&BYTES) {
        Ok(text) => text,
        Err(_) => "",
    }
};

/// That each name has exactly its lines.
pub(super) fn same_headers(got: &http::HeaderMap) -> Outcome {
    let lines = unusual_headers();
    for (name, _) in &lines {
        let sent: Vec<_> = lines.iter().filter(|(other, _)| other == name).map(|(_, value)| value).collect();
        let came: Vec<_> = got.get_all(name).iter().collect();
        ensure(came == sent, || match name.as_str() {
            "x-long" => "a long value was cut".to_owned(),
            name => format!("{name} was {sent:?} and became {came:?}"),
        })?;
    }
    Ok(())
}

pub(super) async fn headers(reach: &Reach<'_>) -> Outcome {
    let rig = reach.rig([Step::status(200)]).await?;
    let mut request = rig.request()?;
    for (name, value) in unusual_headers() {
        request.headers_mut().append(name, value);
    }
    rig.exchange(request).await.map_err(told)?;
    let verdict = same_headers(&rig.only_request()?.headers);
    rig.end(verdict)
}

pub(super) async fn large_body(reach: &Reach<'_>) -> Outcome {
    let rig = reach.rig([Step::status(200)]).await?;
    let body = noise(super::LARGE);
    let request = rig.request()?.map(|_| body.clone());
    rig.exchange(request).await.map_err(told)?;
    let got = rig.only_request()?;
    let verdict = ensure(got.body == body, || format!("the body is another, of {} bytes", got.body.len()));
    rig.end(verdict)
}
