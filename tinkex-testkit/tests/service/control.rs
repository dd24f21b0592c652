//! The commands of the control routes.

use serde_json::{Value, json};
use tinkex_testkit::Behaviour;
use tinkex_types::QueueState;

use crate::caller::Caller;

fn run(caller: &Caller, command: &str, body: Value) -> (u16, Value) {
    let reply = caller.service.control(command, &body).unwrap_or_else(|| panic!("unknown command {command}"));
    (reply.status.as_u16(), reply.to_json().unwrap())
}

fn done() -> (u16, Value) {
    (200, json!({}))
}

#[tokio::test(start_paused = true)]
async fn flags_are_replaced_by_name_or_flat() {
    let caller = Caller::production().await;
    let flags = async || {
        let client = caller.post("client/config", json!({})).await.to_json().unwrap();
        (client, caller.post("client/dynamic_config", json!({})).await.to_json().unwrap())
    };
    assert_eq!(
        run(&caller, "config", json!({ "client_config": { "a": 1 }, "dynamic_config": { "b": 2 } })),
        done()
    );
    assert_eq!(flags().await, (json!({ "a": 1 }), json!({ "b": 2 })));
    assert_eq!(run(&caller, "config", json!({ "dynamic_config": {} })), done());
    assert_eq!(flags().await, (json!({ "a": 1 }), json!({})));
    let flat = json!({ "sample_use_retrieve_futures": true, "sample_cancel_enabled": true });
    assert_eq!(run(&caller, "config", flat), done());
    assert_eq!(
        flags().await,
        (json!({ "sample_use_retrieve_futures": true }), json!({ "sample_cancel_enabled": true }))
    );
    assert_eq!(run(&caller, "config", json!(7)).0, 400);
}

#[tokio::test(start_paused = true)]
async fn pauses_limits_and_failures_come_over_the_control_routes() {
    let caller = Caller::production().await;
    assert_eq!(
        run(&caller, "pause", json!({ "state": "paused_capacity", "reason": "why", "seconds": 1.5 })),
        done()
    );
    let id = caller.submit(0, json!({})).await;
    assert_eq!(caller.retrieve(&id).await.to_json().unwrap()["queue_state_reason"], "why");
    assert_eq!(run(&caller, "resume", json!({})), done());
    assert_eq!(caller.service.queue_state(), QueueState::Active);
    assert_eq!(
        run(&caller, "pause", json!({ "state": "paused_rate_limit", "seconds": 1, "next": true })),
        done()
    );
    let id = caller.submit(1, json!({})).await;
    assert_eq!(caller.retrieve(&id).await.to_json().unwrap()["queue_state"], "paused_rate_limit");
    assert_eq!(run(&caller, "fail_next", json!({ "category": "user", "message": "m", "count": 2 })), done());
    assert_eq!(run(&caller, "expire_next", json!({})), done());
    for (seq, status) in [(2, 200), (3, 200), (4, 410)] {
        let id = caller.submit(seq, json!({})).await;
        assert_eq!(caller.retrieve(&id).await.status, status);
    }
    assert_eq!(run(&caller, "limit_inflight", json!({ "samples": 0, "retry_after_ms": 7 })), done());
    let refused = caller.asample(5, json!({})).await;
    assert_eq!((refused.status.as_u16(), refused.headers["retry-after-ms"].to_str().unwrap()), (429, "7"));
    assert_eq!(run(&caller, "limit_inflight", json!({ "samples": null })), done());
    assert_eq!(run(&caller, "latency", json!({ "seconds": 100 })), done());
    assert_eq!(run(&caller, "hold", json!({ "seconds": 0 })), done());
    let id = caller.submit(5, json!({})).await;
    assert_eq!(caller.retrieve(&id).await.status, 408);
}

#[tokio::test(start_paused = true)]
async fn keys_checkpoints_and_thresholds_come_over_the_control_routes() {
    let caller = Caller::production().await;
    assert_eq!(run(&caller, "checkpoint", json!({ "path": "tinker://a/b/c", "base_model": "m" })), done());
    assert!(caller.service.checkpoints().contains(&"tinker://a/b/c".to_owned()));
    assert_eq!(run(&caller, "metadata_threshold", json!({ "bytes": 1 })), done());
    let id = caller.submit(0, json!({})).await;
    assert_eq!(caller.retrieve(&id).await.to_json().unwrap()["status"], "complete_metadata");
    assert_eq!(run(&caller, "accepted_keys", json!({ "keys": ["other"] })), done());
    assert_eq!(caller.get("get_server_capabilities").await.status, 403);
    assert_eq!(run(&caller, "accepted_keys", json!({ "keys": null })), done());
    assert_eq!(caller.get("get_server_capabilities").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn the_state_can_be_looked_at_and_reset() {
    let caller = Caller::production().await;
    caller.sample(0, json!({})).await;
    let (_, state) = run(&caller, "state", Value::Null);
    assert_eq!(state["sessions"][0]["samplers"][0]["seq_ids"], json!([0]));
    assert_eq!(
        (&state["samples_accepted"], &state["dialect"], &state["queue_state"]),
        (&json!(1), &json!("production"), &json!("active"))
    );
    assert_eq!(run(&caller, "reset", Value::Null), done());
    assert_eq!(run(&caller, "state", Value::Null).1["sessions"], json!([]));
}

#[tokio::test(start_paused = true)]
async fn unknown_commands_are_not_the_services_and_bad_bodies_are_refused() {
    let caller = Caller::production().await;
    assert!(caller.service.control("script", &json!({})).is_none());
    for (command, body) in [
        ("pause", json!({})),
        ("pause", json!({ "state": "paused_capacity", "seconds": -1 })),
        ("pause", json!({ "state": "paused_capacity", "next": true })),
        ("limit_inflight", json!({ "samples": -1 })),
        ("fail_next", json!({ "count": "two" })),
        ("expire_next", json!({ "count": 1_000_000 })),
        ("latency", json!({ "seconds": "soon" })),
        ("hold", json!({})),
        ("metadata_threshold", json!({})),
        ("accepted_keys", json!({ "keys": "one" })),
        ("checkpoint", json!({ "path": "tinker://x" })),
    ] {
        assert_eq!(run(&caller, command, body.clone()).0, 400, "{command} {body}");
    }
}
