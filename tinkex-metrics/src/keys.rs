//! The keys of one metric, made once for each combination of label values and kept for good.
//!
//! A key holds no recorder, so recorders may come and go. The facade's own macros would allocate a key for every
//! measurement, recorder or not.

use std::sync::OnceLock;

use metrics::{Key, Label};

const CHAINS: usize = 16;

/// Keys by label values. Reading takes no lock.
pub(crate) struct Keys<const N: usize>([Chain<N>; CHAINS]);

/// A list that only grows, at its end.
struct Chain<const N: usize>(OnceLock<Box<Entry<N>>>);

struct Entry<const N: usize> {
    values: [&'static str; N],
    key: Key,
    next: Chain<N>,
}

impl<const N: usize> Chain<N> {
    const fn new() -> Self {
        Self(OnceLock::new())
    }
}

impl<const N: usize> Keys<N> {
    pub(crate) const fn new() -> Self {
        Self([const { Chain::new() }; CHAINS])
    }

    /// The key for these values of the labels `names`.
    pub(crate) fn of(
        &self,
        metric: &'static str,
        names: [&'static str; N],
        values: [&'static str; N],
    ) -> &Key {
        let mut chain = &self.0[chain_of(values)];
        loop {
            let entry = chain.0.get_or_init(|| {
                let labels = names.iter().zip(&values);
                let labels =
                    labels.map(|(name, value)| Label::from_static_parts(name, value)).collect::<Vec<_>>();
                Box::new(Entry { values, key: Key::from_parts(metric, labels), next: Chain::new() })
            });
            if entry.values == values {
                return &entry.key;
            }
            chain = &entry.next;
        }
    }
}

/// Values that differ mostly differ in their lengths or in the bytes at their ends.
fn chain_of<const N: usize>(values: [&'static str; N]) -> usize {
    let mix = |sum: usize, value: &str| {
        let byte = |byte: Option<&u8>| byte.map_or(0, |byte| usize::from(*byte));
        let bytes = value.as_bytes();
        sum.wrapping_mul(31)
            .wrapping_add(value.len().wrapping_mul(7))
            .wrapping_add(byte(bytes.first()).wrapping_mul(3))
            .wrapping_add(byte(bytes.last()))
    };
    values.into_iter().fold(0, mix) % CHAINS
}
