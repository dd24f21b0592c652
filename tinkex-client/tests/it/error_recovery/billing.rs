//! Billing pauses.

use serde_json::json;
use tinkex_client::ErrorKind;
use tinkex_testkit::Step;
use tinkex_testkit::service::Service;
use tokio::time::Instant;

use super::seconds;
use crate::harness::{self, arrivals, assert_within, request};
use crate::log_capture::LogCapture;

/// PROTOCOL 7.4, 15.4: submissions wait out a billing pause behind the gate, 1 or 5 s at a time by the size of the
/// prompt, and one line tells of it a minute.
#[tokio::test(start_paused = true)]
async fn a_billing_pause_is_waited_out() {
    for (tokens, window, spread) in [(10, 1.0, 0.25), (13_108, 5.0, 1.0)] {
        let (log, _guard) = LogCapture::start();
        let (server, _client, sampler) = harness::in_front_of(&Service::default()).await;
        let no_credit = Step::status(402).json_body(json!({"detail": "no credit"}));
        server.script("asample", [no_credit.repeat(4)]).then_behave();
        let start = Instant::now();
        sampler.sample(request(&vec![1; tokens])).await.unwrap();
        let at = arrivals(&server, "asample", start);
        assert_eq!(at.len(), 5);
        for pair in at.windows(2) {
            assert_within(pair[1] - pair[0], window..=window + spread, "the window");
        }
        server.assert_idempotency_pattern("asample");
        let lines = log.warnings("billing");
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!(
            lines[0].message,
            "The job is paused due to billing status. Error: Error code: 402 - {\"detail\":\"no credit\"}"
        );
    }
}

/// PROTOCOL 4.1, 7.4: the server's flag bounds how long a billing pause is waited out, by submissions and by polls.
#[tokio::test(start_paused = true)]
async fn a_billing_pause_ends_at_the_servers_limit() {
    for route in ["asample", "retrieve_future"] {
        let service = Service::default();
        service.set_client_config(&json!({"billing_exception_max_pause_duration_sec": 20}));
        let (server, _client, sampler) = harness::in_front_of(&service).await;
        server
            .script(route, [Step::status(402).json_body(json!({"detail": "no credit"}))])
            .then_repeat_last();
        let start = Instant::now();
        let error = sampler.sample(request(&[1])).await.unwrap_err();
        assert_within(seconds(start.elapsed()), 20.0..=25.0, route);
        assert_eq!((error.kind(), error.status()), (ErrorKind::Status, Some(402)));
        assert!(error.is_user_error() && !error.is_retryable());
        assert!(error.to_string().contains("no credit"), "{error}");
    }
}
