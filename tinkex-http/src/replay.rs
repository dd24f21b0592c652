//! The replay after a rejected token (PROTOCOL 3.4): an attempt that met a 401 with `error="invalid_token"` is made once
//! more with another credential. It is the same attempt: same body, same idempotency key, same retry count, inside the
//! call's deadline; neither the policy nor the budget counts it.

use http::header::WWW_AUTHENTICATE;
use http::{HeaderValue, Uri};

use crate::StopSignal;
use crate::attempt::{self, AttemptFailure, RawResponse};
use crate::call::{Call, CutShort};
use crate::client::Inner;

/// Makes one attempt, and its replay where the service rejects the token and another one can be had. A second rejection
/// is returned as it is.
pub(crate) async fn attempt(
    inner: &Inner,
    call: &mut Call<'_>,
    uri: &Uri,
    credential: Option<HeaderValue>,
    stop: &mut Option<StopSignal<'_>>,
) -> Result<Result<RawResponse, AttemptFailure>, CutShort> {
    let outcome = once(inner, call, uri, credential.clone()).await;
    let (Some(mut rejected), Err(failure)) = (credential, &outcome) else { return Ok(outcome) };
    if !rejects_token(failure) {
        return Ok(outcome);
    }
    rejected.set_sensitive(true);
    let delivery = failure.delivery();
    let replaced = match call.wait(stop, inner.auth.replace(&rejected)).await {
        Ok(Ok(_)) if call.remaining().is_some_and(|remaining| remaining.is_zero()) => {
            Err(CutShort::OutOfTime)
        }
        Ok(replaced) => replaced.map_err(CutShort::NoCredential),
        Err(cut) => Err(cut),
    };
    match replaced {
        Ok(Some(fresh)) if fresh != rejected => {
            let operation = call.request.operation;
            tracing::debug!(operation, "{operation}: the token was rejected; sending with another one");
            call.delivery = call.delivery.max(delivery);
            Ok(once(inner, call, uri, Some(fresh)).await)
        }
        Ok(_) => Ok(outcome),
        Err(cut) => {
            call.sent = call.sent.saturating_add(1);
            call.delivery = call.delivery.max(delivery);
            call.last = outcome.err();
            Err(cut)
        }
    }
}

async fn once(
    inner: &Inner,
    call: &Call<'_>,
    uri: &Uri,
    credential: Option<HeaderValue>,
) -> Result<RawResponse, AttemptFailure> {
    let key = call.idempotency_key.as_ref();
    attempt::run(inner, call.request, uri, credential, key, call.sent, call.remaining()).await
}

fn rejects_token(failure: &AttemptFailure) -> bool {
    const SAID: &[u8] = br#"error="invalid_token""#;
    let AttemptFailure::Status(response) = failure else { return false };
    let says = |value: &HeaderValue| value.as_bytes().windows(SAID.len()).any(|part| part == SAID);
    response.status == 401 && response.headers.get_all(WWW_AUTHENTICATE).iter().any(says)
}
