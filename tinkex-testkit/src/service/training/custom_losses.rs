//! `create_custom_loss`: losses that clients upload as graphs (PROTOCOL 13.3).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::json;
use tinkex_types::ErrorCategory;
use tinkex_types::custom_loss::{CreateCustomLossRequest, CustomLoss, DenseArray, LossGraphErrorKind, Rank};
use tokio::time::Instant;

use super::super::Service;
use super::super::product::Product;
use super::super::promises::{Outcome, Place, Work};
use super::super::refusal::Refusal;
use super::super::routes::{body, json_hash};
use crate::{Received, Reply};

/// All uploaded losses.
#[derive(Debug, Default)]
pub(crate) struct CustomLosses {
    by_id: HashMap<String, Uploaded>,
    /// The promise each upload led to and a hash of its request, by session and number.
    uploads: HashMap<(u64, u64), (u64, u64)>,
    count: u64,
}

#[derive(Debug)]
struct Uploaded {
    session: u64,
    loss: Arc<CustomLoss>,
}

impl CustomLosses {
    /// The loss of this id, which must be of the session that uses it.
    pub(crate) fn get(&self, loss_id: &str, session: u64) -> Result<Arc<CustomLoss>, String> {
        match self.by_id.get(loss_id) {
            None => Err(format!("unknown loss_id {loss_id:?}")),
            Some(uploaded) if uploaded.session != session => {
                Err(format!("loss_id {loss_id:?} belongs to another session"))
            }
            Some(uploaded) => Ok(Arc::clone(&uploaded.loss)),
        }
    }

    /// Forgets the losses of a session.
    pub(crate) fn forget_session(&mut self, gone: u64) {
        self.by_id.retain(|_, uploaded| uploaded.session != gone);
        self.uploads.retain(|(session, _), _| *session != gone);
    }
}

impl Service {
    pub(crate) fn create_custom_loss(&self, request: &Received) -> Result<Reply, Refusal> {
        let upload: CreateCustomLossRequest = body(request)?;
        let hash = json_hash(request, &[]);
        let (session_id, seq_id) = (upload.session_id.clone(), upload.custom_loss_seq_id);
        // Tried before anything is locked.
        let loss = CustomLoss::try_from(upload).map_err(|error| error.to_string());
        let loss = loss.and_then(|loss| try_out(&loss).map(|()| loss));
        let mut state = self.state();
        let session = state.open_session(&session_id)?;
        if let Some((promise, was)) = state.custom_losses.uploads.get(&(session, seq_id)).copied() {
            if was == hash {
                return Ok(self.accepted(promise));
            }
            let detail = format!("custom_loss_seq_id {seq_id} was used by a different request");
            return Err(Refusal::new(409, detail));
        }
        state.custom_losses.count += 1;
        let loss_id = format!("loss-{}", state.custom_losses.count);
        let answer = json!({ "type": "create_custom_loss", "loss_id": loss_id });
        let work = Work::Product(Product::plain(answer));
        let number = state.accept(Instant::now(), Place::Alone, work);
        state.custom_losses.uploads.insert((session, seq_id), (number, hash));
        if let Some(promise) = state.promises.get_mut(&number)
            && promise.fate == Outcome::Result
        {
            match loss {
                Ok(loss) => {
                    let uploaded = Uploaded { session, loss: Arc::new(loss) };
                    state.custom_losses.by_id.insert(loss_id, uploaded);
                }
                Err(problem) => promise.fate = Outcome::Failure(ErrorCategory::User, problem),
            }
        }
        drop(state);
        Ok(self.accepted(number))
    }
}

/// Runs a loss on made-up inputs of the declared ranks. What depends on real shapes and values is found out when the
/// loss is used.
fn try_out(loss: &CustomLoss) -> Result<(), String> {
    let mut inputs = BTreeMap::new();
    for input in loss.inputs() {
        let array = match input.rank {
            Rank::Scalar => DenseArray::scalar(0.5),
            Rank::Vector => DenseArray::vector([0.5; 4]),
            Rank::Matrix => DenseArray::matrix(4, 2, [0.5; 8]).map_err(|error| error.to_string())?,
        };
        inputs.insert(input.name.clone(), array);
    }
    match loss.graph().evaluate(&inputs) {
        Ok(_) => Ok(()),
        Err(error) => match error.kind() {
            LossGraphErrorKind::Shape | LossGraphErrorKind::Argument | LossGraphErrorKind::Input => Ok(()),
            _ => Err(error.to_string()),
        },
    }
}
