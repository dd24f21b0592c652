//! Transitions as streams: of a handle, of a client, of a service.

use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{FutureExt as _, StreamExt as _};
use serde_json::json;
use tinkex_client::{
    AdamParams, ClientKind, ErrorKind, LossFn, QUEUE_STATES_CAPACITY, QueueState, QueueStateChange,
    QueueStateObserver as _, QueueStates, RequestType, losses::WeightedNll,
};
use tinkex_testkit::service::Service;
use tinkex_testkit::{FakeServer, Gate, Step};
use tokio::time::timeout;

use super::{Changes, PATIENCE, observed, try_again, try_again_because};
use crate::harness::{self, MODEL, example, request, trainer_of};

/// State, reason and promise of each.
fn told(changes: &[QueueStateChange]) -> Vec<(&str, &str, &str)> {
    changes
        .iter()
        .map(|change| {
            (change.state.as_str(), change.reason.as_deref().unwrap_or_default(), &*change.request_id)
        })
        .collect()
}

fn words(changes: &[QueueStateChange]) -> Vec<&str> {
    changes.iter().map(|change| change.state.as_str()).collect()
}

/// Everything up to the end of the stream, which comes within a day.
async fn all(mut states: QueueStates) -> Vec<QueueStateChange> {
    let mut read = Vec::new();
    let reading = async {
        while let Some(change) = states.next().await {
            read.push(change);
        }
    };
    let read_to_the_end = timeout(Duration::from_secs(86_400), reading).await;
    assert!(read_to_the_end.is_ok(), "the stream does not end after {read:?}");
    assert_eq!((states.next().await, states.missed()), (None, 0), "it stays over, and nothing was lost");
    read
}

/// What is there without waiting.
fn so_far(states: &mut QueueStates) -> Vec<QueueStateChange> {
    std::iter::from_fn(|| states.next().now_or_never().flatten()).collect()
}

/// S2-02 to S2-05, C-5, PROTOCOL 17: the stream of a handle, that of its client and that of the service tell what
/// observers are told: the 429 of a submission, 408, 200 and 429 of polls, and the end as `active`. Repetitions are left out.
#[tokio::test(start_paused = true)]
async fn a_stream_sees_what_observers_see() {
    let server = FakeServer::new();
    let changes = Changes::default();
    let service = harness::builder(&server).queue_state_observer(changes.clone()).build().await.unwrap();
    let sampler = service.sampling_client().base_model(MODEL).create().await.unwrap();
    let (of_client, of_service) = (sampler.queue_states(), service.queue_states());
    let pause = |status, state, reason| {
        let body = json!({"queue_state": state, "queue_state_reason": reason});
        Step::status(status).header("retry-after", "1").json_body(body)
    };
    server.script("asample", [pause(429, "paused_rate_limit", Some("calm")).repeat(2)]).then_behave();
    server
        .script(
            "retrieve_future",
            [
                try_again("active"),
                pause(408, "paused_capacity", None).repeat(3),
                pause(408, "paused_capacity", Some("full")),
                try_again_because("paused_capacity", "full"),
                try_again("draining"),
                pause(429, "paused_rate_limit", None),
            ],
        )
        .then_behave();
    let sample = sampler.sample(request(&[1]));
    let of_handle = sample.queue_states();
    sample.await.unwrap();
    server.verify().unwrap();
    let of_handle = all(of_handle).await;
    assert_eq!(
        told(&of_handle),
        [
            ("paused_rate_limit", "calm", ""),
            // The submission's end. The promise begins with the same state, which is not told again.
            ("active", "", ""),
            ("paused_capacity", "", "req-00000001"),
            ("paused_capacity", "full", "req-00000001"),
            ("draining", "", "req-00000001"),
            ("paused_rate_limit", "", "req-00000001"),
            ("active", "", "req-00000001"),
        ]
    );
    for change in &of_handle {
        let of = (change.client, &*change.client_id, change.request_type);
        assert_eq!(of, (ClientKind::Sampling, sampler.sampling_session_id(), RequestType::Sample));
        assert!(change.is_transition());
    }
    assert!(sampler.flush_observers(PATIENCE));
    drop((sampler, service));
    let observed = changes.all();
    assert_eq!(observed.len(), of_handle.len() + 1, "each promise's first state is told to observers");
    assert_eq!(all(of_client).await, observed);
    assert_eq!(all(of_service).await, observed);
}

/// Who comes late begins with what is known; the end of the pause is told to everybody, and then the streams end. A
/// stream does not keep the sample going.
#[tokio::test(start_paused = true)]
async fn a_handles_stream_begins_with_the_last_state_and_ends_with_the_request() {
    let (server, service, sampler) = harness::in_front_of(&Service::default()).await;
    let gate = Gate::new();
    let paused = try_again_because("paused_capacity", "full");
    server.script("retrieve_future", [paused.repeat(2), Step::behave().gate(&gate)]).then_behave();
    let sample = sampler.sample(request(&[1]));
    let mut early = sample.queue_states();
    assert_eq!(so_far(&mut early), [], "nothing is known yet");
    gate.arrived(1).await;
    let mut late = sample.queue_states();
    let pause = |changes: &[QueueStateChange]| {
        assert_eq!(told(changes), [("paused_capacity", "full", "req-00000001")]);
        assert_eq!((&changes[0].previous, changes[0].is_transition()), (&None, true));
    };
    pause(&so_far(&mut early));
    pause(&so_far(&mut late));
    gate.open();
    // Not awaited: the request ends by itself, and so do its streams.
    for rest in [all(early).await, all(late).await] {
        assert_eq!(words(&rest), ["active"]);
        assert_eq!(rest[0].previous, Some(QueueState::PausedCapacity));
    }
    assert!(service.inflight().is_empty());
    assert_eq!(words(&all(sample.queue_states()).await), ["active"], "the last state, and the end");
    sample.await.unwrap();

    server.script("retrieve_future", [try_again("paused_capacity"), Step::hang()]).then_behave();
    let abandoned = sampler.sample(request(&[1]));
    let mut states = abandoned.queue_states();
    assert_eq!(states.next().await.map(|change| change.state), Some(QueueState::PausedCapacity));
    drop(abandoned);
    assert_eq!(all(states).await, [], "no end of the pause was seen");
    assert!(service.inflight().is_empty());
}

/// A sample that is never paused has nothing to tell, and neither has one that was refused.
#[tokio::test(start_paused = true)]
async fn nothing_is_told_where_nothing_is_paused() {
    let (server, _service, sampler) = harness::in_front_of(&Service::default()).await;
    let mut of_client = sampler.queue_states();
    let mut sample = sampler.sample(request(&[1]));
    let states = sample.queue_states();
    (&mut sample).await.unwrap();
    assert_eq!((all(states).await, so_far(&mut of_client)), (vec![], vec![]));
    assert_eq!(all(sample.queue_states()).await, [], "nor has it when it is over");
    let refused = sampler.sample(request(&[1]).num_samples(0));
    assert_eq!(all(refused.queue_states()).await, []);
    assert_eq!(refused.await.unwrap_err().kind(), ErrorKind::InvalidInput);
    server.verify().unwrap();
}

/// A sample that the server loses is one request all the same: the pause of its next promise is no news.
#[tokio::test(start_paused = true)]
async fn a_lost_sample_does_not_repeat_its_state() {
    let server = FakeServer::new();
    let changes = Changes::default();
    let sampler = observed(&server, changes.clone()).await;
    let paused = || try_again("paused_capacity");
    server.script("retrieve_future", [paused(), Step::status(410).body(""), paused()]).then_behave();
    let sample = sampler.sample(request(&[1]));
    let states = sample.queue_states();
    sample.await.unwrap();
    assert_eq!(words(&all(states).await), ["paused_capacity", "active"]);
    assert!(sampler.flush_observers(PATIENCE));
    assert_eq!(
        words(&changes.all()),
        ["paused_capacity", "paused_capacity", "active"],
        "one for each promise"
    );
}

/// The stream of a client ends with its last clone and its last sample; that of the service is fed by all of its
/// clients, the creation of a model included, and ends after them.
#[tokio::test(start_paused = true)]
async fn clients_and_services_end_their_streams_when_they_are_gone() {
    let server = FakeServer::new();
    let service = harness::service(&server).await;
    let of_service = service.queue_states();
    server.script("retrieve_future", [try_again("paused_rate_limit")]).then_behave();
    let trainer = service.lora_training_client(MODEL).rank(2).create().await.unwrap();
    let sampler = |_| service.sampling_client().base_model(MODEL).create();
    let samplers = join_all([0, 1].map(sampler)).await.into_iter().map(Result::unwrap).collect::<Vec<_>>();
    let mut of_samplers: Vec<_> = samplers.iter().map(|sampler| sampler.queue_states()).collect();
    let of_trainer = trainer.queue_states();
    for sampler in &samplers {
        server.script("retrieve_future", [try_again("paused_capacity")]).then_behave();
        sampler.sample(request(&[1])).await.unwrap();
    }
    server.script("retrieve_future", [try_again("paused_capacity")]).then_behave();
    trainer.optim_step(AdamParams::new(1e-3)).await.unwrap();

    let ids = [samplers[0].sampling_session_id(), samplers[1].sampling_session_id(), trainer.model_id()];
    let [first, second, model] = ids.map(str::to_owned);
    let gate = Gate::new();
    server.script("retrieve_future", [Step::behave().gate(&gate)]).then_behave();
    let clone = samplers[0].clone();
    let last = clone.sample(request(&[1]));
    gate.arrived(1).await;
    drop((samplers, trainer, service));
    for (states, id) in [(of_samplers.remove(1), &second), (of_trainer, &model)] {
        let read = all(states).await;
        assert_eq!(words(&read), ["paused_capacity", "active"]);
        assert!(read.iter().all(|change| *change.client_id == **id));
    }
    let mut of_first = of_samplers.remove(0);
    assert_eq!(words(&so_far(&mut of_first)), ["paused_capacity", "active"]);
    drop(clone);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(of_first.next().now_or_never().is_none(), "a sample of it is still on its way");
    gate.open();
    last.await.unwrap();
    assert_eq!(all(of_first).await, []);
    let of_service = all(of_service).await;
    let by_client: Vec<_> =
        of_service.iter().map(|change| (change.client, &*change.client_id, change.state.as_str())).collect();
    let pairs = [
        (ClientKind::ModelCreation, MODEL, "paused_rate_limit"),
        (ClientKind::Sampling, &first, "paused_capacity"),
        (ClientKind::Sampling, &second, "paused_capacity"),
        (ClientKind::Training, &model, "paused_capacity"),
    ];
    let expected: Vec<_> = pairs
        .into_iter()
        .flat_map(|(client, id, state)| [(client, id, state), (client, id, "active")])
        .collect();
    assert_eq!(by_client, expected);
}

/// Training handles of every making: an operation, a custom loss with its two passes, a batch whose chunks are promises
/// of their own; and one that waits for no promise.
#[tokio::test(start_paused = true)]
async fn training_operations_can_be_watched() {
    let behind = Service::default();
    behind.set_client_config(&json!({"fwdbwd_max_chunk_len": 1}));
    let (server, _client, trainer) = trainer_of(&behind).await;
    let paused = || try_again_because("paused_capacity", "full");
    let data = || vec![example("abcd")];

    server.script("retrieve_future", [paused().repeat(2)]).then_behave();
    let pass = trainer.forward_backward(data(), LossFn::CrossEntropy);
    let states = pass.queue_states();
    pass.await.unwrap();
    let promise = all(states).await;
    assert_eq!(words(&promise), ["paused_capacity", "active"]);
    assert_eq!(promise[0].request_type, RequestType::ForwardBackward);
    assert_eq!((promise[0].client, &*promise[0].client_id), (ClientKind::Training, trainer.model_id()));

    server.script("retrieve_future", [paused(), Step::behave(), paused()]).then_behave();
    let custom = trainer.forward_backward_custom(data(), WeightedNll);
    let states = custom.queue_states();
    custom.await.unwrap();
    let read = all(states).await;
    let kinds: Vec<_> = read.iter().map(|change| (change.request_type, change.state.as_str())).collect();
    let (forward, backward) = (RequestType::Forward, RequestType::ForwardBackward);
    assert_eq!(
        kinds,
        [
            (forward, "paused_capacity"),
            (forward, "active"),
            (backward, "paused_capacity"),
            (backward, "active")
        ]
    );

    server.script("retrieve_future", [paused().repeat(4)]).then_behave();
    let batch = trainer.forward_backward([data(), data()].concat(), LossFn::CrossEntropy);
    let states = batch.queue_states();
    batch.await.unwrap();
    let read = all(states).await;
    let mut promises: Vec<_> = read.iter().map(|change| change.request_id.clone()).collect();
    promises.sort();
    promises.dedup();
    assert_eq!(promises.len(), 2, "{read:?}");
    for promise in promises {
        let of_one: Vec<_> = read.iter().filter(|change| change.request_id == promise).cloned().collect();
        assert_eq!(words(&of_one), ["paused_capacity", "active"]);
    }

    let info = trainer.get_info();
    assert_eq!(all(info.queue_states()).await, []);
    info.await.unwrap();
    server.verify().unwrap();
}

/// Ten thousand transitions against readers that do not read: nothing waits for them, each holds the newest 64, and
/// knows exactly what it lost.
#[tokio::test(start_paused = true)]
async fn readers_that_never_read_lose_the_oldest() {
    const COUNT: usize = 10_000;
    let server = FakeServer::new();
    let service = harness::service(&server).await;
    let sampler =
        service.sampling_client().base_model(MODEL).without_stuck_detection().create().await.unwrap();
    let polls = (0..COUNT - 1).map(|number| try_again_because("paused_capacity", &number.to_string()));
    server.script("retrieve_future", polls).then_behave();
    let sample = sampler.sample(request(&[1]));
    let mut streams = [sample.queue_states(), sampler.queue_states(), service.queue_states()];
    drop(sample.queue_states());
    sample.await.unwrap();
    server.verify().unwrap();
    drop((sampler, service));
    for states in &mut streams {
        assert_eq!(states.missed(), (COUNT - QUEUE_STATES_CAPACITY) as u64);
        let read: Vec<_> = states.by_ref().collect().await;
        assert_eq!(read.len(), 64);
        let newest: Vec<_> =
            read[..63].iter().map(|change| change.reason.as_deref().unwrap().to_owned()).collect();
        assert_eq!(newest, (COUNT - 64..COUNT - 1).map(|number| number.to_string()).collect::<Vec<_>>());
        assert_eq!(read[63].state, QueueState::Active);
    }
}

/// S2-02: what a client is told as an observer reaches its streams as it reaches its observers.
#[tokio::test(start_paused = true)]
async fn a_client_that_is_told_passes_it_on() {
    let (_server, service, sampler) = harness::in_front_of(&Service::default()).await;
    let (mut of_client, mut of_service) = (sampler.queue_states(), service.queue_states());
    sampler.on_queue_state_change(QueueState::PausedCapacity);
    for states in [&mut of_client, &mut of_service] {
        let told = states.next().now_or_never().flatten().unwrap();
        assert_eq!(
            (told.state, &*told.client_id),
            (QueueState::PausedCapacity, sampler.sampling_session_id())
        );
    }
}

/// Streams can be read by any task, and handed to what wants a `Stream`.
#[test]
fn streams_go_anywhere() {
    fn anywhere<T: futures_core::Stream<Item = QueueStateChange> + Send + Unpin + 'static>() {}
    anywhere::<QueueStates>();
}
