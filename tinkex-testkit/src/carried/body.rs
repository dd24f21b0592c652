//! The bodies of carried responses: time stands still while their bytes travel, and passes where the script waits.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt as _};
use tinkex_http::{Body, TransportError};
use tokio::sync::mpsc;

use super::clock::HeldClock;
use crate::engine::InFlight;

/// A body that keeps something until its end, or until it is dropped: its request in flight, its connection open.
pub(super) fn kept(
    pieces: impl Stream<Item = Result<Bytes, TransportError>> + Send + Unpin + 'static,
    keeps: impl Send + 'static,
) -> Body {
    Body::stream(stream::unfold((pieces, keeps), |(mut pieces, keeps)| async move {
        let piece = pieces.next().await?;
        Some((piece, (pieces, keeps)))
    }))
}

/// A body that comes piece by piece, each after its wait.
pub(super) fn in_pieces(
    body: Body,
    mut pieces: Vec<(Duration, Bytes)>,
    clock: HeldClock,
    cue: mpsc::UnboundedSender<()>,
    in_flight: Option<InFlight>,
) -> Body {
    // Taken from the end.
    pieces.reverse();
    let delivery = Delivery { body, pieces, clock, cue, owed: 0, _in_flight: in_flight };
    Body::stream(stream::unfold(delivery, |mut delivery| async move {
        let piece = delivery.next().await?;
        Some((piece, delivery))
    }))
}

struct Delivery {
    body: Body,
    pieces: Vec<(Duration, Bytes)>,
    clock: HeldClock,
    cue: mpsc::UnboundedSender<()>,
    /// Bytes of the current piece that have not come yet.
    owed: usize,
    _in_flight: Option<InFlight>,
}

impl Delivery {
    async fn next(&mut self) -> Option<Result<Bytes, TransportError>> {
        while self.owed == 0 {
            let Some((wait, piece)) = self.pieces.pop() else { break };
            tokio::time::sleep(wait).await;
            self.owed = piece.len();
            // A socket's side that has gone shows in the body.
            let _ = self.cue.send(());
        }
        let piece = self.clock.held(self.body.next()).await;
        if let Some(Ok(piece)) = &piece {
            self.owed = self.owed.saturating_sub(piece.len());
        }
        piece
    }
}
