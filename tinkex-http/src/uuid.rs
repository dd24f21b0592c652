//! Random UUIDs: for idempotency keys, and for whoever else needs a name that nobody else has.

/// The length of the text of a UUID.
pub(crate) const LENGTH: usize = 36;

/// A random version 4 UUID, as text. Never from the seedable generator, since two processes with the same seed must not
/// have the same names.
pub fn random_uuid() -> String {
    random().iter().map(|letter| char::from(*letter)).collect()
}

pub(crate) fn random() -> [u8; LENGTH] {
    // The zeros are to be drawn. The version and the variant are not; of the variant two bits are.
    let mut text = *b"00000000-0000-4000-8000-000000000000";
    let mut random = fastrand::u128(..);
    for letter in &mut text {
        let digits = match letter {
            b'0' => b"0123456789abcdef",
            b'8' => b"89ab89ab89ab89ab",
            _ => continue,
        };
        *letter = digits[(random & 0xf) as usize];
        random >>= 4;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::random_uuid;

    #[test]
    fn it_is_of_version_4_and_fresh() {
        let (a, b) = (random_uuid(), random_uuid());
        assert_ne!(a, b);
        let parts: Vec<_> = a.split('-').collect();
        assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        assert!(parts[2].starts_with('4'));
        assert!(parts[3].starts_with(['8', '9', 'a', 'b']));
    }
}
