//! Saving, loading, copying and sampling weights; how long they live.

use std::time::Duration;

use serde_json::{Value, json};
use tinkex_testkit::Received;
use tinkex_testkit::service::{Dialect, ServiceOptions};
use tokio::time::Instant;

use crate::caller::{BASE, Caller, refusal, text};
use crate::training::{Found, Pass, SECRET, Trainer, create_model, sampled};

/// The error of a promise that must have failed by its user's fault.
async fn user_failure(trainer: &Trainer<'_>, route: &str, seq_id: u64, members: Value) -> String {
    let reply = trainer.fetch(trainer.operation(route, seq_id, members).await).await;
    assert_eq!((reply.status.as_u16(), text(&reply, "category").as_str()), (200, "user"));
    text(&reply, "error")
}

async fn learned(trainer: &Trainer<'_>, first: u64, steps: u64, pass: &Pass) -> Vec<f64> {
    let mut losses = Vec::new();
    for step in 0..steps {
        losses.push(trainer.learn(first + 2 * step, pass).await);
    }
    losses
}

/// Creates a run by loading; the trainer and the result of the promise.
async fn loaded<'a>(
    caller: &'a Caller,
    model_seq_id: u64,
    path: &Value,
    members: Value,
) -> (Trainer<'a>, Value) {
    let body = json!({
        "session_id": caller.session, "model_seq_id": model_seq_id, "path": path, "type": "load_weights",
    });
    let promise = caller.post("load_weights", crate::caller::merged(body, members)).await;
    let result = caller.retrieve(&text(&promise, "request_id")).await.to_json().unwrap();
    (Trainer { caller, model: format!("{}:train:{model_seq_id}", caller.session) }, result)
}

/// TR-2: a run resumed with its optimizer goes on to the same bits; without, it does not.
#[tokio::test(start_paused = true)]
async fn a_resumed_run_goes_on_as_if_nothing_had_been() {
    let caller = Caller::production().await;
    let pass = Pass::new(&[SECRET, "and more"]);
    let first = Trainer::new(&caller, 0).await;
    learned(&first, 1, 4, &pass).await;
    let path =
        first.done("save_weights", 9, json!({ "path": "half", "overwrite": false })).await["path"].clone();
    assert_eq!(path, format!("tinker://{}/weights/half", first.model));
    let uninterrupted = learned(&first, 10, 4, &pass).await;

    let (second, result) = loaded(&caller, 1, &path, json!({ "optimizer": true })).await;
    assert_eq!(result, json!({ "type": "load_weights", "path": path, "model_id": second.model }));
    assert_eq!(learned(&second, 1, 4, &pass).await, uninterrupted, "to the bit");
    assert_eq!(second.found(9, &pass).await, first.found(18, &pass).await);

    let (third, _) = loaded(&caller, 2, &path, json!({ "optimizer": false, "base_model": BASE })).await;
    let without = learned(&third, 1, 4, &pass).await;
    assert_eq!(without[0], uninterrupted[0]);
    assert_ne!(without[3], uninterrupted[3]);

    let fourth = Trainer::new(&caller, 3).await;
    let back = fourth.done("load_weights", 1, json!({ "path": path, "optimizer": true })).await;
    assert_eq!((&back["path"], &back["model_id"]), (&path, &json!(fourth.model)));
    assert_eq!(learned(&fourth, 2, 4, &pass).await, uninterrupted);
    let info = caller.post("get_info", json!({ "model_id": second.model })).await.to_json().unwrap();
    assert_eq!((&info["model_data"]["model_name"], &info["lora_rank"]), (&json!(BASE), &json!(4)));
}

/// A load within the pipeline sees the save before it, and drops the gradient.
#[tokio::test(start_paused = true)]
async fn a_pipelined_save_and_load_are_in_order() {
    let caller = Caller::production().await;
    let trainer = Trainer::new(&caller, 0).await;
    let pass = Pass::new(&[SECRET]);
    let path = format!("tinker://{}/weights/now", trainer.model);
    let first = trainer.pass(1, &pass).await;
    let mut last = trainer.operation("save_weights", 2, json!({ "path": "now" })).await;
    for (seq_id, reply) in [
        trainer.step(3, 0.1).await,
        trainer.operation("load_weights", 4, json!({ "path": path, "optimizer": true })).await,
        trainer.step(5, 0.1).await,
        trainer.pass(6, &pass).await,
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(reply.status, 200, "{seq_id}");
        last = reply;
    }
    assert_eq!(Found::of(&trainer.fetch(first).await), Found::of(&trainer.fetch(last).await));
}

/// S2-04, PROTOCOL 14: a snapshot keeps its weights while training goes on; an inflight sampler gets newer ones.
#[tokio::test(start_paused = true)]
async fn snapshots_stay_and_inflight_samplers_follow() {
    let caller = Caller::production().await;
    let trainer = Trainer::new(&caller, 0).await;
    let pass = Pass::new(&[SECRET]);
    let publish = async |seq_id: u64, number: u64, kind: &str| {
        let members = json!({ "sampling_session_seq_id": number, "kind": kind });
        let result = trainer.done("save_weights_for_sampler", seq_id, members).await;
        assert_eq!(result.get("path"), None);
        let id = result["sampling_session_id"].as_str().unwrap().to_owned();
        assert_eq!(id, format!("{}:sample:{number}", caller.session));
        id
    };
    let (snapshot, inflight) = (publish(1, 1, "snapshot").await, publish(2, 2, "inflight").await);
    let untrained = sampled(&caller, &caller.sampler, 0, "xyzzy").await;
    assert_eq!(sampled(&caller, &snapshot, 0, "xyzzy").await, untrained);
    assert_eq!(sampled(&caller, &inflight, 0, "xyzzy").await, untrained);
    learned(&trainer, 3, 30, &pass).await;
    assert_eq!(sampled(&caller, &inflight, 1, "xyzzy").await, untrained, "not published yet");
    let newer = publish(63, 3, "inflight").await;
    for (sampler, expected) in [(&snapshot, false), (&inflight, true), (&newer, true)] {
        assert_eq!(sampled(&caller, sampler, 2, "xyzzy").await.starts_with(&SECRET[5..]), expected);
    }
    assert_eq!(caller.service.sampler(&newer).unwrap().base_model, BASE);
    // The next one of the session's numbering is free, the used ones are not.
    let taken = json!({ "sampling_session_seq_id": 3 });
    assert!(user_failure(&trainer, "save_weights_for_sampler", 64, taken).await.contains(":sample:3"));
    caller.create_sampler(4, json!({ "base_model": BASE })).await;
}

/// PROTOCOL 10.4: the number of the sampling session differs between attempts of one save; it is one save.
#[tokio::test(start_paused = true)]
async fn a_repeated_unnamed_save_with_a_new_number_is_the_same_save() {
    let caller = Caller::production().await;
    let trainer = Trainer::new(&caller, 0).await;
    let attempt = async |number: u64| {
        let members = json!({ "sampling_session_seq_id": number, "kind": "snapshot" });
        trainer.operation("save_weights_for_sampler", 1, members).await
    };
    let (first, second) = (attempt(1).await, attempt(2).await);
    assert_eq!(text(&first, "request_id"), text(&second, "request_id"));
    let result = trainer.fetch(second).await;
    assert_eq!(text(&result, "sampling_session_id"), format!("{}:sample:1", caller.session));
}

/// A named sampler checkpoint keeps its weights, and can be sampled from any session.
#[tokio::test(start_paused = true)]
async fn a_named_sampler_checkpoint_outlives_its_run() {
    let caller = Caller::production().await;
    let trainer = Trainer::new(&caller, 0).await;
    learned(&trainer, 1, 30, &Pass::new(&[SECRET])).await;
    let saved =
        trainer.done("save_weights_for_sampler", 61, json!({ "path": "best", "kind": "snapshot" })).await;
    let path = saved["path"].as_str().unwrap();
    assert_eq!(path, format!("tinker://{}/sampler_weights/best", trainer.model));
    learned(&trainer, 62, 10, &Pass::new(&["xyzzy is something else now"])).await;
    let gone =
        caller.post("unload_model", json!({ "model_id": trainer.model, "type": "unload_model" })).await;
    let expected = json!({ "type": "unload_model", "model_id": trainer.model });
    assert_eq!(caller.retrieve(&text(&gone, "request_id")).await.to_json(), Some(expected));
    let session = text(&caller.create_session().await, "session_id");
    let made = caller.create_sampler(0, json!({ "session_id": session, "model_path": path })).await;
    let sampler = text(&made, "sampling_session_id");
    assert!(sampled(&caller, &sampler, 0, "xyzzy").await.starts_with(&SECRET[5..]));
    let told = caller.get(&format!("samplers/{sampler}")).await.to_json().unwrap();
    assert_eq!(told, json!({ "sampler_id": sampler, "base_model": BASE, "model_path": path }));
    assert_eq!(caller.service.checkpoint(path).unwrap().kind, "sampler");
}

/// What is saved for one purpose is not taken for the other.
#[tokio::test(start_paused = true)]
async fn training_state_and_sampler_weights_are_not_mistaken_for_each_other() {
    let caller = Caller::production().await;
    let trainer = Trainer::new(&caller, 0).await;
    let state = trainer.done("save_weights", 1, json!({ "path": "a" })).await["path"].clone();
    let sampler = trainer.done("save_weights_for_sampler", 2, json!({ "path": "a" })).await["path"].clone();
    let external = trainer.done("save_weights_external", 3, json!({ "path": "a" })).await;
    assert_eq!(external["path"], format!("tinker://{}/external_weights/a", trainer.model));
    assert_eq!(external["size_bytes"], json!(4 * 4 * (4096 + 256)));
    assert_eq!(refusal(&caller.create_sampler(1, json!({ "model_path": state })).await).0, 400);
    for (seq_id, path) in [(4, &sampler), (5, &external["path"])] {
        let error = user_failure(&trainer, "load_weights", seq_id, json!({ "path": path })).await;
        assert!(error.contains("save_weights"), "{error}");
    }
    let (_, result) = loaded(&caller, 1, &sampler, json!({})).await;
    assert_eq!(result["category"], "user");
    let missing = json!({ "path": "tinker://none/weights/x" });
    assert!(user_failure(&trainer, "load_weights", 6, missing).await.contains("tinker://none/weights/x"));
    let (other, result) =
        loaded(&caller, 2, &state, json!({ "base_model": "meta-llama/Llama-3.2-1B" })).await;
    assert_eq!(result["category"], "user");
    assert_eq!(other.step(1, 0.1).await.status, 404, "it was never there");
    let larger = create_model(&caller, 3, json!({ "lora_config": { "rank": 16 } })).await;
    let larger = Trainer {
        caller: &caller,
        model: text(&caller.retrieve(&text(&larger, "request_id")).await, "model_id"),
    };
    assert!(user_failure(&larger, "load_weights", 1, json!({ "path": state })).await.contains("16"));
}

#[tokio::test(start_paused = true)]
async fn a_name_is_used_once_unless_it_is_overwritten() {
    let caller = Caller::production().await;
    let trainer = Trainer::new(&caller, 0).await;
    let pass = Pass::new(&[SECRET]);
    let first = json!({ "path": "n", "overwrite": false, "user_metadata": { "a": "1", "b": "2" } });
    let path = trainer.done("save_weights", 1, first.clone()).await["path"].as_str().unwrap().to_owned();
    assert_eq!(caller.service.checkpoint(&path).unwrap().user_metadata, json!({ "a": "1", "b": "2" }));
    assert!(user_failure(&trainer, "save_weights", 2, first).await.contains(&path));
    trainer.learn(3, &pass).await;
    let again = json!({ "path": "n", "overwrite": true, "user_metadata": { "c": "3" } });
    trainer.done("save_weights", 5, again).await;
    assert_eq!(caller.service.checkpoint(&path).unwrap().user_metadata, json!({ "c": "3" }));
    let (restored, _) = loaded(&caller, 1, &json!(path), json!({ "optimizer": true })).await;
    let forward = pass.forward_only();
    assert_eq!(restored.found(1, &forward).await, trainer.found(6, &forward).await, "the newer one");
    for bad in ["", "a/b"] {
        assert_eq!(refusal(&trainer.operation("save_weights", 7, json!({ "path": bad })).await).0, 422);
    }
    let skyrl = Caller::new(Dialect::skyrl()).await;
    let trainer = Trainer::new(&skyrl, 0).await;
    trainer.done("save_weights_for_sampler", 1, json!({ "path": "n" })).await;
    assert_eq!(
        refusal(&trainer.operation("save_weights_for_sampler", 2, json!({ "path": "n" })).await).0,
        409
    );
}

/// PROTOCOL 14: a checkpoint is there until its time is over, and not a moment longer.
#[tokio::test(start_paused = true)]
async fn checkpoints_expire() {
    let caller = Caller::production().await;
    let trainer = Trainer::new(&caller, 0).await;
    let start = Instant::now();
    let ttl = json!({ "path": "short", "ttl_seconds": 3600 });
    let state = trainer.done("save_weights", 1, ttl.clone()).await["path"].clone();
    let sampler = trainer.done("save_weights_for_sampler", 2, ttl.clone()).await["path"].clone();
    let lasting = trainer.done("save_weights", 3, json!({ "path": "lasting" })).await["path"].clone();
    let made = caller.create_sampler(1, json!({ "model_path": sampler })).await;
    let paths = caller.service.checkpoints();
    tokio::time::sleep_until(start + Duration::from_secs(3600)).await;
    let left = caller.service.checkpoint(state.as_str().unwrap()).unwrap().expires_in.unwrap();
    assert_eq!(left.as_millis(), 5, "it began when it was saved");
    tokio::time::sleep_until(start + Duration::from_millis(3_600_011)).await;
    assert_eq!(caller.service.checkpoints().len(), paths.len() - 2);
    assert_eq!(refusal(&caller.create_sampler(2, json!({ "model_path": sampler })).await).0, 404);
    assert!(
        user_failure(&trainer, "load_weights", 4, json!({ "path": state })).await.contains("no checkpoint")
    );
    let info = caller.post("weights_info", json!({ "tinker_path": state })).await;
    assert_eq!(info.status, 404);
    trainer.done("load_weights", 5, json!({ "path": lasting })).await;
    sampled(&caller, &text(&made, "sampling_session_id"), 0, "x").await;
    trainer.done("save_weights", 6, ttl).await;
    for bad in [3599, 0, 315_360_001] {
        let members = json!({ "path": "bad", "ttl_seconds": bad });
        assert_eq!(refusal(&trainer.operation("save_weights", 7, members).await).0, 422, "{bad}");
    }
}

/// Nobody fetched the result of the save: the time runs all the same.
#[tokio::test(start_paused = true)]
async fn the_time_of_a_checkpoint_runs_from_the_save_and_not_from_the_poll() {
    let caller = Caller::production().await;
    let trainer = Trainer::new(&caller, 0).await;
    let save = trainer.operation("save_weights", 1, json!({ "path": "s", "ttl_seconds": 3600 })).await;
    tokio::time::sleep(Duration::from_secs(3000)).await;
    let path = text(&trainer.fetch(save).await, "path");
    let left = caller.service.checkpoint(&path).unwrap().expires_in.unwrap();
    assert_eq!(left, Duration::from_millis(600_005));
}

/// REST C8.
#[tokio::test(start_paused = true)]
async fn weights_info_tells_what_a_run_can_be_made_of() {
    let caller = Caller::production().await;
    let changes = json!({ "lora_config": { "train_mlp": false }, "optimizer_config": { "type": "dimuon", "version": 1 } });
    let made = create_model(&caller, 0, changes).await;
    let model = text(&caller.retrieve(&text(&made, "request_id")).await, "model_id");
    let trainer = Trainer { caller: &caller, model };
    let path = trainer.done("save_weights", 1, json!({ "path": "w" })).await["path"].clone();
    let info = caller.post("weights_info", json!({ "tinker_path": path })).await.to_json().unwrap();
    let expected = json!({
        "type": "weights_info", "base_model": BASE, "is_lora": true, "lora_rank": 4,
        "train_unembed": true, "train_mlp": false, "train_attn": true,
        "optimizer_config": { "type": "dimuon", "version": 1 },
    });
    assert_eq!(info, expected);
    let info = caller.post("get_info", json!({ "model_id": trainer.model })).await.to_json().unwrap();
    assert_eq!(info["optimizer_config"], json!({ "type": "dimuon", "version": 1 }));
    let demo = json!({ "tinker_path": caller.service.checkpoints()[0] });
    let registered = caller.post("weights_info", demo).await.to_json().unwrap();
    assert_eq!((&registered["base_model"], &registered["lora_rank"]), (&json!(BASE), &json!(32)));
}

/// REST C9: the same weights at a path of their own, once per key.
#[tokio::test(start_paused = true)]
async fn weights_are_copied_once_per_key_and_only_with_the_token() {
    let options = ServiceOptions { weights_access_token: Some("secret".into()), ..ServiceOptions::default() };
    assert!(!format!("{options:?}").contains("secret"));
    let caller = Caller::with_options(options).await;
    let trainer = Trainer::new(&caller, 0).await;
    let pass = Pass::new(&[SECRET]);
    trainer.learn(1, &pass).await;
    let save = json!({ "path": "w", "ttl_seconds": 3600 });
    let source = trainer.done("save_weights", 3, save).await["path"].clone();
    let request = |key: &str, token: &str, members: Value| {
        let body = crate::caller::merged(json!({ "source_path": source }), members);
        Received::post("copy_weights", &body)
            .with_header("x-idempotency-key", key)
            .with_header("x-tinker-weights-access-token", token)
    };
    let project = || json!({ "destination_project_id": "p" });
    assert_eq!(caller.send(request("k", "wrong", project())).await.status, 403);
    let none = json!({ "source_path": source, "destination_project_id": "p" });
    assert_eq!(caller.post("copy_weights", none).await.status, 403);
    assert_eq!(refusal(&caller.send(request("k", "secret", json!({}))).await).0, 422);
    let copy = text(&caller.send(request("k", "secret", project())).await, "tinker_path");
    assert_eq!(text(&caller.send(request("k", "secret", project())).await, "tinker_path"), copy);
    assert_ne!(text(&caller.send(request("l", "secret", project())).await, "tinker_path"), copy);
    assert!(copy.starts_with("tinker://") && copy.ends_with("/weights/w") && source != copy.as_str());
    let slot = json!({ "session_id": caller.session, "model_seq_id": 9, "ttl_seconds": 7200 });
    let slot = text(&caller.send(request("m", "secret", slot)).await, "tinker_path");
    assert_eq!(slot, format!("tinker://{}:train:9/weights/w", caller.session));
    let missing = request(
        "n",
        "secret",
        json!({ "source_path": "tinker://none/weights/x", "destination_project_id": "p" }),
    );
    assert_eq!(refusal(&caller.send(missing).await).0, 404);

    let load = json!({ "path": copy, "optimizer": true });
    assert_eq!(refusal(&trainer.operation("load_weights", 4, load).await).0, 403);
    tokio::time::sleep(Duration::from_secs(3601)).await;
    assert!(caller.service.checkpoint(source.as_str().unwrap()).is_none(), "the source had a time");
    assert!(caller.service.checkpoint(&slot).unwrap().expires_in.is_some());
    let (resumed, _) = loaded(&caller, 1, &json!(copy), json!({ "weights_access_token": "secret" })).await;
    let forward = pass.forward_only();
    assert_eq!(resumed.found(1, &forward).await, trainer.found(5, &forward).await);
}

/// A model that was unloaded is gone, with all that waited for it.
#[tokio::test(start_paused = true)]
async fn an_unloaded_model_is_gone() {
    let caller = Caller::production().await;
    let trainer = Trainer::new(&caller, 0).await;
    let pass = Pass::new(&[SECRET]);
    let (first, early) = (trainer.pass(1, &pass).await, trainer.pass(5, &pass).await);
    let unload = json!({ "model_id": trainer.model });
    let promise = text(&caller.post("unload_model", unload.clone()).await, "request_id");
    assert_eq!(text(&caller.post("unload_model", unload.clone()).await, "request_id"), promise);
    let late = trainer.step(2, 0.1).await;
    Found::of(&trainer.fetch(first).await);
    assert_eq!(caller.retrieve(&promise).await.status, 200);
    for reply in [late, early] {
        assert_eq!(text(&trainer.fetch(reply).await, "category"), "user");
    }
    for reply in [
        trainer.step(3, 0.1).await,
        trainer.operation("save_weights", 3, json!({ "path": "x" })).await,
        caller.post("get_info", unload.clone()).await,
        caller.post("unload_model", json!({ "model_id": "s-none:train:0" })).await,
    ] {
        assert_eq!(refusal(&reply).0, 404);
    }
    assert!(trainer.info().unloaded);
}

/// An unload that failed leaves the model, and can be asked for again; a creation that failed leaves nothing.
#[tokio::test(start_paused = true)]
async fn a_failed_unload_leaves_the_model_and_a_failed_creation_none() {
    use tinkex_types::ErrorCategory;
    let caller = Caller::production().await;
    let trainer = Trainer::new(&caller, 0).await;
    let unload = json!({ "model_id": trainer.model });
    caller.service.fail_next(ErrorCategory::Server, "busy");
    let failed =
        caller.retrieve(&text(&caller.post("unload_model", unload.clone()).await, "request_id")).await;
    assert_eq!(text(&failed, "error"), "busy");
    trainer.found(1, &Pass::new(&[SECRET])).await;
    let gone = caller.retrieve(&text(&caller.post("unload_model", unload).await, "request_id")).await;
    assert_eq!(text(&gone, "model_id"), trainer.model);

    caller.service.fail_next(ErrorCategory::Server, "no room");
    let creation = create_model(&caller, 1, json!({})).await;
    let early = Trainer { caller: &caller, model: format!("{}:train:1", caller.session) };
    let (first, third) = (early.step(1, 0.1).await, early.step(3, 0.1).await);
    for reply in [first, third] {
        assert_eq!(text(&early.fetch(reply).await, "category"), "user");
    }
    assert_eq!(text(&caller.retrieve(&text(&creation, "request_id")).await, "error"), "no room");
}

/// OPEN_SERVERS 16: other servers make a model first, and load into it as its first operation.
#[tokio::test(start_paused = true)]
async fn most_servers_load_only_into_a_fresh_model() {
    for dialect in [Dialect::skyrl(), Dialect::tuft(), Dialect::hatchery()] {
        let (name, sessions) = (dialect.name, dialect.session_paths);
        let caller = Caller::new(dialect).await;
        let first = Trainer::new(&caller, 0).await;
        let path = first.done("save_weights", 1, json!({ "path": "w" })).await["path"].clone();
        let body = json!({ "session_id": caller.session, "model_seq_id": 1, "path": path });
        let (status, detail) = refusal(&caller.post("load_weights", body).await);
        assert_eq!(status, 422, "{name}: {detail}");
        let second = Trainer::new(&caller, 1).await;
        let result = second.done("load_weights", 1, json!({ "path": path, "optimizer": true })).await;
        assert_eq!(result["path"].as_str().unwrap().starts_with("sessions/"), sessions, "{name}");
        let again = second.operation("load_weights", 2, json!({ "path": path })).await;
        assert_eq!(refusal(&again).0, 400, "{name}");
        let info = caller.post("get_info", json!({ "model_id": second.model })).await.to_json().unwrap();
        assert_eq!(info.get("lora_rank").is_some(), name != "skyrl", "{name}: {info}");
        assert_eq!(info["model_name"].is_null(), name == "hatchery", "{name}: {info}");
        assert_eq!(info.get("optimizer_config"), None, "{name}");
    }
}

/// The saves of newer SDKs have fields that strict servers refuse.
#[tokio::test(start_paused = true)]
async fn strict_servers_refuse_newer_fields_of_training_requests() {
    let caller = Caller::new(Dialect::tuft()).await;
    let optimizer = json!({ "optimizer_config": { "type": "adamw" } });
    let (status, detail) = refusal(&create_model(&caller, 5, optimizer).await);
    assert!(status == 422 && detail.contains("optimizer_config"), "{detail}");
    let nested = json!({ "lora_config": { "alpha": 1 } });
    assert!(refusal(&create_model(&caller, 5, nested).await).1.contains("lora_config.alpha"));
    let trainer = Trainer::new(&caller, 0).await;
    for (seq_id, route, members) in [
        (1, "save_weights", json!({ "path": "w", "overwrite": false })),
        (2, "save_weights", json!({ "path": "w", "user_metadata": {} })),
        (3, "save_weights_for_sampler", json!({ "path": "w", "kind": "snapshot" })),
        (4, "load_weights", json!({ "path": "w", "optimizer": false, "weights_access_token": "t" })),
        (5, "optim_step", json!({ "optimizer_params": { "type": "dimuon", "learning_rate": 0.1 } })),
    ] {
        assert_eq!(refusal(&trainer.operation(route, seq_id, members).await).0, 422, "{route}");
    }
    trainer.done("save_weights", 6, json!({ "path": "w" })).await;
    assert_eq!(trainer.operation("save_weights_external", 7, json!({ "path": "w" })).await.status, 404);
    assert_eq!(caller.post("copy_weights", json!({})).await.status, 404);
}
