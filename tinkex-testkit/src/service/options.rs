//! What a service is made with.

use std::fmt;
use std::time::Duration;

use tinkex_http::WallClock;

use super::Dialect;

/// The settings of a [`Service`](super::Service). All have defaults that suit a test.
#[derive(Clone)]
pub struct ServiceOptions {
    /// How the service deviates from the production one. Default: not at all.
    pub dialect: Dialect,
    /// Where ids and the seeds of unseeded samples come from. Services of equal seed that get equal requests give
    /// equal answers; services that should be told apart by their ids need different ones. Default 0.
    pub seed: u64,
    /// The base models it has. Default: `Qwen/Qwen3-8B`, `Qwen/Qwen3-30B-A3B` and `meta-llama/Llama-3.2-1B`.
    pub base_models: Vec<String>,
    /// Sampler checkpoints it has from the start, each with its base model, besides the ones a checkpoint named
    /// `demo` of the run `run-0001` is registered under. Default: none.
    pub checkpoints: Vec<(String, String)>,
    /// The keys that are right. Default: none given, so any key is.
    pub accepted_keys: Option<Vec<String>>,
    /// The wall clock by which tokens are issued. Default: the system's at the start, going on with tokio's.
    pub clock: Option<WallClock>,
    /// What `load_weights` and `copy_weights` need as their access token (PROTOCOL 14). Default: nothing.
    pub weights_access_token: Option<String>,
    /// How long a sample or a training operation takes from its acceptance to its result; the operations of one run
    /// overlap, but none is ready before an earlier one. Default 5 ms.
    pub latency: Duration,
    /// How long polls of pending promises are held. Default: what the dialect says.
    pub hold: Option<Duration>,
    /// Results of more bytes are announced before they are sent (PROTOCOL 16.4). Default 1 MiB.
    pub metadata_threshold: usize,
    /// The limit of tokens where a request names none. Default 256.
    pub default_max_tokens: usize,
    /// The most tokens of a prompt and its sample together. Default 65 536.
    pub max_context_length: usize,
    /// The most samples of one request. Default 1024.
    pub max_num_samples: usize,
    /// How many retrieved results are kept for clients that lost the answer. Default 4096.
    pub keep_retrieved: usize,
    /// How many promises may exist in all; beyond it the oldest are lost and answer 410. Default 65 536.
    pub keep_promises: usize,
    /// How many sequence ids (per sampling session and training run), cancelled ids and telemetry events are kept for inspection.
    /// Default 100 000.
    pub keep_records: usize,
}

impl Default for ServiceOptions {
    fn default() -> Self {
        Self {
            dialect: Dialect::default(),
            seed: 0,
            base_models: ["Qwen/Qwen3-8B", "Qwen/Qwen3-30B-A3B", "meta-llama/Llama-3.2-1B"]
                .map(Into::into)
                .into(),
            checkpoints: Vec::new(),
            accepted_keys: None,
            clock: None,
            weights_access_token: None,
            latency: Duration::from_millis(5),
            hold: None,
            metadata_threshold: 1024 * 1024,
            default_max_tokens: 256,
            max_context_length: 65_536,
            max_num_samples: 1024,
            keep_retrieved: 4096,
            keep_promises: 65_536,
            keep_records: 100_000,
        }
    }
}

impl ServiceOptions {
    /// The defaults with another dialect.
    pub fn of(dialect: Dialect) -> Self {
        Self { dialect, ..Self::default() }
    }

    pub(crate) fn hold(&self) -> Duration {
        self.hold.unwrap_or(self.dialect.hold)
    }
}

impl fmt::Debug for ServiceOptions {
    /// Keys and tokens stay out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceOptions")
            .field("dialect", &self.dialect.name)
            .field("seed", &self.seed)
            .field("base_models", &self.base_models)
            .field("latency", &self.latency)
            .field("hold", &self.hold())
            .finish_non_exhaustive()
    }
}
