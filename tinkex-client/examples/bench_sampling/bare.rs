//! The yardstick: a `reqwest` loop that makes the same two requests, with the same bytes, and nothing else. No
//! retries, no limits, no observers, no table of requests in flight.

use std::sync::Arc;

use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use tinkex_types::SampleResponse;

use crate::cpu::{Cost, Meter};
use crate::options::Options;

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
    max_tokens: u32,
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

pub(crate) async fn run(url: &str, options: &Options) -> Result<Cost, crate::AnyError> {
    let client = reqwest::Client::builder().tcp_nodelay(true).build()?;
    let prompt: Arc<[i32]> = options.prompt().into();
    let meter = Meter::start()?;
    let mut samples = futures_util::stream::iter((0..options.samples).map(|seq_id| {
        // A task per sample, as the client under test has.
        tokio::spawn(sample(client.clone(), url.to_owned(), Arc::clone(&prompt), seq_id))
    }))
    .buffer_unordered(options.in_flight);
    while let Some(sample) = samples.next().await {
        assert_eq!(sample??.sequences[0].tokens.len(), 32);
    }
    meter.stop()
}

async fn sample(
    client: reqwest::Client,
    url: String,
    prompt: Arc<[i32]>,
    seq_id: usize,
) -> Result<SampleResponse, crate::AnyError> {
    let body = Asample {
        num_samples: 1,
        prompt: Prompt { chunks: [Chunk { tokens: &prompt, r#type: "encoded_text" }] },
        sampling_params: Params { max_tokens: 32, temperature: 1.0, top_k: -1, top_p: 1.0 },
        sampling_session_id: "s-1:sample:0",
        seq_id,
        prompt_logprobs: false,
        r#type: "sample",
    };
    let answer =
        post(&client, format!("{url}/api/v1/asample"), "application/json", serde_json::to_vec(&body)?)
            .await?;
    let promise: Promise = serde_json::from_slice(&answer)?;
    let body = Retrieve { request_id: &promise.request_id, allow_metadata_only: true };
    let path = format!("{url}/api/v1/retrieve_future");
    let answer = post(&client, path, "application/x-protobuf", serde_json::to_vec(&body)?).await?;
    Ok(SampleResponse::from_proto(answer)?)
}

async fn post(
    client: &reqwest::Client,
    url: String,
    accept: &str,
    body: Vec<u8>,
) -> reqwest::Result<bytes::Bytes> {
    let request = client
        .post(url)
        .header("accept", accept)
        .header("content-type", "application/json")
        .header("x-api-key", "tml-bench")
        .body(body);
    request.send().await?.error_for_status()?.bytes().await
}
