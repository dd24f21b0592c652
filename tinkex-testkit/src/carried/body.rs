//! The body of a carried response: time stands still while its bytes travel, and passes where the script waits.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use tinkex_http::{Body, TransportError};
use tokio::sync::mpsc;

use super::clock::HeldClock;
use crate::engine::InFlight;

/// How the body comes.
pub(super) enum Course {
    /// As fast as the wire brings it.
    Steady,
    /// Not at all.
    Stall,
    /// Piece by piece, each after its wait.
    Pieces(Vec<(Duration, Bytes)>),
}

/// A body under way.
struct Delivery {
    body: Body,
    course: Course,
    clock: HeldClock,
    cue: mpsc::UnboundedSender<()>,
    /// Bytes of the current piece that have not come yet.
    owed: usize,
    _in_flight: Option<InFlight>,
}

/// Wraps the body that the transport gave back. The request is in flight until the body's end, or until it is dropped.
pub(super) fn carried_body(
    body: Body,
    mut course: Course,
    clock: HeldClock,
    cue: mpsc::UnboundedSender<()>,
    in_flight: Option<InFlight>,
) -> Body {
    if let Course::Pieces(pieces) = &mut course {
        // Taken from the end.
        pieces.reverse();
    }
    let delivery = Delivery { body, course, clock, cue, owed: 0, _in_flight: in_flight };
    Body::stream(stream::unfold(Some(delivery), |delivery| async move {
        let mut delivery = delivery?;
        match delivery.next().await? {
            Ok(piece) => Some((Ok(piece), Some(delivery))),
            Err(error) => Some((Err(error), None)),
        }
    }))
}

impl Delivery {
    async fn next(&mut self) -> Option<Result<Bytes, TransportError>> {
        match &mut self.course {
            Course::Stall => return self.body.next().await,
            Course::Steady => {}
            Course::Pieces(pieces) => {
                while self.owed == 0 {
                    let Some((wait, piece)) = pieces.pop() else { break };
                    tokio::time::sleep(wait).await;
                    self.owed = piece.len();
                    // A socket's side that has gone shows in the body.
                    let _ = self.cue.send(());
                }
            }
        }
        let piece = self.clock.held(self.body.next()).await;
        if let Some(Ok(piece)) = &piece {
            self.owed = self.owed.saturating_sub(piece.len());
        }
        piece
    }
}
