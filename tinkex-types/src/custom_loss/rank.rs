//! The number of dimensions of an input.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The number of dimensions of a tensor in a loss graph (PROTOCOL 13.3): 0, 1 or 2 on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub enum Rank {
    /// Rank 0: one number.
    Scalar,
    /// Rank 1: usually one number per target token.
    Vector,
    /// Rank 2: usually k numbers per target position.
    Matrix,
}

impl Rank {
    /// The rank of that many dimensions, where there is one.
    pub fn of_dimensions(dimensions: usize) -> Option<Self> {
        [Self::Scalar, Self::Vector, Self::Matrix].get(dimensions).copied()
    }

    /// The number of dimensions.
    pub fn dimensions(self) -> usize {
        self as usize
    }
}

impl From<Rank> for u64 {
    fn from(rank: Rank) -> Self {
        rank as Self
    }
}

impl TryFrom<u64> for Rank {
    type Error = String;

    fn try_from(dimensions: u64) -> Result<Self, String> {
        usize::try_from(dimensions)
            .ok()
            .and_then(Self::of_dimensions)
            .ok_or_else(|| format!("an input has rank 0, 1 or 2, not {dimensions}"))
    }
}

impl fmt::Display for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.dimensions())
    }
}
