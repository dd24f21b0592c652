//! The HTTP layer: which answers are repeated, when, and under which identity. The recorded calls are optimizer steps;
//! here they go through the HTTP client itself, as any call does.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use serde_json::Value;
use tinkex_client::{ApiKey, RequestType};
use tinkex_future::{Ask, Outcome, Poller, PromiseRef, RawResponse, Retrieve};
use tinkex_http::{ApiRequest, ApiResponse, HttpClient, HttpError, HttpErrorKind, RetryPolicy};
use tinkex_testkit::{FakeServer, NoBehaviour};
use tracing::Level;

use super::deviations;
use super::fixtures::Scenario;
use super::replay;
use crate::log_capture::LogCapture;

/// The scenarios of this file.
pub(super) const REPLAYED: &[&str] = &[
    "billing_pause_402",
    "http_error_400",
    "http_error_401",
    "http_error_403",
    "http_error_404",
    "http_error_422",
    "http_retry_sequence",
    "http_retry_should_retry_false",
];

fn scripted(scenario: &Scenario) -> (FakeServer, HttpClient) {
    let server = FakeServer::with(NoBehaviour);
    replay::play(&server, scenario);
    let client = HttpClient::builder(server.url().parse().unwrap(), crate::harness::transport(&server))
        .auth(Arc::new(ApiKey::new(replay::KEY).unwrap()))
        .build()
        .unwrap();
    (server, client)
}

/// A recorded request, made with this client.
fn request(recorded: &Value) -> ApiRequest {
    let path = recorded["path"].as_str().unwrap().to_owned();
    let mut request = ApiRequest::post_json("recorded", path, &recorded["body"]).unwrap();
    for (name, value) in recorded["headers"].as_object().unwrap() {
        if name.starts_with("x-sdk-") || name.starts_with("x-tinker-") {
            let value = value.as_str().unwrap().replace("<float seconds>", "0.5");
            let name: HeaderName = name.parse().unwrap();
            request = request.header(name, HeaderValue::from_str(&value).unwrap());
        }
    }
    request
}

async fn send(client: &HttpClient, scenario: &Scenario) -> Result<ApiResponse, HttpError> {
    client.send(&request(&scenario.exchanges[0].request)).await
}

/// Final statuses: one attempt, the status, the server's words.
#[tokio::test(start_paused = true)]
async fn http_errors() {
    for status in [400, 401, 403, 404, 422] {
        let scenario = Scenario::load(&format!("http_error_{status}"));
        let (server, client) = scripted(&scenario);
        let error = send(&client, &scenario).await.unwrap_err();
        let recorded = &scenario.decoded()["error"];
        assert_eq!(error.kind(), HttpErrorKind::Status);
        assert_eq!(error.status().map(Value::from).as_ref(), Some(&recorded["status_code"]));
        assert_eq!(error.attempts(), 1);
        // The words are this client's own; they hold what the body said.
        let detail = scenario.decoded()["body"]["detail"].as_str().unwrap();
        assert!(error.to_string().contains(detail), "{error}");
        replay::assert_requests(&server, &scenario, &[], false);
    }
}

/// One logical call over five attempts: one key, counts 0 to 4, the server's hints kept.
#[tokio::test(start_paused = true)]
async fn http_retry_sequence() {
    let scenario = Scenario::load("http_retry_sequence");
    let (server, client) = scripted(&scenario);
    let response = send(&client, &scenario).await.unwrap();
    assert_eq!(response.attempts, 5);
    replay::assert_requests(&server, &scenario, &[], false);
    let sent = server.requests("optim_step");
    for (pair, range) in sent.windows(2).zip(scenario.raw["expected_gap_seconds"].as_array().unwrap()) {
        let gap = (pair[1].at - pair[0].at).as_secs_f64();
        let (least, most) = (range[0].as_f64().unwrap(), range[1].as_f64().unwrap());
        assert!(gap >= least - 0.001 && gap <= most + 0.002, "{gap} s, not {least} to {most} s");
    }
}

/// One retry layer (DESIGN 3): `x-should-retry: false` is final. The recorded client has a second layer, which asks
/// twice more all the same.
#[tokio::test(start_paused = true)]
async fn http_retry_should_retry_false() {
    let scenario = Scenario::load("http_retry_should_retry_false");
    let (server, client) = scripted(&scenario);
    let error = send(&client, &scenario).await.unwrap_err();
    assert_eq!((error.status(), error.attempts()), (Some(503), 1));
    let first = Scenario { exchanges: scenario.exchanges[..1].to_vec(), ..scenario.clone() };
    let sent = server.requests("optim_step");
    assert_eq!(sent.len(), 1);
    let tolerance = super::compare::Tolerance::default();
    super::compare::assert_request(&first.name, &sent[0], &first.exchanges[0], tolerance);
    assert!(server.verify().unwrap_err().violations.is_empty(), "but for the recorded repetitions");
}

/// Asks the fake server over the HTTP client, one attempt at a time, as the sampling client's own seam does.
struct OverHttp<'a> {
    client: &'a HttpClient,
    recorded: Mutex<std::vec::IntoIter<Value>>,
}

impl Retrieve for OverHttp<'_> {
    async fn retrieve(&self, ask: &Ask<'_>) -> Outcome {
        let recorded = self.recorded.lock().unwrap().next().expect("one poll too many");
        assert_eq!(recorded["headers"]["x-tinker-request-iteration"], ask.iteration.to_string());
        assert_eq!(recorded["body"]["allow_metadata_only"], ask.allow_metadata_only);
        let request = request(&recorded).policy(RetryPolicy::none()).any_status();
        let response = self.client.send(&request).await.unwrap();
        Outcome::Response(RawResponse::json(response.status.as_u16(), response.body))
    }
}

/// 402 is waited out for 5 s, in a call and in a poll. Each of the two layers has its own minute for the line, so
/// there are two lines where the recorded client has one.
#[tokio::test(start_paused = true)]
async fn billing_pause_402() {
    let (log, _guard) = LogCapture::start();
    let scenario = Scenario::load("billing_pause_402");
    let (server, client) = scripted(&scenario);
    send(&client, &scenario).await.unwrap();
    let polls: Vec<_> =
        scenario.of_route("retrieve_future").iter().map(|exchange| exchange.request.clone()).collect();
    let seam = OverHttp { client: &client, recorded: Mutex::new(polls.into_iter()) };
    Poller::new(seam).poll(PromiseRef::new("req-o", RequestType::OptimStep)).await.unwrap();

    // F-14: one key for the step; polls are calls of their own.
    replay::assert_requests(&server, &scenario, &["optim_step"], false);
    replay::assert_order(&server, &scenario);
    for route in ["optim_step", "retrieve_future"] {
        let sent = server.requests(route);
        assert_eq!(sent[1].at - sent[0].at, Duration::from_secs(5), "{route}");
    }
    let line = deviations::expected(&scenario).lines.remove(0);
    assert_eq!(log.messages(Level::WARN), [line.clone(), line]);
}
