//! Restraint: a transport makes the exchange it was asked for, and nothing more.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde_json::json;

use super::rig::{Outcome, Reach, Rig, ensure, told};
use crate::{Received, Step};

/// Everything that tempts to a second attempt: hints, failures on a fresh connection, and failures on one that served
/// a call before.
pub(super) async fn no_retry(reach: &Reach<'_>) -> Outcome {
    for method in [Method::POST, Method::GET] {
        let steps = [
            Step::status(429).header("retry-after-ms", "0"),
            Step::status(503).header("retry-after", "0"),
            Step::status(408).header("connection", "close"),
            Step::reset(),
            Step::close_before_headers(),
            Step::status(200),
            Step::reset(),
            Step::status(200),
            Step::close_before_headers(),
            Step::status(200).body("0123456789").then_close_mid_body(4),
        ];
        let rig = reach.rig(steps.clone()).await?;
        for n in 1..=steps.len() as u64 {
            // Whether it fails, and how, is for another check.
            let _ = rig.exchange(with_method(&rig, &method)?).await;
            let count = rig.server.count("x");
            if count != n {
                // The log explains the failure; the script's own complaint would only repeat it.
                let _ = rig.server.verify();
                return Err(format!("after {method} number {n} the server had seen {count} requests"));
            }
        }
        rig.end(Ok(()))?;
    }
    Ok(())
}

/// A small request; a `GET` has no body.
fn with_method(rig: &Rig<'_>, method: &Method) -> Result<http::Request<Bytes>, String> {
    let mut request = rig.request()?;
    if method == Method::GET {
        *request.body_mut() = Bytes::new();
    }
    *request.method_mut() = method.clone();
    Ok(request)
}

pub(super) async fn no_redirect(reach: &Reach<'_>) -> Outcome {
    for method in [Method::POST, Method::GET] {
        let elsewhere = reach.rig([]).await?;
        let target = format!("{}/api/v1/y", elsewhere.url);
        let statuses = [301, 302, 303, 307, 308];
        let rig = reach.rig(statuses.map(|status| Step::status(status).header("location", &target))).await?;
        for status in statuses {
            let response = rig.exchange(with_method(&rig, &method)?).await.map_err(told)?;
            let location = response.headers().get("location").and_then(|v| v.to_str().ok());
            ensure(response.status() == status && location == Some(target.as_str()), || {
                format!("{status} became {} with location {location:?}", response.status())
            })?;
        }
        let strayed = elsewhere.server.count("**") + rig.server.count("y");
        ensure(strayed == 0, || "the other origin was called".to_owned())?;
        rig.end(Ok(()))?;
    }
    Ok(())
}

pub(super) async fn no_cookies(reach: &Reach<'_>) -> Outcome {
    let baker = Step::status(200).header("set-cookie", "a=1; Path=/").header("set-cookie", "b=2");
    let rig = reach.rig([baker, Step::status(200)]).await?;
    let response = rig.exchange(rig.request()?).await.map_err(told)?;
    let baked = response.headers().get_all("set-cookie").iter().count();
    ensure(baked == 2, || format!("of 2 set-cookie lines {baked} came back"))?;
    rig.exchange(rig.request()?).await.map_err(told)?;
    let eaten = rig.server.requests("x").iter().any(|request| request.header("cookie").is_some());
    rig.end(ensure(!eaten, || "a cookie was sent".to_owned()))
}

pub(super) async fn no_hidden_decompression(reach: &Reach<'_>) -> Outcome {
    let value = json!({"text": "a".repeat(1_000)});
    let rig = reach.rig([Step::json(value.clone()).gzip(), Step::json(value.clone()).zstd()]).await?;
    for _ in 0..2 {
        let (parts, body) = rig.exchange(rig.request()?).await.map_err(told)?.into_parts();
        let as_sent = Received::get("x").with_headers(parts.headers).with_body(body);
        ensure(as_sent.json() == Some(&value), || {
            format!("the body is not what content-encoding {:?} says", as_sent.header("content-encoding"))
        })?;
    }
    rig.end(Ok(()))
}

/// Deadlines are the pipeline's. Two seconds are no long time for a poll.
pub(super) async fn patience(reach: &Reach<'_>) -> Outcome {
    let wait = Duration::from_secs(1);
    let pieces = vec![(Duration::ZERO, Bytes::from_static(b"be")), (wait, Bytes::from_static(b"low"))];
    let rig = reach.rig([Step::status(200).delay(wait).chunks(pieces)]).await?;
    let response = rig.exchange(rig.request()?).await.map_err(told)?;
    let verdict = ensure(response.body() == "below", || "the body is another".to_owned());
    rig.end(verdict)
}
