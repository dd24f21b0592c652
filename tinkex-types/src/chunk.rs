//! The pieces a prompt is made of (PROTOCOL 12.2, 21).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Tokens;

/// One piece of a [`ModelInput`](crate::ModelInput) (PROTOCOL 12.2, 21).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
#[non_exhaustive]
pub enum Chunk {
    /// Token ids.
    #[serde(rename = "encoded_text")]
    EncodedText {
        /// The tokens.
        tokens: Tokens,
    },
    /// An image, sent with the request.
    #[serde(rename = "image")]
    Image(ImageChunk),
    /// An image that the service already holds.
    #[serde(rename = "image_asset_pointer")]
    ImageAssetPointer(ImageAssetPointerChunk),
    /// Audio as a DMel container.
    #[serde(rename = "dmel")]
    Audio(AudioChunk),
}

impl Chunk {
    /// A text chunk.
    pub fn text(tokens: impl Into<Tokens>) -> Self {
        Self::EncodedText { tokens: tokens.into() }
    }

    /// How many positions of the context the chunk takes; none where only the server can know.
    pub fn token_count(&self) -> Option<usize> {
        match self {
            Self::EncodedText { tokens } => Some(tokens.len()),
            Self::Image(image) => image.expected_tokens.map(|n| n as usize),
            Self::ImageAssetPointer(pointer) => pointer.expected_tokens.map(|n| n as usize),
            Self::Audio(audio) => audio.token_count(),
        }
    }
}

/// The encodings of images (PROTOCOL 12.2, 21).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
#[non_exhaustive]
pub enum ImageFormat {
    /// PNG.
    Png,
    /// JPEG.
    Jpeg,
    /// Another format, by its wire text.
    Other(String),
}

impl ImageFormat {
    /// The wire text.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpeg",
            Self::Other(text) => text,
        }
    }
}

impl From<String> for ImageFormat {
    fn from(text: String) -> Self {
        match text.as_str() {
            "png" => Self::Png,
            "jpeg" => Self::Jpeg,
            _ => Self::Other(text),
        }
    }
}

impl From<ImageFormat> for String {
    fn from(format: ImageFormat) -> Self {
        format.as_str().to_owned()
    }
}

/// An image in the request. The bytes travel as base64 in JSON and as they are in protobuf (PROTOCOL 12.2,
/// 21).
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageChunk {
    /// The encoded image file.
    #[serde(with = "base64_bytes")]
    pub data: Bytes,
    /// Its format.
    pub format: ImageFormat,
    /// How many tokens the image will take, where the caller knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_tokens: Option<u32>,
}

impl fmt::Debug for ImageChunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ImageChunk({}, {} bytes, {:?} tokens)",
            self.format.as_str(),
            self.data.len(),
            self.expected_tokens
        )
    }
}

/// An image by reference (PROTOCOL 12.2, 21).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageAssetPointerChunk {
    /// Its format.
    pub format: ImageFormat,
    /// Where the service finds it.
    pub location: String,
    /// How many tokens the image will take, where the caller knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_tokens: Option<u32>,
}

/// Audio: a DMel container (optional marker byte 254, dtype byte, varint number of dimensions, varint
/// dimensions, then the elements) (PROTOCOL 12.2, 21).
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct AudioChunk {
    /// The container, whole.
    #[serde(with = "base64_bytes")]
    pub dmel: Bytes,
}

impl AudioChunk {
    /// The dimensions that the container's header states; none where the header is malformed.
    pub fn shape(&self) -> Option<Vec<u64>> {
        const MARKER: u8 = 254;
        const DTYPES: u8 = 8;
        let mut bytes = self.dmel.iter().copied();
        let mut dtype = bytes.next()?;
        if dtype == MARKER {
            dtype = bytes.next()?;
        }
        if dtype >= DTYPES {
            return None;
        }
        let dimensions = varint(&mut bytes)?;
        (0..dimensions).map(|_| varint(&mut bytes)).collect()
    }

    /// Context positions: the first dimension.
    pub fn token_count(&self) -> Option<usize> {
        self.shape()?.first().and_then(|n| usize::try_from(*n).ok())
    }
}

impl fmt::Debug for AudioChunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AudioChunk({} bytes, shape {:?})", self.dmel.len(), self.shape())
    }
}

fn varint(bytes: &mut impl Iterator<Item = u8>) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = bytes.next()?;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

mod base64_bytes {
    use super::*;

    pub(super) fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Bytes::from).map_err(serde::de::Error::custom)
    }
}
