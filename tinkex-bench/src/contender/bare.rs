//! The yardstick: a `reqwest` loop that makes the same requests, with the same bytes, and nothing else. No retries, no
//! limits, no observers, no table of requests in flight.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use tinkex_types::SampleResponse;

use super::wakers::Wakers;
use crate::cell::{Cell, Http, Polling};
use crate::driver::Sampler;
use crate::server::SAMPLED_TOKENS;

/// The credential of all contenders.
pub(super) const KEY: &str = "tml-bench";

#[derive(Serialize)]
struct Asample<'a> {
    num_samples: u32,
    prompt: Prompt<'a>,
    sampling_params: Params,
    sampling_session_id: &'a str,
    seq_id: usize,
    prompt_logprobs: bool,
    r#type: &'a str,
}

#[derive(Serialize)]
struct Prompt<'a> {
    chunks: [Chunk<'a>; 1],
}

#[derive(Serialize)]
struct Chunk<'a> {
    r#type: &'a str,
    tokens: &'a [i32],
}

#[derive(Serialize)]
struct Params {
    max_tokens: usize,
    temperature: f64,
    top_k: i32,
    top_p: f64,
}

#[derive(Serialize)]
struct Retrieve<'a> {
    request_id: &'a str,
    allow_metadata_only: bool,
}

#[derive(Deserialize)]
struct Promise {
    request_id: String,
}

/// Calls that share an HTTP/2 connection, as many as in the client under test (PROTOCOL 8).
const CALLS_PER_CONNECTION: usize = 50;

/// What stands in the header of every request (PROTOCOL 5.1), as the client under test sends it.
const EVERY: &[(&str, &str)] = &[
    ("user-agent", "tinkex/0.1.0"),
    ("accept-encoding", "gzip, deflate, zstd"),
    ("x-stainless-package-version", "0.38.0"),
    ("x-stainless-os", "Linux"),
    ("x-stainless-arch", "x64"),
    ("x-stainless-runtime", "rust"),
    ("content-type", "application/json"),
    ("x-stainless-retry-count", "0"),
    ("x-api-key", KEY),
];

/// What an `asample` has besides.
const ASAMPLE: &[(&str, &str)] = &[
    ("accept", "application/json"),
    ("x-tinker-sampling-backpressure", "1"),
    ("x-sdk-method", "SamplingClient.sample"),
    ("x-sdk-version", "0.38.0"),
    ("x-stainless-read-timeout", "60"),
];

/// What a `retrieve_future` has besides.
const RETRIEVE: &[(&str, &str)] = &[
    ("accept", "application/x-protobuf"),
    ("x-tinker-request-type", "Sample"),
    ("x-tinker-request-iteration", "0"),
    ("x-sdk-method", "SamplingClient.sample"),
    ("x-sdk-version", "0.38.0"),
    ("x-tinker-create-promise-roundtrip-time", "0.001949"),
    ("x-stainless-read-timeout", "45"),
];

/// What a `retrieve_futures` has besides.
const RETRIEVE_MANY: &[(&str, &str)] = &[("accept", "application/json"), ("x-stainless-read-timeout", "45")];

/// The loop, connected.
#[derive(Clone)]
pub(super) struct Bare(Arc<Connected>);

struct Connected {
    wire: Wire,
    next: AtomicUsize,
    wakers: Option<Wakers>,
}

impl Bare {
    pub(super) fn prepare(url: &str, cell: &Cell) -> Result<Self, crate::AnyError> {
        let wire = Wire::new(url, cell)?;
        let wakers = (cell.polling == Polling::Session).then(|| Wakers::new(wire.clone()));
        Ok(Self(Arc::new(Connected { wire, next: AtomicUsize::new(0), wakers })))
    }
}

impl Sampler for Bare {
    async fn sample(&self, prompt: Vec<i32>) -> Result<usize, crate::AnyError> {
        let connected = Arc::clone(&self.0);
        // A task per sample, as the client under test has.
        let sampled = tokio::spawn(async move { connected.sample(prompt).await }).await??;
        Ok(sampled.sequences.first().map_or(0, |sequence| sequence.tokens.len()))
    }
}

impl Connected {
    async fn sample(&self, prompt: Vec<i32>) -> Result<SampleResponse, crate::AnyError> {
        let body = Asample {
            num_samples: 1,
            prompt: Prompt { chunks: [Chunk { r#type: "encoded_text", tokens: &prompt }] },
            sampling_params: Params { max_tokens: SAMPLED_TOKENS, temperature: 1.0, top_k: -1, top_p: 1.0 },
            sampling_session_id: "s-1:sample:0",
            seq_id: self.next.fetch_add(1, Ordering::Relaxed),
            prompt_logprobs: false,
            r#type: "sample",
        };
        let answer = self.wire.post(Route::Asample, serde_json::to_vec(&body)?).await?;
        let promise: Promise = serde_json::from_slice(&answer)?;
        if let Some(wakers) = &self.wakers {
            wakers.announced(&promise.request_id).await?;
        }
        let body = Retrieve { request_id: &promise.request_id, allow_metadata_only: self.wakers.is_none() };
        let answer = self.wire.post(Route::Retrieve, serde_json::to_vec(&body)?).await?;
        if let Some(wakers) = &self.wakers {
            wakers.retrieved(promise.request_id);
        }
        Ok(SampleResponse::from_proto(answer)?)
    }
}

/// Where a request goes.
#[derive(Clone, Copy)]
pub(super) enum Route {
    Asample,
    Retrieve,
    RetrieveMany,
}

/// The requests, with everything made beforehand that can be.
#[derive(Clone)]
pub(super) struct Wire {
    /// One; over HTTP/2, where each keeps one connection, as many as the calls in flight need.
    clients: Arc<[reqwest::Client]>,
    asample: Arc<Target>,
    retrieve: Arc<Target>,
    retrieve_many: Arc<Target>,
}

struct Target {
    url: reqwest::Url,
    headers: HeaderMap,
    requests: AtomicUsize,
}

impl Target {
    fn new(
        url: &str,
        route: &str,
        own: &[(&'static str, &'static str)],
    ) -> Result<Arc<Self>, crate::AnyError> {
        let headers = EVERY
            .iter()
            .chain(own)
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        let url = format!("{url}/api/v1/{route}").parse()?;
        Ok(Arc::new(Self { url, headers, requests: AtomicUsize::new(0) }))
    }
}

impl Wire {
    fn new(url: &str, cell: &Cell) -> Result<Self, crate::AnyError> {
        let client = || {
            let builder = reqwest::Client::builder().tcp_nodelay(true);
            match cell.http {
                Http::One => builder,
                Http::Two => builder.http2_prior_knowledge(),
            }
            .build()
        };
        let clients = match cell.http {
            Http::One => 1,
            Http::Two => cell.in_flight.div_ceil(CALLS_PER_CONNECTION),
        };
        Ok(Self {
            clients: (0..clients).map(|_| client()).collect::<Result<_, _>>()?,
            asample: Target::new(url, "asample", ASAMPLE)?,
            retrieve: Target::new(url, "retrieve_future", RETRIEVE)?,
            retrieve_many: Target::new(url, "retrieve_futures", RETRIEVE_MANY)?,
        })
    }

    /// One request and its answer.
    pub(super) async fn post(&self, route: Route, body: Vec<u8>) -> Result<bytes::Bytes, crate::AnyError> {
        let target = match route {
            Route::Asample => &self.asample,
            Route::Retrieve => &self.retrieve,
            Route::RetrieveMany => &self.retrieve_many,
        };
        let number = target.requests.fetch_add(1, Ordering::Relaxed);
        // As long as the real ones.
        let key = HeaderValue::try_from(format!("tinkex-retry-{number:036}"))?;
        let client = self.clients.get(number % self.clients.len()).ok_or("no client")?;
        let request = client
            .post(target.url.clone())
            .headers(target.headers.clone())
            .header("x-idempotency-key", key)
            .body(body);
        Ok(request.send().await?.error_for_status()?.bytes().await?)
    }
}
