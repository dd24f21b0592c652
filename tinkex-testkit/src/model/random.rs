//! A tiny seeded generator with a fixed algorithm, so that samples are the same for ever and on every machine.

/// The SplitMix64 generator: 64 bits of state, a fixed sequence per seed.
#[derive(Clone, Debug)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// A generator that starts at `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A generator for one of several independent streams of a seed, e.g. one sample of a request.
    pub fn stream(seed: u64, index: u64) -> Self {
        // The index is scrambled first: neighbouring streams would otherwise be shifted copies of each other.
        Self(seed ^ Self::new(index).next_u64())
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// The next number in `[0, 1)`.
    pub fn next_f64(&mut self) -> f64 {
        // 53 bits are what a double holds exactly.
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// A fixed 64-bit hash of bytes (FNV-1a, then one scramble), for seeds and tilts that must not change between
/// runs or versions of the standard library.
pub(crate) fn stable_hash(bytes: &[u8]) -> u64 {
    let folded = bytes.iter().fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3)
    });
    SplitMix64::new(folded).next_u64()
}
