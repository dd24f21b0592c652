//! Idempotency keys (PROTOCOL 5.1).

use http::HeaderValue;

/// A fresh key: `tinkex-retry-` and a random version 4 UUID. Never from the seedable generator, since two processes
/// with the same seed must not share keys.
pub(crate) fn fresh_key() -> HeaderValue {
    // The zeros are to be drawn. The version and the variant are not; of the variant two bits are.
    let mut text = *b"tinkex-retry-00000000-0000-4000-8000-000000000000";
    let mut random = fastrand::u128(..);
    for letter in &mut text["tinkex-retry-".len()..] {
        let digits = match letter {
            b'0' => b"0123456789abcdef",
            b'8' => b"89ab89ab89ab89ab",
            _ => continue,
        };
        *letter = digits[(random & 0xf) as usize];
        random >>= 4;
    }
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
