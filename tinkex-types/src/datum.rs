//! One training example: what the model reads and what the loss function reads (PROTOCOL 12.2).

use std::collections::BTreeMap;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use crate::{InvalidInput, ModelInput, PlainValue, ProvenanceSpan, TensorData, provenance};

/// The inputs of a loss function, by name (PROTOCOL 12.2).
pub type LossFnInputs = BTreeMap<String, TensorData>;

pub(crate) const TARGET_TOKENS: &str = "target_tokens";
pub(crate) const WEIGHTS: &str = "weights";
const ADVANTAGES: &str = "advantages";
const LOGPROBS: &str = "logprobs";

/// One training example (PROTOCOL 12.2). Cloning shares the token and tensor buffers.
///
/// ```
/// use tinkex_types::Datum;
///
/// let datum = Datum::new(vec![72, 101, 108]).target_tokens([101, 108, 108]).weights([0.0, 1.0, 1.0]);
/// assert_eq!(datum.loss_fn_inputs["weights"].shape(), Some(&[3][..]));
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Datum {
    /// What the model reads.
    pub model_input: ModelInput,
    /// What the loss function reads, by name: a tensor per input, mostly one element per position.
    pub loss_fn_inputs: LossFnInputs,
    /// Where the tokens of the model input come from. Empty where that is not known.
    pub model_input_spans: Vec<ProvenanceSpan>,
    /// Where the target tokens come from. Empty where that is not known.
    pub loss_fn_input_spans: Vec<ProvenanceSpan>,
}

impl Datum {
    /// An example without loss function inputs.
    pub fn new(model_input: impl Into<ModelInput>) -> Self {
        Self { model_input: model_input.into(), ..Self::default() }
    }

    /// Sets `target_tokens`, int64 `[n]`: the token each position should predict.
    #[must_use]
    pub fn target_tokens(self, tokens: impl IntoIterator<Item: Into<i64>>) -> Self {
        self.tensor(TARGET_TOKENS, tokens.into_iter().map(Into::into).collect::<Vec<i64>>().into())
    }

    /// Sets `weights`, float32 `[n]`: how much each position counts in the loss.
    #[must_use]
    pub fn weights(self, weights: impl IntoIterator<Item = f32>) -> Self {
        self.floats(WEIGHTS, weights)
    }

    /// Sets `advantages`, float32 `[n]`, for the policy-gradient losses.
    #[must_use]
    pub fn advantages(self, advantages: impl IntoIterator<Item = f32>) -> Self {
        self.floats(ADVANTAGES, advantages)
    }

    /// Sets `logprobs`, float32 `[n]`: the log-probabilities (natural log) the sampler gave the target tokens.
    #[must_use]
    pub fn logprobs(self, logprobs: impl IntoIterator<Item = f32>) -> Self {
        self.floats(LOGPROBS, logprobs)
    }

    fn floats(self, name: &str, values: impl IntoIterator<Item = f32>) -> Self {
        self.tensor(name, values.into_iter().collect::<Vec<f32>>().into())
    }

    /// Sets an input of any name to a tensor, as it is.
    #[must_use]
    pub fn tensor(mut self, name: impl Into<String>, tensor: TensorData) -> Self {
        self.loss_fn_inputs.insert(name.into(), tensor);
        self
    }

    /// Sets an input to plain numbers, nested as deep as the tensor has dimensions. The name decides the element
    /// type: `target_tokens` become int64 (fractions are cut off), `weights`, `advantages`, `logprobs`,
    /// `clip_low_threshold`, `clip_high_threshold` and `sequence_ratio_mask` become float32.
    ///
    /// # Errors
    /// Where the name is another one (use [`tensor`](Self::tensor) for those), the lists are ragged, or a number
    /// does not fit the element type.
    pub fn with(self, name: &str, value: impl Into<PlainValue>) -> Result<Self, InvalidInput> {
        let tensor = value.into().to_tensor(name)?;
        Ok(self.tensor(name, tensor))
    }

    /// Sets where the tokens of the model input come from.
    #[must_use]
    pub fn model_input_spans(mut self, spans: impl IntoIterator<Item = ProvenanceSpan>) -> Self {
        self.model_input_spans = spans.into_iter().collect();
        self
    }

    /// Sets where the target tokens come from.
    #[must_use]
    pub fn loss_fn_input_spans(mut self, spans: impl IntoIterator<Item = ProvenanceSpan>) -> Self {
        self.loss_fn_input_spans = spans.into_iter().collect();
        self
    }

    /// Checks everything that can be known before sending, whatever the wire format.
    ///
    /// # Errors
    /// Where the model input is malformed, or the provenance spans do not tile the fields (PROTOCOL 12.3): both
    /// lists or neither; in each, lengths that sum to the number of tokens.
    pub fn validate(&self) -> Result<(), InvalidInput> {
        self.model_input.check_chunks("model_input")?;
        const INPUT: &str = "model_input_spans";
        const TARGETS: &str = "loss_fn_input_spans";
        match (self.model_input_spans.is_empty(), self.loss_fn_input_spans.is_empty()) {
            (true, true) => return Ok(()),
            (true, false) => return Err(InvalidInput::new(INPUT, format!("must come with {TARGETS}"))),
            (false, true) => return Err(InvalidInput::new(TARGETS, format!("must come with {INPUT}"))),
            (false, false) => {}
        }
        let Some(tokens) = self.model_input.token_count() else {
            return Err(InvalidInput::new(INPUT, "need images that state their expected tokens"));
        };
        provenance::check_tiling(INPUT, &self.model_input_spans, Some(tokens as u64))?;
        let targets = self.loss_fn_inputs.get(TARGET_TOKENS).and_then(|tensor| match tensor.shape() {
            Some([targets]) => Some(*targets),
            _ => None,
        });
        provenance::check_tiling(TARGETS, &self.loss_fn_input_spans, targets)
    }
}

/// The JSON form, of servers that speak the older protocol (PROTOCOL 23). It has no provenance and no sparse tensors:
/// spans are left out.
impl Serialize for Datum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Datum", 2)?;
        out.serialize_field("loss_fn_inputs", &self.loss_fn_inputs)?;
        out.serialize_field("model_input", &self.model_input)?;
        out.end()
    }
}
