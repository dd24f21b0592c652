//! The order of operations: taken at the call, kept on the way, and no hindrance to results.

use std::sync::{Arc, Barrier};
use std::time::Duration;

use futures_util::future::join_all;
use tinkex_client::{LossFn, Stage};
use tinkex_testkit::service::Service;
use tinkex_testkit::{Gate, Step};

use super::{adam, arrivals, ids};
use crate::harness::{example, trainer_of};

/// The order of the calls is the order at the server, whichever handle is awaited first; ids count from 1.
#[tokio::test(start_paused = true)]
async fn operations_arrive_in_the_order_of_the_calls() {
    let service = Service::default();
    let (server, _client, trainer) = trainer_of(&service).await;
    // Nothing is awaited between the calls.
    let passes: Vec<_> =
        (0..3).map(|_| trainer.forward_backward([example("abcd")], LossFn::CrossEntropy)).collect();
    let (step, saved) = (trainer.optim_step(adam()), trainer.save_state("first"));
    let look = trainer.forward([example("abcd")], LossFn::CrossEntropy);
    let looked = look.await.unwrap();
    assert_eq!(saved.await.unwrap().tinker_path().unwrap().name(), "first");
    step.await.unwrap();
    let losses: Vec<_> =
        join_all(passes).await.into_iter().map(|output| output.unwrap().loss().unwrap()).collect();
    assert!(losses[0] == losses[1] && losses[1] == losses[2], "no step in between: {losses:?}");
    assert!(looked.loss().unwrap() < losses[0], "the step came before the last look");
    assert_eq!(
        arrivals(&server),
        [
            "forward_backward 1",
            "forward_backward 2",
            "forward_backward 3",
            "optim_step 4",
            "save_weights 5",
            "forward_backward 6"
        ]
    );
    assert!(service.run(trainer.model_id()).unwrap().is_ordered());
}

/// An operation goes out when the one before was accepted, not when it is done; results are waited for side by side.
#[tokio::test(start_paused = true)]
async fn submissions_follow_each_other_and_polls_overlap() {
    let service = Service::default();
    let (server, client, trainer) = trainer_of(&service).await;
    let (accepting, results) = (Gate::new(), Gate::new());
    server.script("forward_backward", [Step::behave().gate(&accepting)]).then_behave();
    server.script("retrieve_future", [Step::behave().gate(&results).repeat(3)]).then_behave();
    let pass = trainer.forward_backward([example("abcd")], LossFn::CrossEntropy);
    let step = trainer.optim_step(adam());
    let save = trainer.save_state("first");
    accepting.arrived(1).await;
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert_eq!((server.count("optim_step"), server.count("save_weights")), (0, 0), "each waits its turn");
    let stages: Vec<_> = client.inflight().iter().map(|row| row.stage).collect();
    assert_eq!(stages, [Stage::Submitting, Stage::Queued, Stage::Queued]);
    accepting.open();
    server.wait_for_in_flight("retrieve_future", 3).await;
    assert!(client.inflight().iter().all(|row| row.stage == Stage::Polling));
    assert_eq!(pass.request_ids().len(), 1);
    results.open();
    pass.await.unwrap();
    step.await.unwrap();
    save.await.unwrap();
    assert!(client.inflight().is_empty());
}

/// Calls from many threads get consecutive ids, and each thread's own calls stay in its order.
#[test]
fn calls_come_from_any_thread() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let service = Service::default();
    let (server, _client, trainer) = runtime.block_on(trainer_of(&service));
    let start = Arc::new(Barrier::new(8));
    let threads: Vec<_> = (0..8)
        .map(|thread| {
            let (trainer, start, clock) = (trainer.clone(), Arc::clone(&start), runtime.handle().clone());
            std::thread::spawn(move || {
                let _clock = clock.enter();
                start.wait();
                let name = |n| format!("thread-{thread}-{n}");
                (0..25).map(|n| trainer.save_state(name(n))).collect::<Vec<_>>()
            })
        })
        .collect();
    let handles: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    runtime.block_on(async {
        for handle in handles {
            handle.await.unwrap();
        }
    });
    assert!(ids(&server, "save_weights").into_iter().eq(1..=200));
    let names: Vec<_> = server
        .requests("save_weights")
        .iter()
        .map(|request| request.text("path").unwrap().to_owned())
        .collect();
    for thread in 0..8 {
        let own: Vec<_> =
            names.iter().filter(|name| name.starts_with(&format!("thread-{thread}-"))).collect();
        let expected: Vec<_> = (0..25).map(|n| format!("thread-{thread}-{n}")).collect();
        assert_eq!(own.len(), 25);
        assert!(own.into_iter().eq(&expected), "thread {thread}");
    }
}

/// On a runtime with threads tasks do not run in the order they were started; the operations are sent in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_that_run_out_of_order_change_nothing() {
    let service = Service::default();
    let (server, _client, trainer) = trainer_of(&service).await;
    let caller = trainer.clone();
    // From a worker of the runtime, whose last started task is the first to run.
    let started =
        tokio::spawn(async move { (0..50).map(|n| caller.save_state(format!("n{n}"))).collect::<Vec<_>>() });
    for handle in started.await.unwrap() {
        handle.await.unwrap();
    }
    let names: Vec<_> = server
        .requests("save_weights")
        .iter()
        .map(|request| request.text("path").unwrap().to_owned())
        .collect();
    assert!(names.into_iter().eq((0..50).map(|n| format!("n{n}"))));
    assert!(ids(&server, "save_weights").into_iter().eq(1..=50));
}

/// Two clients of one session have ids of their own, and do not wait for each other.
#[tokio::test(start_paused = true)]
async fn clients_are_independent() {
    let service = Service::default();
    let (server, client, first) = trainer_of(&service).await;
    let second = client.lora_training_client(crate::harness::MODEL).create().await.unwrap();
    let gate = Gate::new();
    server.script("optim_step", [Step::behave().gate(&gate)]).then_behave();
    let held = first.optim_step(adam());
    gate.arrived(1).await;
    second.optim_step(adam()).await.unwrap();
    gate.open();
    held.await.unwrap();
    assert_eq!(ids(&server, "optim_step"), [1, 1]);
    let models: Vec<_> = server
        .requests("create_model")
        .iter()
        .map(|request| request.field("model_seq_id").unwrap().clone())
        .collect();
    assert_eq!(models, [0, 1]);
}
