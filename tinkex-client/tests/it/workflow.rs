//! The sampling workflow from the first request to the result (seed 1).

use tinkex_client::{ByteTokenizer, ModelInput, SampleRequest, SamplingParams, StopReason};
use tinkex_testkit::FakeServer;

use crate::harness::{self, MODEL};

/// S1-01, S1-02, W-1: service, sampler, sample, through the public API only; the requests come in order.
#[tokio::test(start_paused = true)]
async fn a_sample_comes_back() {
    let server = FakeServer::new();
    let (service, sampler) = harness::sampler(&server).await;
    let prompt = ModelInput::from_text("A language model", &ByteTokenizer).unwrap();
    let reply =
        sampler.sample(SampleRequest::new(prompt, SamplingParams::new().max_tokens(12))).await.unwrap();

    assert_eq!(reply.sequences.len(), 1);
    let sequence = &reply.sequences[0];
    assert_eq!(sequence.tokens.len(), 12);
    assert_eq!(sequence.stop_reason, StopReason::Length);
    assert_eq!(sequence.logprobs.as_ref().map(Vec::len), Some(12));
    assert!(sequence.logprobs.iter().flatten().all(|logprob| *logprob <= 0.0));
    assert!(sequence.sequence_id.is_some());
    server.assert_order(&[
        "client/config",
        "client/dynamic_config",
        "create_session",
        "create_sampling_session",
        "asample",
        "retrieve_future",
    ]);
    let created = server.requests("create_sampling_session");
    let body = created[0].json().unwrap();
    assert_eq!(body["session_id"], *service.session_id().unwrap());
    assert_eq!(body["base_model"], MODEL);
    assert_eq!(body["sampling_session_seq_id"], 0);
}
