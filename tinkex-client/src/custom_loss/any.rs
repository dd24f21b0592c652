//! A custom loss in any of its forms.

use std::fmt;

use tinkex_types::{Datum, InvalidInput};

use super::handle::CustomLossHandle;
use super::logprobs::Logprobs;
use super::loss_fn::{BoxError, CustomLossFn};
use super::output::CustomLossOutput;

/// What [`TrainingClient::forward_backward_custom`](crate::TrainingClient::forward_backward_custom) takes: a
/// [`CustomLossFn`], such as a closure, or a [`CustomLossHandle`].
pub struct AnyCustomLoss(pub(super) Form);

pub(super) enum Form {
    Computed(Box<dyn ComputedLoss>),
    Handle(CustomLossHandle),
}

/// A [`CustomLossFn`] whose type does not matter.
pub(super) trait ComputedLoss: Send {
    fn check(&self, data: &[Datum]) -> Result<(), InvalidInput>;

    fn evaluate(
        self: Box<Self>,
        data: &[Datum],
        logprobs: &[Logprobs<'_>],
    ) -> Result<CustomLossOutput, BoxError>;
}

impl<L: CustomLossFn> ComputedLoss for L {
    fn check(&self, data: &[Datum]) -> Result<(), InvalidInput> {
        CustomLossFn::check(self, data)
    }

    fn evaluate(
        self: Box<Self>,
        data: &[Datum],
        logprobs: &[Logprobs<'_>],
    ) -> Result<CustomLossOutput, BoxError> {
        CustomLossFn::evaluate(*self, data, logprobs)
    }
}

impl<L: CustomLossFn> From<L> for AnyCustomLoss {
    fn from(loss: L) -> Self {
        Self(Form::Computed(Box::new(loss)))
    }
}

impl From<&CustomLossHandle> for AnyCustomLoss {
    fn from(handle: &CustomLossHandle) -> Self {
        Self(Form::Handle(handle.clone()))
    }
}

impl fmt::Debug for AnyCustomLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Form::Computed(_) => f.write_str("AnyCustomLoss(computed here)"),
            Form::Handle(handle) => f.debug_tuple("AnyCustomLoss").field(handle).finish(),
        }
    }
}
