//! The yardstick: a `reqwest` loop that makes the same requests, with the same bytes, and nothing else. No retries, no
//! limits, no observers, no table of requests in flight.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};
use tinkex_types::SampleResponse;

use super::wakers::Wakers;
use crate::cell::Polling;
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
    tokens: &'a [i32],
    r#type: &'a str,
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

#[derive(Clone)]
pub(super) struct Bare(Arc<Connected>);

struct Connected {
    client: reqwest::Client,
    url: String,
    next: AtomicUsize,
    wakers: Option<Wakers>,
}

impl Bare {
    pub(super) fn prepare(url: String, polling: Polling) -> Result<Self, crate::AnyError> {
        let client = reqwest::Client::builder().tcp_nodelay(true).build()?;
        let wakers = (polling == Polling::Session).then(|| Wakers::new(client.clone(), url.clone()));
        Ok(Self(Arc::new(Connected { client, url, next: AtomicUsize::new(0), wakers })))
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
            prompt: Prompt { chunks: [Chunk { tokens: &prompt, r#type: "encoded_text" }] },
            sampling_params: Params { max_tokens: SAMPLED_TOKENS, temperature: 1.0, top_k: -1, top_p: 1.0 },
            sampling_session_id: "s-1:sample:0",
            seq_id: self.next.fetch_add(1, Ordering::Relaxed),
            prompt_logprobs: false,
            r#type: "sample",
        };
        let body = serde_json::to_vec(&body)?;
        let answer = post(&self.client, &self.url, "asample", "application/json", body).await?;
        let promise: Promise = serde_json::from_slice(&answer)?;
        if let Some(wakers) = &self.wakers {
            wakers.announced(&promise.request_id).await?;
        }
        let body = Retrieve { request_id: &promise.request_id, allow_metadata_only: self.wakers.is_none() };
        let body = serde_json::to_vec(&body)?;
        let answer = post(&self.client, &self.url, "retrieve_future", "application/x-protobuf", body).await?;
        if let Some(wakers) = &self.wakers {
            wakers.retrieved(promise.request_id);
        }
        Ok(SampleResponse::from_proto(answer)?)
    }
}

/// One request and its answer.
pub(super) async fn post(
    client: &reqwest::Client,
    url: &str,
    route: &str,
    accept: &str,
    body: Vec<u8>,
) -> reqwest::Result<bytes::Bytes> {
    let request = client
        .post(format!("{url}/api/v1/{route}"))
        .header("accept", accept)
        .header("content-type", "application/json")
        .header("x-api-key", KEY)
        .body(body);
    request.send().await?.error_for_status()?.bytes().await
}
