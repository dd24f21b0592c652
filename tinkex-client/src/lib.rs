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
//! Making something is a builder that ends in `build()` or `create()`. Doing something is a method that has started
//! when it returns and gives back a handle: await it for the result, drop it to abandon the work.
//!
//! # Environment
//!
//! [`ServiceClient::from_env`] reads `TINKER_API_KEY`, `TINKER_BASE_URL`, `TINKER_PROJECT_ID`, `TINKER_TAGS` and
//! `CLOUDFLARE_ACCESS_CLIENT_ID`/`_SECRET`. Nothing else in this crate reads the environment, but for
//! `HfTokenizer::for_model` (feature `tokenizers`), which finds the hub cache by `HF_HUB_CACHE`, `HF_HOME`,
//! `XDG_CACHE_HOME` and `HOME`.

mod cancellation;
mod configuration;
mod connection_places;
mod custom_loss;
mod dispatch;
mod endpoints;
mod environment;
mod error;
#[cfg(feature = "tokenizers")]
mod hf_tokenizer;
mod holder;
mod inflight;
mod owned_task;
mod rest;
mod retrieve;
mod sampling;
mod service;
mod session;
mod submission_gate;
mod training;

pub use custom_loss::{
    AnyCustomLoss, BoxError, CustomLossFn, CustomLossHandle, CustomLossOutput, Logprobs, losses,
};
pub use error::{Effect, Error, ErrorKind};
#[cfg(feature = "tokenizers")]
pub use hf_tokenizer::{HfTokenizer, TokenizerName};
pub use inflight::{InflightRequest, Stage};
pub use rest::RestClient;
pub use sampling::{ModelPath, SampleHandle, SampleOptions, SamplingClient, SamplingClientBuilder};
pub use service::{ServiceClient, ServiceClientBuilder};
pub use training::{
    Checkpoint, CopyWeights, FromStateBuilder, LoadState, SamplerCheckpoint, SamplingSnapshot,
    SaveExternalWeights, SaveSamplerWeights, SaveState, TrainingClient, TrainingClientBuilder,
    TrainingHandle, WireFormat,
};
// Foreign crates whose types are in the signatures of `Transport` and `AuthProvider`.
pub use bytes;
pub use http;
pub use secrecy;
pub use tinkex_future::PollPolicy;
#[cfg(feature = "reqwest")]
pub use tinkex_http::ReqwestTransport;
pub use tinkex_http::{
    ApiKey, AuthError, AuthProvider, Backoff, Body, CallClass, CredentialFuture, RetryPolicy,
    SharedTransport, Transport, TransportError, TransportErrorKind,
};
pub use tinkex_observer::{LogPolicy, LogWording, QueueLog};
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
}
