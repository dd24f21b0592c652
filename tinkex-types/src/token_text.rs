//! Tokens as JSON text. A prompt is a long list of small numbers, and the general writer of numbers is most of what a
//! sample costs this process, so lists of ordinary tokens have a writer of their own.

/// How many tokens are written at a time.
const PIECE: usize = 64;
/// Tokens of this many bits have six digits at most: with their comma they fit into a word of eight bytes.
const ORDINARY_BITS: u32 = 19;

/// The three digits of the numbers below 1000, the first in the lowest byte.
static DIGITS: [u32; 1000] = {
    let mut digits = [0; 1000];
    let mut number = 0;
    while number < 1000 {
        digits[number as usize] = (number / 100) | (number / 10 % 10) << 8 | (number % 10) << 16;
        number += 1;
    }
    digits
};

/// Writes `tokens` as a JSON array.
pub(crate) fn write(text: &mut Vec<u8>, tokens: &[i32]) {
    let start = text.len();
    for piece in tokens.chunks(PIECE) {
        // The bits of a negative number are those of a large one.
        if piece.iter().fold(0, |bits, token| bits | token.cast_unsigned()) >> ORDINARY_BITS == 0 {
            let mut digits = [0; PIECE * 8];
            let mut end = 0;
            for token in piece {
                let (word, length) = comma_and_digits(token.cast_unsigned());
                digits[end..end + 8].copy_from_slice(&word.to_le_bytes());
                end += length;
            }
            text.extend_from_slice(&digits[..end]);
        } else {
            for token in piece {
                text.push(b',');
                text.extend_from_slice(token.to_string().as_bytes());
            }
        }
    }
    match text.get_mut(start) {
        Some(comma) => *comma = b'[',
        None => text.push(b'['),
    }
    text.push(b']');
}

/// A comma and the digits of an ordinary token, first character in the lowest byte, and how many characters they are.
fn comma_and_digits(token: u32) -> (u64, usize) {
    let (thousands, ones) = ((token / 1000) as usize, (token % 1000) as usize);
    let digits = u64::from(DIGITS[thousands]) << 8 | u64::from(DIGITS[ones]) << 32;
    // The byte below the digits counts as a leading zero. It moves along with them, to become the comma; the last digit
    // stays, whatever it is.
    let leading_zeros = (digits | 1 << 48).trailing_zeros() / 8;
    let text = (digits | 0x30_3030_3030_3030) >> ((leading_zeros - 1) * 8);
    (text ^ u64::from(b'0' ^ b','), 8 - leading_zeros as usize)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(tokens: &[i32]) -> String {
        let mut text = b"before".to_vec();
        write(&mut text, tokens);
        String::from_utf8(text).unwrap()
    }

    fn expected(tokens: &[i32]) -> String {
        format!("before{}", serde_json::to_string(tokens).unwrap())
    }

    /// Around every power of ten, the bound of the fast writer and the ends of the type.
    #[test]
    fn writes_what_the_general_writer_does() {
        let around = |n: i32| [n.saturating_sub(1), n, n.saturating_add(1)];
        let edges: Vec<i32> = (0..10).flat_map(|n| around(10_i32.pow(n))).chain(around(i32::MIN)).collect();
        for edge in edges.iter().chain(&[0, 524_287, 524_288, i32::MAX]) {
            assert_eq!(written(&[*edge]), expected(&[*edge]));
        }
        assert_eq!(written(&edges), expected(&edges));
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 5 * PIECE] {
            let tokens: Vec<i32> = (0..length).map(|n| n as i32 * 97).collect();
            assert_eq!(written(&tokens), expected(&tokens), "{length} tokens");
        }
    }

    #[test]
    fn every_ordinary_token_is_right() {
        for token in (0..1 << ORDINARY_BITS).step_by(7).chain(0..10_000) {
            let (word, length) = comma_and_digits(token);
            assert_eq!(&word.to_le_bytes()[..length], format!(",{token}").as_bytes());
        }
    }

    proptest! {
        #[test]
        fn writes_any_list(tokens in proptest::collection::vec(prop_oneof![0..200_000, any::<i32>()], 0..200)) {
            prop_assert_eq!(written(&tokens), expected(&tokens));
        }
    }
}
