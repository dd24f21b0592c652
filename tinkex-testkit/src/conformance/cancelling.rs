//! Cancelling: a call that is dropped, at whatever point, is over, and so is a body.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;

use super::rig::{Outcome, Reach, Rig, ensure, told};
use crate::Step;

/// Polls after which any exchange of the check is done.
const MOST_POLLS: usize = 200;

pub(super) async fn dropped_call(reach: &Reach<'_>) -> Outcome {
    let rig = reach.rig([Step::hang(), Step::status(200)]).await?;
    tokio::select! {
        result = rig.exchange(rig.request()?) => {
            return Err(format!("a call without an answer came back: {:?}", result.map(|r| r.status())));
        }
        () = rig.server.wait_for("x", 1) => {}
    }
    ended(&rig).await?;
    let verdict = still_works(&rig).await;
    rig.end(verdict)
}

pub(super) async fn dropped_body(reach: &Reach<'_>) -> Outcome {
    let pieces = vec![
        (Duration::ZERO, Bytes::from_static(b"first")),
        (Duration::from_secs(3600), Bytes::from_static(b"last")),
    ];
    let rig = reach.rig([Step::status(200).chunks(pieces), Step::status(200)]).await?;
    let mut body = rig.call(rig.request()?).await.map_err(told)?.into_body();
    let first = body.next().await.ok_or("the body ended before its first piece")?.map_err(told)?;
    ensure(first == "first", || "the first piece is another".to_owned())?;
    ensure(rig.server.in_flight("x") == 1, || "the connection was given up too early".to_owned())?;
    drop(body);
    ended(&rig).await?;
    let verdict = still_works(&rig).await;
    rig.end(verdict)
}

/// Drops the same exchange after its first poll, after its second, and so on until it comes to its end.
pub(super) async fn dropped_at_every_point(reach: &Reach<'_>) -> Outcome {
    let pieces: Vec<_> =
        (0..3).map(|n: u8| (Duration::from_millis(1), Bytes::from(vec![n; 5_000]))).collect();
    for polls in 1..=MOST_POLLS {
        let rig = reach.rig([]).await?;
        rig.server
            .script_when(
                "x",
                |request| request.header("x-dropped").is_some(),
                [Step::status(200).delay(Duration::from_millis(1)).chunks(pieces.clone())],
            )
            .then_repeat_last();
        rig.server
            .script_when("x", |request| request.header("x-dropped").is_none(), [Step::status(200)])
            .then_repeat_last();
        let mut request = rig.request()?;
        request.headers_mut().insert("x-dropped", http::HeaderValue::from_static("1"));
        let ended_by_itself = poll_at_most(polls, rig.exchange(request)).await;
        let told_polls = |e: String| format!("dropped after poll {polls}: {e}");
        if let Some(result) = ended_by_itself {
            return result.map(drop).map_err(told);
        }
        ended(&rig).await.map_err(told_polls)?;
        still_works(&rig).await.map_err(told_polls)?;
    }
    Err(format!("the exchange was not done after {MOST_POLLS} polls"))
}

/// Polls a future so many times at most, then drops it.
async fn poll_at_most<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|cx| {
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// That the server has noticed.
async fn ended(rig: &Rig<'_>) -> Outcome {
    let patience = Duration::from_secs(5);
    let noticed = tokio::time::timeout(patience, rig.server.wait_for_in_flight("x", 0)).await;
    noticed.map_err(|_| "the exchange goes on at the server".to_owned())
}

async fn still_works(rig: &Rig<'_>) -> Outcome {
    let next = rig.exchange(rig.request()?).await.map_err(|e| format!("the next call {}", told(e)))?;
    ensure(next.status() == 200, || format!("the next call came back as {}", next.status()))
}
