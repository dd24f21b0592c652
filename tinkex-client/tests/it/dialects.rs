//! The sampling suite under every dialect of the protocol (OPEN_SERVERS).

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tinkex_client::{
    ByteTokenizer, ErrorCategory, ErrorKind, ModelInput, QueueState, SampleRequest, SampleResponse,
    SamplingClient, SamplingParams, ServiceClient, StopReason, Tokenizer as _,
};
use tinkex_testkit::service::{
    Dialect, KeyRule, PendingStyle, PromptLogprobShape, SamplingOrder, Service, ServiceOptions,
};
use tinkex_testkit::{Chaos, FakeServer, Step};
use tokio::time::Instant;

use crate::harness::{self, MODEL};
use crate::log_capture::LogCapture;

/// A server of one dialect.
struct World {
    dialect: Dialect,
    behind: Service,
    server: FakeServer,
}

impl World {
    fn of(dialect: Dialect) -> Self {
        let behind = Service::with_options(ServiceOptions::of(dialect.clone()));
        let server = FakeServer::with(behind.clone());
        Self { dialect, behind, server }
    }

    async fn sampler(&self) -> (ServiceClient, SamplingClient) {
        harness::sampler(&self.server).await
    }
}

macro_rules! suite {
    ($($dialect:ident)*) => { $(
        mod $dialect {
            use super::{Dialect, World};
            suite!(@tests $dialect:
                a_sample many_samples the_same_result_everywhere prompt_logprobs compute_logprobs a_failed_sample
                a_rate_limit a_pause stop_strings stop_tokens strict_sequence_ids refused_ids_come_back
                an_unknown_base_model a_wrong_key a_session_poller_where_offered saved_weights a_lost_promise
                unknown_promises the_life_of_a_session a_lost_answer every_fault_of_a_submission random_faults_and_drops
            );
        }
    )* };
    (@tests $dialect:ident: $($test:ident)*) => { $(
        #[tokio::test(start_paused = true)]
        async fn $test() {
            super::$test(World::of(Dialect::$dialect())).await;
        }
    )* };
}

suite!(production skyrl tuft hatchery);

fn text(prompt: &str, params: SamplingParams) -> SampleRequest {
    SampleRequest::new(ModelInput::from_text(prompt, &ByteTokenizer).unwrap(), params)
}

/// Rows 3, 5, 10, 11: one sample, whatever the codes, ids and encodings. Sequence ids where the server gives them.
async fn a_sample(world: World) {
    let (_service, sampler) = world.sampler().await;
    let reply = sampler.sample(harness::request(&[1, 2, 3])).await.unwrap();
    let sequence = &reply.sequences[0];
    assert_eq!((sequence.tokens.len(), &sequence.stop_reason), (4, &StopReason::Length));
    assert_eq!(sequence.logprobs.as_ref().map(Vec::len), Some(4));
    assert_eq!(sequence.sequence_id.is_some(), world.dialect.sequence_ids);
    assert_eq!((world.server.count("asample"), world.server.count("retrieve_future")), (1, 1));
}

/// Forty samples at once, each accepted once.
async fn many_samples(world: World) {
    let (service, sampler) = world.sampler().await;
    let replies = join_all((0..40).map(|n| sampler.sample(harness::request(&[n]).num_samples(2)))).await;
    assert!(replies.iter().all(|reply| reply.as_ref().unwrap().sequences.len() == 2));
    assert_eq!(world.behind.samples_accepted(), 40);
    world.server.assert_contiguous_seq_ids("asample");
    assert!(service.inflight().is_empty());
}

/// Row 5: protobuf and JSON carry the same numbers, bit for bit.
async fn the_same_result_everywhere(world: World) {
    async fn sampled(world: &World) -> SampleResponse {
        let (_service, sampler) = world.sampler().await;
        let params = SamplingParams::new().max_tokens(40).seed(11).temperature(0.8).top_p(0.95);
        sampler.sample(text("The same", params)).await.unwrap()
    }
    let (here, there) = (sampled(&world).await, sampled(&World::of(Dialect::production())).await);
    let (here, there) = (&here.sequences[0], &there.sequences[0]);
    assert_eq!(here.tokens, there.tokens);
    assert_eq!(here.logprobs, there.logprobs);
    assert_eq!(here.stop_reason, there.stop_reason);
}

/// Row 12: one entry per prompt token, the first being none; what the server sent is still there.
async fn prompt_logprobs(world: World) {
    let (_service, sampler) = world.sampler().await;
    let request = text("six ch", SamplingParams::new().max_tokens(1)).prompt_logprobs(true);
    let reply = sampler.sample(request).await.unwrap();
    let logprobs = reply.prompt_logprobs.as_ref().unwrap();
    assert_eq!(logprobs.len(), 6);
    assert_eq!(logprobs[0], None);
    assert!(logprobs[1..].iter().all(|logprob| logprob.is_some_and(|l| l < 0.0)));
    let raw = reply.raw_prompt_logprobs().unwrap();
    let first = raw.first().copied().unwrap();
    match world.dialect.prompt_logprobs {
        PromptLogprobShape::LeadingNull => assert_eq!((raw.len(), first), (6, None)),
        PromptLogprobShape::Shorter => assert_eq!((raw.len(), first), (5, logprobs[1])),
        PromptLogprobShape::LeadingZero => assert_eq!((raw.len(), first), (6, Some(0.0))),
    }
}

/// `compute_logprobs` gives the same form everywhere.
async fn compute_logprobs(world: World) {
    let (_service, sampler) = world.sampler().await;
    let logprobs = sampler.compute_logprobs(vec![72, 101, 108, 108, 111]).await.unwrap();
    assert_eq!(logprobs.len(), 5);
    assert_eq!(logprobs[0], None);
    assert!(logprobs[1..].iter().all(Option::is_some));
}

/// Row 7: a failed promise is the same typed error, be it told by a 200, a 400 or a 422; the next sample is fine.
async fn a_failed_sample(world: World) {
    let (_service, sampler) = world.sampler().await;
    world.behind.fail_next(ErrorCategory::User, "the prompt is forbidden");
    let error = sampler.sample(harness::request(&[1])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RequestFailed, "{error:?}");
    assert_eq!(error.category(), ErrorCategory::User);
    assert!(error.is_user_error() && !error.is_retryable());
    assert!(error.to_string().contains("the prompt is forbidden"), "{error}");
    assert!(error.request_id().is_some());
    assert_eq!(world.server.count("asample"), 1, "a failed promise is not repeated");
    sampler.sample(harness::request(&[1])).await.unwrap();
}

/// A limit with 429: all samples come through, and the server's pause is kept.
async fn a_rate_limit(world: World) {
    let (service, sampler) = world.sampler().await;
    world.behind.limit_inflight(2, Duration::from_millis(300));
    world.behind.set_latency(Duration::from_millis(100));
    let started = Instant::now();
    let replies = join_all((0..6).map(|n| sampler.sample(harness::request(&[n])))).await;
    assert!(replies.iter().all(Result::is_ok));
    assert!(world.behind.samples_refused() >= 4, "{}", world.behind.samples_refused());
    assert!(world.behind.most_in_progress() <= 2);
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(700) && took < Duration::from_secs(5), "{took:?}");
    assert_eq!(world.behind.samples_accepted(), 6);
    world.server.assert_contiguous_seq_ids("asample");
    assert_eq!(service.dispatch_available().unwrap().0, 400);
}

/// Row 6: a pause is sat out whatever the form of "not yet", and told where the server tells it.
async fn a_pause(world: World) {
    let (log, _guard) = LogCapture::start();
    let (_service, sampler) = world.sampler().await;
    world.behind.pause(QueueState::PausedCapacity, None, Some(Duration::from_secs(45)));
    let started = Instant::now();
    sampler.sample(harness::request(&[1])).await.unwrap();
    let took = started.elapsed();
    assert!(took >= Duration::from_secs(45) && took < Duration::from_secs(47), "{took:?}");
    let line = format!("Sampling is paused for {}. Reason: out of capacity", sampler.sampling_session_id());
    let expected = if world.dialect.pending == PendingStyle::Bare408 { vec![] } else { vec![line] };
    assert_eq!(log.pause_texts(), expected);
    let polls = world.server.count("retrieve_future");
    assert!((1..=4).contains(&polls), "{polls} polls");
}

/// Row 21: a stop string ends a sample where stop strings are supported; elsewhere they do no harm.
async fn stop_strings(world: World) {
    let (_service, sampler) = world.sampler().await;
    let params = SamplingParams::new().max_tokens(30).temperature(0.0);
    let free = sampler.sample(text("Once", params.clone())).await.unwrap();
    let tokens = free.sequences[0].tokens.as_slice();
    assert!(tokens.len() >= 6, "{tokens:?}");
    let stop = ByteTokenizer.decode(&tokens[3..5]).unwrap();
    let reply = sampler.sample(text("Once", params.stop(stop.as_str()))).await.unwrap();
    let stopped = &reply.sequences[0];
    if world.dialect.stop_strings_ignored {
        assert_eq!(stopped.tokens.as_slice(), tokens);
    } else {
        assert_eq!(stopped.stop_reason, StopReason::Stop);
        assert!(stopped.tokens.len() <= 5, "{:?}", stopped.tokens);
    }
}

/// Stop tokens work everywhere.
async fn stop_tokens(world: World) {
    let (_service, sampler) = world.sampler().await;
    let params = SamplingParams::new().max_tokens(30).temperature(0.0);
    let free = sampler.sample(text("Once", params.clone())).await.unwrap();
    let token = free.sequences[0].tokens.as_slice()[3];
    let reply = sampler.sample(text("Once", params.stop([token]))).await.unwrap();
    assert_eq!(reply.sequences[0].stop_reason, StopReason::Stop);
    assert!(reply.sequences[0].tokens.len() <= 4);
}

/// Row 9: where a server insists on the very next id, samples come through, one after another and at once.
async fn strict_sequence_ids(world: World) {
    let world = World::of(Dialect { sampling_order: SamplingOrder::Strict, ..world.dialect });
    let (_service, sampler) = world.sampler().await;
    for n in 0..5 {
        sampler.sample(harness::request(&[n])).await.unwrap();
    }
    assert_eq!(world.server.seq_ids("asample"), [0, 1, 2, 3, 4]);
    let replies = join_all((0..20).map(|n| sampler.sample(harness::request(&[n])))).await;
    assert!(replies.iter().all(Result::is_ok));
    assert_eq!(world.behind.seq_ids(sampler.sampling_session_id()), (0..25).collect::<Vec<_>>());
}

/// F-11: an abandoned sample that the server only ever refused gives its id to the next one, so a strict server does
/// not wait for it for ever.
async fn refused_ids_come_back(world: World) {
    let world = World::of(Dialect { sampling_order: SamplingOrder::Strict, ..world.dialect });
    let (_service, sampler) = world.sampler().await;
    world.behind.limit_inflight(0, Duration::from_secs(1));
    let waiting = sampler.sample(harness::request(&[1]));
    world.server.wait_for("asample", 2).await;
    drop(waiting);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(world.server.count("asample") <= 3, "{}", world.server.summary());
    world.behind.lift_limit();
    sampler.sample(harness::request(&[2])).await.unwrap();
    assert_eq!(world.behind.seq_ids(sampler.sampling_session_id()), [0]);
}

/// A model the server does not have.
async fn an_unknown_base_model(world: World) {
    let service = harness::service(&world.server).await;
    let error = service.sampling_client().base_model("Nobody/None-1B").create().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Status);
    assert_eq!(error.status(), Some(world.dialect.unknown_model_status));
    assert!(error.is_user_error());
    assert!(error.to_string().contains("Nobody/None-1B"), "{error}");
    service.sampling_client().base_model(MODEL).create().await.unwrap();
}

/// Row 13: a wrong key is told at once, where keys matter at all; its text is in no message.
async fn a_wrong_key(world: World) {
    world.behind.set_accepted_keys(Some(vec!["right".to_owned()]));
    let wrong = harness::builder(&world.server).api_key("wrong-k3y").build().await;
    let none = harness::builder(&world.server).without_api_key().build().await;
    if world.dialect.keys == KeyRule::Ignored {
        assert!(wrong.is_ok() && none.is_ok());
    } else {
        let (wrong, none) = (wrong.unwrap_err(), none.unwrap_err());
        assert_eq!((wrong.kind(), wrong.status(), wrong.attempts()), (ErrorKind::Status, Some(403), 1));
        assert_eq!((none.kind(), none.status()), (ErrorKind::Status, Some(401)));
        assert!(wrong.is_user_error() && none.is_user_error());
        assert!(!format!("{wrong} {wrong:?}").contains("wrong-k3y"));
    }
    // A key without the usual prefix is fine everywhere but at the production host.
    let right = harness::builder(&world.server).api_key("right").build().await.unwrap();
    right.sampling_client().base_model(MODEL).create().await.unwrap();
}

/// The session poller is used where the server asks for it, and nowhere else.
async fn a_session_poller_where_offered(world: World) {
    world.behind.set_client_config(&json!({ "sample_use_retrieve_futures": true }));
    let (_service, sampler) = world.sampler().await;
    let replies = join_all((0..8).map(|n| sampler.sample(harness::request(&[n])))).await;
    assert!(replies.iter().all(Result::is_ok));
    let announced = world.server.count("retrieve_futures");
    if world.dialect.newer_routes {
        assert!(announced >= 1);
        assert!(
            world
                .server
                .requests("retrieve_future")
                .iter()
                .all(|poll| { poll.field("allow_metadata_only") == Some(&json!(false)) })
        );
    } else {
        assert_eq!(announced, 0);
    }
    assert_eq!(world.server.count("retrieve_future"), 8);
}

/// Row 17: a sampler from the path as this server writes it.
async fn saved_weights(world: World) {
    let service = harness::service(&world.server).await;
    let path = world.dialect.sampler_paths.path("run-0001", "demo");
    let sampler = service.sampling_client().model_path(path).create().await.unwrap();
    assert_eq!(sampler.base_model(), MODEL);
    sampler.sample(harness::request(&[1])).await.unwrap();
}

/// A lost promise (410) is submitted anew, under a new id.
async fn a_lost_promise(world: World) {
    let (_service, sampler) = world.sampler().await;
    world.behind.expire_next();
    sampler.sample(harness::request(&[1])).await.unwrap();
    assert_eq!(world.server.seq_ids("asample"), [0, 1]);
}

/// Row 8: a promise the server never gave is final.
async fn unknown_promises(world: World) {
    let (_service, sampler) = world.sampler().await;
    let error = sampler.resume("no-such-promise").await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Status, Some(404)));
    assert_eq!(world.server.count("retrieve_future"), 1);
}

/// Rows 2, 10, 14, 15, 20: connect, heartbeat, finish.
async fn the_life_of_a_session(world: World) {
    let (service, _sampler) = world.sampler().await;
    let id = service.session_id().unwrap();
    tokio::time::sleep(Duration::from_secs(25)).await;
    assert_eq!(world.behind.heartbeats(&id), 2);
    service.close(tinkex_client::FinishReason::Success).await.unwrap();
    assert!(world.behind.sessions()[0].finished.is_some());
}

/// Row 9, decision 6: the answer to a submission gets lost, and it is sent again under the same id and key. Where the
/// server knows the id, the sample comes back, and was made once. Where it refuses every used id, the conflict surfaces
/// at once, saying which id it expected; the samples after it are not affected.
async fn a_lost_answer(world: World) {
    let (_service, sampler) = world.sampler().await;
    world.server.script("asample", [Step::behave().then_lose()]).then_behave();
    let started = Instant::now();
    let outcome = sampler.sample(harness::request(&[1])).await;
    if world.dialect.sampling_order == SamplingOrder::Free {
        outcome.unwrap();
        assert_eq!(world.server.seq_ids("asample"), [0, 0]);
    } else {
        let error = outcome.unwrap_err();
        assert_eq!((error.kind(), error.status()), (ErrorKind::SequenceConflict, Some(409)));
        assert_eq!(error.expected_seq_id(), Some(1));
        assert!(error.to_string().contains("sequence id 0 was sent where the server expects 1"), "{error}");
        assert!(!error.is_retryable(), "the clients have nothing more to try");
        assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    }
    world.server.assert_idempotency_pattern("asample");
    assert_eq!(world.behind.samples_accepted(), 1);
    sampler.sample(harness::request(&[2])).await.unwrap();
    assert_eq!(world.behind.seq_ids(sampler.sampling_session_id()), [0, 1]);
}

/// ER: whatever passes on a submission is got over under the same id; whatever is final surfaces after one attempt.
async fn every_fault_of_a_submission(world: World) {
    type Fault = fn() -> Step;
    let (service, sampler) = world.sampler().await;
    let passing: [Fault; 8] = [
        || Step::status(429).header("retry-after-ms", "300"),
        || Step::status(408),
        || Step::status(409),
        || Step::status(500),
        || Step::status(503),
        Step::refuse,
        Step::reset,
        || Step::status(402),
    ];
    for (n, fault) in passing.iter().enumerate() {
        world.server.script("asample", [fault()]).then_behave();
        sampler.sample(harness::request(&[1])).await.unwrap();
        assert_eq!(world.server.seq_ids("asample")[2 * n..], [n as u64, n as u64], "fault {n}");
    }
    for status in [401, 403, 404, 501] {
        let before = world.server.count("asample");
        world.server.script("asample", [Step::status(status)]).then_behave();
        let error = sampler.sample(harness::request(&[1])).await.unwrap_err();
        assert_eq!((error.kind(), error.status(), error.attempts()), (ErrorKind::Status, Some(status), 1));
        assert_eq!(world.server.count("asample"), before + 1);
    }
    assert!(service.inflight().is_empty());
}

/// A soak in miniature: random faults, and every tenth handle dropped on the way. Every handle ends in a result or in
/// the one error that a server which knows no used id again makes of a lost answer; nothing is left behind.
async fn random_faults_and_drops(world: World) {
    let (service, sampler) = world.sampler().await;
    let rest = service.dispatch_available();
    world.server.chaos(Chaos::seeded(31).rate(0.1).on(["asample", "retrieve_future"]));
    let samples = (0..300_u64).map(|n| {
        let handle = sampler.sample(harness::request(&[7]));
        async move {
            match n % 10 {
                0 => tokio::time::timeout(Duration::from_millis(n), handle).await.ok(),
                _ => Some(handle.await),
            }
        }
    });
    let (mut results, mut conflicts) = (0, 0);
    for end in join_all(samples).await.into_iter().flatten() {
        match end {
            Ok(reply) => {
                assert_eq!(reply.sequences[0].tokens.len(), 4);
                results += 1;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::SequenceConflict, "{error}");
                conflicts += 1;
            }
        }
    }
    assert!((240..=300).contains(&results), "{results} results, {conflicts} conflicts");
    assert!(conflicts == 0 || world.dialect.sampling_order != SamplingOrder::Free);
    world.server.end_chaos();
    tokio::time::sleep(Duration::from_secs(600)).await;
    let ids = world.behind.seq_ids(sampler.sampling_session_id());
    assert_eq!(ids.len() as u64, world.behind.samples_accepted(), "no id was taken twice");
    assert_eq!(service.dispatch_available(), rest);
    assert!(service.inflight().is_empty());
}

/// Row 9: an id that comes before its turn (the one before it met a 503) is sent again until its turn has come.
#[tokio::test(start_paused = true)]
async fn an_id_ahead_of_its_turn() {
    let world = World::of(Dialect { sampling_order: SamplingOrder::Strict, ..Dialect::production() });
    let (_service, sampler) = world.sampler().await;
    world.server.script("asample", [Step::status(503)]).then_behave();
    let handles = [sampler.sample(harness::request(&[1])), sampler.sample(harness::request(&[2]))];
    for handle in handles {
        handle.await.unwrap();
    }
    assert_eq!(world.behind.seq_ids(sampler.sampling_session_id()), [0, 1]);
    let sent = world.server.count("asample");
    assert!((4..=6).contains(&sent), "{sent}: two that failed, two that passed, and little more");
}

/// Row 21: what SkyRL cannot do is refused in its words, once.
#[tokio::test(start_paused = true)]
async fn options_that_skyrl_lacks() {
    let world = World::of(Dialect::skyrl());
    let (_service, sampler) = world.sampler().await;
    let unlimited = sampler.sample(SampleRequest::new(vec![1], SamplingParams::new())).await.unwrap_err();
    assert_eq!((unlimited.kind(), unlimited.status()), (ErrorKind::Status, Some(422)));
    assert!(unlimited.to_string().contains("max_tokens"), "{unlimited}");
    let topk = sampler.sample(harness::request(&[1]).topk_prompt_logprobs(2)).await.unwrap_err();
    assert_eq!((topk.kind(), topk.status()), (ErrorKind::Status, Some(400)));
    assert!(topk.to_string().contains("topk_prompt_logprobs"), "{topk}");
    assert_eq!(world.server.count("asample"), 2);
    sampler.sample(harness::request(&[1])).await.unwrap();
}

/// Rows 1, 9: TuFT refuses newer fields, and the refused request has used its id up. The client goes on with the next.
#[tokio::test(start_paused = true)]
async fn fields_that_tuft_refuses() {
    let world = World::of(Dialect::tuft());
    let (_service, sampler) = world.sampler().await;
    let refused = sampler.sample(harness::request(&[1]).topk_sample_logprobs(2)).await.unwrap_err();
    assert_eq!((refused.kind(), refused.status()), (ErrorKind::Status, Some(422)));
    assert!(refused.to_string().contains("topk_sample_logprobs"), "{refused}");
    sampler.sample(harness::request(&[1])).await.unwrap();
    assert_eq!(world.server.seq_ids("asample"), [0, 1]);
}
