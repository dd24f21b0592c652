//! The seam for losses of one's own.

use std::error::Error as StdError;

use tinkex_types::{Datum, InvalidInput};

use super::logprobs::Logprobs;
use super::output::CustomLossOutput;

/// Any error of a custom loss.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// A loss that is computed on this side, from the data and the log-probabilities of their targets (PROTOCOL 13.1).
///
/// Closures are losses. They must name the types of their arguments:
///
/// ```
/// use tinkex_client::{BoxError, CustomLossFn, CustomLossOutput, Datum, Logprobs};
///
/// // The mean square of all log-probabilities.
/// let loss = |_data: &[Datum], logprobs: &[Logprobs<'_>]| -> Result<CustomLossOutput, BoxError> {
///     let count = logprobs.iter().map(|l| l.len()).sum::<usize>() as f32;
///     let squares: f32 = logprobs.iter().flat_map(|l| l.iter()).map(|l| l * l).sum();
///     let gradients = logprobs.iter().map(|l| l.iter().map(|l| 2.0 * l / count).collect()).collect();
///     Ok(CustomLossOutput::new(f64::from(squares / count), gradients))
/// };
///
/// let output = loss.evaluate(&[], &[Logprobs::from([-1.0, -3.0].as_slice())])?;
/// assert_eq!((output.loss, output.gradients), (5.0, vec![vec![-1.0, -3.0]]));
/// # Ok::<(), BoxError>(())
/// ```
pub trait CustomLossFn: Sized + Send + 'static {
    /// Looks at the data before anything is sent. By default all are fine. It runs in the call, on the caller's thread:
    /// see whether what the loss needs is there, and leave its values to [`evaluate`](Self::evaluate).
    ///
    /// # Errors
    /// Where the loss lacks something in them.
    fn check(&self, _data: &[Datum]) -> Result<(), InvalidInput> {
        Ok(())
    }

    /// Computes the loss, its gradient, and metrics. `logprobs` has one entry per datum, in order. It runs once, on a
    /// thread that may be kept busy.
    ///
    /// # Errors
    /// What the loss says. The call that was given the loss then fails with it.
    fn evaluate(self, data: &[Datum], logprobs: &[Logprobs<'_>]) -> Result<CustomLossOutput, BoxError>;
}

impl<F, E> CustomLossFn for F
where
    F: FnOnce(&[Datum], &[Logprobs<'_>]) -> Result<CustomLossOutput, E> + Send + 'static,
    E: Into<BoxError>,
{
    fn evaluate(self, data: &[Datum], logprobs: &[Logprobs<'_>]) -> Result<CustomLossOutput, BoxError> {
        self(data, logprobs).map_err(Into::into)
    }
}
