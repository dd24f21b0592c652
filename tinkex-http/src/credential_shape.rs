//! Words that look like credentials of this service: keys (`tml-..`) and JWTs (`eyJ..`), or their beginnings.
//!
//! A text may echo another credential than the one that was sent with the request, such as the token of an earlier
//! request, or the one that was exchanged for it. Those are known by their shape only.

use std::ops::Range;

/// How credentials begin (PROTOCOL 3.1).
const BEGINNINGS: [&[u8]; 2] = [b"tml-", b"eyJ"];

/// How long a word with such a beginning is at least, in bytes; `tml-...` is how people speak of keys.
const SHORTEST: usize = 8;

/// The first such word at or after a place.
pub(crate) fn find(text: &[u8], from: usize) -> Option<Range<usize>> {
    (from..text.len()).find_map(|at| {
        let rest = &text[at..];
        if !BEGINNINGS.iter().any(|beginning| rest.starts_with(beginning)) || !is_boundary(&text[..at]) {
            return None;
        }
        let length = rest.iter().take_while(|byte| is_inner(**byte)).count();
        (length >= SHORTEST).then(|| at..at + length)
    })
}

/// Whether a word may begin behind this text: it does not end inside one. The letters and digits of an escape, of JSON or
/// of a URL, are none of a word.
fn is_boundary(before: &[u8]) -> bool {
    match before {
        [] => true,
        [.., last] if !is_inner(*last) => true,
        [.., b'\\', b'b' | b'f' | b'n' | b'r' | b't'] => true,
        [.., b'%', high, low] if is_hex(&[*high, *low]) => true,
        [.., b'\\', b'u', a, b, c, d] => is_hex(&[*a, *b, *c, *d]),
        _ => false,
    }
}

fn is_hex(digits: &[u8]) -> bool {
    digits.iter().all(u8::is_ascii_hexdigit)
}

/// What a key or a JWT is made of.
fn is_inner(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

#[cfg(test)]
mod tests {
    use super::find;

    const JWT: &str = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJtZSJ9.c2ln";

    fn found(text: &str) -> Option<&str> {
        find(text.as_bytes(), 0).map(|place| &text[place])
    }

    #[test]
    fn keys_tokens_and_their_beginnings_are_found() {
        for (text, expected) in [
            ("no key tml-0123456789abcdef!", Some("tml-0123456789abcdef")),
            (&*format!("{{\"x-api-key\":\"{JWT}\"}}"), Some(JWT)),
            ("cut: eyJhbGciOiJub2…", Some("eyJhbGciOiJub2")),
            ("tml-0123", Some("tml-0123")),
            ("tml-012", None),
            ("tml-... is how a key begins, eyJ how a token does", None),
            ("html-0123456789abcdef and HeyJude0123456789", None),
            ("", None),
        ] {
            assert_eq!(found(text), expected, "{text}");
        }
    }

    /// What stands directly before a credential, in texts that were escaped and not read again.
    #[test]
    fn escapes_end_a_word() {
        let apart = [
            r"\n", r"line\n", r"\t", r"\r", r"\b", r"\f", r"\\", r#"\""#, r"\u003e", r"a\u003E", "%3D",
            "a%3d", "key%20", "=", "ü", r"\", "%", "a/",
        ];
        for before in apart {
            for word in ["tml-0123456789abcdef", JWT] {
                assert_eq!(found(&format!("{before}{word}")), Some(word), "{before}");
            }
        }
        for before in ["n", "u003e", r"\x", r"\u00ze", r"\u3e", "3D", "%zD", "-", "_", "."] {
            assert_eq!(found(&format!("a{before}tml-0123456789abcdef")), None, "{before}");
        }
    }

    #[test]
    fn all_of_several_are_found() {
        let text = b"tml-aaaaaaaaaaaa tml-bbbbbbbbbbbb";
        let first = find(text, 0).unwrap();
        assert_eq!((first.clone(), find(text, first.end)), (0..16, Some(17..33)));
    }
}
