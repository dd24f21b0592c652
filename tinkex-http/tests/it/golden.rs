//! Golden scenarios of the HTTP layer, replayed.

use std::time::Duration;

use serde_json::Value;
use tinkex_http::{ApiRequest, HttpErrorKind};
use tinkex_testkit::{FakeServer, Step};

use crate::support::{assert_within, builder, fixture, server, waits};

/// A response of a scenario.
fn step(response: &Value) -> Step {
    let status = u16::try_from(response["status"].as_u64().unwrap()).unwrap();
    let body = match &response["body"] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        json => json.to_string(),
    };
    let mut step = Step::status(status).body(body);
    for (name, value) in response["headers"].as_object().into_iter().flatten() {
        step = step.header(name, value.as_str().unwrap());
    }
    step
}

/// A request of a scenario.
fn request(recorded: &Value) -> ApiRequest {
    let path = recorded["path"].as_str().unwrap().to_owned();
    ApiRequest::post_json("golden", path, &recorded["body"]).unwrap()
}

/// The exchanges of a scenario for one path, and a server that plays their responses.
fn replay(scenario: &Value) -> (FakeServer, Vec<Value>, String) {
    let exchanges = match scenario["exchanges"].as_array() {
        Some(exchanges) => exchanges.clone(),
        None => vec![scenario.clone()],
    };
    let path = exchanges[0]["request"]["path"].as_str().unwrap();
    let route = path.trim_start_matches("/api/v1/").to_owned();
    let of_path: Vec<_> = exchanges.iter().filter(|e| e["request"]["path"] == path).cloned().collect();
    let server = server();
    server.script(&route, of_path.iter().map(|exchange| step(&exchange["response"])));
    (server, of_path, route)
}

/// `http_retry_sequence`: 500, 409, 429 with a hint, 400 with `x-should-retry: true` and a hint, 200, all in one call.
#[tokio::test(start_paused = true)]
async fn retry_sequence() {
    let scenario = fixture(include_str!("../fixtures/http_retry_sequence.json"));
    let (server, exchanges, route) = replay(&scenario);
    let client = builder(&server).build().unwrap();
    let response = client.send(&request(&exchanges[0]["request"])).await.unwrap();
    assert_eq!(response.attempts as usize, exchanges.len());
    let requests = server.requests(&route);
    for (received, exchange) in requests.iter().zip(&exchanges) {
        let recorded = &exchange["request"];
        assert_eq!(received.json(), Some(&recorded["body"]));
        for name in ["accept", "content-type", "x-stainless-retry-count", "x-stainless-read-timeout"] {
            assert_eq!(received.header(name), recorded["headers"][name].as_str(), "{name}");
        }
        assert_eq!(received.idempotency_key(), requests[0].idempotency_key());
    }
    let bounds = scenario["expected_gap_seconds"].as_array().unwrap();
    assert_eq!(bounds.len(), exchanges.len() - 1);
    for (wait, bound) in waits(&server, &route).into_iter().zip(bounds) {
        let bound = |i: usize| Duration::from_secs_f64(bound[i].as_f64().unwrap());
        assert_within(wait, bound(0), bound(1));
    }
    server.verify().unwrap();
}

/// `http_retry_should_retry_false`. The reference SDK stacks two loops: the inner one obeys the header, the outer one
/// does not hear it and tries again after 1 and 2 s with fresh identities. Here one layer retries (DESIGN, "One layer
/// retries"), it obeys the header, and the call ends after one attempt.
#[tokio::test(start_paused = true)]
async fn should_retry_false_ends_the_call() {
    let scenario = fixture(include_str!("../fixtures/http_retry_should_retry_false.json"));
    let (server, exchanges, route) = replay(&scenario);
    let client = builder(&server).build().unwrap();
    let error = client.send(&request(&exchanges[0]["request"])).await.unwrap_err();
    assert_eq!((error.status(), error.attempts(), error.message()), (Some(503), 1, "stop"));
    assert_eq!(server.count(&route), 1);
}

/// `http_error_*`: one call, the status, the body.
#[tokio::test(start_paused = true)]
async fn http_errors() {
    for text in [
        include_str!("../fixtures/http_error_400.json"),
        include_str!("../fixtures/http_error_401.json"),
        include_str!("../fixtures/http_error_403.json"),
        include_str!("../fixtures/http_error_404.json"),
        include_str!("../fixtures/http_error_422.json"),
    ] {
        let scenario = fixture(text);
        let (server, exchanges, _) = replay(&scenario);
        let client = builder(&server).build().unwrap();
        let error = client.send(&request(&exchanges[0]["request"])).await.unwrap_err();
        let decoded = &scenario["decoded"];
        assert_eq!(error.kind(), HttpErrorKind::Status);
        assert_eq!(error.status().map(u64::from), decoded["error"]["status_code"].as_u64());
        assert_eq!(serde_json::from_slice::<Value>(error.body()).unwrap(), decoded["body"]);
        assert_eq!(decoded["body"]["detail"], error.message());
        assert_eq!(error.attempts(), 1);
        server.verify().unwrap();
    }
}

/// `billing_pause_402`: the wait and the line. The body is quoted as JSON, not in another language's notation.
#[tokio::test(start_paused = true)]
async fn billing_pause() {
    let (log, _guard) = crate::capture::Log::start();
    let scenario = fixture(include_str!("../fixtures/billing_pause_402.json"));
    let (server, exchanges, route) = replay(&scenario);
    let client = builder(&server).build().unwrap();
    client.send(&request(&exchanges[0]["request"])).await.unwrap();
    assert_within(waits(&server, &route)[0], Duration::from_secs(5), Duration::from_secs(5));
    let recorded = scenario["logs"][0]["message"].as_str().unwrap();
    let ours = log.at(tracing::Level::WARN).remove(0);
    assert_eq!(ours.replace("{\"detail\":\"pay\"}", "{'detail': 'pay'}"), recorded);
}
