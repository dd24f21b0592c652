//! The two sides of a replay: a server that plays the recorded answers, and the checks afterwards.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tinkex_client::{
    LogPolicy, LogWording, QueueStateChange, QueueStateObserver, ServiceClient, ServiceClientBuilder,
};
use tinkex_testkit::{FakeServer, Received, Reply};

use super::compare::{self, Tolerance};
use super::fixtures::{Exchange, Scenario};

/// The key of the recordings.
pub(super) const KEY: &str = "tml-golden-key";

/// A server that answers start-up traffic as the recording one did, and plays the recorded answers for the routes of
/// the scenario. A request more than was recorded fails the test.
pub(super) fn server(scenario: &Scenario) -> FakeServer {
    let server = FakeServer::with(stage(scenario.client_config(), json!({})));
    play(&server, scenario);
    server
}

/// What is there before a scenario begins: a session `s-0001`, a model and a sampling session.
pub(super) fn stage(
    client_config: Value,
    dynamic_config: Value,
) -> impl Fn(&Received) -> Reply + Send + Sync + 'static {
    move |request| {
        let answer = match request.route() {
            "client/config" => client_config.clone(),
            "client/dynamic_config" => dynamic_config.clone(),
            "create_session" => json!({ "session_id": "s-0001" }),
            // A promise would be polled, and polls are counted.
            "create_model" => json!({ "model_id": "s-0001:train:0" }),
            "get_info" => {
                json!({ "model_id": "s-0001:train:0", "model_data": { "model_name": "Qwen/Qwen3-8B" } })
            }
            "create_sampling_session" => json!({ "sampling_session_id": "s-0001:sample:0" }),
            "session_heartbeat" => json!({ "type": "session_heartbeat" }),
            "asample" => json!({ "request_id": "req-s", "sample_sequence_ids": ["q-0"] }),
            route => return Reply::detail(404, format!("{route} was not recorded")),
        };
        Reply::json(200, &answer)
    }
}

/// Scripts the recorded answers, route by route.
pub(super) fn play(server: &FakeServer, scenario: &Scenario) {
    for route in routes(scenario) {
        server.script(route, scenario.of_route(route).into_iter().map(Exchange::step));
    }
}

fn routes(scenario: &Scenario) -> BTreeSet<&str> {
    scenario.exchanges.iter().map(Exchange::route).collect()
}

/// A client as the recorded one was: its key, and the wording of its release. Like the recorded one, it reports nothing.
pub(super) fn client(server: &FakeServer) -> ServiceClientBuilder {
    reporting_client(server).without_telemetry()
}

/// [`client`], with telemetry.
pub(super) fn reporting_client(server: &FakeServer) -> ServiceClientBuilder {
    ServiceClient::builder()
        .api_key(KEY)
        .base_url(server.url())
        .transport(crate::harness::transport(server))
        .seed(7)
        .queue_log(LogPolicy::of_release(LogWording::V0_38))
}

/// Asserts that the server got what was recorded, per route: number, order, requests, identities; and nothing is left
/// of the script.
#[track_caller]
pub(super) fn assert_requests(server: &FakeServer, scenario: &Scenario, one_key: &[&str], classic: bool) {
    for route in routes(scenario) {
        let sent = server.requests(route);
        let recorded = scenario.of_route(route);
        assert_eq!(sent.len(), recorded.len(), "{}: requests of {route}", scenario.name);
        let tolerance = Tolerance { classic, one_key: one_key.contains(&route) };
        for (n, (sent, recorded)) in sent.iter().zip(&recorded).enumerate() {
            let what = format!("{}, {route} {n}", scenario.name);
            compare::assert_request(&what, sent, recorded, tolerance);
        }
        let sent: Vec<_> = sent.iter().map(|request| &**request).collect();
        compare::assert_identities(&format!("{}, {route}", scenario.name), &sent, &recorded, tolerance);
    }
    server.verify().unwrap();
}

/// Asserts that the requests of all recorded routes came in the recorded order.
#[track_caller]
pub(super) fn assert_order(server: &FakeServer, scenario: &Scenario) {
    let order: Vec<_> = scenario.exchanges.iter().map(Exchange::route).collect();
    server.assert_order(&order);
}

/// Asserts the pauses between the first arrivals of a route, in milliseconds.
#[track_caller]
pub(super) fn assert_gaps(server: &FakeServer, scenario: &Scenario, route: &str, gaps: &[(u64, u64)]) {
    let sent = server.requests(route);
    assert!(sent.len() > gaps.len(), "{}: too few requests of {route}", scenario.name);
    for (n, ((least, most), pair)) in gaps.iter().zip(sent.windows(2)).enumerate() {
        let gap = (pair[1].at - pair[0].at).as_millis();
        let range = u128::from(*least)..=u128::from(*most);
        assert!(
            range.contains(&gap),
            "{}: {route} came {gap} ms after number {n}, not {range:?}",
            scenario.name
        );
    }
}

/// An observation of a queue state, as it is compared: its label and the server's reason.
pub(super) type Observation = (String, Option<String>);

/// Keeps what it is told.
#[derive(Clone, Debug, Default)]
pub(super) struct Observed(Arc<Mutex<Vec<Observation>>>);

impl Observed {
    pub(super) fn list(&self) -> Vec<Observation> {
        self.0.lock().unwrap().clone()
    }

    pub(super) fn note(&self, change: &QueueStateChange) {
        let reason = change.reason.as_deref().map(str::to_owned);
        self.0.lock().unwrap().push((change.state.label().to_owned(), reason));
    }
}

impl QueueStateObserver for Observed {
    fn on_change(&self, change: &QueueStateChange) {
        self.note(change);
    }
}
