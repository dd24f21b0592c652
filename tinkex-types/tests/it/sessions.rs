//! Sessions and sampling sessions against the recorded bodies (PROTOCOL 10, 15.1).

use std::collections::BTreeMap;

use serde_json::json;
use tinkex_types::{
    CreateSamplingSessionRequest, CreateSamplingSessionResponse, CreateSessionRequest, CreateSessionResponse,
    FinishReason, FinishSessionRequest, GetSamplerResponse, HeartbeatRequest, PROTOCOL_SDK_VERSION,
};

use crate::support::{exchanges, fixture};

#[test]
fn creating_a_session_is_recorded() {
    let scenario = fixture(include_str!("../fixtures/session_create.json"));
    let mut request = CreateSessionRequest::new(PROTOCOL_SDK_VERSION);
    request.tags = vec!["a".to_owned(), "b".to_owned()];
    request.user_metadata = BTreeMap::from([("k".to_owned(), json!("v"))]);
    request.project_id = Some("proj-1".to_owned());
    request.display_name = Some("My run".to_owned());
    let exchange = &exchanges(&scenario)[0];
    assert_eq!(serde_json::to_value(request).unwrap(), exchange["request"]["body"]);
    let answer: CreateSessionResponse = serde_json::from_value(exchange["response"]["body"].clone()).unwrap();
    assert_eq!((answer.session_id.as_str(), answer.info_message.as_deref()), ("s-0001", Some("info text")));
    assert_eq!(answer.warning_message.as_deref(), Some("warning text"));
    assert_eq!(answer.error_message.as_deref(), Some("error text"));
    // Metadata is sent as `{}` where there is none; what is not said is not sent.
    let minimal = fixture(include_str!("../fixtures/session_create_minimal.json"));
    let mut recorded = exchanges(&minimal)[0]["request"]["body"].clone();
    let mut ours = serde_json::to_value(CreateSessionRequest::new(PROTOCOL_SDK_VERSION)).unwrap();
    for body in [&mut recorded, &mut ours] {
        body.as_object_mut().unwrap().remove("tags");
    }
    assert_eq!(ours, recorded);
}

/// An answer of an open server: an id that is a number, no messages.
#[test]
fn ids_may_be_numbers() {
    let answer: CreateSessionResponse = serde_json::from_value(json!({"session_id": 7})).unwrap();
    assert_eq!(answer.session_id, "7");
    let answer: CreateSamplingSessionResponse =
        serde_json::from_value(json!({"sampling_session_id": 8, "type": "x"})).unwrap();
    assert_eq!(answer.sampling_session_id, "8");
    for bad in [json!({}), json!({"session_id": null}), json!({"session_id": []})] {
        assert!(serde_json::from_value::<CreateSessionResponse>(bad).is_err());
    }
}

#[test]
fn signs_of_life_and_ends_are_recorded() {
    let scenario = fixture(include_str!("../fixtures/session_heartbeat.json"));
    let ours = serde_json::to_value(HeartbeatRequest::new("s-0001")).unwrap();
    assert_eq!(ours, exchanges(&scenario)[0]["request"]["body"]);
    for (text, reason, detail) in [
        (include_str!("../fixtures/session_finish.json"), FinishReason::Success, Some("training complete")),
        (include_str!("../fixtures/session_finish_no_detail.json"), FinishReason::Interrupted, None),
    ] {
        let request = FinishSessionRequest { reason, detail: detail.map(str::to_owned) };
        let exchange = &exchanges(&fixture(text))[0];
        assert_eq!(serde_json::to_value(request).unwrap(), exchange["request"]["body"]);
    }
}

#[test]
fn creating_a_sampler_is_recorded() {
    for text in [
        include_str!("../fixtures/create_sampling_session_base_model.json"),
        include_str!("../fixtures/create_sampling_session_model_path.json"),
    ] {
        let all = exchanges(&fixture(text));
        let recorded = &all[0]["request"]["body"];
        let text = |name: &str| recorded[name].as_str().map(str::to_owned);
        let request = CreateSamplingSessionRequest {
            session_id: "s-0001".to_owned(),
            sampling_session_seq_id: recorded["sampling_session_seq_id"].as_u64().unwrap(),
            base_model: text("base_model"),
            model_path: text("model_path"),
            kind: "create_sampling_session",
        };
        assert!(request.base_model.is_some() != request.model_path.is_some());
        assert_eq!(serde_json::to_value(request).unwrap(), *recorded);
        if let Some(sampler) = all.get(1) {
            let answer: GetSamplerResponse =
                serde_json::from_value(sampler["response"]["body"].clone()).unwrap();
            assert_eq!(
                (answer.base_model.as_str(), answer.model_path),
                ("Qwen/Qwen3-8B", text("model_path"))
            );
        }
    }
}
