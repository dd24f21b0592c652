//! The recorded scenarios: where they lie, how they are read, and that they are the real ones.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::Value;
use tinkex_testkit::{Reply, Step};

/// The scenarios that concern this client, by the beginnings of their names.
const CONCERNS: [&str; 20] = [
    "asample_",
    "auth_",
    "billing_pause_402",
    "cancel_future",
    "client_",
    "compute_logprobs",
    "copy_weights",
    "create_model_",
    "create_sampling_session_",
    "custom_loss_",
    "forward",
    "get_info",
    "http_",
    "join_sampling_session",
    "load_weights_",
    "optim_step_",
    "retrieve_future",
    "save_",
    "session_",
    "telemetry",
];

/// What tests of this folder replay, by name; [`every_scenario_is_replayed`] holds it against the folder.
const REPLAYED: [&[&str]; 10] = [
    super::configuration::REPLAYED,
    super::credentials::REPLAYED,
    super::custom_losses::REPLAYED,
    super::sessions::REPLAYED,
    super::sampling::REPLAYED,
    super::http_layer::REPLAYED,
    super::models::REPLAYED,
    super::telemetry::REPLAYED,
    super::training::REPLAYED,
    super::weights::REPLAYED,
];

/// One recorded scenario.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    pub(super) name: String,
    pub(super) raw: Value,
    pub(super) exchanges: Vec<Exchange>,
}

/// One recorded request with its answer.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    pub(super) request: Value,
    pub(super) response: Value,
}

impl Scenario {
    /// Reads a scenario of the current protocol.
    pub(super) fn load(name: &str) -> Self {
        Self::read(name, &folder().join("scenarios").join(format!("{name}.json")))
    }

    /// Reads a scenario of the older protocol.
    pub(super) fn load_classic(name: &str) -> Self {
        Self::read(name, &folder().join("classic_0_7_0").join(format!("{name}.json")))
    }

    fn read(name: &str, path: &Path) -> Self {
        let text = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let raw: Value = serde_json::from_slice(&text).unwrap();
        Self::of(name, raw)
    }

    /// The scenario with other text in place of its placeholders.
    pub(super) fn filled(&self, fill: impl Fn(&str) -> String) -> Self {
        Self::of(&self.name, serde_json::from_str(&fill(&self.raw.to_string())).unwrap())
    }

    fn of(name: &str, raw: Value) -> Self {
        let exchange = |value: &Value| Exchange {
            request: value["request"].clone(),
            response: value["response"].clone(),
        };
        let exchanges = match raw.get("exchanges").and_then(Value::as_array) {
            Some(list) => list.iter().map(exchange).collect(),
            None => vec![exchange(&raw)],
        };
        Self { name: name.to_owned(), raw, exchanges }
    }

    /// What the caller got.
    pub(super) fn decoded(&self) -> &Value {
        &self.raw["decoded"]
    }

    /// The arguments of the call.
    pub(super) fn call(&self) -> &Value {
        &self.raw["call"]
    }

    /// The start-up flags the server set.
    pub(super) fn client_config(&self) -> Value {
        self.raw.get("client_config").cloned().unwrap_or_else(|| serde_json::json!({}))
    }

    /// The exchanges of one route, in order.
    pub(super) fn of_route(&self, route: &str) -> Vec<&Exchange> {
        self.exchanges.iter().filter(|exchange| exchange.route() == route).collect()
    }
}

impl Exchange {
    /// The path after `/api/v1/`.
    pub(super) fn route(&self) -> &str {
        self.request["path"].as_str().unwrap().strip_prefix("/api/v1/").unwrap()
    }

    /// A recorded header of the request.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.request["headers"].get(name)?.as_str()
    }

    pub(super) fn status(&self) -> u16 {
        self.response["status"].as_u64().unwrap().try_into().unwrap()
    }

    /// The body of the answer, as bytes.
    pub(super) fn answer(&self) -> Bytes {
        match (self.response.get("body_base64"), &self.response["body"]) {
            (Some(Value::String(bytes)), _) => STANDARD.decode(bytes).unwrap().into(),
            (_, Value::String(text)) => text.clone().into(),
            (_, body) => body.to_string().into(),
        }
    }

    /// The answer's content type, where it has one.
    pub(super) fn answer_type(&self) -> Option<&str> {
        self.response["headers"]["content-type"].as_str()
    }

    /// The answer as a step of the fake server.
    pub(super) fn step(&self) -> Step {
        let headers = self.response["headers"].as_object().unwrap();
        let reply = Reply { body: self.answer(), ..Reply::empty(self.status()) };
        Step::reply(
            headers.iter().fold(reply, |reply, (name, value)| reply.header(name, value.as_str().unwrap())),
        )
    }
}

/// The copies that travel with the repository.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tinkex-testkit/fixtures/golden")
}

/// The originals, where they lie beside the repository or beside the folder of its working trees.
fn originals() -> Option<PathBuf> {
    let up = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().skip(2).take(3);
    up.map(|parent| parent.join("shared/protocol/golden")).find(|folder| folder.is_dir())
}

fn names(folder: &Path) -> BTreeSet<String> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let json = files.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    json.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

/// No scenario is forgotten, none is named twice.
#[test]
fn every_scenario_is_replayed() {
    let listed: Vec<_> = REPLAYED.concat();
    let replayed: BTreeSet<String> = listed.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(replayed.len(), listed.len(), "a scenario is listed twice");
    assert_eq!(replayed, names(&folder().join("scenarios")));
}

/// The copies are their originals, and none is missing. Silent where the originals are not at hand.
#[test]
fn copies_have_not_drifted() {
    let Some(originals) = originals() else { return };
    for part in ["scenarios", "classic_0_7_0", "vectors"] {
        let copies = names(&folder().join(part));
        for name in &copies {
            let file = format!("{part}/{name}.json");
            assert!(
                fs::read(folder().join(&file)).unwrap() == fs::read(originals.join(&file)).unwrap(),
                "{file} differs from its original"
            );
        }
        if part == "scenarios" {
            let all = names(&originals.join(part));
            let concern = |name: &&String| CONCERNS.iter().any(|prefix| name.starts_with(prefix));
            let wanted: BTreeSet<_> = all.iter().filter(concern).cloned().collect();
            assert_eq!(copies, wanted);
        }
    }
}
