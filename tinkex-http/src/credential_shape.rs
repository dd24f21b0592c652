//! Words that look like credentials of this service: keys (`tml-..`) and JWTs (`eyJ..`), or their beginnings.
//!
//! A text may echo another credential than the one that was sent with the request, such as the token of an earlier
//! request, or the one that was exchanged for it. Those are known by their shape only.

use std::ops::Range;

/// How credentials begin (PROTOCOL 3.1), and how long a word with that beginning is at least.
const SHAPES: [(&[u8], usize); 2] = [(b"tml-", 12), (b"eyJ", 12)];

/// The first such word at or after a place.
pub(crate) fn find(text: &[u8], from: usize) -> Option<Range<usize>> {
    let mut at = from;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let begins =
            at.checked_sub(1).and_then(|before| text.get(before)).is_none_or(|byte| !is_inner(*byte));
        let length = if begins { rest.iter().take_while(|byte| is_inner(**byte)).count() } else { 0 };
        let shaped = SHAPES.iter().any(|(beginning, least)| length >= *least && rest.starts_with(beginning));
        if shaped {
            return Some(at..at + length);
        }
        at += length.max(1);
    }
    None
}

/// What a key or a JWT is made of.
fn is_inner(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

#[cfg(test)]
mod tests {
    use super::find;

    fn found(text: &str) -> Option<&str> {
        find(text.as_bytes(), 0).map(|place| &text[place])
    }

    #[test]
    fn keys_tokens_and_their_beginnings_are_found() {
        let jwt = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJtZSJ9.c2ln";
        for (text, expected) in [
            ("no key tml-0123456789abcdef!", Some("tml-0123456789abcdef")),
            (&*format!("{{\"x-api-key\":\"{jwt}\"}}"), Some(jwt)),
            ("cut: eyJhbGciOiJub2…", Some("eyJhbGciOiJub2")),
            ("tml-01234567", Some("tml-01234567")),
            ("tml-... is how a key begins, eyJ how a token does", None),
            ("html-0123456789abcdef and HeyJude0123456789", None),
            ("", None),
        ] {
            assert_eq!(found(text), expected, "{text}");
        }
    }

    #[test]
    fn all_of_several_are_found() {
        let text = b"tml-aaaaaaaaaaaa tml-bbbbbbbbbbbb";
        let first = find(text, 0).unwrap();
        assert_eq!((first.clone(), find(text, first.end)), (0..16, Some(17..33)));
    }
}
