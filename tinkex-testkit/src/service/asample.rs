//! `asample` and `cancel_future`: taking samples in and calling them off (PROTOCOL 15.2–15.8).

use std::sync::Arc;

use serde_json::json;
use tokio::time::Instant;

use super::product::Product;
use super::promises::Work;
use super::refusal::Refusal;
use super::routes::{body, object};
use super::sample_request::SampleRequest;
use super::sessions::text;
use super::state::{CLONE_BLOCK, Records, Sampler, State};
use super::{SamplingOrder, Service};
use crate::model::{LanguageModel, stable_hash};
use crate::{Received, Reply};

impl Service {
    pub(crate) fn asample(&self, request: &Received) -> Result<Reply, Refusal> {
        let sample: SampleRequest = body(request).inspect_err(|_| self.note_rejected(request))?;
        let hash = stable_hash(&request.decoded_body().unwrap_or_default());
        let (id, seq_id) = (sample.sampling_session_id.clone(), sample.seq_id);
        let model = {
            let state = self.state();
            if let Some((number, samples)) = self.repeated(&state, &id, seq_id, hash)? {
                return Ok(self.promise(&id, seq_id, number, samples));
            }
            match state.samplers.get(&id) {
                Some(sampler) => state.model_of(sampler),
                None => return Err(Refusal::new(404, format!("unknown sampling session {id}"))),
            }
        };
        let work = sample.into_work(model, self.options()).inspect_err(|_| self.note_rejected(request))?;
        let samples = work.num_samples;
        let mut state = self.state();
        // Looked at again: a twin of this request may have come in between.
        if let Some((number, samples)) = self.repeated(&state, &id, seq_id, hash)? {
            return Ok(self.promise(&id, seq_id, number, samples));
        }
        if let Some(limit) = state.limit
            && state.samples_in_progress >= limit.samples
        {
            state.records.refused_over_limit += 1;
            let detail = format!("{} samples are in progress, which is the limit", limit.samples);
            return Err(Refusal::new(429, detail).with_retry_after(limit.retry_after));
        }
        let product = Product::Sample(Arc::new(work));
        let number = state.accept_sample(Instant::now(), &id, seq_id, hash, product);
        drop(state);
        Ok(self.promise(&id, seq_id, number, samples))
    }

    /// The promise an earlier request with this sequence id led to, and its number of samples; a refusal where the
    /// id cannot be used.
    fn repeated(
        &self,
        state: &State,
        id: &str,
        seq_id: u64,
        hash: u64,
    ) -> Result<Option<(u64, usize)>, Refusal> {
        let Some(sampler) = state.samplers.get(id) else { return Ok(None) };
        if state.sessions.get(&sampler.session).is_none_or(|session| session.finished.is_some()) {
            return Err(Refusal::new(400, format!("the session of {id} is finished")));
        }
        let clone = seq_id / CLONE_BLOCK;
        let next = sampler.groups.get(&clone).and_then(|group| group.next_seq);
        let expected = next.unwrap_or(clone * CLONE_BLOCK);
        let conflict = || {
            let detail = format!("sequence conflict on {id}: expected {expected}, got {seq_id}");
            Err(Refusal::new(409, detail))
        };
        let used = sampler.used.get(&seq_id);
        match (self.dialect().sampling_order, used) {
            (SamplingOrder::Strict, _) if seq_id != expected => conflict(),
            (SamplingOrder::NoReuse, Some(_)) => conflict(),
            (SamplingOrder::Free, Some(Some((number, was)))) if *was == hash => {
                let samples = |work: &Work| match work {
                    Work::Product(Product::Sample(work)) => work.num_samples,
                    _ => 0,
                };
                Ok(state.promises.get(number).map(|promise| (*number, samples(&promise.work))))
            }
            (SamplingOrder::Free, Some(Some(_))) => {
                let detail = format!("seq_id {seq_id} of {id} was used by a different request");
                Err(Refusal::new(409, detail))
            }
            _ => Ok(None),
        }
    }

    fn promise(&self, sampler: &str, seq_id: u64, number: u64, samples: usize) -> Reply {
        let dialect = self.dialect();
        let mut answer = json!({ "request_id": dialect.request_ids.format(number) });
        if dialect.sequence_ids {
            let ids: Vec<String> = (0..samples).map(|index| format!("{sampler}:{seq_id}:{index}")).collect();
            answer["sample_sequence_ids"] = json!(ids);
        }
        Reply::json(dialect.success.accepted, &answer)
    }

    pub(crate) fn cancel_future(&self, request: &Received) -> Result<Reply, Refusal> {
        let body = object(request)?;
        let id = text(&body, "request_id")?;
        let number = self.dialect().request_ids.parse(id);
        let mut state = self.state();
        match number.filter(|number| (1..state.next_promise).contains(number)) {
            None => Err(Refusal::new(404, format!("unknown request {id}"))),
            Some(number) => {
                state.cancel(number);
                let limit = state.records.limit;
                Records::push(limit, &mut state.records.cancelled, id.to_owned());
                Ok(self.done())
            }
        }
    }
}

impl State {
    /// The model that a sample accepted now comes from.
    fn model_of(&self, sampler: &Sampler) -> LanguageModel {
        let run = sampler.follows.as_ref().and_then(|model_id| self.runs.get(model_id));
        run.and_then(|run| run.published.as_ref()).unwrap_or(&sampler.model).clone()
    }
}
