//! The server: answers at once, always the same, so that it is never what is measured.

use std::io::Write as _;

use tinkex_testkit::{FakeServer, Received, Reply};
use tinkex_types::proto;

/// Serves until the process is ended. Prints its URL first.
pub(crate) fn run() -> Result<(), crate::AnyError> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(async {
        let sampled = sampled();
        let server = FakeServer::with(move |request: &Received| answer(request, &sampled));
        server.record_limit(0);
        let socket = server.listen().await?;
        println!("{}", socket.url());
        std::io::stdout().flush()?;
        std::future::pending::<()>().await;
        Ok(())
    })
}

fn answer(request: &Received, sampled: &Reply) -> Reply {
    let json = |value: serde_json::Value| Reply::json(200, &value);
    match request.route() {
        "create_session" => json(serde_json::json!({"session_id": "s-1"})),
        "create_sampling_session" => json(serde_json::json!({"sampling_session_id": "s-1:sample:0"})),
        "asample" => json(serde_json::json!({"request_id": "req-1", "sample_sequence_ids": ["q-1"]})),
        "retrieve_future" => sampled.clone(),
        _ => json(serde_json::json!({})),
    }
}

/// One sequence of 32 tokens with log-probabilities.
fn sampled() -> Reply {
    let tokens: Vec<u8> = (0..32_i32).flat_map(i32::to_le_bytes).collect();
    let logprobs: Vec<u8> = (0..32).flat_map(|_| (-0.5_f32).to_le_bytes()).collect();
    let sequence = proto::SampledSequence {
        stop_reason: proto::StopReason::Length.into(),
        tokens: tokens.into(),
        logprobs: Some(logprobs.into()),
        topk_sampled_logprobs: None,
    };
    let message = proto::SampleResponse { sequences: vec![sequence], ..proto::SampleResponse::default() };
    Reply::proto(prost::Message::encode_to_vec(&message))
}
