//! Edge rejections (PROTOCOL 7.3): a 400 without a body is not the service's word.

use bytes::Bytes;
use serde_json::json;
use tinkex_http::{CallClass, Delivery, HttpErrorKind, RetryPolicy};
use tinkex_testkit::Step;

use crate::support::{ROUTE, assert_exactly, ms, ok, post, scripted, secs, waits};

/// A 400 as an edge gives it.
fn rejection() -> Step {
    Step::status(400).body("")
}

fn unannounced(body: &'static str) -> Step {
    Step::status(400).chunks(vec![(ms(0), Bytes::from_static(body.as_bytes()))])
}

/// golden-rest `retry_400_empty_body`: tried again like a broken connection, also where the length is not announced.
#[tokio::test(start_paused = true)]
async fn a_rejection_is_tried_again() {
    let (server, client) = scripted([rejection(), unannounced(""), unannounced("<html>no</html>"), ok()]);
    let response = client.send(&post()).await.unwrap();
    assert_eq!(response.attempts, 4);
    assert_eq!(waits(&server, ROUTE).len(), 3);
    for (wait, expected) in waits(&server, ROUTE).into_iter().zip([500, 1000, 2000]) {
        assert_exactly(wait, ms(expected));
    }
    server.assert_idempotency_pattern(ROUTE);
}

/// Where nothing is tried again (polls), whoever does the polling gets to see a broken connection, not a status, even
/// if it asked for any. Nothing was accepted.
#[tokio::test(start_paused = true)]
async fn a_rejection_is_no_answer() {
    let (_, client) = scripted([rejection()]);
    let error = client.send(&post().policy(RetryPolicy::none()).any_status()).await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (HttpErrorKind::Interrupted, None));
    assert_eq!(error.delivery(), Delivery::Rejected);
    assert!(error.to_string().contains("something in front of the service"), "{error}");
}

/// What has a body, or explains itself in JSON although its length was lost on the way, is the service's own word.
#[tokio::test(start_paused = true)]
async fn an_explained_400_is_final() {
    let explained = Step::status(400).json_body(json!({"detail": "no"}));
    for step in [
        Step::status(400).body("no"),
        explained.clone(),
        explained.clone().gzip(),
        explained.chunks(vec![(ms(0), Bytes::from_static(br#" {"detail": "no"}"#))]),
    ] {
        let (_, client) = scripted([step]);
        let error = client.send(&post()).await.unwrap_err();
        assert_eq!((error.status(), error.attempts()), (Some(400), 1), "{error}");
    }
    let (_, client) = scripted([Step::status(422).body("")]);
    assert_eq!(client.send(&post()).await.unwrap_err().status(), Some(422), "400 only");
}

/// Sixteen in a row are the edge's; the seventeenth is believed. Each success buys one back, up to sixteen, and each
/// class of calls has its own.
#[tokio::test(start_paused = true)]
async fn credit_is_bounded_and_is_earned_back() {
    let (_, client) =
        scripted([ok().repeat(3), rejection().repeat(17), rejection(), ok(), ok(), rejection().repeat(3)]);
    let once = |class| post().policy(RetryPolicy::none()).class(class);
    let mut seen = Vec::new();
    for class in [CallClass::Normal].into_iter().cycle().take(20) {
        seen.push(client.send(&once(class)).await.map(|_| ()).map_err(|error| {
            // One that is believed has no words of its own.
            assert!(error.to_string().contains("something in front of the service"), "{error}");
            error.status()
        }));
    }
    assert_eq!(seen[..3], [Ok(()); 3]);
    assert_eq!(seen[3..19], [Err(None); 16], "no more than sixteen, whatever went well before");
    assert_eq!(seen[19], Err(Some(400)));
    let other = client.send(&once(CallClass::LongPoll)).await.unwrap_err();
    assert_eq!(other.status(), None, "another class");
    client.send(&once(CallClass::Normal)).await.unwrap();
    client.send(&once(CallClass::Normal)).await.unwrap();
    let mut then = Vec::new();
    for _ in 0..3 {
        then.push(client.send(&once(CallClass::Normal)).await.unwrap_err().status());
    }
    assert_eq!(then, [None, None, Some(400)]);
}

/// One call whose every attempt is turned down ends with the 400 when the credit is used up, before its own limits.
#[tokio::test(start_paused = true)]
async fn a_call_ends_when_the_credit_does() {
    let (_, client) = scripted([rejection().repeat(17)]);
    let patient = RetryPolicy::patient(secs(3600));
    let error = client.send(&post().policy(patient)).await.unwrap_err();
    assert_eq!((error.status(), error.attempts()), (Some(400), 17));
}
