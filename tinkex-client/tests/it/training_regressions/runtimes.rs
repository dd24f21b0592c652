//! Handles and the end of their runtime (F-30).

use std::convert::Infallible;
use std::sync::mpsc;

use tinkex_client::{CustomLossOutput, Datum, ErrorKind, Logprobs, LossFn};
use tinkex_testkit::service::Service;
use tinkex_testkit::{Gate, Step};

use super::{adam, data};
use crate::harness::trainer_of;

/// F-30: every kind of handle ends with the runtime, wherever its operation is: asking, polling, computing a loss on a
/// thread that cannot be stopped, waiting for its turn.
#[test]
fn no_handle_hangs() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (server, _client, trainer) = runtime.block_on(trainer_of(&Service::default()));
    let gate = Gate::new();
    server.script("get_info", [Step::hang()]);
    let info = trainer.get_info();
    runtime.block_on(server.wait_for("get_info", 2));
    let of_save =
        |request: &tinkex_testkit::Received| request.header("x-tinker-request-type") == Some("SaveWeights");
    server.script_when("retrieve_future", of_save, [Step::behave().gate(&gate)]);
    let polled = trainer.save_state("polled");
    let (begun, running) = mpsc::channel();
    let (finish, finished) = mpsc::channel::<()>();
    let loss = move |_: &[Datum], logprobs: &[Logprobs<'_>]| {
        begun.send(()).unwrap();
        // Ends when the test does.
        let _ = finished.recv();
        let gradients = logprobs.iter().map(|l| vec![0.0; l.len()]).collect();
        Ok::<_, Infallible>(CustomLossOutput::new(0.0, gradients))
    };
    let custom = trainer.forward_backward_custom(data(1), loss);
    running.recv().unwrap();
    let queued = trainer.forward_backward(data(1), LossFn::CrossEntropy);
    let snapshot = trainer.save_weights_and_get_sampling_client();
    let unload = trainer.unload();
    runtime.shutdown_background();
    let kinds = [
        info.wait().unwrap_err().kind(),
        polled.wait().unwrap_err().kind(),
        custom.wait().unwrap_err().kind(),
        queued.wait().unwrap_err().kind(),
        snapshot.wait().unwrap_err().kind(),
        unload.wait().unwrap_err().kind(),
    ];
    assert_eq!(kinds, [ErrorKind::TaskEnded; 6]);
    drop(finish);
    // What is called later does not hang either.
    assert_eq!(trainer.get_info().wait().unwrap_err().kind(), ErrorKind::TaskEnded);
    assert_eq!(trainer.optim_step(adam()).wait().unwrap_err().kind(), ErrorKind::Closed, "after unload");
}
