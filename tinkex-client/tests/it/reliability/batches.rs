//! A batch of three chunks that go out in parallel, of which one is lost (PROTOCOL 12.5).

use std::ops::RangeInclusive;

use prost::Message as _;
use serde_json::json;
use tinkex_client::{AdamParams, Datum, Error, LossFn, ServiceClient, TrainingClient};
use tinkex_testkit::service::Service;
use tinkex_testkit::{FakeServer, Received, Step};
use tinkex_types::proto::ForwardBackwardRequest;

use super::seen::{Ending, Observed};
use super::stage::{self, WATCHED, observe};
use super::table::{Played, rows};
use crate::harness::example;

/// What is lost of which chunk, and how it is played. Of the three chunks the first goes out last.
struct Loss {
    name: &'static str,
    route: &'static str,
    hits: fn(&Received) -> bool,
    step: fn() -> Step,
}

/// The first pass has found out the form under id 1, so the chunks are 2, 3 and 4.
fn first_chunk(request: &Received) -> bool {
    request.seq_id() == Some(2)
}

fn second_chunk(request: &Received) -> bool {
    request.seq_id() == Some(3)
}

/// The data of the second chunk, and not what fills its id afterwards.
fn data_of_second_chunk(request: &Received) -> bool {
    let pass = ForwardBackwardRequest::decode(request.body.clone());
    second_chunk(request) && pass.is_ok_and(|pass| !pass.forward_only)
}

static REQUEST: Loss =
    Loss { name: "a chunk never arrives", route: "forward_backward", hits: second_chunk, step: Step::refuse };
static ANSWER: Loss = Loss {
    name: "the answer to a chunk is lost",
    route: "forward_backward",
    hits: second_chunk,
    step: || Step::behave().then_lose(),
};
static FIRST_REQUEST: Loss =
    Loss { name: "the first chunk never arrives", hits: first_chunk, ..copy(&REQUEST) };
static FIRST_ANSWER: Loss =
    Loss { name: "the answer to the first chunk is lost", hits: first_chunk, ..copy(&ANSWER) };
static REFUSED: Loss = Loss {
    name: "a chunk is refused (400)",
    hits: data_of_second_chunk,
    step: || Step::status(400).json_body(json!({"detail": "bad datum"})),
    ..copy(&REQUEST)
};
static PROMISE: Loss = Loss {
    name: "the promise of a chunk is lost (410)",
    route: "retrieve_future",
    hits: |_| true,
    step: || Step::status(410).json_body(json!({"detail": "gone"})),
};

const fn copy(loss: &Loss) -> Loss {
    Loss { name: loss.name, route: loss.route, hits: loss.hits, step: loss.step }
}

/// A client that knows which form its server reads, in front of a server that wants one datum a chunk.
async fn in_front_of(service: &Service) -> (FakeServer, ServiceClient, TrainingClient) {
    service.set_client_config(&json!({"fwdbwd_max_chunk_len": 1}));
    let server = FakeServer::with(service.clone());
    let client = stage::service(&server).await;
    let trainer = stage::trainer(&client).await;
    trainer.forward(data(1), LossFn::CrossEntropy).await.unwrap();
    (server, client, trainer)
}

fn data(count: usize) -> Vec<Datum> {
    (0..count).map(|n| example(&format!("example {n}"))).collect()
}

async fn pass(trainer: &TrainingClient) -> Result<(), Error> {
    trainer.forward_backward(data(3), LossFn::CrossEntropy).await.map(drop)
}

async fn play(loss: &'static Loss, lasts: bool) -> Observed {
    let service = Service::default();
    let (server, _client, trainer) = in_front_of(&service).await;
    let script = server.script_when(loss.route, loss.hits, [(loss.step)()]);
    if lasts {
        script.then_repeat_last()
    } else {
        script.then_behave()
    };
    let hit = script.clone();
    let observed = observe(|| hit.calls(), pass(&trainer)).await;
    script.then_behave();
    // What is called next is not held up by what was lost, and nothing is trained twice.
    let next = tokio::time::timeout(WATCHED, trainer.optim_step(AdamParams::new(1e-3))).await;
    assert!(matches!(next, Ok(Ok(_))), "{}: {next:?}", loss.name);
    let run = service.run(trainer.model_id()).unwrap();
    assert_eq!((run.gaps(), run.waiting.len(), run.steps), (vec![], 0, 1), "{}", loss.name);
    if !lasts && observed.ending == Ending::Success {
        server.assert_idempotency_pattern("forward_backward");
    }
    observed
}

/// Attempts are the requests that met the fault.
async fn both(loss: &'static Loss, once: RangeInclusive<f64>, lasting: RangeInclusive<f64>) -> Played {
    let passed = play(loss, false).await.within(once, loss.name);
    let lasted = play(loss, true).await.within(lasting, loss.name);
    Played { fault: loss.name.to_owned(), once: Some(passed), lasting: Some(lasted) }
}

rows! {
    "A lost chunk", "A `forward_backward()` of three chunks, which go out in parallel, the first one last. Attempts are the \
     requests that met the fault. An `optim_step()` called afterwards works in every case, under the next sequence id, and \
     the ids have no gap.";

    a_chunk_never_arrives: both(&REQUEST, 0.375..=0.51, 1800.0..=1850.0);
    the_answer_to_a_chunk_is_lost: both(&ANSWER, 0.375..=0.51, 1800.0..=1850.0);
    the_first_chunk_never_arrives: both(&FIRST_REQUEST, 0.375..=0.51, 1800.0..=1850.0);
    the_answer_to_the_first_chunk_is_lost: both(&FIRST_ANSWER, 0.375..=0.51, 1800.0..=1850.0);
    a_chunk_is_refused: both(&REFUSED, 0.0..=0.02, 0.0..=0.02);
    the_promise_of_a_chunk_is_lost: both(&PROMISE, 0.0..=0.02, 0.0..=0.02);
}
