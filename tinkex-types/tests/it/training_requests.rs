//! The JSON requests of training and their results against the recorded ones (PROTOCOL 11, 12.7, 14).

use serde_json::{Map, Value, json};
use tinkex_types::{
    AdamParams, CheckpointMetadata, CopyWeightsRequest, CopyWeightsResult, CreateModelRequest,
    CreateModelResult, DimuonParams, ExternalWeights, GetInfoRequest, LoadTarget, LoadWeightsRequest,
    LoadWeightsResult, LoraConfig, ModelInfo, OptimStepBody, OptimStepResult, OptimizerConfig,
    OptimizerParams, RequestType, SamplerWeightsKind, SaveWeightsExternalRequest,
    SaveWeightsForSamplerRequest, SaveWeightsForSamplerResult, SaveWeightsRequest, SavedWeights,
    UnloadModelRequest, UnloadModelResult, WeightsInfo, WeightsInfoRequest,
};

use crate::support::{exchanges, fixture, request_body, same};

const SESSION: &str = "s-0001";
const MODEL: &str = "s-0001:train:0";
const BASE: &str = "Qwen/Qwen3-8B";
const CHECKPOINT: &str = "tinker://s-0001:train:0/weights/ckpt-1";

/// Members that are left out while they have this value, so that strict servers of the older protocol take the
/// request (OPEN_SERVERS, decision 1), by path and name.
fn defaults(path: &str) -> Vec<(&'static str, Value)> {
    match path {
        "create_model" => vec![("/optimizer_config", json!({"type": "adamw"}))],
        "save_weights" => vec![("/overwrite", json!(false))],
        "save_weights_for_sampler" => vec![("/kind", json!("snapshot"))],
        "optim_step" => {
            vec![("/adam_params/weight_decay", json!(0.0)), ("/adam_params/grad_clip_norm", json!(0.0))]
        }
        _ => Vec::new(),
    }
}

/// The recorded body without what may be absent.
fn minimal(mut body: Value, path: &str) -> Value {
    for (pointer, default) in defaults(path) {
        if body.pointer(pointer).is_some_and(|value| same(value, &default)) {
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            body.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name);
        }
    }
    body
}

#[track_caller]
fn assert_recorded(scenario: &str, path: &str, ours: &impl serde::Serialize) {
    let recorded = minimal(request_body(&fixture(scenario), &format!("/api/v1/{path}"), 0), path);
    let ours = serde_json::to_value(ours).unwrap();
    assert!(same(&ours, &recorded), "ours:     {ours}\nrecorded: {recorded}");
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

#[test]
fn recorded_models_are_ours() {
    let create = CreateModelRequest::new(SESSION, 0, BASE);
    let lora = CreateModelRequest {
        user_metadata: Some(object(json!({"exp": "1"}))),
        lora_config: LoraConfig {
            rank: 16,
            seed: Some(7),
            train_unembed: false,
            train_attn: false,
            ..LoraConfig::default()
        },
        ..create.clone()
    };
    assert_recorded(include_str!("../fixtures/create_model_lora.json"), "create_model", &lora);
    let dimuon = CreateModelRequest { optimizer_config: OptimizerConfig::Dimuon, ..create.clone() };
    assert_recorded(include_str!("../fixtures/create_model_dimuon.json"), "create_model", &dimuon);
    for scenario in
        [include_str!("../fixtures/get_info.json"), include_str!("../fixtures/create_model_lora.json")]
    {
        assert_recorded(scenario, "get_info", &GetInfoRequest::new(MODEL));
    }
    let unload = serde_json::to_value(UnloadModelRequest::new(MODEL)).unwrap();
    assert_eq!(unload, json!({"model_id": MODEL, "type": "unload_model"}));
    let weights = fixture(include_str!("../fixtures/weights_info.json"));
    let path = weights["request"]["body"]["tinker_path"].as_str().unwrap();
    let ours = serde_json::to_value(WeightsInfoRequest { tinker_path: path }).unwrap();
    assert_eq!(ours, weights["request"]["body"]);
}

/// The older protocol's fields are all there is in a request of defaults (PROTOCOL 23), but for nulls and the `type`
/// literals its servers also know.
#[test]
fn requests_of_defaults_are_those_of_the_older_protocol() {
    #[track_caller]
    fn classic(scenario: &str, path: &str, ours: &impl serde::Serialize) {
        let mut recorded = request_body(&fixture(scenario), &format!("/api/v1/{path}"), 0);
        recorded["type"] = json!(path);
        let strip = |body: &mut Value| body.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        strip(&mut recorded);
        if let Some(lora) = recorded.get_mut("lora_config") {
            strip(lora);
        }
        let mut ours = serde_json::to_value(ours).unwrap();
        if path == "optim_step" {
            // The recorded one relies on the server for every default.
            assert_eq!(recorded["adam_params"], json!({}));
            let names: Vec<_> = object(ours["adam_params"].take()).keys().cloned().collect();
            assert_eq!(names, ["beta1", "beta2", "eps", "learning_rate"]);
            recorded["adam_params"] = Value::Null;
        }
        assert_eq!(ours, recorded);
    }
    let lora_config = LoraConfig { rank: 16, ..LoraConfig::default() };
    let create = CreateModelRequest { lora_config, ..CreateModelRequest::new(SESSION, 0, BASE) };
    classic(include_str!("../fixtures/classic_create_model.json"), "create_model", &create);
    let params = AdamParams::default().into();
    let step = OptimStepBody { model_id: "m-1", seq_id: 3, params: &params };
    classic(include_str!("../fixtures/classic_optim_step.json"), "optim_step", &step);
    let save = SaveWeightsRequest::new("m-1", 4, "c");
    classic(include_str!("../fixtures/classic_save_weights.json"), "save_weights", &save);
    let save = SaveWeightsForSamplerRequest::named("m-1", 5, "c");
    classic(
        include_str!("../fixtures/classic_save_weights_for_sampler.json"),
        "save_weights_for_sampler",
        &save,
    );
}

#[test]
fn recorded_optimizer_steps_are_ours() {
    let step = |params: &OptimizerParams| {
        serde_json::to_value(OptimStepBody { model_id: MODEL, seq_id: 1, params }).unwrap()
    };
    let adam = AdamParams::new(1e-4).beta1(0.9).beta2(0.95).eps(1e-8).weight_decay(0.01).grad_clip_norm(1.0);
    assert_recorded(include_str!("../fixtures/optim_step_adam.json"), "optim_step", &step(&adam.into()));
    assert_recorded(
        include_str!("../fixtures/optim_step_adam_defaults.json"),
        "optim_step",
        &step(&AdamParams::default().into()),
    );
    let dimuon = DimuonParams::new(0.02);
    assert_recorded(include_str!("../fixtures/optim_step_dimuon.json"), "optim_step", &step(&dimuon.into()));
    let lion = OptimizerParams::Other(object(json!({"type": "lion", "momentum": 0.5})));
    assert_eq!(
        step(&lion),
        json!({"model_id": MODEL, "seq_id": 1, "type": "optim_step",
               "optimizer_params": {"type": "lion", "momentum": 0.5}})
    );
    let tuned = step(&DimuonParams::new(0.0).beta1(0.0).grad_clip_norm(-1.0).into());
    let expected = json!({"type": "dimuon", "learning_rate": 0.0, "beta1": 0.0, "grad_clip_norm": -1.0});
    assert_eq!(tuned["optimizer_params"], expected);
    // What is written reads back, with what is absent at its default.
    assert_eq!(serde_json::from_value::<AdamParams>(json!({})).unwrap(), AdamParams::new(1e-4));
    let read = serde_json::from_value::<DimuonParams>(json!({"type": "dimuon", "learning_rate": 0.02}));
    assert_eq!(read.unwrap(), dimuon);
}

#[test]
fn recorded_saves_and_loads_are_ours() {
    let metadata = |name: &str, value: &str| CheckpointMetadata::from([(name.to_owned(), value.to_owned())]);
    let save = SaveWeightsRequest::new(MODEL, 1, "ckpt-1");
    assert_recorded(include_str!("../fixtures/save_state_minimal.json"), "save_weights", &save);
    let full = SaveWeightsRequest {
        ttl_seconds: Some(86_400),
        overwrite: true,
        user_metadata: Some(metadata("step", "10")),
        ..save
    };
    assert_recorded(include_str!("../fixtures/save_state_full.json"), "save_weights", &full);

    let sampler = "save_weights_for_sampler";
    let named = SaveWeightsForSamplerRequest::named(MODEL, 1, "samp-1");
    let named = SaveWeightsForSamplerRequest { ttl_seconds: Some(3600), ..named };
    assert_recorded(include_str!("../fixtures/save_weights_for_sampler_named.json"), sampler, &named);
    let unnamed = SaveWeightsForSamplerRequest::unnamed(MODEL, 1, 0);
    assert_recorded(
        include_str!("../fixtures/save_weights_for_sampler_unnamed_snapshot.json"),
        sampler,
        &unnamed,
    );
    let inflight = SaveWeightsForSamplerRequest { weights_kind: SamplerWeightsKind::Inflight, ..unnamed };
    assert_recorded(
        include_str!("../fixtures/save_weights_for_sampler_unnamed_inflight.json"),
        sampler,
        &inflight,
    );

    let external = SaveWeightsExternalRequest {
        ttl_seconds: Some(3600),
        age_encryption_recipients: Some(vec!["age1abc".to_owned()]),
        ..SaveWeightsExternalRequest::new(MODEL, 1, "e1")
    };
    assert_recorded(
        include_str!("../fixtures/save_weights_external.json"),
        "save_weights_external",
        &external,
    );

    let legacy = LoadWeightsRequest {
        optimizer: true,
        weights_access_token: Some("tok".to_owned()),
        ..LoadWeightsRequest::into_model(MODEL, 1, CHECKPOINT)
    };
    assert_recorded(include_str!("../fixtures/load_weights_legacy.json"), "load_weights", &legacy);
    let created = LoadWeightsRequest {
        target: LoadTarget::New {
            session_id: SESSION.to_owned(),
            model_seq_id: 0,
            base_model: Some(BASE.to_owned()),
            user_metadata: Some(object(json!({"a": "b"}))),
            optimizer_config: Some(OptimizerConfig::Dimuon),
        },
        ..LoadWeightsRequest::create(SESSION, 0, CHECKPOINT)
    };
    assert_recorded(
        include_str!("../fixtures/load_weights_create_from_state.json"),
        "load_weights",
        &created,
    );
    let bare = serde_json::to_value(LoadWeightsRequest::create(SESSION, 3, CHECKPOINT)).unwrap();
    let expected = json!({"session_id": SESSION, "model_seq_id": 3, "path": CHECKPOINT, "optimizer": false,
                          "type": "load_weights"});
    assert_eq!(bare, expected);

    let copy = CopyWeightsRequest {
        destination_project_id: Some("proj-archive".to_owned()),
        ttl_seconds: Some(7200),
        ..CopyWeightsRequest::new(CHECKPOINT)
    };
    assert_recorded(include_str!("../fixtures/copy_weights.json"), "copy_weights", &copy);
}

/// A token opens somebody else's weights: it is sent, and never printed.
#[test]
fn a_load_does_not_print_its_token() {
    let load = LoadWeightsRequest {
        weights_access_token: Some("s3cret".to_owned()),
        ..LoadWeightsRequest::into_model(MODEL, 1, CHECKPOINT)
    };
    assert_eq!(serde_json::to_value(&load).unwrap()["weights_access_token"], "s3cret");
    for printed in [format!("{load:?}"), format!("{load:#?}")] {
        assert!(printed.contains(CHECKPOINT) && !printed.contains("s3cret"), "{printed}");
    }
}

/// The JSON body of the last answer.
fn result<T: serde::de::DeserializeOwned>(scenario: &str) -> T {
    let body = exchanges(&fixture(scenario)).last().unwrap()["response"]["body"].clone();
    serde_json::from_value(body.clone()).unwrap_or_else(|e| panic!("{body}: {e}"))
}

#[test]
fn recorded_results_are_read() {
    let step: OptimStepResult = result(include_str!("../fixtures/optim_step_adam.json"));
    assert_eq!(step.metrics["grad_norm:mean"], 1.25);
    for scenario in [
        include_str!("../fixtures/optim_step_adam_defaults.json"), // {}
        include_str!("../fixtures/optim_step_dimuon.json"),        // {"metrics": null}
        include_str!("../fixtures/classic_optim_step.json"),
    ] {
        assert_eq!(result::<OptimStepResult>(scenario), OptimStepResult::default());
    }
    let saved: SavedWeights = result(include_str!("../fixtures/save_state_full.json"));
    assert_eq!(saved.path, CHECKPOINT);
    let saved: SavedWeights = result(include_str!("../fixtures/classic_save_weights.json"));
    assert_eq!(saved.path, "tinker://m-1/weights/c");
    let named: SaveWeightsForSamplerResult =
        result(include_str!("../fixtures/save_weights_for_sampler_named.json"));
    assert_eq!(named.path.as_deref(), Some("tinker://s-0001:train:0/sampler_weights/samp-1"));
    assert_eq!(named.sampling_session_id, None);
    let unnamed: SaveWeightsForSamplerResult =
        result(include_str!("../fixtures/save_weights_for_sampler_unnamed_inflight.json"));
    assert_eq!(unnamed.sampling_session_id.as_deref(), Some("s-0001:sample:0"));
    assert_eq!(unnamed.path, None);
    let external: ExternalWeights = result(include_str!("../fixtures/save_weights_external.json"));
    assert_eq!(
        (external.path.as_str(), external.size_bytes),
        ("tinker://s-0001:train:0/external_weights/e1", Some(12))
    );
    let loaded: LoadWeightsResult = result(include_str!("../fixtures/load_weights_legacy.json"));
    assert_eq!((loaded.path.as_deref(), loaded.model_id.as_deref()), (Some(CHECKPOINT), Some(MODEL)));
    let loaded: LoadWeightsResult = result(include_str!("../fixtures/load_weights_create_from_state.json"));
    assert_eq!(loaded.model_id, None);
    let copied: CopyWeightsResult = result(include_str!("../fixtures/copy_weights.json"));
    assert_eq!(copied.tinker_path, "tinker://c:train:0/weights/x");
    let created: CreateModelResult = result(include_str!("../fixtures/classic_create_model.json"));
    assert_eq!(created.model_id, "m-1");
}

/// PROTOCOL 11.2: the revision of the tokenizer is cut off; what the server does not say is none.
#[test]
fn model_information_is_read_generously() {
    let info: ModelInfo = result(include_str!("../fixtures/get_info.json"));
    assert_eq!(info.model_id, MODEL);
    assert_eq!(info.model_data.tokenizer_id.as_deref(), Some("org/tok"));
    assert_eq!(
        (info.model_data.arch, info.is_lora, info.lora_rank, info.model_name),
        (None, None, None, None)
    );
    assert_eq!(info.optimizer_config, OptimizerConfig::Dimuon);
    let info: ModelInfo = result(include_str!("../fixtures/create_model_lora.json"));
    assert_eq!(
        (info.is_lora, info.lora_rank, info.model_name.as_deref()),
        (Some(true), Some(32), Some(BASE))
    );
    assert_eq!(
        (info.model_data.arch.as_deref(), info.optimizer_config),
        (Some("qwen3"), OptimizerConfig::Adam)
    );
    let info: ModelInfo = serde_json::from_value(json!({
        "model_id": 7, "model_data": null, "optimizer_config": null, "is_lora": "?", "lora_rank": -1, "new": 1,
    }))
    .unwrap();
    assert_eq!((info.model_id.as_str(), info.model_data.model_name), ("7", None));
    assert_eq!((info.is_lora, info.lora_rank, info.optimizer_config), (None, None, OptimizerConfig::Adam));
    assert!(serde_json::from_value::<ModelInfo>(json!({"model_data": {}})).is_err(), "no id");
    let unloaded: UnloadModelResult = serde_json::from_value(json!({"type": "unload_model"})).unwrap();
    assert_eq!(unloaded.model_id, None);
}

/// REST C8, golden `weights_info*`.
#[test]
fn weights_information_is_read_generously() {
    let full: WeightsInfo = result(include_str!("../fixtures/weights_info.json"));
    assert_eq!((full.base_model.as_str(), full.is_lora, full.lora_rank), (BASE, Some(true), Some(32)));
    assert_eq!((full.train_unembed, full.train_mlp, full.train_attn), (Some(true), Some(true), Some(false)));
    let dimuon: WeightsInfo = result(include_str!("../fixtures/weights_info_dimuon.json"));
    assert_eq!(dimuon.optimizer_config, OptimizerConfig::Dimuon);
    let minimal: WeightsInfo = result(include_str!("../fixtures/weights_info_minimal.json"));
    assert_eq!(
        (minimal.lora_rank, minimal.train_mlp, minimal.optimizer_config),
        (None, None, OptimizerConfig::Adam)
    );
    let unknown: WeightsInfo = result(include_str!("../fixtures/weights_info_unknown_optimizer.json"));
    assert_eq!(unknown.optimizer_config.to_string(), "lion");
    assert_eq!(
        serde_json::to_value(unknown.optimizer_config).unwrap(),
        json!({"type": "lion", "version": 9})
    );
}

/// PROTOCOL 11.1: families the client does not know, and known ones of another version, keep all their members.
#[test]
fn optimizer_families_come_back() {
    for (json, name) in [
        (json!({"type": "adamw"}), "adamw"),
        (json!({"type": "dimuon", "version": 1}), "dimuon"),
        (json!({"type": "dimuon", "version": 2}), "dimuon"),
        (json!({"type": "adamw", "fused": true}), "adamw"),
        (json!({"type": "lion", "x": [1, null]}), "lion"),
    ] {
        let config: OptimizerConfig = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(config.to_string(), name);
        config.validate().unwrap();
        assert_eq!(serde_json::to_value(config).unwrap(), json);
    }
    let short: OptimizerConfig = serde_json::from_value(json!({"type": "dimuon"})).unwrap();
    assert_eq!(short, OptimizerConfig::Dimuon);
}

/// Golden vector `client_validation`, the rows about optimizers, and what else can be known before sending.
#[test]
fn steps_are_checked_like_the_reference_sdk() {
    let vector = fixture(include_str!("../fixtures/client_validation.json"));
    let golden = |name: &str| -> bool {
        let case = vector["cases"].as_array().unwrap().iter().find(|case| case["name"] == name).unwrap();
        case["ok"].as_bool().unwrap()
    };
    let dimuon = DimuonParams::new;
    for (name, params) in [
        ("dimuon lr negative", OptimizerParams::from(dimuon(-1.0))),
        ("dimuon beta1 1.0", dimuon(1.0).beta1(1.0).into()),
        ("dimuon lr inf", dimuon(f64::INFINITY).into()),
        ("adam negative ok", AdamParams::new(-1.0).into()),
    ] {
        assert_eq!(params.validate().is_ok(), golden(name), "{name}");
    }
    let message = |params: OptimizerParams| params.validate().unwrap_err().to_string();
    assert_eq!(message(dimuon(-1.0).into()), "learning_rate must be at least 0, not -1");
    assert_eq!(message(dimuon(1.0).beta1(-0.1).into()), "beta1 must be in [0, 1), not -0.1");
    // The reference SDK sends these as null; an answer to that would be anybody's guess (PROTOCOL 1).
    let adam = AdamParams::default();
    for (params, name) in [
        (AdamParams::new(f64::NAN), "learning_rate"),
        (adam.beta1(f64::NAN), "beta1"),
        (adam.beta2(f64::INFINITY), "beta2"),
        (adam.eps(f64::NEG_INFINITY), "eps"),
        (adam.weight_decay(f64::NAN), "weight_decay"),
        (adam.grad_clip_norm(f64::NAN), "grad_clip_norm"),
    ] {
        assert_eq!(OptimizerParams::from(params).validate().unwrap_err().field(), name);
    }
    assert_eq!(
        message(OptimizerParams::Other(Map::new())),
        "optimizer_params must have a text member `type`"
    );
}

#[test]
fn models_are_checked() {
    let message = |lora: LoraConfig| lora.validate().unwrap_err().to_string();
    let lora = LoraConfig::default;
    lora().validate().unwrap();
    assert_eq!(message(LoraConfig { rank: 0, ..lora() }), "rank must be at least 1");
    let nothing = LoraConfig { train_attn: false, train_mlp: false, train_unembed: false, ..lora() };
    assert_eq!(
        message(nothing.clone()),
        "lora_config needs at least one of train_unembed, train_mlp and train_attn"
    );
    for one in [
        LoraConfig { train_attn: true, ..nothing.clone() },
        LoraConfig { train_mlp: true, ..nothing.clone() },
        LoraConfig { train_unembed: true, rank: 1, ..nothing },
    ] {
        one.validate().unwrap();
    }
    let typeless = OptimizerConfig::Other(object(json!({"type": 1}))).validate().unwrap_err();
    assert_eq!(typeless.to_string(), "optimizer_config must have a text member `type`");
}

/// PROTOCOL 14: lives from an hour to ten years, up to ten recipients, names that are names.
#[test]
fn checkpoints_are_checked() {
    let ten_years = 10 * 365 * 86_400;
    for (ttl_seconds, good) in [
        (None, true),
        (Some(3_599), false),
        (Some(3_600), true),
        (Some(ten_years), true),
        (Some(ten_years + 1), false),
    ] {
        let results = [
            SaveWeightsRequest { ttl_seconds, ..SaveWeightsRequest::new(MODEL, 1, "c") }.validate(),
            SaveWeightsForSamplerRequest {
                ttl_seconds,
                ..SaveWeightsForSamplerRequest::named(MODEL, 1, "c")
            }
            .validate(),
            SaveWeightsExternalRequest { ttl_seconds, ..SaveWeightsExternalRequest::new(MODEL, 1, "c") }
                .validate(),
            CopyWeightsRequest { ttl_seconds, ..CopyWeightsRequest::new(CHECKPOINT) }.validate(),
        ];
        for result in results {
            assert_eq!(result.is_ok(), good, "{ttl_seconds:?}");
            if let Err(error) = result {
                assert_eq!(error.field(), "ttl_seconds");
            }
        }
    }
    let field = |result: Result<(), tinkex_types::InvalidInput>| result.unwrap_err().field();
    assert_eq!(field(SaveWeightsRequest::new(MODEL, 1, " ").validate()), "name");
    assert_eq!(field(SaveWeightsForSamplerRequest::named(MODEL, 1, "").validate()), "name");
    assert_eq!(field(SaveWeightsExternalRequest::new(MODEL, 1, "").validate()), "name");
    assert_eq!(field(LoadWeightsRequest::into_model(MODEL, 1, "").validate()), "path");
    assert_eq!(field(CopyWeightsRequest::new("").validate()), "source_path");
    SaveWeightsForSamplerRequest::unnamed(MODEL, 1, 0).validate().unwrap();
    for (recipients, good) in [(0, false), (1, true), (10, true), (11, false)] {
        let age_encryption_recipients = Some(vec!["age1abc".to_owned(); recipients]);
        let request = SaveWeightsExternalRequest {
            age_encryption_recipients,
            ..SaveWeightsExternalRequest::new(MODEL, 1, "c")
        };
        assert_eq!(request.validate().is_ok(), good, "{recipients}");
    }
    let mut load = LoadWeightsRequest::create(SESSION, 0, CHECKPOINT);
    load.validate().unwrap();
    if let LoadTarget::New { optimizer_config, .. } = &mut load.target {
        *optimizer_config = Some(OptimizerConfig::Dimuon);
    }
    load.validate().unwrap();
    load.optimizer = true;
    assert_eq!(field(load.validate()), "optimizer_config");
}

/// PROTOCOL 16.2 and 5.1.
#[test]
fn promises_of_training_have_names() {
    let names = [
        (RequestType::CreateModel, "CreateModel", false),
        (RequestType::Forward, "Forward", true),
        (RequestType::ForwardBackward, "ForwardBackward", true),
        (RequestType::OptimStep, "OptimStep", false),
        (RequestType::SaveWeights, "SaveWeights", false),
        (RequestType::SaveWeightsForSampler, "SaveWeightsForSampler", false),
        (RequestType::SaveWeightsExternal, "SaveWeightsExternal", false),
        (RequestType::LoadWeights, "LoadWeights", false),
        (RequestType::CreateCustomLoss, "CreateCustomLoss", false),
        (RequestType::UnloadModel, "UnloadModel", false),
    ];
    for (kind, name, protobuf) in names {
        assert_eq!((kind.to_string().as_str(), kind.prefers_protobuf()), (name, protobuf));
    }
}
