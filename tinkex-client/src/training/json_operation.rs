//! Operations that are one JSON request: a turn, a submission, a promise, a result.

use tinkex_future::Payload;
use tinkex_http::ApiRequest;
use tinkex_types::DecodeError;

use super::call::{self, Operation};
use super::client::TrainingClient;
use super::handle::TrainingHandle;
use super::submission::JsonRequest;
use crate::Error;

impl TrainingClient {
    /// Starts an operation whose request `make` makes for a sequence id; for another one where the server counts
    /// differently. `read` reads its result.
    pub(super) fn json_operation<T: Send + 'static>(
        &self,
        operation: Operation,
        make: impl Fn(u64) -> Result<ApiRequest, Error> + Send + Sync + 'static,
        read: fn(&Payload) -> Result<T, DecodeError>,
    ) -> TrainingHandle<T> {
        call::start(&self.inner, operation, |call, ticket| async move {
            let promise = {
                let mut turn = ticket.turn().await?;
                call.submit(&mut turn, &JsonRequest(make)).await?
            };
            call.fetch(promise, read).await
        })
    }
}
