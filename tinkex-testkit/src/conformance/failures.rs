//! Failures: each has the kind that says what it means for a retry.

use tinkex_http::TransportErrorKind;

use super::rig::{Outcome, Reach, ensure_kind};
use crate::Step;

pub(super) async fn have_kinds(reach: &Reach<'_>) -> Outcome {
    let body = Step::raw("0123456789", "text/plain");
    let interrupted = TransportErrorKind::Interrupted;
    let cases = [
        ("a reset", Step::reset(), interrupted),
        ("a close before the headers", Step::close_before_headers(), interrupted),
        ("half a body", body.clone().then_close_mid_body(4), interrupted),
        ("a body shorter than announced", body.clone().then_wrong_content_length(), interrupted),
        ("nothing of a body", body.then_close_mid_body(0), interrupted),
        ("bytes that are not HTTP", Step::garbage("this is not HTTP\r\n\r\n"), TransportErrorKind::Decode),
    ];
    // The second time on a connection that has served a call.
    let good = Step::raw("good", "text/plain");
    let steps = cases.iter().flat_map(|(_, step, _)| [step.clone(), good.clone(), step.clone()]);
    let rig = reach.rig(steps).await?;
    for (what, _, kind) in cases {
        ensure_kind(what, rig.exchange(rig.request()?).await, kind)?;
        rig.exchange(rig.request()?).await.map_err(|e| format!("after {what} a good answer failed: {e}"))?;
        ensure_kind(what, rig.exchange(rig.request()?).await, kind)?;
    }
    rig.end(Ok(()))
}

pub(super) async fn nobody_listens(reach: &Reach<'_>) -> Outcome {
    ensure_kind("it", reach.call_nobody().await?, TransportErrorKind::Connect)
}
