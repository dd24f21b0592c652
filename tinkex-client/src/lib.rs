//! The Tinker SDK for Rust: train and sample large language models over the Tinker API.
//!
//! ```no_run
//! use tinkex_client::{ModelInput, SampleRequest, SamplingParams, ServiceClient};
//!
//! # async fn example() -> Result<(), tinkex_client::Error> {
//! let service = ServiceClient::builder().api_key("tml-...").build().await?;
//! let sampler = service.sampling_client().base_model("Qwen/Qwen3-8B").create().await?;
//!
//! let prompt = ModelInput::from_ints(vec![9707, 11]);
//! let params = SamplingParams::new().max_tokens(64).temperature(0.7);
//! let reply = sampler.sample(SampleRequest::new(prompt, params).num_samples(4)).await?;
//! for sequence in &reply.sequences {
//!     println!("{:?} ({})", sequence.tokens, sequence.stop_reason);
//! }
//! # Ok(()) }
//! ```
//!
//! Training is the same, with clients of another kind:
//!
//! ```no_run
//! use tinkex_client::{AdamParams, Datum, LossFn, ServiceClient};
//!
//! # async fn example(service: ServiceClient) -> Result<(), tinkex_client::Error> {
//! let trainer = service.lora_training_client("Qwen/Qwen3-8B").rank(32).create().await?;
//! let datum = Datum::new(vec![9707, 11]).target_tokens([11, 1879]).weights([1.0, 1.0]);
//! let pass = trainer.forward_backward(vec![datum], LossFn::CrossEntropy); // on its way
//! let update = trainer.optim_step(AdamParams::new(1e-4)); // on its way, behind it
//! println!("loss {:?}", pass.await?.loss());
//! update.await?;
//! let sampler = trainer.save_weights_and_get_sampling_client().await?;
//! # drop(sampler); Ok(()) }
//! ```
//!
//! Clients are made by builders that end in `build()` or `create()`. Sampling and training are *eager*: the method has
//! started the work when it returns, and gives back a handle to await. What dropping the handle means differs: a
//! [`SampleHandle`] abandons its sample, while a [`TrainingHandle`] only lets go of the result, and the operation still
//! reaches the server in its turn. `async` methods, such as `create()`, [`ServiceClient::create_custom_loss`],
//! [`ServiceClient::copy_weights`] and [`ServiceClient::close`], do nothing until they are awaited.
//!
//! # Environment
//!
//! [`ServiceClient::from_env`] reads `TINKER_API_KEY`, `TINKER_CREDENTIAL_CMD`, `TINKER_BASE_URL`, `TINKER_PROJECT_ID`,
//! `TINKER_TAGS`, `TINKER_TELEMETRY`, `CLOUDFLARE_ACCESS_CLIENT_ID`/`_SECRET`, `TINKEX_DUMP_INFLIGHT` and the keys stored
//! below `HOME` ([`CredentialStore`]); the functions of [`environment`] read `TINKER_LOG` and `TINKER_TELEMETRY`. Nothing else in this crate reads the environment,
//! but for `HfTokenizer::for_model` (feature `tokenizers`), which finds the hub cache by `HF_HUB_CACHE`, `HF_HOME`,
//! `XDG_CACHE_HOME` and `HOME`; the ready-made transport heeds the usual variables for proxies and certificates.
//! `docs/configuration.md` lists them all, with the settings of the builders and the flags of the server.

mod cancellation;
mod closing;
mod configuration;
mod connection_places;
mod credentials;
mod custom_loss;
mod dispatch;
mod endpoints;
pub mod environment;
mod error;
#[cfg(feature = "tokenizers")]
mod hf_tokenizer;
mod holder;
mod inflight;
mod operation_span;
mod owned_task;
mod rest;
mod retrieve;
mod sampling;
mod service;
mod session;
mod submission_gate;
mod telemetry;
mod token_count;
mod training;

pub use credentials::{CredentialStore, CredentialStoreError, KeyDetails, StoredKey};
pub use custom_loss::{
    AnyCustomLoss, BoxError, CustomLossFn, CustomLossHandle, CustomLossOutput, Logprobs, losses,
};
pub use error::{Effect, Error, ErrorKind};
#[cfg(feature = "tokenizers")]
pub use hf_tokenizer::{HfTokenizer, TokenizerName};
pub use inflight::{DumpTarget, Inflight, InflightRequest, Stage};
pub use rest::RestClient;
pub use sampling::{ModelPath, SampleHandle, SampleOptions, SamplingClient, SamplingClientBuilder};
pub use service::{ServiceClient, ServiceClientBuilder};
pub use training::{
    Checkpoint, CopyWeights, FromStateBuilder, LoadState, SamplerCheckpoint, SamplingSnapshot,
    SaveExternalWeights, SaveSamplerWeights, SaveState, TrainingClient, TrainingClientBuilder,
    TrainingHandle, WireFormat,
};
// Foreign crates whose types are in the signatures of `Transport`, `AuthProvider` and `environment`.
pub use bytes;
pub use http;
pub use secrecy;
pub use tinkex_future::PollPolicy;
pub use tinkex_http::{
    ApiKey, AuthError, AuthProvider, Backoff, Body, CallClass, CredentialFuture, RetryPolicy,
    SharedTransport, TraceContext, Transport, TransportError, TransportErrorKind, WallClock,
};
#[cfg(feature = "reqwest")]
pub use tinkex_http::{HttpVersionPolicy, ReqwestTransport, ReqwestTransportBuilder};
#[cfg(feature = "tower")]
pub use tinkex_http::{TowerTransport, TransportService};
pub use tinkex_metrics::{DURATION_BUCKETS, describe as describe_metrics};
#[cfg(feature = "prometheus")]
pub use tinkex_observer::prometheus;
pub use tinkex_observer::{LogPolicy, LogWording, QUEUE_STATES_CAPACITY, QueueLog, QueueStates};
pub use tinkex_types::{
    AdamParams, AudioChunk, ByteTokenizer, CheckpointKind, Chunk, CispoConfig, ClientConfig, ClientKind,
    CsrIndices, CustomLoss, CustomLossInput, DType, Datum, DecodeError, DimuonParams, DroConfig,
    DynamicConfig, ErrorCategory, ExternalWeights, FinishReason, ForwardBackwardOutput, HandleHolder, Health,
    ImageAssetPointerChunk, ImageChunk, ImageFormat, InvalidInput, LoraConfig, Loss, LossConfigValue, LossFn,
    LossFnConfig, LossFnInputs, LossFnOutput, LossGraph, LossGraphError, LossOutput, MetricValue, Metrics,
    ModelData, ModelInfo, ModelInput, OptimStepResult, OptimizerConfig, OptimizerParams, PlainValue,
    PpoConfig, PromptAltTokens, ProvenanceSpan, QueueState, QueueStateChange, QueueStateObserver, Rank,
    RequestType, SampleRequest, SampleResponse, SampledSequence, SamplerHandle, SamplerWeightsKind,
    SamplingParams, ServerCapabilities, SpecialTokens, Stop, StopReason, SupportedModel, TensorData,
    TensorValues, TinkerPath, TokenLogprob, Tokenizer, TokenizerError, Tokens,
};
pub use tracing;

/// The code of the README and of the guides, compiled (S1-20).
#[cfg(doctest)]
mod guides {
    #[doc = include_str!("../../README.md")]
    struct Readme;
    #[doc = include_str!("../../docs/training.md")]
    struct Training;
    #[doc = include_str!("../../docs/custom-losses.md")]
    struct CustomLosses;
    #[doc = include_str!("../../docs/checkpoints.md")]
    struct Checkpoints;
    #[doc = include_str!("../../docs/configuration.md")]
    struct Configuration;
    #[doc = include_str!("../../docs/dashboard.md")]
    struct Dashboard;
    #[doc = include_str!("../../docs/observability.md")]
    struct Observability;
    #[doc = include_str!("../../docs/traces.md")]
    struct Traces;
}
