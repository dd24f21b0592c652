//! Something to trace: a training step and three samples; on the embedded server one of them is retried and one fails.

use tinkex_client::{
    AdamParams, Datum, Error, ErrorCategory, LossFn, ModelInput, SampleRequest, SamplingParams,
    ServiceClient, Tokenizer,
};
use tinkex_testkit::service::{Dialect, Service};
use tinkex_testkit::{FakeServer, Step};
use tracing::Instrument as _;

/// An embedded server, on which trouble can be made.
pub(crate) struct Embedded {
    pub(crate) server: FakeServer,
    service: Service,
}

impl Embedded {
    pub(crate) fn new() -> Self {
        let service = Service::new(Dialect::production());
        Self { server: FakeServer::with(service.clone()), service }
    }

    /// The next submission is turned away once.
    fn refuse_next(&self) {
        self.server.script("asample", [Step::status(503).header("retry-after-ms", "20")]).then_behave();
    }

    /// The next sample fails.
    fn fail_next(&self) {
        self.service.fail_next(ErrorCategory::Server, "made to fail");
    }
}

/// Does it all inside a span of its own, below which the operations are. Gives the failure of the last sample.
pub(crate) async fn run(
    service: &ServiceClient,
    model: &str,
    tokenizer: &dyn Tokenizer,
    trouble: Option<&Embedded>,
) -> Result<Option<Error>, Error> {
    let span = tracing::info_span!(target: "example", "run");
    async {
        let tokens = tokenizer.encode("a rope, a lamp, a map")?;
        let (inputs, targets) = (&tokens[..tokens.len() - 1], &tokens[1..]);
        let datum = Datum::new(ModelInput::from_ints(inputs)).target_tokens(targets.iter().copied());
        let datum = datum.weights(vec![1.0; targets.len()]);
        let trainer = service.lora_training_client(model).rank(4).seed(1).create().await?;
        let gradient = trainer.forward_backward([datum], LossFn::CrossEntropy);
        let update = trainer.optim_step(AdamParams::new(1e-3));
        gradient.await?;
        update.await?;

        let sampler = service.sampling_client().base_model(model).create().await?;
        let request = SampleRequest::new(ModelInput::from_ints(inputs), SamplingParams::new().max_tokens(8));
        sampler.sample(request.clone()).await?;
        if let Some(embedded) = trouble {
            embedded.refuse_next();
        }
        sampler.sample(request.clone()).await?;
        if let Some(embedded) = trouble {
            embedded.fail_next();
        }
        Ok(sampler.sample(request).await.err())
    }
    .instrument(span)
    .await
}
