//! Losses that a session knows by name and graph.

use std::fmt;
use std::sync::Arc;

use tinkex_types::custom_loss::{CustomLoss, CustomLossInput};
use tinkex_types::{Datum, InvalidInput};

use super::logprobs::Logprobs;
use super::loss_fn::{BoxError, CustomLossFn};
use super::output::CustomLossOutput;

/// A loss that a session knows (PROTOCOL 13.3): made by
/// [`create_custom_loss`](crate::ServiceClient::create_custom_loss), and good for all training clients of that session.
/// A cheap clone.
///
/// Where the server runs custom losses it has the loss, and training with it is one pass there. Elsewhere the loss is
/// evaluated here, between two passes, with the same result.
#[derive(Clone)]
pub struct CustomLossHandle {
    inner: Arc<Inner>,
}

struct Inner {
    loss: Arc<CustomLoss>,
    session_id: Arc<str>,
    loss_id: Option<String>,
}

impl CustomLossHandle {
    pub(super) fn new(loss: Arc<CustomLoss>, session_id: Arc<str>, loss_id: Option<String>) -> Self {
        Self { inner: Arc::new(Inner { loss, session_id, loss_id }) }
    }

    /// The name of the loss.
    pub fn name(&self) -> &str {
        self.inner.loss.name()
    }

    /// The inputs that every datum must have, `logprobs` first: that one stands for `target_tokens`.
    pub fn inputs(&self) -> &[CustomLossInput] {
        self.inner.loss.inputs()
    }

    /// The session that knows the loss.
    pub fn session_id(&self) -> &str {
        &self.inner.session_id
    }

    /// The server's name for the loss; none where it is evaluated here.
    pub fn loss_id(&self) -> Option<&str> {
        self.inner.loss_id.as_deref()
    }

    /// Checks that the handle may be used in that session.
    pub(super) fn check_session(&self, session_id: &str) -> Result<(), InvalidInput> {
        if *self.inner.session_id == *session_id {
            return Ok(());
        }
        let problem = format!(
            "`{}` belongs to session {} and cannot be used in session {session_id}; create it there too",
            self.name(),
            self.session_id(),
        );
        Err(InvalidInput::new("custom loss", problem))
    }

    /// The loss itself.
    pub(super) fn loss(&self) -> &Arc<CustomLoss> {
        &self.inner.loss
    }
}

impl fmt::Debug for CustomLossHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CustomLossHandle")
            .field("name", &self.name())
            .field("session_id", &self.session_id())
            .field("loss_id", &self.loss_id())
            .finish_non_exhaustive()
    }
}

/// A graph, evaluated here. Whether it fits the data has been checked, wherever it is evaluated.
pub(super) struct EvaluatedHere(pub(super) Arc<CustomLoss>);

impl CustomLossFn for EvaluatedHere {
    fn evaluate(self, data: &[Datum], logprobs: &[Logprobs<'_>]) -> Result<CustomLossOutput, BoxError> {
        let values: Vec<_> = logprobs.iter().map(Logprobs::values).collect();
        let outcome = self.0.evaluate_data(data, &values)?;
        Ok(CustomLossOutput { loss: outcome.loss, gradients: outcome.gradients, metrics: outcome.metrics })
    }
}
