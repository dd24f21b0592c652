//! This client, used as its documentation says.

use tinkex_client::{
    HttpVersionPolicy, ModelInput, ReqwestTransport, SampleRequest, SamplingClient, SamplingParams,
    ServiceClient, SharedTransport,
};

use crate::cell::Http;
use crate::driver::Sampler;
use crate::server::SAMPLED_TOKENS;

pub(crate) struct Tinkex {
    sampler: SamplingClient,
    /// Owns the session and its heartbeat.
    _service: ServiceClient,
}

impl Tinkex {
    pub(super) async fn prepare(url: &str, http: Http) -> Result<Self, crate::AnyError> {
        // The other contenders send no telemetry either.
        let mut builder =
            ServiceClient::builder().api_key(super::bare::KEY).base_url(url).without_telemetry();
        if http == Http::Two {
            let transport = ReqwestTransport::builder().http_version(HttpVersionPolicy::Http2PriorKnowledge);
            builder = builder.transport(SharedTransport::new(transport.build()?));
        }
        let service = builder.build().await?;
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
