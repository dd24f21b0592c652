//! Writing protobuf messages in one pass into one buffer of exact size.
//!
//! prost writes messages from structs, for which every token and tensor buffer would be copied first. Here a message
//! is a function that names its fields; run over a counting writer it gives the length, over a writing one the bytes.

use bytes::Bytes;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

/// A run of numbers with a fixed width on the wire.
pub(crate) trait Packed {
    fn packed_len(&self) -> usize;
    fn write(&self, out: &mut Vec<u8>);
}

/// Elements of this many go through a block on the stack, so that each is written to memory once.
const BLOCK: usize = 512;

macro_rules! packed {
    ($($kind:ty),*) => {$(
        impl Packed for [$kind] {
            fn packed_len(&self) -> usize {
                std::mem::size_of_val(self)
            }

            fn write(&self, out: &mut Vec<u8>) {
                const WIDTH: usize = size_of::<$kind>();
                let mut block = [0u8; BLOCK * WIDTH];
                for values in self.chunks(BLOCK) {
                    let (cells, _) = block.as_chunks_mut::<WIDTH>();
                    for (cell, value) in cells.iter_mut().zip(values) {
                        *cell = value.to_le_bytes();
                    }
                    out.extend_from_slice(block.get(..values.len() * WIDTH).unwrap_or_default());
                }
            }
        }
    )*};
}

packed!(i32, i64, f32);

impl Packed for [u8] {
    fn packed_len(&self) -> usize {
        self.len()
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
}

/// Counts the bytes of a message, or writes them.
pub(crate) struct ProtobufWriter {
    len: usize,
    out: Option<Vec<u8>>,
}

impl ProtobufWriter {
    /// The bytes of the message whose fields `fields` names.
    pub(crate) fn write(fields: impl Fn(&mut Self)) -> Bytes {
        let mut writer = Self { len: 0, out: Some(Vec::with_capacity(Self::count(&fields))) };
        fields(&mut writer);
        writer.out.unwrap_or_default().into()
    }

    fn count(fields: impl Fn(&mut Self)) -> usize {
        let mut counter = Self { len: 0, out: None };
        fields(&mut counter);
        counter.len
    }

    fn put(&mut self, len: usize, write: impl FnOnce(&mut Vec<u8>)) {
        match &mut self.out {
            Some(out) => write(out),
            None => self.len += len,
        }
    }

    fn varint_field(&mut self, tag: u32, value: u64) {
        self.put(key_len(tag) + encoded_len_varint(value), |out| {
            encode_key(tag, WireType::Varint, out);
            encode_varint(value, out);
        });
    }

    fn header(&mut self, tag: u32, len: usize) {
        self.put(key_len(tag) + encoded_len_varint(len as u64), |out| {
            encode_key(tag, WireType::LengthDelimited, out);
            encode_varint(len as u64, out);
        });
    }

    /// A number; left out where it is 0, as the default of all numbers.
    pub(crate) fn int(&mut self, tag: u32, value: i64) {
        if value != 0 {
            self.varint_field(tag, value as u64);
        }
    }

    /// A number that is written also where it is 0.
    pub(crate) fn present_int(&mut self, tag: u32, value: i64) {
        self.varint_field(tag, value as u64);
    }

    /// A truth value; left out where it is false.
    pub(crate) fn bool(&mut self, tag: u32, value: bool) {
        self.int(tag, i64::from(value));
    }

    /// A double; left out where it is 0.
    pub(crate) fn double(&mut self, tag: u32, value: f64) {
        if value != 0.0 {
            self.present_double(tag, value);
        }
    }

    /// A double that is written also where it is 0.
    pub(crate) fn present_double(&mut self, tag: u32, value: f64) {
        self.put(key_len(tag) + size_of::<f64>(), |out| {
            encode_key(tag, WireType::SixtyFourBit, out);
            out.extend_from_slice(&value.to_le_bytes());
        });
    }

    /// Text; left out where it is empty.
    pub(crate) fn text(&mut self, tag: u32, text: &str) {
        self.packed(tag, text.as_bytes());
    }

    /// Bytes, or numbers packed little-endian; left out where there are none.
    pub(crate) fn packed<P: Packed + ?Sized>(&mut self, tag: u32, values: &P) {
        if values.packed_len() > 0 {
            self.present_packed(tag, values);
        }
    }

    /// Bytes, or numbers packed little-endian, written also where there are none.
    pub(crate) fn present_packed<P: Packed + ?Sized>(&mut self, tag: u32, values: &P) {
        let len = values.packed_len();
        self.header(tag, len);
        self.put(len, |out| values.write(out));
    }

    /// A run of varints; left out where there are none.
    pub(crate) fn varints(&mut self, tag: u32, values: impl Iterator<Item = u64> + Clone) {
        let len: usize = values.clone().map(encoded_len_varint).sum();
        if len > 0 {
            self.header(tag, len);
            self.put(len, |out| values.for_each(|value| encode_varint(value, out)));
        }
    }

    /// A message within the message.
    pub(crate) fn message(&mut self, tag: u32, fields: impl Fn(&mut Self)) {
        let len = Self::count(&fields);
        self.header(tag, len);
        match self.out {
            Some(_) => fields(self),
            None => self.len += len,
        }
    }

    /// An entry of a map from text.
    pub(crate) fn entry(&mut self, tag: u32, name: &str, value: impl Fn(&mut Self)) {
        self.message(tag, |entry| {
            entry.text(1, name);
            value(entry);
        });
    }
}
