//! Promises and the session poller's bodies (PROTOCOL 15.3, 16.1, 16.6).

use serde_json::json;
use tinkex_types::{
    CancelFutureRequest, FutureCompletion, FuturesTarget, Promise, RetrieveFutureRequest,
    RetrieveFuturesRequest, RetrieveFuturesResponse,
};

use crate::support::{exchanges, fixture, request_body};

#[test]
fn polls_are_recorded() {
    for text in [
        include_str!("../fixtures/retrieve_futures_flow.json"),
        include_str!("../fixtures/retrieve_futures_failed.json"),
    ] {
        for exchange in exchanges(&fixture(text)) {
            let (body, answer) = (&exchange["request"]["body"], &exchange["response"]["body"]);
            match exchange["request"]["path"].as_str().unwrap() {
                "/api/v1/retrieve_futures" => {
                    let request: RetrieveFuturesRequest = serde_json::from_value(body.clone()).unwrap();
                    let FuturesTarget::SamplingSession { cloned_sampler_id, .. } = &request.target else {
                        panic!("another target");
                    };
                    assert_eq!(*cloned_sampler_id, 0);
                    assert_eq!(serde_json::to_value(&request).unwrap(), *body, "nothing is lost on the way");
                    let _: RetrieveFuturesResponse = serde_json::from_value(answer.clone()).unwrap();
                }
                "/api/v1/retrieve_future" => {
                    let allow_metadata_only = body["allow_metadata_only"].as_bool().unwrap();
                    let request = RetrieveFutureRequest { request_id: "req-s", allow_metadata_only };
                    assert_eq!(serde_json::to_value(request).unwrap(), *body);
                }
                _ => {
                    let promise: Promise = serde_json::from_value(answer.clone()).unwrap();
                    assert_eq!(promise.request_id, "req-s");
                    assert_eq!(promise.sample_sequence_ids.as_deref(), Some(&["q-0".to_owned()][..]));
                }
            }
        }
    }
    let scenario = fixture(include_str!("../fixtures/cancel_future.json"));
    let recorded = request_body(&scenario, "/api/v1/cancel_future", 0);
    let request = CancelFutureRequest { request_id: recorded["request_id"].as_str().unwrap() };
    assert_eq!(serde_json::to_value(request).unwrap(), recorded);
}

/// Completions: numbers for ids, sizes that are missing or odd, states of the future. None of them fails the poll.
#[test]
fn completions_are_read_generously() {
    let answer: RetrieveFuturesResponse = serde_json::from_value(json!({
        "completions": [
            {"state": "finished", "request_id": "a", "response_payload_uncompressed_size": 9},
            {"state": "finished", "request_id": 7, "response_payload_uncompressed_size": null},
            {"state": "finished", "request_id": "c", "response_payload_uncompressed_size": "big", "new": {}},
            {"state": "failed", "request_id": 8, "error": "x"},
            {"state": "paused", "request_id": "e"},
        ],
        "cursor": 3,
        "new": 1,
    }))
    .unwrap();
    let finished = |id: &str, size| FutureCompletion::Finished {
        request_id: id.to_owned(),
        response_payload_uncompressed_size: size,
    };
    assert_eq!(
        answer.completions,
        [
            finished("a", Some(9)),
            finished("7", None),
            finished("c", None),
            FutureCompletion::Failed { request_id: "8".to_owned() },
            FutureCompletion::Unknown,
        ]
    );
    let bare: RetrieveFuturesResponse = serde_json::from_value(json!({"cursor": 0})).unwrap();
    assert!(bare.completions.is_empty());
    assert!(serde_json::from_value::<RetrieveFuturesResponse>(json!({"completions": []})).is_err());
}

/// Promises of open servers: numbers for ids, no sequence ids.
#[test]
fn promises_are_read_generously() {
    for (json, id, sequences) in [
        (json!({"request_id": "a"}), "a", 0),
        (json!({"request_id": 12, "model_id": null, "sample_sequence_ids": null}), "12", 0),
        (json!({"request_id": "a", "model_id": 5, "sample_sequence_ids": ["x", "y"]}), "a", 2),
        (json!({"request_id": "a", "sample_sequence_ids": "x", "type": "future"}), "a", 0),
    ] {
        let promise: Promise = serde_json::from_value(json).unwrap();
        assert_eq!(promise.request_id, id);
        assert_eq!(promise.sample_sequence_ids.unwrap_or_default().len(), sequences);
    }
    assert!(serde_json::from_value::<Promise>(json!({"model_id": "m"})).is_err());
}
