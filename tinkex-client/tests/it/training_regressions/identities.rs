//! One logical request, one identity: sequence ids, idempotency keys and numbers of sampling sessions (F-11, F-14).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tinkex_client::{ErrorKind, LossFn, RetryPolicy, losses::WeightedNll};
use tinkex_testkit::Step;
use tinkex_testkit::service::{Dialect, TrainingOrder};

use super::{Setup, adam, data, loss_of, pass, policy};
use crate::harness::MODEL;

/// F-11: operations that never get through, in an outage or because they are refused, use up no ids, whatever they are;
/// after it a strict server, which takes only the id that it expects, takes the next one at once.
#[tokio::test(start_paused = true)]
async fn failed_sends_use_up_no_ids() {
    for fault in [Step::refuse(), Step::status(400), Step::status(429), Step::status(501)] {
        let dialect = Dialect { training_order: TrainingOrder::Strict, ..Dialect::production() };
        let setup = Setup::new(dialect, &json!({"fwdbwd_max_chunk_len": 2})).await;
        let trainer = setup.trainer(RetryPolicy::none()).await;
        let checkpoint = trainer.save_state("before").await.unwrap();
        // The first batch finds out that chunks go in order.
        trainer.forward_backward(data(5), LossFn::CrossEntropy).await.unwrap();
        let scripts: Vec<_> =
            ["forward_backward", "optim_step", "save_weights", "save_weights_for_sampler", "load_weights"]
                .map(|route| setup.server.script(route, [fault.clone()]).then_repeat_last())
                .into();
        let before = setup.service.run(trainer.model_id()).unwrap().seq_ids;
        for _ in 0..3 {
            let passes = [
                trainer.forward_backward(data(1), LossFn::CrossEntropy),
                trainer.forward_backward(data(5), LossFn::CrossEntropy),
                trainer.forward(data(1), LossFn::CrossEntropy),
                trainer.forward_backward_custom(data(3), WeightedNll),
            ];
            for pass in passes {
                let error = pass.await.unwrap_err();
                assert_ne!(error.kind(), ErrorKind::SequenceConflict, "{error}");
            }
            trainer.optim_step(adam()).await.unwrap_err();
            trainer.save_state("a").await.unwrap_err();
            trainer.save_weights_for_sampler("a").await.unwrap_err();
            trainer.save_weights_and_get_sampling_client().await.unwrap_err();
            trainer.load_state(checkpoint.clone()).await.unwrap_err();
        }
        assert_eq!(setup.service.run(trainer.model_id()).unwrap().seq_ids, before);
        scripts.iter().for_each(|script| drop(script.then_behave()));
        // A 429 closes the window of submissions for a while.
        tokio::time::sleep(Duration::from_secs(60)).await;
        for _ in 0..2 {
            trainer.forward_backward(data(5), LossFn::CrossEntropy).await.unwrap();
            trainer.forward_backward_custom(data(3), WeightedNll).await.unwrap();
            trainer.optim_step(adam()).await.unwrap();
            trainer.load_state(checkpoint.clone()).await.unwrap();
            drop(trainer.save_weights_and_get_sampling_client().await.unwrap());
        }
        setup.assert_in_order(&trainer);
    }
}

/// F-11: sampling clients use up no training id, and no two of a session, of whatever training client or of none, have the
/// same number, however often their creation is repeated.
#[tokio::test(start_paused = true)]
async fn sampling_sessions_are_numbered_by_the_session() {
    let setup = Setup::new(Dialect::production(), &json!({})).await;
    let (first, second) = (setup.trainer(policy()).await, setup.trainer(policy()).await);
    let named = first.save_weights_for_sampler("named").await.unwrap();
    for route in ["save_weights_for_sampler", "create_sampling_session"] {
        let faults =
            [Step::status(503), Step::behave(), Step::behave().then_lose(), Step::behave(), Step::reset()];
        setup.server.script(route, faults).then_behave();
    }
    let mut snapshots = Vec::new();
    let mut others = Vec::new();
    for _ in 0..5 {
        for trainer in [&first, &second] {
            snapshots.push(trainer.save_weights_and_get_sampling_client());
            let (trainer, named) = (trainer.clone(), named.clone());
            others.push(tokio::spawn(async move { trainer.create_sampling_client(named).await.map(drop) }));
        }
        let base = setup.client.sampling_client().base_model(MODEL);
        others.push(tokio::spawn(async move { base.create().await.map(drop) }));
    }
    for snapshot in join_all(snapshots).await {
        drop(snapshot.unwrap());
    }
    for other in others {
        other.await.unwrap().unwrap();
    }
    // By whom each number was used, told by the key of the request.
    let mut users: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
    for route in ["save_weights_for_sampler", "create_sampling_session"] {
        for request in setup.server.requests(route) {
            if let Some(number) = request.field("sampling_session_seq_id").and_then(serde_json::Value::as_u64)
            {
                users.entry(number).or_default().insert(request.idempotency_key().unwrap().to_owned());
            }
        }
    }
    assert_eq!(users.len(), 25, "{users:?}");
    assert!(users.values().all(|keys| keys.len() == 1), "{users:?}");
    for (trainer, ids) in [(&first, 7), (&second, 6)] {
        setup.assert_in_order(trainer);
        assert_eq!(setup.service.run(trainer.model_id()).unwrap().seq_ids.len(), ids);
    }
}

/// F-14: through every kind of failed attempt, lost answers too, a submission keeps its id and its key, on every route
/// and for every chunk; no gradient and no step is applied twice.
#[tokio::test(start_paused = true)]
async fn a_submission_keeps_its_identity_to_the_end() {
    for parallel in [true, false] {
        let flags = json!({"fwdbwd_max_chunk_len": 2, "parallel_fwdbwd_chunks": parallel});
        let setup = Setup::new(Dialect::production(), &flags).await;
        let calm = setup.trainer(policy()).await;
        calm.forward_backward(data(5), LossFn::CrossEntropy).await.unwrap();
        calm.optim_step(adam()).await.unwrap();
        calm.forward_backward_custom(data(3), WeightedNll).await.unwrap();
        calm.optim_step(adam()).await.unwrap();
        let expected = loss_of(&calm).await;

        let trainer = setup.trainer(policy()).await;
        let faults = [
            Step::behave().then_lose(),
            Step::status(503),
            Step::reset(),
            Step::status(429).header("retry-after-ms", "100"),
            Step::behave().then_lose(),
            Step::status(408),
            Step::refuse(),
        ];
        let routes =
            ["forward_backward", "optim_step", "save_weights", "save_weights_for_sampler", "load_weights"];
        let before = setup.server.all_requests().len();
        for route in routes {
            setup.server.script(route, faults.clone()).then_behave();
        }
        let batch = trainer.forward_backward(data(5), LossFn::CrossEntropy);
        let update = trainer.optim_step(adam());
        let save = trainer.save_state("saved");
        let snapshot = trainer.save_weights_and_get_sampling_client();
        let custom = trainer.forward_backward_custom(data(3), WeightedNll);
        let last = trainer.optim_step(adam());
        batch.await.unwrap();
        update.await.unwrap();
        let saved = save.await.unwrap();
        drop(snapshot.await.unwrap());
        custom.await.unwrap();
        last.await.unwrap();
        assert_eq!(loss_of(&trainer).await, expected);
        trainer.load_state(saved).await.unwrap();
        setup.server.verify().unwrap();

        let requests = setup.server.all_requests();
        let mut identities: BTreeMap<u64, BTreeSet<(String, Vec<u8>)>> = BTreeMap::new();
        for request in requests[before..].iter().filter(|request| routes.contains(&request.route())) {
            let id = request.seq_id().unwrap_or_else(|| pass(request).seq_id as u64);
            let identity = (request.idempotency_key().unwrap().to_owned(), request.body.to_vec());
            identities.entry(id).or_default().insert(identity);
        }
        for (id, of_id) in &identities {
            let of_id: Vec<_> =
                of_id.iter().map(|(key, body)| (key, String::from_utf8_lossy(body))).collect();
            assert_eq!(of_id.len(), 1, "one key and one body for {id}: {of_id:#?}");
        }
        let keys: BTreeSet<_> = identities.values().flatten().map(|(key, _)| key).collect();
        assert_eq!(keys.len(), identities.len(), "and for each id another");
        setup.assert_in_order(&trainer);
        assert_eq!(setup.service.run(trainer.model_id()).unwrap().steps, 2);
    }
}
