//! How servers of this protocol differ, as switches, with a preset for each known server.

use std::time::Duration;

/// How a server deviates from the production service. Every field is one observed difference; the presets are
/// [`Dialect::production`], [`Dialect::skyrl`], [`Dialect::tuft`] and [`Dialect::hatchery`].
///
/// ```
/// use tinkex_testkit::service::{Dialect, ResultEncoding};
///
/// let dialect = Dialect { result_encoding: ResultEncoding::Json, ..Dialect::production() };
/// assert!(dialect.sequence_ids);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)]
pub struct Dialect {
    /// A name for messages and the control routes.
    pub name: &'static str,
    /// Whether a request field that is not part of the base protocol is refused with 422, even at its default.
    pub refuse_unknown_fields: bool,
    /// Whether a request that could not be decoded uses up its sequence id all the same.
    pub rejected_requests_use_ids: bool,
    /// Whether `create_session` needs `user_metadata` (422 without it).
    pub user_metadata_required: bool,
    /// Whether the answer to `asample` carries `sample_sequence_ids`.
    pub sequence_ids: bool,
    /// How results are encoded.
    pub result_encoding: ResultEncoding,
    /// JSON bodies of at least so many bytes are sent zstd-encoded, whatever the client accepts.
    pub zstd_from_bytes: Option<usize>,
    /// What a poll of a pending promise ends with.
    pub pending: PendingStyle,
    /// How long a poll of a pending promise is held.
    pub hold: Duration,
    /// How a failed promise is told.
    pub failure: FailureStyle,
    /// What is demanded of the sequence ids of a sampling session.
    pub sampling_order: SamplingOrder,
    /// What is demanded of the sequence ids of a training run, and in which order its operations are carried out.
    pub training_order: TrainingOrder,
    /// Under [`TrainingOrder::Waiting`]: whether operations wait for the id of a refused request until another
    /// request takes it. Otherwise its place is passed over.
    pub refused_ids_block: bool,
    /// The status that answers a loss the server does not have at once; none where the promise fails instead.
    pub unknown_loss_status: Option<u16>,
    /// Which encodings of `forward_backward` are read, and whether there is a route `forward`.
    pub training_bodies: TrainingBody,
    /// Whether `load_weights` can create a model (422 without `model_id` otherwise).
    pub create_from_checkpoint: bool,
    /// Whether `load_weights` is 400 unless it is the first operation of its model.
    pub load_only_first: bool,
    /// Whether `load_weights` answers with a path of the form `sessions/…` instead of the one that was asked for.
    pub session_paths: bool,
    /// The status that answers a save under a name the run has saved under before; none where the promise fails
    /// instead, unless the save says `overwrite`.
    pub reused_name_status: Option<u16>,
    /// Which optional members `get_info` has.
    pub model_facts: ModelFacts,
    /// Statuses of success.
    pub success: SuccessCodes,
    /// What request ids look like.
    pub request_ids: RequestIdShape,
    /// The form of prompt logprobs.
    pub prompt_logprobs: PromptLogprobShape,
    /// Whether an API key is needed.
    pub keys: KeyRule,
    /// What `client/config` answers.
    pub client_config: ConfigAnswer,
    /// What `client/dynamic_config` answers.
    pub dynamic_config: ConfigAnswer,
    /// Whether `max_tokens` must be given (422 without it).
    pub max_tokens_required: bool,
    /// Whether `topk_prompt_logprobs` above 0 is refused with 400.
    pub refuse_topk_prompt_logprobs: bool,
    /// Whether stop strings have no effect (stop tokens and the end of text keep theirs).
    pub stop_strings_ignored: bool,
    /// Whether large results are announced with `complete_metadata` to polls that allow it (PROTOCOL 16.4).
    pub complete_metadata: bool,
    /// Whether `retrieve_futures`, `join_sampling_session`, `cancel_future`, `create_custom_loss`,
    /// `save_weights_external` and `copy_weights` exist (404 otherwise).
    pub newer_routes: bool,
    /// Status for a base model the server does not have.
    pub unknown_model_status: u16,
    /// Status of a heartbeat of a session the server does not know.
    pub unknown_heartbeat_status: u16,
    /// How the paths of sampler checkpoints are written.
    pub sampler_paths: SamplerPathShape,
}

/// How results of promises are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResultEncoding {
    /// Protobuf where `Accept` names it, else JSON.
    FollowsAccept,
    /// Protobuf whatever `Accept` says.
    Protobuf,
    /// JSON whatever `Accept` says.
    Json,
}

/// What a poll of a pending promise ends with, once it has been held long enough or there is news of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PendingStyle {
    /// Status 200 with `{"type": "try_again", "request_id", "queue_state", "queue_state_reason"?}`.
    TryAgain,
    /// Status 408 with the same body.
    Status408,
    /// Status 408 without a body: the state of the queue is never told, so pauses do not end a poll early.
    Bare408,
}

/// How a failed promise is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureStyle {
    /// Status 200 with `{"error", "category"}`.
    Body,
    /// This status with `{"detail"}`.
    Status(u16),
}

/// What is demanded of the sequence ids of one sampler client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SamplingOrder {
    /// Any order, any gaps. A used id with the same body gets the same promise, with another body 409.
    Free,
    /// Any order, any gaps, but a used id is 409 "expected N" whatever the body.
    NoReuse,
    /// Exactly the next id; anything else is 409 "expected N".
    Strict,
}

/// What is demanded of the sequence ids of one training run, which start at 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrainingOrder {
    /// Operations are carried out in the order of their ids. They may arrive in any order; those ahead of a missing
    /// id stay pending until it comes. A used id with the same body gets the same promise, with another body 409.
    Waiting,
    /// Operations are carried out as they arrive, whatever is missing. Used ids as in [`TrainingOrder::Waiting`].
    Tolerant,
    /// Exactly the next id; anything else is 409 "expected N", a repeated request too.
    Strict,
}

/// How `forward_backward` requests are encoded. Any may be compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrainingBody {
    /// Protobuf; JSON is 415, and there is no route `forward`.
    ProtobufOnly,
    /// JSON; protobuf is 500.
    JsonOnly,
    /// Either.
    Both,
}

/// Which optional members the answer to `get_info` has (PROTOCOL 11.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelFacts {
    /// All of them.
    All,
    /// All but `is_lora`, `lora_rank` and `optimizer_config`.
    NoLora,
    /// All but `optimizer_config`; both members `model_name` are null.
    NoName,
    /// All but `optimizer_config`.
    NoOptimizer,
}

/// Statuses of success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SuccessCodes {
    /// Of `create_session` and `create_sampling_session`.
    pub created: u16,
    /// Of `asample` and every training request that leads to a promise.
    pub accepted: u16,
    /// Of `cancel_future` and `sessions/{id}/finish`; with 204 there is no body.
    pub done: u16,
}

/// What request ids look like. All shapes are made of a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestIdShape {
    /// `req-0000002a`.
    Text,
    /// `42`.
    Number,
    /// A UUID.
    Uuid,
    /// `fut_00000000002a`.
    Fut,
}

impl RequestIdShape {
    pub(crate) fn format(self, number: u64) -> String {
        match self {
            Self::Text => format!("req-{number:08x}"),
            Self::Number => number.to_string(),
            Self::Uuid => format!("5e7f3a10-9c2b-4d61-8a44-{number:012x}"),
            Self::Fut => format!("fut_{number:012x}"),
        }
    }

    /// The counter of an id this shape could have made.
    pub(crate) fn parse(self, id: &str) -> Option<u64> {
        let number = match self {
            Self::Number => id.parse().ok()?,
            Self::Text => u64::from_str_radix(id.strip_prefix("req-")?, 16).ok()?,
            Self::Fut => u64::from_str_radix(id.strip_prefix("fut_")?, 16).ok()?,
            Self::Uuid => u64::from_str_radix(id.rsplit('-').next()?, 16).ok()?,
        };
        (self.format(number) == id).then_some(number)
    }
}

/// The form of prompt logprobs, for a prompt of N tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PromptLogprobShape {
    /// N entries, the first being null (NaN in protobuf).
    LeadingNull,
    /// N − 1 entries, none for the first token.
    Shorter,
    /// N entries, the first being a dummy 0.
    LeadingZero,
}

/// What is demanded of credentials. Which keys are right is an option of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyRule {
    /// Nothing is looked at.
    Ignored,
    /// `X-API-Key` is needed: 401 without it, 403 where it is wrong.
    ApiKey,
    /// As [`KeyRule::ApiKey`], or the same key as `Authorization: Bearer`.
    ApiKeyOrBearer,
}

/// What a configuration route answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigAnswer {
    /// The flags that were set.
    Flags,
    /// `{"pjwt_auth_enabled": false}` and nothing else.
    JwtOff,
    /// 404.
    Missing,
}

/// How the path of a sampler checkpoint is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SamplerPathShape {
    /// `tinker://RUN/sampler_weights/NAME`.
    SamplerWeights,
    /// `tinker://RUN/NAME`.
    Bare,
    /// `tinker://RUN/checkpoints/NAME`.
    Checkpoints,
}

impl SamplerPathShape {
    /// The path of a checkpoint of a run.
    pub fn path(self, run: &str, name: &str) -> String {
        match self {
            Self::SamplerWeights => format!("tinker://{run}/sampler_weights/{name}"),
            Self::Bare => format!("tinker://{run}/{name}"),
            Self::Checkpoints => format!("tinker://{run}/checkpoints/{name}"),
        }
    }
}

impl Dialect {
    /// The production service as the official SDK 0.38.0 expects it (PROTOCOL 22).
    pub fn production() -> Self {
        Self {
            name: "production",
            refuse_unknown_fields: false,
            rejected_requests_use_ids: false,
            user_metadata_required: false,
            sequence_ids: true,
            result_encoding: ResultEncoding::FollowsAccept,
            zstd_from_bytes: None,
            pending: PendingStyle::Status408,
            hold: Duration::from_secs(30),
            failure: FailureStyle::Body,
            sampling_order: SamplingOrder::Free,
            training_order: TrainingOrder::Waiting,
            refused_ids_block: false,
            unknown_loss_status: None,
            training_bodies: TrainingBody::Both,
            create_from_checkpoint: true,
            load_only_first: false,
            session_paths: false,
            reused_name_status: None,
            model_facts: ModelFacts::All,
            success: SuccessCodes { created: 200, accepted: 200, done: 200 },
            request_ids: RequestIdShape::Text,
            prompt_logprobs: PromptLogprobShape::LeadingNull,
            keys: KeyRule::ApiKey,
            client_config: ConfigAnswer::Flags,
            dynamic_config: ConfigAnswer::Flags,
            max_tokens_required: false,
            refuse_topk_prompt_logprobs: false,
            stop_strings_ignored: false,
            complete_metadata: true,
            newer_routes: true,
            unknown_model_status: 400,
            unknown_heartbeat_status: 404,
            sampler_paths: SamplerPathShape::SamplerWeights,
        }
    }

    /// SkyRL 0.4.0.
    pub fn skyrl() -> Self {
        Self {
            name: "skyrl",
            sequence_ids: false,
            result_encoding: ResultEncoding::Protobuf,
            pending: PendingStyle::Bare408,
            hold: Duration::from_secs(300),
            failure: FailureStyle::Status(400),
            training_order: TrainingOrder::Tolerant,
            training_bodies: TrainingBody::ProtobufOnly,
            create_from_checkpoint: false,
            load_only_first: true,
            reused_name_status: Some(409),
            model_facts: ModelFacts::NoLora,
            request_ids: RequestIdShape::Number,
            prompt_logprobs: PromptLogprobShape::Shorter,
            keys: KeyRule::Ignored,
            client_config: ConfigAnswer::JwtOff,
            dynamic_config: ConfigAnswer::Missing,
            max_tokens_required: true,
            refuse_topk_prompt_logprobs: true,
            complete_metadata: false,
            newer_routes: false,
            sampler_paths: SamplerPathShape::Bare,
            ..Self::production()
        }
    }

    /// TuFT 0.2.2.
    pub fn tuft() -> Self {
        Self {
            name: "tuft",
            refuse_unknown_fields: true,
            rejected_requests_use_ids: true,
            user_metadata_required: true,
            sequence_ids: false,
            pending: PendingStyle::TryAgain,
            hold: Duration::from_secs(120),
            failure: FailureStyle::Status(422),
            sampling_order: SamplingOrder::NoReuse,
            training_order: TrainingOrder::Strict,
            training_bodies: TrainingBody::ProtobufOnly,
            create_from_checkpoint: false,
            load_only_first: true,
            model_facts: ModelFacts::NoOptimizer,
            success: SuccessCodes { created: 201, accepted: 202, done: 204 },
            request_ids: RequestIdShape::Uuid,
            prompt_logprobs: PromptLogprobShape::LeadingZero,
            client_config: ConfigAnswer::Missing,
            dynamic_config: ConfigAnswer::Missing,
            complete_metadata: false,
            newer_routes: false,
            unknown_model_status: 404,
            unknown_heartbeat_status: 500,
            ..Self::production()
        }
    }

    /// hatchery-core 0.3.0.
    pub fn hatchery() -> Self {
        Self {
            name: "hatchery",
            sequence_ids: false,
            result_encoding: ResultEncoding::Json,
            zstd_from_bytes: Some(256),
            pending: PendingStyle::TryAgain,
            refused_ids_block: true,
            unknown_loss_status: Some(501),
            training_bodies: TrainingBody::JsonOnly,
            create_from_checkpoint: false,
            load_only_first: true,
            session_paths: true,
            model_facts: ModelFacts::NoName,
            request_ids: RequestIdShape::Fut,
            keys: KeyRule::ApiKeyOrBearer,
            client_config: ConfigAnswer::Missing,
            dynamic_config: ConfigAnswer::Missing,
            stop_strings_ignored: true,
            complete_metadata: false,
            newer_routes: false,
            sampler_paths: SamplerPathShape::Checkpoints,
            ..Self::production()
        }
    }

    /// All presets, the production service first.
    pub fn presets() -> [Self; 4] {
        [Self::production(), Self::skyrl(), Self::tuft(), Self::hatchery()]
    }

    /// The preset of this name: `production`, `skyrl`, `tuft` or `hatchery`.
    pub fn named(name: &str) -> Option<Self> {
        Self::presets().into_iter().find(|preset| preset.name.eq_ignore_ascii_case(name))
    }
}

impl Default for Dialect {
    fn default() -> Self {
        Self::production()
    }
}
