//! Fetching results: polls run apart from the turns, so they overlap (PROTOCOL 12.4, 16).

use std::sync::Arc;

use futures_util::future::join_all;
use serde::de::DeserializeOwned;
use tinkex_future::{Payload, PayloadEncoding, PollProgress, PromiseRef};
use tinkex_types::{DecodeError, ForwardBackwardOutput};

use super::call::Call;
use crate::retrieve::HttpRetrieve;
use crate::{Effect, Error};

impl Call {
    /// Polls a promise to its end and reads its result, for as long as anybody wants it.
    pub(super) async fn fetch<T>(
        &self,
        promise: PromiseRef,
        read: fn(&Payload) -> Result<T, DecodeError>,
    ) -> Result<T, Error> {
        self.row.polling(Arc::clone(&promise.request_id));
        self.while_wanted(self.poll(promise, read)).await
    }

    /// Polls the promises of a batch at once and combines their results. Where one fails the others are polled to their
    /// ends all the same, so that the error can say which chunks count.
    pub(crate) async fn fetch_batch(
        &self,
        promises: Vec<PromiseRef>,
    ) -> Result<ForwardBackwardOutput, Error> {
        self.while_wanted(self.poll_batch(promises)).await
    }

    /// [`fetch_batch`](Self::fetch_batch), whether or not anybody wants the result: something else depends on it.
    pub(crate) async fn poll_batch(&self, promises: Vec<PromiseRef>) -> Result<ForwardBackwardOutput, Error> {
        let request_ids: Vec<_> = promises.iter().map(|promise| Arc::clone(&promise.request_id)).collect();
        let count = request_ids.len();
        self.row.set_promises(request_ids.clone());
        let polls = promises.into_iter().map(|promise| self.poll(promise, read_output));
        let results = match count {
            1 => join_all(polls).await.into_iter().collect(),
            _ => all_of(join_all(polls).await),
        };
        let outputs: Vec<_> = results?;
        ForwardBackwardOutput::combine(outputs).map_err(|error| {
            let first = request_ids.first().map(|id| &**id).unwrap_or_default();
            Error::decode(error, first, self.row.polls(), self.row.age()).taken_in()
        })
    }

    async fn poll<T>(
        &self,
        promise: PromiseRef,
        read: fn(&Payload) -> Result<T, DecodeError>,
    ) -> Result<T, Error> {
        let trainer = &self.trainer;
        let _place = trainer.poll_places.take().await;
        let request_id = Arc::clone(&promise.request_id);
        let progress: Arc<dyn PollProgress> = Arc::clone(&self.row) as _;
        let retrieve = HttpRetrieve::new(&trainer.holder, self.operation.method);
        let poller = trainer.poller.clone().over(retrieve).progress(progress);
        let payload = poller.poll(promise).await.map_err(|error| Error::from(error).after_acceptance())?;
        read(&payload).map_err(|error| {
            let unreadable = Error::decode(error, &request_id, self.row.polls(), self.row.age());
            unreadable.of(payload.encoding).taken_in()
        })
    }
}

/// The results of all chunks, or the first failure and what became of the others.
fn all_of<T>(results: Vec<Result<T, Error>>) -> Result<Vec<T>, Error> {
    let count = results.len();
    let (mut carried_out, mut without_result) = (Vec::new(), Vec::new());
    let mut failure = None;
    let mut outputs = Vec::with_capacity(count);
    for (result, chunk) in results.into_iter().zip(1..) {
        match result {
            Ok(output) => {
                carried_out.push(chunk);
                outputs.push(output);
            }
            Err(error) => {
                if error.effect().is_some() {
                    without_result.push(chunk);
                }
                failure.get_or_insert((chunk, error));
            }
        }
    }
    let Some((chunk, error)) = failure else { return Ok(outputs) };
    let error = error.prefixed(&format!("chunk {chunk} of {count}"));
    let effect = match carried_out.len() + without_result.len() {
        0 => return Err(error),
        taken_in if taken_in == count => Effect::TakenIn,
        _ => Effect::Partial,
    };
    let mut words = Vec::new();
    if !carried_out.is_empty() {
        words.push(format!(
            "{} of {count} chunks were carried out: {}",
            carried_out.len(),
            list(&carried_out)
        ));
    }
    if !without_result.is_empty() {
        words.push(format!("taken in, without a result: {}", list(&without_result)));
    }
    Err(error.with_effect(effect, &words.join("; ")))
}

/// Numbers of chunks, as a message says them.
pub(super) fn list(chunks: &[usize]) -> String {
    chunks.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}

impl Error {
    /// A result that is there and cannot be used.
    fn taken_in(self) -> Self {
        self.with_effect(Effect::TakenIn, "the operation itself counts at the server")
    }

    /// The failure of a poll. Where the operation failed at the server, the message is the server's.
    fn after_acceptance(self) -> Self {
        match self.kind() {
            crate::ErrorKind::RequestFailed => self,
            _ => self.with_effect(
                Effect::TakenIn,
                "the server had taken the operation in; only its result is missing",
            ),
        }
    }
}

/// Reads a JSON result.
pub(crate) fn read_json<T: DeserializeOwned>(payload: &Payload) -> Result<T, DecodeError> {
    match payload.encoding {
        PayloadEncoding::Json => {
            serde_json::from_slice(&payload.body).map_err(|e| DecodeError::of_json("the result", &e))
        }
        _ => Err(DecodeError::new("the result", "it is protobuf where JSON belongs")),
    }
}

fn read_output(payload: &Payload) -> Result<ForwardBackwardOutput, DecodeError> {
    match payload.encoding {
        PayloadEncoding::Protobuf => ForwardBackwardOutput::from_protobuf(payload.body.clone()),
        _ => ForwardBackwardOutput::from_json(&payload.body),
    }
}
