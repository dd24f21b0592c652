//! The deadline of one sample.

use std::time::Duration;

use serde_json::json;
use tinkex_client::{ErrorKind, SampleOptions};
use tinkex_testkit::service::Service;
use tinkex_testkit::{Gate, Step};
use tokio::time::Instant;

use super::seconds;
use crate::harness::{self, assert_within, request};

/// The deadline of a sample holds to the millisecond at every stage, and the sample is cancelled on the server where
/// that is enabled.
#[tokio::test(start_paused = true)]
async fn deadlines_are_exact_at_every_stage() {
    let deadline = Duration::from_secs(2);
    // How many samples are cancelled on the server, and whether the promise is known.
    let stages: [(&str, usize); 5] =
        [("queued", 0), ("window", 0), ("backoff", 0), ("submitting", 1), ("polling", 1)];
    for (stage, cancelled) in stages {
        let service = Service::default();
        service.set_dynamic_config(&json!({"sample_cancel_enabled": true}));
        service.set_client_config(&json!({"sample_max_concurrent_requests": 1}));
        let (server, client, sampler) = harness::in_front_of(&service).await;
        let gate = Gate::new();
        let mut before = Vec::new();
        match stage {
            "queued" => {
                service.pause(tinkex_client::QueueState::PausedCapacity, None, Some(Duration::from_secs(60)));
                before.push(sampler.sample(request(&[9])));
            }
            "window" => {
                server.script("asample", [Step::status(429).header("retry-after", "30")]).then_behave();
            }
            "backoff" => {
                server.script("asample", [Step::status(503).header("retry-after", "30")]).then_behave();
            }
            "submitting" => {
                server.script("asample", [Step::behave().gate(&gate)]).then_behave();
            }
            _ => service.pause(tinkex_client::QueueState::PausedCapacity, None, None),
        }
        let start = Instant::now();
        let options = SampleOptions::default().deadline(deadline);
        let error = sampler.sample_with(request(&[1]), options).await.unwrap_err();
        assert_within(seconds(start.elapsed()), 2.0..=2.0, stage);
        assert_eq!(error.kind(), ErrorKind::Timeout, "{stage}");
        assert!(error.is_retryable() && !error.is_user_error(), "{stage}");
        assert!(error.to_string().contains("within the deadline of 2.0 s"), "{stage}: {error}");
        let promise = (stage == "polling").then_some("req-00000001");
        assert_eq!(error.request_id(), promise, "{stage}");
        // What is on the wire is finished first; then the promise is cancelled.
        gate.open();
        server.wait_for_in_flight("asample", 0).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(service.cancelled().len(), cancelled, "{stage}");
        drop(before);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(client.inflight().is_empty(), "{stage}");
        assert_eq!(client.dispatch_available(), Some((400, 10_485_760)), "{stage}");
    }
}

/// A deadline that does not pass changes nothing, and a deadline of zero sends nothing.
#[tokio::test(start_paused = true)]
async fn deadlines_that_hold_and_deadlines_of_zero() {
    let (server, _client, sampler) = harness::in_front_of(&Service::default()).await;
    let options = SampleOptions::default().deadline(Duration::ZERO);
    let start = Instant::now();
    let error = sampler.sample_with(request(&[1]), options).await.unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::Timeout, 0));
    assert_within(seconds(start.elapsed()), 0.0..=0.0, "at once");
    assert_eq!(server.count("asample"), 0);
    let options = SampleOptions::default().deadline(Duration::from_millis(50));
    sampler.sample_with(request(&[1]), options).await.unwrap();
    assert_eq!(server.seq_ids("asample"), [0]);
}
