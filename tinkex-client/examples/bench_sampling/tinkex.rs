//! The client under test.

use futures_util::StreamExt as _;
use tinkex_client::{ModelInput, SampleRequest, SamplingParams, ServiceClient, Tokens};

use crate::cpu::{Cost, Meter};
use crate::options::Options;

pub(crate) async fn run(url: &str, options: &Options) -> Result<Cost, crate::AnyError> {
    let service = ServiceClient::builder().api_key("tml-bench").base_url(url).build().await?;
    let sampler = service.sampling_client().base_model("Qwen/Qwen3-8B").create().await?;
    let prompt = Tokens::from(options.prompt());
    let meter = Meter::start()?;
    let mut samples = futures_util::stream::iter((0..options.samples).map(|_| {
        sampler.sample(SampleRequest::new(
            ModelInput::from_ints(prompt.clone()),
            SamplingParams::new().max_tokens(32),
        ))
    }))
    .buffer_unordered(options.in_flight);
    while let Some(sample) = samples.next().await {
        assert_eq!(sample?.sequences[0].tokens.len(), 32);
    }
    meter.stop()
}
