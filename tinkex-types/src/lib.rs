//! The wire types of the Tinker API: requests, results, tensors, queue states and errors.
//!
//! This crate does no I/O and reads no clock. It is the vocabulary that the HTTP layer, the poller, the observers,
//! the clients and the testkit share, and it can be used alone to build requests or to read recorded traffic:
//!
//! ```
//! use tinkex_types::{ModelInput, SampleResponse, StopReason};
//!
//! let prompt = ModelInput::from_ints(vec![72, 101, 108]);
//! assert_eq!(prompt.token_count(), Some(3));
//!
//! let reply = SampleResponse::from_json(br#"{"sequences":[{"tokens":[10],"stop_reason":"length"}]}"#)?;
//! assert_eq!(reply.sequences[0].stop_reason, StopReason::Length);
//! # Ok::<(), tinkex_types::DecodeError>(())
//! ```
//!
//! Citations such as PROTOCOL 15.2 or S1-06, here and in the other crates, are sections of the project's notes on the
//! protocol and ids of its requirements.
//!
//! Token and tensor buffers are shared: cloning a [`ModelInput`] of 32,768 tokens copies none of them.
//! Everything received is read generously (unknown fields are ignored, string enums are open); everything sent is
//! validated by the client before it leaves ([`SampleRequest::validate`]).

mod capabilities;
mod chunk;
mod chunking;
mod config;
pub mod custom_loss;
mod datum;
mod decode_error;
mod error_category;
mod estimate;
mod forward_backward;
mod forward_backward_output;
mod invalid_input;
mod lenient;
mod loss_fn;
mod metrics;
mod model;
mod model_input;
mod observer;
mod optimizer;
mod plain_value;
mod promise;
pub mod proto;
mod protobuf_writer;
mod provenance;
mod queue_state;
mod repeated;
mod request_type;
mod retrieve;
mod sample_request;
mod sample_response;
mod sampler_handle;
mod sampling_params;
mod sampling_session;
mod session;
mod sparse;
mod telemetry;
mod tensor;
mod tinker_path;
mod token_text;
mod tokenizer;
mod tokens;
mod weights;

pub use capabilities::{Health, ServerCapabilities, SupportedModel};
pub use chunk::{AudioChunk, Chunk, ImageAssetPointerChunk, ImageChunk, ImageFormat};
pub use chunking::{ChunkLimits, chunk_ranges};
pub use config::{ClientConfig, ClientConfigRequest, DynamicConfig};
pub use custom_loss::{
    CreateCustomLossRequest, CreateCustomLossResult, CustomLoss, CustomLossInput, CustomLossOutcome,
    LossGraph, LossGraphError, LossOutput, Rank,
};
pub use datum::{Datum, LossFnInputs};
pub use decode_error::DecodeError;
pub use error_category::ErrorCategory;
pub use estimate::SAMPLE_BYTES_PER_TOKEN;
pub use forward_backward::ForwardBackwardBody;
pub use forward_backward_output::{ForwardBackwardOutput, LossFnOutput};
pub use invalid_input::InvalidInput;
pub use loss_fn::{CispoConfig, DroConfig, Loss, LossConfigValue, LossFn, LossFnConfig, PpoConfig};
pub use metrics::{MetricValue, Metrics};
pub use model::{
    CreateModelRequest, CreateModelResult, GetInfoRequest, LoraConfig, ModelData, ModelInfo, OptimizerConfig,
    UnloadModelRequest, UnloadModelResult, WeightsInfo, WeightsInfoRequest,
};
pub use model_input::ModelInput;
pub use observer::{ClientKind, QueueStateChange, QueueStateObserver};
pub use optimizer::{AdamParams, DimuonParams, OptimStepBody, OptimStepResult, OptimizerParams};
pub use plain_value::PlainValue;
pub use promise::Promise;
pub use provenance::ProvenanceSpan;
pub use queue_state::QueueState;
pub use request_type::RequestType;
pub use retrieve::{
    CancelFutureRequest, FutureCompletion, FuturesTarget, RetrieveFutureRequest, RetrieveFuturesRequest,
    RetrieveFuturesResponse,
};
pub use sample_request::{AsampleBody, SampleRequest};
pub use sample_response::{PromptAltTokens, SampleResponse, SampledSequence, StopReason, TokenLogprob};
pub use sampler_handle::{HandleHolder, SamplerHandle};
pub use sampling_params::{SamplingParams, Stop};
pub use sampling_session::{
    CreateSamplingSessionRequest, CreateSamplingSessionResponse, GetSamplerResponse,
    JoinSamplingSessionRequest, JoinSamplingSessionResponse, SAMPLER_BLOCK,
};
pub use session::{
    CreateSessionRequest, CreateSessionResponse, FinishReason, FinishSessionRequest, HeartbeatRequest,
};
pub use telemetry::{Severity, TelemetryBatch, TelemetryEvent, TelemetryResponse};
pub use tensor::{CsrIndices, DType, TensorData, TensorValues};
pub use tinker_path::{CheckpointKind, TinkerPath};
pub use tokenizer::{ByteTokenizer, SpecialTokens, Tokenizer, TokenizerError};
pub use tokens::Tokens;
pub use weights::{
    CheckpointMetadata, CopyWeightsRequest, CopyWeightsResult, ExternalWeights, LoadTarget,
    LoadWeightsRequest, LoadWeightsResult, MAX_TTL_SECONDS, MIN_TTL_SECONDS, SamplerWeightsKind,
    SaveWeightsExternalRequest, SaveWeightsForSamplerRequest, SaveWeightsForSamplerResult,
    SaveWeightsRequest, SavedWeights,
};

/// The SDK version this client speaks for: the release whose wire behaviour it follows. Servers gate features by it
/// (PROTOCOL 5.1), so it is the protocol's version, not this crate's.
pub const PROTOCOL_SDK_VERSION: &str = "0.38.0";
