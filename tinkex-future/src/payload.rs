//! The result of a promise: bytes and how to read them.

use bytes::Bytes;

use crate::BudgetPermit;

/// How a result is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PayloadEncoding {
    /// A protobuf message (PROTOCOL 18); the poller does not look into it.
    Protobuf,
    /// A JSON value, checked to be well-formed; normally an object.
    Json,
}

/// The result of a promise, undecoded.
#[derive(Debug)]
pub struct Payload {
    /// How [`body`](Self::body) is encoded.
    pub encoding: PayloadEncoding,
    /// The bytes of the result. The envelope `{"status":"completed","result":..}` is already removed.
    pub body: Bytes,
    /// The share of the payload budget a large result holds. Dropping it lets the next large result come in, so keep
    /// it for as long as the bytes are alive.
    pub reservation: Option<BudgetPermit>,
}

impl Payload {
    /// A result without a reservation.
    pub fn new(encoding: PayloadEncoding, body: impl Into<Bytes>) -> Self {
        Self { encoding, body: body.into(), reservation: None }
    }
}
