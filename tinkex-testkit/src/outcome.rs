//! What becomes of a request: the one vocabulary that both faces of the server put into practice.

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};

use crate::Reply;

/// What the client is to see.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// An answer, whole or broken in its delivery.
    Answer(Reply, Delivery),
    /// No connection, as far as the face can show it.
    Refuse,
    /// The connection is reset without an answer.
    Reset,
    /// The connection is closed in good order, without an answer.
    Close,
    /// No answer, ever.
    Hang,
    /// Bytes that are not HTTP.
    Garbage(Bytes),
}

/// How the body of an answer travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// At once, with its right length.
    Whole,
    /// Piece by piece, each after a wait, without an announced length.
    Pieces(Vec<(Duration, Bytes)>),
    /// This many bytes of it; then the connection closes.
    CutAfter(usize),
    /// The headers only; then nothing more comes.
    Stall,
    /// All of it, with a length announced that is too great; then the connection closes.
    WrongLength,
}

/// How many bytes too many a wrong length announces.
const EXCESS: usize = 16;

impl Delivery {
    /// The length to announce, if any.
    pub(crate) fn announced(&self, reply: &Reply) -> Option<usize> {
        let length = reply.body.len();
        match self {
            Self::Pieces(_) => None,
            // A cut must show as one even where the body is shorter than what was to be sent.
            Self::CutAfter(sent) => Some(length.max(sent.min(&length) + 1)),
            Self::Stall => Some(length.max(1)),
            Self::WrongLength => Some(length + EXCESS),
            Self::Whole => Some(length),
        }
    }

    /// Puts the announced length into the headers, and takes the body from statuses that have none.
    pub(crate) fn announce(&self, reply: &mut Reply) {
        if matches!(reply.status.as_u16(), 100..=199 | 204 | 304) {
            reply.body = Bytes::new();
            reply.headers.remove(CONTENT_LENGTH);
            return;
        }
        match self.announced(reply) {
            None => {
                reply.headers.remove(CONTENT_LENGTH);
            }
            Some(length) => {
                reply.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
            }
        }
    }
}

/// The encodings a step can put over a body.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Encoding {
    Gzip,
    Zstd,
}

impl Encoding {
    /// Compresses the body and names the encoding in the headers.
    pub(crate) fn apply(self, reply: &mut Reply) {
        let (name, packed) = match self {
            Self::Gzip => ("gzip", gzip(&reply.body)),
            Self::Zstd => ("zstd", zstd::encode_all(&*reply.body, 1)),
        };
        // Writing to memory does not fail; if it did, the plain body would still be a right answer.
        if let Ok(packed) = packed {
            reply.body = packed.into();
            reply.headers.insert(CONTENT_ENCODING, HeaderValue::from_static(name));
        }
    }
}

fn gzip(body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(body)?;
    encoder.finish()
}
