//! Bounds the number of messages in a list before they are decoded: two bytes on the wire can be hundreds in memory.

use bytes::Buf;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use crate::DecodeError;

/// Any message may have this many entries, and one more for each [`BYTES_PER_ENTRY`] of its length.
const FREE_ENTRIES: usize = 4096;

/// A sequence of one token with its log-probability has 14, a record of one tensor more.
const BYTES_PER_ENTRY: usize = 12;

/// Checks that the list at `tag` has no more entries than a message of this length can mean.
pub(crate) fn check(subject: &'static str, message: &[u8], tag: u32) -> Result<(), DecodeError> {
    let allowed = FREE_ENTRIES + message.len() / BYTES_PER_ENTRY;
    let mut rest = message;
    let mut entries = 0usize;
    while rest.has_remaining() {
        let (field, wire_type) = decode_key(&mut rest).map_err(|e| DecodeError::new(subject, e))?;
        if field != tag || wire_type != WireType::LengthDelimited {
            skip_field(wire_type, field, &mut rest, DecodeContext::default())
                .map_err(|e| DecodeError::new(subject, e))?;
            continue;
        }
        let len = decode_varint(&mut rest).map_err(|e| DecodeError::new(subject, e))?;
        let cut = || DecodeError::new(subject, "it is cut short");
        rest = usize::try_from(len).ok().and_then(|len| rest.get(len..)).ok_or_else(cut)?;
        entries += 1;
        if entries > allowed {
            let detail = format!("more than {allowed} entries in {} bytes", message.len());
            return Err(DecodeError::new(subject, detail));
        }
    }
    Ok(())
}
