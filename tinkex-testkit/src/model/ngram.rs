//! The counted part of the model: interpolated n-gram probabilities over bytes.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::{Distribution, VOCABULARY};

/// The longest n-gram that is counted.
pub const ORDER: usize = 6;

/// How many tokens of a context the model looks at.
pub const MEMORY: usize = ORDER - 1;

/// Weight of the shorter context against the longer one. Witten and Bell use 1; less trusts the small corpus more,
/// which makes its samples read like text.
const SMOOTHING: f64 = 0.35;

const CORPUS: &str = include_str!("corpus.txt");

static COUNTED: LazyLock<NGrams> = LazyLock::new(|| NGrams::count(CORPUS));

/// What followed one context, and how often.
#[derive(Default)]
struct Followers {
    total: u32,
    counts: Vec<(u8, u32)>,
}

/// Follower counts of every context of up to [`MEMORY`] bytes.
pub(crate) struct NGrams(HashMap<u64, Followers>);

impl NGrams {
    /// The counts of the embedded corpus, made at the first use.
    pub(crate) fn embedded() -> &'static Self {
        &COUNTED
    }

    fn count(corpus: &str) -> Self {
        let mut contexts: HashMap<u64, Followers> = HashMap::new();
        for text in corpus.lines().filter(|line| !line.is_empty()) {
            // Every text is opened by as many ends of text as the memory holds, and closed by one.
            let mut bytes = vec![0_u8; MEMORY];
            bytes.extend_from_slice(text.as_bytes());
            bytes.push(0);
            for next in MEMORY..bytes.len() {
                for length in 0..=MEMORY {
                    let followers = contexts.entry(key(&bytes[next - length..next])).or_default();
                    followers.total += 1;
                    match followers.counts.iter_mut().find(|(byte, _)| *byte == bytes[next]) {
                        Some((_, count)) => *count += 1,
                        None => followers.counts.push((bytes[next], 1)),
                    }
                }
            }
        }
        Self(contexts)
    }

    /// Probabilities of the next byte after `history`, which holds the last [`MEMORY`] bytes.
    ///
    /// Each longer context takes `total / (total + SMOOTHING × distinct)` of the mass and leaves the rest to the
    /// shorter one; the shortest leaves its rest to all bytes equally, so no probability is zero.
    pub(crate) fn distribution(&self, history: &[u8; MEMORY]) -> Distribution {
        let mut probabilities = [1.0 / VOCABULARY as f64; VOCABULARY];
        for length in 0..=MEMORY {
            let Some(followers) = self.0.get(&key(&history[MEMORY - length..])) else {
                // A longer context holds this one, so it has not been seen either.
                break;
            };
            let leave = SMOOTHING * followers.counts.len() as f64;
            let all = f64::from(followers.total) + leave;
            let rest = leave / all;
            probabilities.iter_mut().for_each(|p| *p *= rest);
            for (byte, count) in &followers.counts {
                probabilities[usize::from(*byte)] += f64::from(*count) / all;
            }
        }
        probabilities
    }
}

/// Packs a context into a number: its length, then its bytes.
fn key(context: &[u8]) -> u64 {
    context.iter().fold(context.len() as u64, |key, byte| (key << 8) | u64::from(*byte))
}
