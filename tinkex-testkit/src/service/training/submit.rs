//! What all requests for an ordered operation of a run have in common (PROTOCOL 12.4, 22).

use serde_json::{Value, json};
use tokio::time::Instant;

use super::super::Service;
use super::super::refusal::Refusal;
use super::super::routes::{json_hash, object};
use super::super::sessions::{number, text};
use super::super::state::State;
use super::operation::Operation;
use super::order::Admission;
use super::runs::{Phase, Run};
use crate::{Received, Reply};

impl Service {
    /// Takes in an operation that came as JSON. Members named in `varying` may differ between a request and its
    /// repetition.
    pub(crate) fn submit_json(
        &self,
        request: &Received,
        varying: &[&str],
        operation: impl FnOnce(&Value, &Run) -> Result<Operation, Refusal>,
    ) -> Result<Reply, Refusal> {
        let body = object(request)?;
        let (model_id, seq_id) = (text(&body, "model_id")?, number(&body, "seq_id")?);
        self.submit(model_id, seq_id, json_hash(request, varying), |run| operation(&body, run))
    }

    /// Takes in an operation of a run, unless it is a repetition.
    pub(crate) fn submit(
        &self,
        model_id: &str,
        seq_id: u64,
        hash: u64,
        operation: impl FnOnce(&Run) -> Result<Operation, Refusal>,
    ) -> Result<Reply, Refusal> {
        let mut state = self.state();
        let run = state.open_run(model_id)?;
        let promise = match run.order.admit(seq_id, hash) {
            Admission::Repeated(promise) => promise,
            Admission::Conflict(detail) => return Err(Refusal::new(409, detail)),
            Admission::Impossible(detail) => return Err(Refusal::new(400, detail)),
            Admission::New => {
                let operation = operation(run)?;
                if let Operation::Save(save) = &operation {
                    run.names.insert(save.path.clone());
                }
                state.enqueue(Instant::now(), model_id, Some((seq_id, hash)), operation)
            }
        };
        drop(state);
        Ok(self.accepted(promise))
    }

    /// The answer to an accepted training request.
    pub(crate) fn accepted(&self, promise: u64) -> Reply {
        let answer = json!({ "request_id": self.dialect().request_ids.format(promise) });
        Reply::json(self.dialect().success.accepted, &answer)
    }
}

impl State {
    /// A run that takes operations.
    pub(crate) fn open_run(&mut self, model_id: &str) -> Result<&mut Run, Refusal> {
        let unknown = || Refusal::new(404, format!("unknown model {model_id}"));
        let run = self.runs.get_mut(model_id).filter(|run| run.phase != Phase::Over).ok_or_else(unknown)?;
        if self.sessions.get(&run.session).is_none_or(|session| session.finished.is_some()) {
            return Err(Refusal::new(400, format!("the session of {model_id} is finished")));
        }
        Ok(run)
    }
}
