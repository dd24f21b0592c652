//! Cutting a batch into requests of bounded size (PROTOCOL 12.5, F-22).

use std::ops::Range;

use crate::ClientConfig;

/// The bounds of one forward/backward request (PROTOCOL 4.1, 12.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkLimits {
    /// The most datums.
    pub max_len: usize,
    /// The most estimated bytes, but for a single datum that is larger alone.
    pub max_bytes: u64,
}

impl From<&ClientConfig> for ChunkLimits {
    fn from(config: &ClientConfig) -> Self {
        Self {
            max_len: usize::try_from(config.fwdbwd_max_chunk_len).unwrap_or(usize::MAX),
            max_bytes: config.fwdbwd_max_chunk_bytes_count,
        }
    }
}

/// Cuts a batch, given the estimated bytes of its datums, into runs that keep the limits. The runs are in order, none
/// is empty, and together they are the batch; an oversized datum is a run of its own. No datums make no runs.
pub fn chunk_ranges(sizes: impl IntoIterator<Item = u64>, limits: &ChunkLimits) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut current = 0..0;
    let mut bytes = 0u64;
    for size in sizes {
        let total = bytes.saturating_add(size);
        if !current.is_empty() && (total > limits.max_bytes || current.len() >= limits.max_len) {
            let next = current.end..current.end;
            ranges.push(std::mem::replace(&mut current, next));
            bytes = size;
        } else {
            bytes = total;
        }
        current.end += 1;
    }
    if !current.is_empty() {
        ranges.push(current);
    }
    ranges
}
