//! Responses: they are given back as they were sent, the head at once and the body as it comes.

use std::time::Duration;

use bytes::Bytes;

use super::requests::{same_headers, unusual_headers};
use super::rig::{Outcome, Reach, ensure, noise, told};
use crate::{PROTOBUF, Reply, Step};

pub(super) async fn given_back_as_sent(reach: &Reach<'_>) -> Outcome {
    let body = noise(200_000);
    let rig = reach.rig([Step::proto(body.clone()).with_status(201)]).await?;
    let response = rig.exchange(rig.request()?).await.map_err(told)?;
    let verdict = ensure(response.status() == 201, || format!("the status was {}", response.status()))
        .and(ensure(response.headers().get("content-type").is_some_and(|v| v == PROTOBUF), || {
            "content-type was lost".to_owned()
        }))
        .and(ensure(response.body() == &body, || "the body is another".to_owned()));
    rig.end(verdict)
}

pub(super) async fn headers(reach: &Reach<'_>) -> Outcome {
    let mut reply = Reply::empty(200);
    reply.headers.extend(unusual_headers());
    let rig = reach.rig([Step::reply(reply)]).await?;
    let response = rig.exchange(rig.request()?).await.map_err(told)?;
    let verdict = same_headers(response.headers());
    rig.end(verdict)
}

pub(super) async fn large_body(reach: &Reach<'_>) -> Outcome {
    let body = noise(super::LARGE);
    let rig = reach.rig([Step::proto(body.clone())]).await?;
    let response = rig.exchange(rig.request()?).await.map_err(told)?;
    let verdict = ensure(response.body() == &body, || {
        format!("the body is another, of {} bytes", response.body().len())
    });
    rig.end(verdict)
}

pub(super) async fn any_status(reach: &Reach<'_>) -> Outcome {
    let statuses = [200, 204, 304, 400, 401, 407, 408, 410, 421, 425, 429, 500, 501, 503, 599];
    let rig = reach.rig(statuses.map(Step::status)).await?;
    for status in statuses {
        let response = rig.exchange(rig.request()?).await.map_err(|e| format!("{status} {}", told(e)))?;
        ensure(response.status() == status, || format!("{status} became {}", response.status()))?;
    }
    rig.end(Ok(()))
}

/// A status that has no body, then one that could have one: neither leaves the next call waiting.
pub(super) async fn bodiless(reach: &Reach<'_>) -> Outcome {
    let statuses = [204, 304, 200];
    let rig = reach
        .rig(statuses.into_iter().flat_map(|status| [Step::status(status), Step::raw("next", "text/plain")]))
        .await?;
    for status in statuses {
        let response = rig.exchange(rig.request()?).await.map_err(|e| format!("{status} {}", told(e)))?;
        ensure(response.body().is_empty(), || format!("{status} had {} bytes", response.body().len()))?;
        let next = rig.exchange(rig.request()?).await.map_err(|e| format!("after {status} {}", told(e)))?;
        ensure(next.body() == "next", || format!("after {status} the next body was another"))?;
    }
    rig.end(Ok(()))
}

pub(super) async fn pieces(reach: &Reach<'_>) -> Outcome {
    let pieces = (0..10).map(|n: u8| (Duration::from_millis(1), Bytes::from(vec![n; 1_000]))).collect();
    let rig = reach.rig([Step::status(200).chunks(pieces)]).await?;
    let response = rig.exchange(rig.request()?).await.map_err(told)?;
    let whole = (0..10).flat_map(|n: u8| vec![n; 1_000]);
    let verdict = ensure(response.body().iter().copied().eq(whole), || "the body is another".to_owned());
    rig.end(verdict)
}

pub(super) async fn head_before_body(reach: &Reach<'_>) -> Outcome {
    let rig = reach.rig([Step::status(200).body("later").then_stall_after_headers()]).await?;
    let response = rig.call(rig.request()?).await.map_err(told)?;
    ensure(response.status() == 200, || format!("the status was {}", response.status()))?;
    ensure(rig.server.in_flight("x") == 1, || "the connection was given up too early".to_owned())?;
    drop(response);
    rig.server.wait_for_in_flight("x", 0).await;
    rig.end(Ok(()))
}
