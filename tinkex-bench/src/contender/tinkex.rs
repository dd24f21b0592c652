//! This client, used as its documentation says.

use tinkex_client::{ModelInput, SampleRequest, SamplingClient, SamplingParams, ServiceClient};

use crate::driver::Sampler;
use crate::server::SAMPLED_TOKENS;

pub(crate) struct Tinkex {
    sampler: SamplingClient,
    /// Owns the session and its heartbeat.
    _service: ServiceClient,
}

impl Tinkex {
    pub(super) async fn prepare(url: &str) -> Result<Self, crate::AnyError> {
        let service = ServiceClient::builder().api_key(super::bare::KEY).base_url(url).build().await?;
        let sampler = service.sampling_client().base_model("Qwen/Qwen3-8B").create().await?;
        Ok(Self { sampler, _service: service })
    }
}

impl Sampler for Tinkex {
    async fn sample(&self, prompt: Vec<i32>) -> Result<usize, crate::AnyError> {
        let params = SamplingParams::new().max_tokens(SAMPLED_TOKENS as u32);
        let reply = self.sampler.sample(SampleRequest::new(ModelInput::from_ints(prompt), params)).await?;
        Ok(reply.sequences.first().map_or(0, |sequence| sequence.tokens.len()))
    }
}
