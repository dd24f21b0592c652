//! The counted part of the model: interpolated n-gram probabilities over bytes.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use super::{Distribution, VOCABULARY};

/// The longest n-gram that is counted.
pub const ORDER: usize = 6;

/// How many bytes of a context the counts look at.
const COUNTED: usize = ORDER - 1;

/// Weight of the shorter context against the longer one. Witten and Bell use 1; less trusts the small corpus more,
/// which makes its samples read like text.
const SMOOTHING: f64 = 0.35;

const CORPUS: &str = include_str!("corpus.txt");

static EMBEDDED: LazyLock<NGrams> = LazyLock::new(|| NGrams::count(CORPUS));

/// What followed one context, and how often.
#[derive(Default)]
struct Followers {
    total: u32,
    counts: Vec<(u8, u32)>,
}

/// So many distributions are kept, 2 KiB each; training asks for the same ones again and again.
const CACHED: usize = 8192;

/// Follower counts of every context of up to [`COUNTED`] bytes.
pub(crate) struct NGrams {
    contexts: HashMap<u64, Followers>,
    /// Distributions that were asked for, so that asking again is a copy.
    cache: Mutex<HashMap<[u8; COUNTED], Arc<Distribution>>>,
}

impl NGrams {
    /// The counts of the embedded corpus, made at the first use.
    pub(crate) fn embedded() -> &'static Self {
        &EMBEDDED
    }

    fn count(corpus: &str) -> Self {
        let mut contexts: HashMap<u64, Followers> = HashMap::new();
        for text in corpus.lines().filter(|line| !line.is_empty()) {
            // Every text is opened by as many ends of text as the memory holds, and closed by one.
            let mut bytes = vec![0_u8; COUNTED];
            bytes.extend_from_slice(text.as_bytes());
            bytes.push(0);
            for next in COUNTED..bytes.len() {
                for length in 0..=COUNTED {
                    let followers = contexts.entry(key(&bytes[next - length..next])).or_default();
                    followers.total += 1;
                    match followers.counts.iter_mut().find(|(byte, _)| *byte == bytes[next]) {
                        Some((_, count)) => *count += 1,
                        None => followers.counts.push((bytes[next], 1)),
                    }
                }
            }
        }
        Self { contexts, cache: Mutex::default() }
    }

    /// Probabilities of the next byte after a context that ends with `history`.
    pub(crate) fn distribution(&self, history: [u8; COUNTED]) -> Arc<Distribution> {
        let cache = || self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = cache().get(&history) {
            return Arc::clone(known);
        }
        let distribution = Arc::new(self.interpolated(&history));
        let mut cache = cache();
        if cache.len() >= CACHED {
            cache.clear();
        }
        cache.insert(history, Arc::clone(&distribution));
        distribution
    }

    /// Each longer context takes `total / (total + SMOOTHING × distinct)` of the mass and leaves the rest to the
    /// shorter one; the shortest leaves its rest to all bytes equally, so no probability is zero.
    fn interpolated(&self, history: &[u8; COUNTED]) -> Distribution {
        let mut probabilities = [1.0 / VOCABULARY as f64; VOCABULARY];
        for length in 0..=COUNTED {
            let Some(followers) = self.contexts.get(&key(&history[COUNTED - length..])) else {
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
