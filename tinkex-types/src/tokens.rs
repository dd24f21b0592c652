//! Shared token buffers.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::DecodeError;

/// An immutable, shared run of token ids. Cloning copies a pointer. On the wire a token is an int32.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Tokens(Arc<[i32]>);

impl Tokens {
    /// Reads packed little-endian int32 (PROTOCOL 18).
    ///
    /// # Errors
    /// Where the length is not a multiple of four.
    pub fn from_le_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (cells, rest) = bytes.as_chunks::<4>();
        if !rest.is_empty() {
            return Err(DecodeError::new(
                "tokens",
                format!("{} bytes are not whole int32 values", bytes.len()),
            ));
        }
        Ok(Self(cells.iter().map(|c| i32::from_le_bytes(*c)).collect()))
    }

    /// Packs the tokens as little-endian int32.
    pub fn to_le_bytes(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.0.len() * 4);
        for token in self.0.iter() {
            out.put_i32_le(*token);
        }
        out.freeze()
    }

    /// The tokens as a slice.
    pub fn as_slice(&self) -> &[i32] {
        &self.0
    }

    /// True where both handles point to the same buffer.
    pub fn shares_buffer_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Deref for Tokens {
    type Target = [i32];

    fn deref(&self) -> &[i32] {
        &self.0
    }
}

impl Default for Tokens {
    fn default() -> Self {
        Self(Arc::from([]))
    }
}

impl From<Vec<i32>> for Tokens {
    fn from(tokens: Vec<i32>) -> Self {
        Self(tokens.into())
    }
}

impl From<&[i32]> for Tokens {
    fn from(tokens: &[i32]) -> Self {
        Self(tokens.into())
    }
}

impl<const N: usize> From<[i32; N]> for Tokens {
    fn from(tokens: [i32; N]) -> Self {
        Self(Arc::new(tokens))
    }
}

impl From<Arc<[i32]>> for Tokens {
    fn from(tokens: Arc<[i32]>) -> Self {
        Self(tokens)
    }
}

impl FromIterator<i32> for Tokens {
    fn from_iter<I: IntoIterator<Item = i32>>(tokens: I) -> Self {
        Self(tokens.into_iter().collect())
    }
}

impl PartialEq<[i32]> for Tokens {
    fn eq(&self, other: &[i32]) -> bool {
        self.as_slice() == other
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 16;
        if self.0.len() <= SHOWN {
            return f.debug_list().entries(self.0.iter()).finish();
        }
        write!(f, "{:?} and {} more", &self.0[..SHOWN], self.0.len() - SHOWN)
    }
}

impl Serialize for Tokens {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Tokens {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Self::from)
    }
}
