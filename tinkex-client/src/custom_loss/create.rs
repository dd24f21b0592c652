//! Making a loss known to a session, and to the server where that one runs losses (PROTOCOL 13.3).

use std::sync::Arc;

use tinkex_future::{PollPolicy, Poller, PromiseRef};
use tinkex_http::{ApiRequest, CallClass, Delivery, RetryPolicy};
use tinkex_types::custom_loss::{CreateCustomLossRequest, CreateCustomLossResult, CustomLoss};
use tinkex_types::{Promise, RequestType};
use tokio::time::Instant;

use super::handle::CustomLossHandle;
use crate::endpoints::on_behalf_of;
use crate::holder::{Connection, Holder};
use crate::inflight::Row;
use crate::operation_span::OperationSpan;
use crate::retrieve::HttpRetrieve;
use crate::training::read_json;
use crate::{Error, ServiceClient};

const METHOD: &str = "ServiceClient.create_custom_loss";
const KIND: RequestType = RequestType::CreateCustomLoss;

impl ServiceClient {
    /// Makes a loss known to the session of this client (PROTOCOL 13.3). Where the server runs custom losses
    /// (`custom_loss_server_side`) it is uploaded, and the future ends when the server has it; elsewhere nothing is
    /// sent, and training with the handle evaluates the loss here.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput), before anything is sent, where the session knows a loss of the
    /// same inputs and operations, whatever its name; otherwise what the server says. A creation that failed or was
    /// dropped may be made again.
    pub async fn create_custom_loss(&self, loss: CustomLoss) -> Result<CustomLossHandle, Error> {
        let created = self.make_custom_loss(loss).await;
        created.inspect_err(|error| self.holder.telemetry().operation_failed(METHOD, error))
    }

    async fn make_custom_loss(&self, loss: CustomLoss) -> Result<CustomLossHandle, Error> {
        let connection = self.holder.connection().await?;
        let entry = connection.custom_losses.enter(&loss)?;
        let loss_id = match connection.config.custom_loss_server_side {
            true => {
                let span = OperationSpan::open(METHOD, Some(KIND), Some(connection.session.id()));
                Some(span.cover(Box::pin(upload(&self.holder, connection, &loss, &span))).await?)
            }
            false => None,
        };
        entry.keep();
        Ok(CustomLossHandle::new(Arc::new(loss), Arc::clone(connection.session.id()), loss_id))
    }
}

/// Uploads a loss and waits until the server has it; gives the server's name for it.
async fn upload(
    holder: &Holder,
    connection: &Connection,
    loss: &CustomLoss,
    span: &OperationSpan,
) -> Result<String, Error> {
    let entry = holder.inflight.enter(KIND, Arc::clone(connection.session.id()));
    let name = upload_as(entry.row(), holder, connection, loss, span).await;
    entry.ends_with(&name);
    name
}

async fn upload_as(
    row: &Arc<Row>,
    holder: &Holder,
    connection: &Connection,
    loss: &CustomLoss,
    span: &OperationSpan,
) -> Result<String, Error> {
    let started = Instant::now();
    let accepted = submit(holder, connection, loss, || row.submitting()).await?;
    let promise = PromiseRef::new(accepted.request_id.as_str(), KIND)
        .with_create_roundtrip(Instant::now().saturating_duration_since(started));
    row.polling(Arc::clone(&promise.request_id));
    // The reference SDK tells no observer of the pauses of an upload; it has no client yet that could be paused.
    let policy = holder.settings.poll_policy;
    let policy = policy.unwrap_or_else(|| PollPolicy::default().billing_pause(connection.billing_pause()));
    let poller = Poller::new(HttpRetrieve::new(holder, METHOD)).policy(policy);
    let poller = poller.progress(Arc::clone(row) as _);
    let poller = match holder.settings.seed {
        Some(seed) => poller.seed(seed),
        None => poller,
    };
    let polled = poller.poll(promise).await;
    span.polled(row);
    let payload = polled?;
    let created: CreateCustomLossResult = read_json(&payload)
        .map_err(|error| Error::decode(error, &accepted.request_id, row.polls(), row.age()))?;
    Ok(created.loss_id)
}

async fn submit(
    holder: &Holder,
    connection: &Connection,
    loss: &CustomLoss,
    submitting: impl Fn(),
) -> Result<Promise, Error> {
    let numbers = &connection.custom_losses.numbers;
    let number = numbers.draw();
    let body = CreateCustomLossRequest::new(&**connection.session.id(), number, loss);
    let policy = holder.settings.training_policy.clone();
    let policy = policy.unwrap_or_else(|| RetryPolicy::default().billing_pause(connection.billing_pause()));
    let request = ApiRequest::post_json("create_custom_loss", "/api/v1/create_custom_loss", &body)?
        .class(CallClass::Upload)
        .policy(policy);
    submitting();
    let response = holder.http.send(&on_behalf_of(request, METHOD)).await.inspect_err(|error| {
        if error.delivery() != Delivery::Uncertain {
            numbers.give_back(number);
        }
    })?;
    Ok(response.json()?)
}
