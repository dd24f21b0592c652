//! A whole life of a model: everything a training loop does, one thing after the other on the same model.

use tinkex_client::{
    Datum, Effect, ErrorCategory, ErrorKind, LossFn, ModelInput, SampleRequest, SamplingClient,
    SamplingParams, TrainingClient, losses::WeightedNll,
};
use tinkex_testkit::service::{ConfigAnswer, TrainingBody, TrainingOrder};

use super::{World, adam, batch, loss_of, step};
use crate::harness::{MODEL, example};

pub(super) async fn whole_loop(world: World) {
    let trainer = world.trainer().await;
    is_asked_about(&trainer).await;
    learns(&trainer).await;
    takes_batches_of_chunks(&world, &trainer).await;
    looks_without_touching(&trainer).await;
    let resumed = goes_on_from_a_checkpoint(&world, &trainer).await;
    is_sampled_from(&world, &trainer).await;
    refuses_what_it_cannot_do(&world, &trainer).await;
    fails_and_goes_on(&world, &trainer).await;
    learns_by_a_custom_loss(&trainer).await;
    is_unloaded(&trainer).await;
    for trainer in [&trainer, &resumed] {
        world.assert_in_order(trainer);
    }
    assert!(world.client.inflight().is_empty());
    speaks_the_server_s_language(&world);
}

/// Rows 3, 19: what the server says of the model, be it much or little.
async fn is_asked_about(trainer: &TrainingClient) {
    assert_eq!(trainer.base_model(), MODEL);
    let info = trainer.get_info().await.unwrap();
    assert_eq!(&info, trainer.info());
    assert_eq!(info.model_id, trainer.model_id());
}

/// Three steps, called at once: the loss falls.
async fn learns(trainer: &TrainingClient) {
    let calls: Vec<_> = (0..3)
        .map(|_| (trainer.forward_backward(batch(), LossFn::CrossEntropy), trainer.optim_step(adam())))
        .collect();
    let mut losses = Vec::new();
    for (pass, update) in calls {
        losses.push(pass.await.unwrap().loss().unwrap());
        update.await.unwrap();
    }
    losses.push(loss_of(trainer).await);
    assert!(losses.is_sorted_by(|before, after| before > after), "{losses:?}");
}

/// TR-1: a batch of three chunks has the outputs of its datums in their order, and the metrics of all.
async fn takes_batches_of_chunks(world: &World, trainer: &TrainingClient) {
    let sent = || world.server.count("forward_backward") + world.server.count("forward");
    let count = world.three_chunks();
    // Examples of one to three tokens, in turn.
    let data: Vec<Datum> = (0..count).map(|n| example(&"abcd"[..n % 3 + 2])).collect();
    let before = sent();
    let pass = trainer.forward_backward(data.clone(), LossFn::CrossEntropy);
    let update = trainer.optim_step(adam());
    let look = trainer.forward(data, LossFn::CrossEntropy);
    let (output, after) = (pass.await.unwrap(), look.await.unwrap());
    update.await.unwrap();
    for output in [&output, &after] {
        let lengths = output.loss_fn_outputs.iter().map(|output| output.logprobs().unwrap().len());
        assert!(lengths.eq((0..count).map(|n| n % 3 + 1)), "in the order of the data");
        let sum: f32 = output.loss_fn_outputs.iter().flat_map(|output| output.logprobs().unwrap()).sum();
        assert!((output.loss().unwrap() + f64::from(sum)).abs() < 1e-2 * f64::from(-sum), "{sum}");
    }
    assert!(after.loss() < output.loss());
    let requests = sent() - before;
    // A server that turns out to be strict refuses both chunks that come before the first.
    let most = if world.dialect.training_order == TrainingOrder::Strict { 8 } else { 6 };
    assert!((6..=most).contains(&requests), "{requests} chunks");
}

/// A forward pass changes nothing.
async fn looks_without_touching(trainer: &TrainingClient) {
    let looks = [(); 2].map(|()| trainer.forward(batch(), LossFn::CrossEntropy));
    let step = trainer.optim_step(adam());
    let [first, second] = looks;
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    step.await.unwrap();
    assert_eq!(first.loss_fn_outputs, second.loss_fn_outputs);
}

/// Row 16: a model goes on from a checkpoint, whatever way the server has, with the state of its optimizer; without it
/// it goes on otherwise.
async fn goes_on_from_a_checkpoint(world: &World, trainer: &TrainingClient) -> TrainingClient {
    let checkpoint = trainer.save_state("halfway").await.unwrap();
    let from_state = world.client.training_client_from_state_with_optimizer(checkpoint.clone());
    let resumed = from_state.create().await.unwrap();
    let bare = world.client.training_client_from_state(checkpoint.clone()).create().await.unwrap();
    assert_eq!(resumed.base_model(), MODEL);
    let losses =
        async |trainer: &TrainingClient| [step(trainer).await, step(trainer).await, loss_of(trainer).await];
    let (ours, theirs, others) = (losses(trainer).await, losses(&resumed).await, losses(&bare).await);
    assert_eq!(ours, theirs, "as if there had been no break");
    assert!(others[0] == ours[0] && others[1] != ours[1], "another optimizer, {others:?} like {ours:?}");

    let restored = trainer.load_state_with_optimizer(checkpoint).await;
    match world.dialect.load_only_first {
        true => assert_eq!(restored.unwrap_err().status(), Some(400)),
        false => {
            restored.unwrap();
            assert_eq!(losses(trainer).await, ours, "the same again");
        }
    }
    resumed
}

/// The likeliest continuation.
async fn sampled(sampler: &SamplingClient) -> Vec<i32> {
    let params = SamplingParams::new().max_tokens(12).temperature(0.0);
    let prompt = ModelInput::from_ints("to be or".bytes().map(i32::from).collect::<Vec<_>>());
    let reply = sampler.sample(SampleRequest::new(prompt, params)).await.unwrap();
    reply.sequences[0].tokens.as_slice().to_vec()
}

/// Row 17: samples come from the weights as they were, with a name and without, also when training has gone on.
async fn is_sampled_from(world: &World, trainer: &TrainingClient) {
    let named = trainer.save_weights_for_sampler("for-sampling");
    let snapshot = trainer.save_weights_and_get_sampling_client();
    let further: Vec<_> = (0..10)
        .map(|_| (trainer.forward_backward(batch(), LossFn::CrossEntropy), trainer.optim_step(adam())))
        .collect();
    let later = trainer.save_weights_and_get_sampling_client();
    let named = named.await.unwrap();
    assert!(named.path.as_str().starts_with("tinker://"), "{named:?}");
    let by_path = trainer.create_sampling_client(named).await.unwrap();
    let (snapshot, later) = (snapshot.await.unwrap(), later.await.unwrap());
    for (pass, update) in further {
        pass.await.unwrap();
        update.await.unwrap();
    }
    assert_eq!(sampled(&by_path).await, sampled(&snapshot).await);
    let logprobs = async |sampler: &SamplingClient| {
        sampler
            .compute_logprobs("to be or not to be".bytes().map(i32::from).collect::<Vec<_>>())
            .await
            .unwrap()
    };
    assert_eq!(logprobs(&by_path).await, logprobs(&snapshot).await);
    assert_ne!(logprobs(&later).await, logprobs(&snapshot).await);
    world.assert_in_order(trainer);
}

/// Rows 21, 22: what the server refuses is an error, and takes no place among the operations.
async fn refuses_what_it_cannot_do(world: &World, trainer: &TrainingClient) {
    let again = trainer.save_state("halfway");
    let export = trainer.save_weights_external("outside");
    let update = trainer.optim_step(adam());
    let again = again.await.unwrap_err();
    match world.dialect.reused_name_status {
        Some(status) => {
            let told = (again.kind(), again.status(), again.attempts());
            assert_eq!(told, (ErrorKind::Status, Some(status), 1), "a name stays taken");
        }
        None => assert_eq!((again.kind(), again.category()), (ErrorKind::RequestFailed, ErrorCategory::User)),
    }
    match (export.await, world.dialect.newer_routes) {
        (Ok(export), true) => assert!(export.size_bytes.is_some_and(|size| size > 0), "{export:?}"),
        (Err(error), false) => {
            assert_eq!((error.status(), error.effect()), (Some(404), Some(Effect::Nothing)))
        }
        (unexpected, _) => panic!("{unexpected:?}"),
    }
    update.await.unwrap();
    world.assert_in_order(trainer);
}

/// Rows 7, 20: a loss that the server does not have is the same error, be it told by a 200, a 400, a 422 or at once; those
/// behind it go on.
async fn fails_and_goes_on(world: &World, trainer: &TrainingClient) {
    let before = loss_of(trainer).await;
    let failing = trainer.forward_backward(batch(), LossFn::Other("nonsense".to_owned()));
    let pass = trainer.forward_backward(batch(), LossFn::CrossEntropy);
    let update = trainer.optim_step(adam());
    let error = failing.await.unwrap_err();
    assert!(!error.is_retryable() && error.to_string().contains("nonsense"), "{error:?}");
    match world.dialect.unknown_loss_status {
        Some(status) => {
            assert_eq!(
                (error.kind(), error.status(), error.attempts()),
                (ErrorKind::Status, Some(status), 1)
            );
            assert_eq!(error.effect(), Some(Effect::Nothing));
        }
        None => {
            assert_eq!((error.kind(), error.category()), (ErrorKind::RequestFailed, ErrorCategory::User));
            assert!(error.is_user_error() && error.request_id().is_some(), "{error:?}");
        }
    }
    assert_eq!(pass.await.unwrap().loss(), Some(before));
    update.await.unwrap();
    assert!(loss_of(trainer).await < before);
}

/// PROTOCOL 13.1: a loss of one's own trains like the server's, with the step called right behind it.
async fn learns_by_a_custom_loss(trainer: &TrainingClient) {
    let calls: Vec<_> = (0..2)
        .map(|_| (trainer.forward_backward_custom(batch(), WeightedNll), trainer.optim_step(adam())))
        .collect();
    let mut losses = Vec::new();
    for (pass, update) in calls {
        losses.push(pass.await.unwrap().loss().unwrap());
        update.await.unwrap();
    }
    losses.push(loss_of(trainer).await);
    assert!(losses.is_sorted_by(|before, after| before > after), "{losses:?}");
}

async fn is_unloaded(trainer: &TrainingClient) {
    trainer.unload().await.unwrap();
    let error = trainer.clone().optim_step(adam()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
}

/// Row 4: the server got passes in a form it reads, and was asked once at most whether it reads the other.
fn speaks_the_server_s_language(world: &World) {
    let passes = world.server.all_requests();
    let passes: Vec<_> = passes.iter().filter(|request| request.route().starts_with("forward")).collect();
    let protobuf = passes.iter().filter(|request| request.is_protobuf()).count();
    match world.dialect.training_bodies {
        TrainingBody::JsonOnly => assert_eq!(protobuf, 1),
        TrainingBody::Both | TrainingBody::ProtobufOnly => assert_eq!(protobuf, passes.len()),
    }
    let zstd = |request: &tinkex_testkit::Received| request.header("content-encoding") == Some("zstd");
    let flagged = world.dialect.client_config == ConfigAnswer::Flags;
    let compressed = passes.iter().filter(|request| zstd(request)).count();
    assert!(compressed == 0 || flagged && compressed == passes.len(), "{compressed} of {}", passes.len());
}
