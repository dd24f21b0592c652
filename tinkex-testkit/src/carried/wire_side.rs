//! The socket's side of a carried call: it hands the request over, and puts on the wire what it is told.

use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use tokio::sync::{mpsc, oneshot};

use super::desk::Arrival;
use crate::engine::InFlight;
use crate::outcome::Outcome;
use crate::wire::EndOfExchange;

/// What the caller's side has played.
pub(crate) struct Played {
    pub(crate) outcome: Outcome,
    /// Says when to go on; closed when the caller's side has gone.
    pub(crate) cues: mpsc::UnboundedReceiver<()>,
}

/// Hands a request over to its call, and waits for what the call's side makes of it.
pub(crate) async fn hand_over(
    call: oneshot::Sender<Arrival>,
    head: Parts,
    body: Bytes,
    connection: u64,
) -> Result<(Outcome, Tenure), EndOfExchange> {
    let (played, outcome) = oneshot::channel();
    call.send(Arrival { head, body, connection, played }).map_err(|_| EndOfExchange)?;
    let Played { outcome, cues } = outcome.await.map_err(|_| EndOfExchange)?;
    Ok((outcome, Tenure::Carried(cues)))
}

/// What an answer holds while it is delivered, and whose time its waits take.
pub(crate) enum Tenure {
    /// The request is this server's own: tokio's time. In flight until this is dropped.
    Own { _in_flight: InFlight },
    /// It is carried: the caller's side waits, and gives cues.
    Carried(mpsc::UnboundedReceiver<()>),
}

impl Tenure {
    /// Lets the wait before a piece of the body pass.
    pub(crate) async fn rest(&mut self, wait: Duration) -> Result<(), EndOfExchange> {
        match self {
            Self::Own { .. } => {
                tokio::time::sleep(wait).await;
                Ok(())
            }
            Self::Carried(cues) => cues.recv().await.ok_or(EndOfExchange),
        }
    }

    /// Waits until the client goes away. Where it is this server's own, hyper notices, and drops the future.
    pub(crate) async fn gone(mut self) -> EndOfExchange {
        match &mut self {
            Self::Own { .. } => std::future::pending().await,
            Self::Carried(cues) => {
                while cues.recv().await.is_some() {}
                EndOfExchange
            }
        }
    }
}
