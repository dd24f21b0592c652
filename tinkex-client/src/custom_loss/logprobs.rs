//! The log-probabilities a custom loss is computed from.

use std::borrow::Cow;
use std::ops::Deref;

use tinkex_types::InvalidInput;

/// The log-probabilities (natural log) of one datum's targets under the weights that are being trained, as the forward
/// pass of PROTOCOL 13.1 gave them: one per target token. It dereferences to the values.
#[derive(Clone, Debug, PartialEq)]
pub struct Logprobs<'a> {
    values: &'a [f32],
    shape: Cow<'a, [u64]>,
}

impl<'a> Logprobs<'a> {
    /// Values in row-major order, with their shape.
    ///
    /// # Errors
    /// Where the shape does not hold that many values.
    pub fn new(values: &'a [f32], shape: &'a [u64]) -> Result<Self, InvalidInput> {
        let elements = shape.iter().try_fold(1u64, |product, n| product.checked_mul(*n));
        if elements != Some(values.len() as u64) {
            let problem = format!("of shape {shape:?} cannot hold {} values", values.len());
            return Err(InvalidInput::new("logprobs", problem));
        }
        Ok(Self { values, shape: shape.into() })
    }

    /// The values, in row-major order.
    pub fn values(&self) -> &'a [f32] {
        self.values
    }

    /// The dimensions: positions, and for several targets per position how many.
    pub fn shape(&self) -> &[u64] {
        &self.shape
    }
}

/// One target per position.
impl<'a> From<&'a [f32]> for Logprobs<'a> {
    fn from(values: &'a [f32]) -> Self {
        Self { values, shape: vec![values.len() as u64].into() }
    }
}

impl Deref for Logprobs<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        self.values
    }
}
