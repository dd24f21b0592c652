//! Idempotency keys (PROTOCOL 5.1).

use bytes::Bytes;
use http::HeaderValue;

/// A fresh key: `tinkex-retry-` and a random version 4 UUID. Never from the seedable generator, since two processes
/// with the same seed must not share keys.
pub(crate) fn fresh_key() -> HeaderValue {
    let random = fastrand::u128(..);
    let version = (random & !(0xf << 76)) | (0x4 << 76);
    let uuid = (version & !(0b11 << 62)) | (0b10 << 62);
    let text = format!(
        "tinkex-retry-{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        uuid >> 96,
        (uuid >> 80) & 0xffff,
        (uuid >> 64) & 0xffff,
        (uuid >> 48) & 0xffff,
        uuid & 0xffff_ffff_ffff
    );
    // Hex digits and dashes are always a header value.
    HeaderValue::from_maybe_shared(Bytes::from(text)).unwrap_or(HeaderValue::from_static("tinkex-retry"))
}

#[cfg(test)]
mod tests {
    use super::fresh_key;

    #[test]
    fn a_key_is_a_version_4_uuid_and_fresh() {
        let (a, b) = (fresh_key(), fresh_key());
        assert_ne!(a, b);
        let uuid = a.to_str().unwrap().strip_prefix("tinkex-retry-").unwrap();
        let parts: Vec<_> = uuid.split('-').collect();
        assert_eq!(parts.iter().map(|p| p.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        assert!(parts[2].starts_with('4'));
        assert!(parts[3].starts_with(['8', '9', 'a', 'b']));
    }
}
