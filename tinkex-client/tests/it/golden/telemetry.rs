//! Telemetry of a failed optimizer step (PROTOCOL 20).

use serde_json::{Value, json};
use tinkex_client::{AdamParams, ErrorKind, FinishReason};
use tinkex_testkit::Step;

use super::compare::{self, Tolerance};
use super::fixtures::Scenario;
use super::replay;
use crate::harness::MODEL;

/// The scenario of this file.
pub(super) const REPLAYED: &[&str] = &["telemetry"];

/// Every request is the recorded one, but for its events, and the events together are the recorded ones, field by field.
///
/// The reference SDK adds SESSION_END to the failed step and sends one batch; here it comes with `close`, in a batch of
/// its own, since what failed is reported at once.
#[tokio::test(start_paused = true)]
async fn telemetry() {
    let scenario = Scenario::load("telemetry");
    let server = replay::server(&scenario);
    let recorded = scenario.of_route("telemetry")[0].clone();
    server.script("telemetry", [recorded.step()]).then_repeat_last();
    server.script("optim_step", [Step::json(json!({ "request_id": "req-o" }))]);
    server.script("retrieve_future", [Step::json(json!({ "error": "bad", "category": "user" }))]);
    server.script("sessions/*/finish", [Step::json(json!({}))]);
    let service = replay::reporting_client(&server).build().await.unwrap();
    let trainer = service.lora_training_client(MODEL).create().await.unwrap();
    let error = trainer.optim_step(AdamParams::new(1e-3)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RequestFailed);
    service.close(FinishReason::Errored).await.unwrap();

    let theirs = recorded.request["body"].clone();
    let mut events = Vec::new();
    let sent = server.requests("telemetry");
    for request in &sent {
        let batch = request.json().unwrap();
        let mut expected = theirs.clone();
        expected["events"] = batch["events"].clone();
        expected["platform"] = json!(if cfg!(target_os = "linux") { "Linux" } else { "" });
        assert!(is_uuid(&batch["process_uuid"]) && is_uuid(&theirs["process_uuid"]));
        expected["process_uuid"] = batch["process_uuid"].clone();
        let mut recorded = recorded.clone();
        recorded.request["body"] = expected;
        compare::assert_request("telemetry", request, &recorded, Tolerance::default());
        assert_eq!(batch["process_uuid"], sent[0].json().unwrap()["process_uuid"]);
        events.extend(batch["events"].as_array().unwrap().clone());
    }
    let theirs = theirs["events"].as_array().unwrap();
    assert_eq!(events.len(), theirs.len(), "{events:?}");
    for (ours, theirs) in events.iter().zip(theirs) {
        assert_event(ours, theirs);
    }
    server.verify().unwrap();
}

/// Asserts that an event has the recorded fields and, but for volatile ones and the wording of a message, their values.
#[track_caller]
fn assert_event(ours: &Value, theirs: &Value) {
    let (ours, theirs) = (ours.as_object().unwrap(), theirs.as_object().unwrap());
    let names = |event: &serde_json::Map<String, Value>| event.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(ours), names(theirs), "{ours:?}");
    for (name, ours) in ours {
        let theirs = &theirs[name];
        match name.as_str() {
            "event_id" => assert!(is_uuid(ours) && is_uuid(theirs), "{ours}"),
            "timestamp" | "duration" => assert_eq!(shape(ours), shape(theirs), "{name}"),
            "elapsed_time" => assert!(ours.as_f64().unwrap() >= 0.0 && theirs.is_f64()),
            // Theirs quotes a class of the reference SDK.
            "message" => {
                for part in ["bad", "req-o"] {
                    assert!(ours.as_str().unwrap().contains(part) && theirs.as_str().unwrap().contains(part));
                }
            }
            "event_data" => assert_event(ours, theirs),
            _ => assert!(compare::same(ours, theirs), "{name}: {ours}, not {theirs}"),
        }
    }
}

/// A text with its digits alike.
fn shape(text: &Value) -> String {
    text.as_str().unwrap().chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect()
}

fn is_uuid(text: &Value) -> bool {
    let hex = |c: char| if c.is_ascii_digit() || ('a'..='f').contains(&c) { '0' } else { c };
    let text = text.as_str().unwrap();
    text.chars().map(hex).collect::<String>() == "00000000-0000-0000-0000-000000000000"
        && text.as_bytes()[14] == b'4'
}
