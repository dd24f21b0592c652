//! Idempotency keys (PROTOCOL 5.1).

use http::HeaderValue;

use crate::uuid;

const PREFIX: &[u8] = b"tinkex-retry-";

/// A fresh key: `tinkex-retry-` and a random version 4 UUID.
pub(crate) fn fresh_key() -> HeaderValue {
    let mut text = [0; PREFIX.len() + uuid::LENGTH];
    text[..PREFIX.len()].copy_from_slice(PREFIX);
    text[PREFIX.len()..].copy_from_slice(&uuid::random());
    // Hex digits and dashes are always a header value.
    HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("tinkex-retry"))
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
