//! `Content-Encoding`: undone for responses, with a bound on what comes out; zstd for requests that ask for it.

use std::io::Read;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderValue};

use crate::{TransportError, TransportErrorKind};

/// What the pipeline can undo, as the value of `Accept-Encoding`.
pub(crate) const ACCEPTED: &str =
    if cfg!(feature = "zstd") { "gzip, deflate, zstd" } else { "gzip, deflate" };

/// A body as one zstd frame, and the value of `Content-Encoding` that says so; none where this build cannot.
pub(crate) fn compress(body: &[u8]) -> Option<(Bytes, HeaderValue)> {
    #[cfg(feature = "zstd")]
    {
        // Writing to memory does not fail; if it did, the plain body would do.
        let body = zstd::stream::encode_all(body, zstd::DEFAULT_COMPRESSION_LEVEL).ok()?;
        Some((body.into(), HeaderValue::from_static("zstd")))
    }
    #[cfg(not(feature = "zstd"))]
    {
        let _ = body;
        None
    }
}

/// Decodes a body as its headers say, and takes out of them what is no longer true.
pub(crate) fn undo(headers: &mut HeaderMap, body: Bytes, limit: usize) -> Result<Bytes, TransportError> {
    if !headers.contains_key(CONTENT_ENCODING) {
        return Ok(body);
    }
    // Several header lines are one list.
    let lines = headers.get_all(CONTENT_ENCODING).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>();
    let codings = String::from_utf8_lossy(&lines.join(&b',')).into_owned();
    let body = decode(body, &codings, limit)?;
    headers.remove(CONTENT_ENCODING);
    headers.remove(CONTENT_LENGTH);
    Ok(body)
}

/// Decodes a body by the codings its header names, last one first; at most `limit` bytes come out.
fn decode(body: Bytes, codings: &str, limit: usize) -> Result<Bytes, TransportError> {
    let mut body = body;
    for coding in codings.rsplit(',').map(str::trim).filter(|coding| !coding.is_empty()) {
        if body.is_empty() {
            return Ok(body);
        }
        body = match coding.to_ascii_lowercase().as_str() {
            "identity" => body,
            "gzip" | "x-gzip" => read(flate2::read::MultiGzDecoder::new(&body[..]), coding, limit)?,
            // The zlib form only (RFC 9110, 8.4.1.2). The bare stream has no checksum: garbage may pass for it.
            "deflate" => read(flate2::read::ZlibDecoder::new(&body[..]), coding, limit)?,
            #[cfg(feature = "zstd")]
            "zstd" => {
                let decoder =
                    zstd::stream::read::Decoder::with_buffer(&body[..]).map_err(|e| failed(coding, e))?;
                read(decoder, coding, limit)?
            }
            _ => {
                let message =
                    format!("the response is encoded with {coding:?}, which this build cannot decode");
                return Err(TransportError::new(TransportErrorKind::Decode, message));
            }
        };
    }
    Ok(body)
}

fn read(decoder: impl Read, coding: &str, limit: usize) -> Result<Bytes, TransportError> {
    let mut out = Vec::new();
    let bound = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    decoder.take(bound).read_to_end(&mut out).map_err(|e| failed(coding, e))?;
    if out.len() > limit {
        let message = format!("the response is longer than {limit} bytes once decoded");
        return Err(TransportError::new(TransportErrorKind::Decode, message));
    }
    Ok(out.into())
}

fn failed(coding: &str, error: std::io::Error) -> TransportError {
    TransportError::new(TransportErrorKind::Decode, format!("the response is not valid {coding}"))
        .with_source(error)
}
