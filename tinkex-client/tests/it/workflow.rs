//! The sampling workflow from the first request to the result (seed 1, S1-17, S1-18, S1-22).

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tinkex_client::{
    ByteTokenizer, ErrorKind, InflightRequest, ModelInput, QueueState, RequestType, RestClient, SampleHandle,
    SampleRequest, SamplingClient, SamplingParams, ServiceClient, Stage, StopReason, TokenLogprob,
};
use tinkex_testkit::service::{Dialect, Service, ServiceOptions};
use tinkex_testkit::{FakeServer, Gate, Step};
use tokio::time::Instant;

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
    server.verify().unwrap();
}

/// S1-03: sequences, log-probabilities and top-k of a plain JSON result, in every spelling of a top-k row.
#[tokio::test(start_paused = true)]
async fn a_json_result_is_read_in_full() {
    let cell = |token, logprob| TokenLogprob { token, logprob };
    let result = |topk: serde_json::Value| {
        Step::json(json!({
            "sequences": [{ "tokens": [10, 11, 12], "logprobs": [-0.1, -0.2], "stop_reason": "length" }],
            "prompt_logprobs": [-0.05],
            "topk_prompt_logprobs": topk,
        }))
    };
    let cases = [
        (json!([[[42, -0.3]]]), vec![Some(vec![cell(42, -0.3)])]),
        (json!([null, [[42, -0.3], [7, -1.5]]]), vec![None, Some(vec![cell(42, -0.3), cell(7, -1.5)])]),
        (json!([[{ "token_id": 42, "logprob": -0.3 }]]), vec![Some(vec![cell(42, -0.3)])]),
    ];
    let server = FakeServer::new();
    let (_service, sampler) = harness::sampler(&server).await;
    server.script("retrieve_future", cases.iter().map(|(topk, _)| result(topk.clone())));
    for (_, expected) in cases {
        let reply = sampler.sample(harness::request(&[1, 2, 3])).await.unwrap();
        let sequence = &reply.sequences[0];
        assert_eq!(sequence.tokens.as_slice(), [10, 11, 12]);
        assert_eq!(sequence.logprobs.as_deref(), Some(&[-0.1, -0.2][..]));
        assert_eq!(sequence.stop_reason, StopReason::Length);
        assert_eq!(reply.raw_prompt_logprobs(), Some(&[Some(-0.05)][..]));
        assert_eq!(reply.topk_prompt_logprobs, Some(expected));
    }
    server.verify().unwrap();
}

/// W-2: `try_again`, 408, done. Polls are counted from 0, and only the first tells the round trip.
#[tokio::test(start_paused = true)]
async fn a_pending_sample_is_polled_until_it_is_done() {
    let server = FakeServer::new();
    let (_service, sampler) = harness::sampler(&server).await;
    server
        .script("retrieve_future", [Step::json(json!({ "type": "try_again" })), Step::status(408)])
        .then_behave();
    sampler.sample(harness::request(&[1])).await.unwrap();

    let polls = server.requests("retrieve_future");
    let iterations: Vec<_> = polls.iter().map(|poll| poll.header("x-tinker-request-iteration")).collect();
    assert_eq!(iterations, [Some("0"), Some("1"), Some("2")]);
    let roundtrips: Vec<_> =
        polls.iter().map(|poll| poll.header("x-tinker-create-promise-roundtrip-time")).collect();
    assert!(roundtrips[0].unwrap().parse::<f64>().unwrap() >= 0.0);
    assert_eq!(roundtrips[1..], [None, None]);
    assert!(polls.iter().all(|poll| poll.header("x-tinker-request-type") == Some("Sample")));
    assert!(polls.iter().all(|poll| poll.header("accept") == Some("application/x-protobuf")));
    assert_eq!(server.count("asample"), 1);
    server.verify().unwrap();
}

/// S1-04, S1-05: fifty samples at once, awaited together. Each is submitted once, under an id of its own.
#[tokio::test(start_paused = true)]
async fn fifty_samples_share_one_client() {
    let server = FakeServer::new();
    let (service, sampler) = harness::sampler(&server).await;
    let replies = join_all((0..50).map(|n| sampler.sample(harness::request(&[n])))).await;
    assert!(replies.iter().all(|reply| !reply.as_ref().unwrap().sequences[0].tokens.is_empty()));
    assert_eq!(server.count("asample"), 50);
    let mut ids = server.seq_ids("asample");
    ids.sort_unstable();
    assert_eq!(ids, (0..50).collect::<Vec<_>>());
    assert!(service.inflight().is_empty());
}

/// S1-05: a sample that fails for good uses its id up; the twenty after it have the next ones, without a gap.
#[tokio::test(start_paused = true)]
async fn a_refused_sample_and_twenty_good_ones() {
    let server = FakeServer::new();
    let (_service, sampler) = harness::sampler(&server).await;
    server.script("asample", [Step::status(400)]).then_behave();
    let refused = sampler.sample(harness::request(&[1])).await.unwrap_err();
    assert_eq!((refused.kind(), refused.status(), refused.attempts()), (ErrorKind::Status, Some(400), 1));
    assert!(refused.is_user_error());
    let replies = join_all((0..20).map(|n| sampler.sample(harness::request(&[n])))).await;
    assert!(replies.iter().all(Result::is_ok));
    let mut ids = server.seq_ids("asample");
    ids.sort_unstable();
    assert_eq!(ids, (0..=20).collect::<Vec<_>>());
}

/// S1-14: nothing is held over a call that other calls need. Four hundred submissions are in flight together (the
/// 401st is not: the limit of PROTOCOL 15.4), and against a server that answers at once no time passes.
#[tokio::test(start_paused = true)]
async fn four_hundred_samples_go_out_together() {
    let options = ServiceOptions { latency: Duration::ZERO, ..ServiceOptions::of(Dialect::production()) };
    let server = FakeServer::with(Service::with_options(options));
    let (service, sampler) = harness::sampler(&server).await;
    let gate = Gate::new();
    server.script("asample", [Step::behave().gate(&gate)]).then_repeat_last();
    let started = Instant::now();
    let handles: Vec<_> = (0..401).map(|n| sampler.sample(harness::request(&[n]))).collect();
    gate.arrived(400).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.count("asample"), 400);
    assert_eq!(service.dispatch_available().unwrap().0, 0);
    assert_eq!(service.inflight().len(), 401);
    gate.open();
    assert!(join_all(handles).await.iter().all(Result::is_ok));
    assert_eq!(server.max_in_flight("asample"), 400);
    assert_eq!(service.dispatch_available().unwrap().0, 400);
    assert_eq!(started.elapsed(), Duration::ZERO);
}

/// S1-19: text becomes the tokens of the tokenizer, ints stay what they are.
#[tokio::test(start_paused = true)]
async fn prompts_from_text_and_from_ints() {
    let server = FakeServer::new();
    let (_service, sampler) = harness::sampler(&server).await;
    let text = ModelInput::from_text("Hé", &ByteTokenizer).unwrap();
    for prompt in [text, ModelInput::from_ints(vec![0x48, 0xC3, 0xA9])] {
        sampler.sample(SampleRequest::new(prompt, SamplingParams::new().max_tokens(1))).await.unwrap();
    }
    for request in server.requests("asample") {
        let chunks = json!([{ "type": "encoded_text", "tokens": [72, 195, 169] }]);
        assert_eq!(request.field("prompt").unwrap()["chunks"], chunks);
    }
}

/// `num_samples` continuations come back, each with its id, and they differ.
#[tokio::test(start_paused = true)]
async fn several_samples_of_one_prompt() {
    let server = FakeServer::new();
    let (_service, sampler) = harness::sampler(&server).await;
    let params = SamplingParams::new().max_tokens(16).seed(3);
    let prompt = ModelInput::from_text("Once", &ByteTokenizer).unwrap();
    let reply = sampler.sample(SampleRequest::new(prompt, params).num_samples(4)).await.unwrap();
    assert_eq!(reply.sequences.len(), 4);
    let mut ids: Vec<_> = reply.sequences.iter().map(|s| s.sequence_id.clone().unwrap()).collect();
    ids.dedup();
    assert_eq!(ids.len(), 4);
    assert!(reply.sequences.windows(2).any(|pair| pair[0].tokens != pair[1].tokens));
    assert_eq!(server.requests("asample")[0].field("num_samples").unwrap(), 4);
}

/// Log-probabilities of a prompt: `compute_logprobs` is a sample of one token that asks for them, and gives what
/// `sample` with `prompt_logprobs` gives; `last_n` leaves out all but the last.
#[tokio::test(start_paused = true)]
async fn logprobs_of_a_prompt() {
    let server = FakeServer::new();
    let (_service, sampler) = harness::sampler(&server).await;
    let prompt = ModelInput::from_text("probabilities", &ByteTokenizer).unwrap();
    let all = sampler.compute_logprobs(prompt.clone()).await.unwrap();
    assert_eq!(all.len(), 13);
    assert_eq!(all[0], None);
    assert!(all[1..].iter().all(|logprob| logprob.is_some_and(|l| l < 0.0)));

    let last = sampler.compute_logprobs_last_n(prompt.clone(), 5).await.unwrap();
    assert_eq!(last[..8], [None; 8]);
    assert_eq!(last[8..], all[8..]);

    let request = SampleRequest::new(prompt, SamplingParams::new().max_tokens(3)).prompt_logprobs(true);
    assert_eq!(sampler.sample(request).await.unwrap().prompt_logprobs, Some(all));

    let bodies = server.requests("asample");
    let field = |n: usize, name: &str| bodies[n].field(name).cloned();
    assert_eq!(field(0, "num_samples"), Some(json!(1)));
    assert_eq!(bodies[0].field("sampling_params").unwrap()["max_tokens"], 1);
    assert_eq!(field(0, "prompt_logprobs"), Some(json!(true)));
    assert_eq!(field(0, "prompt_logprobs_last_n"), None);
    assert_eq!(field(1, "prompt_logprobs_last_n"), Some(json!(5)));
}

/// Everything that can be asked for comes back in its shape.
#[tokio::test(start_paused = true)]
async fn alternatives_and_targets() {
    let server = FakeServer::new();
    let (_service, sampler) = harness::sampler(&server).await;
    let targets = tinkex_client::TensorData::int64(vec![1, -1, 2, 3], &[2, 2]).unwrap();
    let request = SampleRequest::new(vec![65, 66, 67], SamplingParams::new().max_tokens(2).temperature(0.0))
        .prompt_logprobs(true)
        .topk_prompt_logprobs(3)
        .topk_sample_logprobs(2)
        .prompt_alt_tokens_k(2)
        .target_prompt_logprobs(targets);
    let reply = sampler.sample(request).await.unwrap();
    let topk = reply.topk_prompt_logprobs.unwrap();
    assert_eq!(
        topk.iter().map(|row| row.as_ref().map(Vec::len)).collect::<Vec<_>>(),
        [None, Some(3), Some(3)]
    );
    let sampled = &reply.sequences[0];
    let rows = sampled.topk_logprobs.as_ref().unwrap();
    // Greedy: the most likely token of each row is the one that was taken.
    for (row, token) in rows.iter().zip(sampled.tokens.as_slice()) {
        assert_eq!(row.as_ref().map(|row| (row.len(), row[0].token)), Some((2, *token)));
    }
    let scored = reply.target_prompt_logprobs.unwrap();
    assert_eq!(scored.shape(), Some(&[2, 2][..]));
    assert_eq!(scored.as_float32().unwrap()[1], 0.0, "-1 asks for nothing");
    assert_eq!(reply.prompt_alt_tokens.unwrap().tokens.shape(), Some(&[2, 2][..]));
}

/// A promise outlives its client: another one waits for it by its id, and submits nothing.
#[tokio::test(start_paused = true)]
async fn a_sample_is_resumed_by_its_id() {
    let server = FakeServer::new();
    let (_service, sampler) = harness::sampler(&server).await;
    let gate = Gate::new();
    server.script("retrieve_future", [Step::behave().gate(&gate)]).then_behave();
    let handle = sampler.sample(harness::request(&[5, 6]));
    assert_eq!(handle.request_id(), None, "nothing was accepted yet");
    gate.arrived(1).await;
    let id = handle.request_id().unwrap();
    drop(handle);
    gate.open();

    let (_second, resumer) = harness::sampler(&server).await;
    let resumed = resumer.resume(Arc::clone(&id));
    assert_eq!(resumed.await.unwrap().sequences[0].tokens.len(), 4);
    assert_eq!(server.count("asample"), 1);
    let first_poll = &server.requests("retrieve_future")[1];
    assert_eq!(first_poll.request_id(), Some(&*id));
    assert_eq!(first_poll.header("x-tinker-create-promise-roundtrip-time"), None, "it is not known");

    let unknown = resumer.resume("req-ffffffff").await.unwrap_err();
    assert_eq!((unknown.kind(), unknown.status()), (ErrorKind::Status, Some(404)));
    assert_eq!(unknown.request_id(), Some("req-ffffffff"));
    assert_eq!(server.count("asample"), 1);
}

/// A promise that the server lost is an error of its own kind when it is resumed, and is not submitted anew.
#[tokio::test(start_paused = true)]
async fn a_lost_promise_cannot_be_resumed() {
    let service_side = Service::new(Dialect::production());
    let server = FakeServer::with(service_side.clone());
    let (_service, sampler) = harness::sampler(&server).await;
    sampler.sample(harness::request(&[1])).await.unwrap();
    server.script("retrieve_future", [Step::status(410)]);
    let lost = sampler.resume("req-00000001").await.unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::Expired);
    assert_eq!(service_side.samples_accepted(), 1);
}

/// S1-04: a thread without a runtime waits by blocking; inside a runtime that is refused, as it would stall it.
#[tokio::test(start_paused = true)]
async fn waiting_without_async() {
    let server = FakeServer::new();
    let (_service, sampler) = harness::sampler(&server).await;
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let elsewhere = sampler.clone();
    let thread = std::thread::spawn(move || {
        let reply = elsewhere.sample(harness::request(&[1])).wait();
        sender.send(reply.map(|reply| reply.sequences.len())).unwrap();
    });
    assert_eq!(receiver.await.unwrap().unwrap(), 1);
    thread.join().unwrap();

    let refused = sampler.sample(harness::request(&[1])).wait().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    assert!(refused.to_string().contains(".await"), "{refused}");
}

/// DESIGN 4: clients are cheap clones for any thread, handles can be sent and outlive their client's borrow.
#[test]
fn clients_and_handles_go_anywhere() {
    fn client<T: Clone + Send + Sync + std::fmt::Debug + 'static>() {}
    fn handle<T: Send + 'static + std::future::Future + std::fmt::Debug>() {}
    client::<ServiceClient>();
    client::<SamplingClient>();
    client::<RestClient>();
    handle::<SampleHandle>();
    handle::<SampleHandle<Vec<Option<f32>>>>();
    assert_eq!(size_of::<ServiceClient>(), size_of::<usize>());
    assert_eq!(size_of::<SamplingClient>(), size_of::<usize>());
    assert!(size_of::<SampleHandle>() <= 4 * size_of::<usize>(), "{}", size_of::<SampleHandle>());
}

/// DESIGN 4: futures that callers hold are small.
#[tokio::test(start_paused = true)]
async fn futures_are_small() {
    let server = FakeServer::new();
    let builder = harness::builder(&server);
    let by_value = size_of_val(&builder);
    let building = builder.build();
    let limit = by_value + 2048;
    assert!(size_of_val(&building) <= limit, "build() takes {} bytes", size_of_val(&building));
    let service = building.await.unwrap();
    let creating = service.sampling_client().base_model(MODEL).create();
    assert!(size_of_val(&creating) <= 4096, "create() takes {} bytes", size_of_val(&creating));
    drop(creating);
    let closing = service.close(tinkex_client::FinishReason::Success);
    assert!(size_of_val(&closing) <= 4096, "close() takes {} bytes", size_of_val(&closing));
}

/// DESIGN 3, "Calls are eager": the request reaches the server, and the result is fetched, though nobody polls the
/// handle.
#[tokio::test(start_paused = true)]
async fn work_begins_with_the_call() {
    let server = FakeServer::new();
    let (service, sampler) = harness::sampler(&server).await;
    let handle = sampler.sample(harness::request(&[1]));
    server.wait_for("asample", 1).await;
    server.wait_for("retrieve_future", 1).await;
    server.wait_for_in_flight("retrieve_future", 0).await;
    // The answer is under way; the task ends without anybody waiting for it.
    while !service.inflight().is_empty() {
        tokio::task::yield_now().await;
    }
    let finished = Instant::now();
    handle.await.unwrap();
    assert_eq!(finished.elapsed(), Duration::ZERO);
}

/// The rows of `inflight()` tell what each request is waiting for; none is left behind.
#[tokio::test(start_paused = true)]
async fn inflight_rows_follow_a_sample() {
    let server = FakeServer::new();
    let service = harness::service(&server).await;
    let sampler = service.sampling_client().base_model(MODEL).max_in_flight(1).create().await.unwrap();
    let (submitting, polling) = (Gate::new(), Gate::new());
    server.script("asample", [Step::behave().gate(&submitting)]).then_behave();
    let paused =
        json!({ "type": "try_again", "queue_state": "paused_capacity", "queue_state_reason": "full" });
    server.script("retrieve_future", [Step::json(paused), Step::behave().gate(&polling)]).then_behave();

    let first = sampler.sample(harness::request(&[1]));
    let second = sampler.sample(harness::request(&[2]));
    submitting.arrived(1).await;
    tokio::time::advance(Duration::from_secs(3)).await;
    let rows = service.inflight();
    assert_eq!(rows.iter().map(|row| row.stage).collect::<Vec<_>>(), [Stage::Submitting, Stage::Queued]);
    let row: &InflightRequest = &rows[0];
    assert_eq!(row.kind, RequestType::Sample);
    assert_eq!(&*row.client_id, sampler.sampling_session_id());
    assert_eq!((row.request_id.clone(), row.polls, row.queue_state.clone()), (None, 0, None));
    assert_eq!(row.age, Duration::from_secs(3));
    assert!(rows[0].number < rows[1].number);

    submitting.open();
    polling.arrived(1).await;
    let rows = service.inflight();
    let row = &rows[0];
    assert_eq!(row.stage, Stage::Polling);
    assert_eq!(row.request_id, first.request_id());
    assert_eq!(row.polls, 2);
    assert_eq!(row.queue_state, Some(QueueState::PausedCapacity));
    assert_eq!(row.reason.as_deref(), Some("full"));
    let text = row.to_string();
    for part in ["polling", "2 polls", "paused_capacity", "full", row.request_id.as_deref().unwrap()] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(rows[1].stage, Stage::Queued, "the second waits for the first's place");

    polling.open();
    first.await.unwrap();
    second.await.unwrap();
    assert!(service.inflight().is_empty());
    server.verify().unwrap();
}

/// A sampler of saved weights: its base model is asked for, and its number is the next of the session.
#[tokio::test(start_paused = true)]
async fn a_sampler_of_saved_weights() {
    let server = FakeServer::new();
    let (service, first) = harness::sampler(&server).await;
    assert_eq!(first.base_model(), MODEL);
    assert_eq!(server.count("samplers/*"), 0, "a base model needs no look-up");
    let path = "tinker://run-0001/sampler_weights/demo";
    let second = service.sampling_client().model_path(path).create().await.unwrap();
    assert_eq!(second.base_model(), MODEL);
    assert_ne!(second.sampling_session_id(), first.sampling_session_id());
    let created = server.requests("create_sampling_session");
    assert_eq!(created[1].field("sampling_session_seq_id").unwrap(), 1);
    assert_eq!(created[1].field("model_path").unwrap(), path);
    assert_eq!(created[1].field("base_model"), None);
    server.assert_order(&["create_sampling_session", "create_sampling_session", "samplers/*"]);
    second.sample(harness::request(&[1])).await.unwrap();
    assert_eq!(server.seq_ids("asample"), [0]);
}

/// A server that ignores the wish for prompt log-probabilities is found out; one that has none to give for a prompt of
/// one token is not at fault.
#[tokio::test(start_paused = true)]
async fn log_probabilities_that_are_not_there() {
    let server = FakeServer::new();
    let (_service, sampler) = harness::sampler(&server).await;
    let silent = || Step::json(serde_json::json!({"sequences": [{"tokens": [1], "stop_reason": "length"}]}));
    server.script("retrieve_future", [silent().repeat(2)]);
    let error = sampler.compute_logprobs(vec![1, 2, 3]).await.unwrap_err();
    assert_eq!(error.kind(), tinkex_client::ErrorKind::Decode);
    assert!(error.to_string().contains("the server ignored prompt_logprobs"), "{error}");
    assert_eq!(sampler.compute_logprobs(vec![1]).await.unwrap(), [None]);
}
