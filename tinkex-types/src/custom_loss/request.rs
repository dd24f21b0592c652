//! The upload of a custom loss (PROTOCOL 13.3).

use serde::{Deserialize, Serialize};

use super::graph::LossGraph;
use super::loss::CustomLoss;
use super::rank::Rank;
use crate::{InvalidInput, lenient};

/// An input of a custom loss (PROTOCOL 13.3).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CustomLossInput {
    /// Its name: `logprobs`, or a key of `loss_fn_inputs`.
    pub name: String,
    /// Its number of dimensions.
    pub rank: Rank,
}

/// The body of `POST /api/v1/create_custom_loss` (PROTOCOL 13.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateCustomLossRequest {
    /// The session it belongs to.
    pub session_id: String,
    /// Its number within the session, from 0 (PROTOCOL 10.4).
    pub custom_loss_seq_id: u64,
    /// The name of the loss.
    pub name: String,
    /// The inputs, `logprobs` first.
    pub inputs: Vec<CustomLossInput>,
    /// The operations.
    pub graph: LossGraph,
    /// Always `create_custom_loss`.
    #[serde(rename = "type", skip_deserializing, default = "request_kind")]
    pub kind: &'static str,
}

fn request_kind() -> &'static str {
    "create_custom_loss"
}

impl CreateCustomLossRequest {
    /// The upload of `loss` as number `custom_loss_seq_id` of a session.
    pub fn new(session_id: impl Into<String>, custom_loss_seq_id: u64, loss: &CustomLoss) -> Self {
        Self {
            session_id: session_id.into(),
            custom_loss_seq_id,
            name: loss.name().to_owned(),
            inputs: loss.inputs().to_vec(),
            graph: loss.graph().clone(),
            kind: request_kind(),
        }
    }
}

impl TryFrom<CreateCustomLossRequest> for CustomLoss {
    type Error = InvalidInput;

    /// The loss of an upload, as [`CustomLoss::new`] checks it.
    fn try_from(request: CreateCustomLossRequest) -> Result<Self, InvalidInput> {
        Self::new(request.name, request.inputs, request.graph)
    }
}

/// The result of a [`CreateCustomLossRequest`] (PROTOCOL 13.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateCustomLossResult {
    /// The id to name in `loss_fn_config` as `loss_id`.
    #[serde(deserialize_with = "lenient::text")]
    pub loss_id: String,
}
