//! The body of a forward or forward/backward pass, as protobuf and as JSON (PROTOCOL 12.1, 18, 23).

use bytes::Bytes;
use serde::Serialize;

use crate::protobuf_writer::ProtobufWriter;
use crate::{
    Chunk, DType, Datum, InvalidInput, Loss, LossConfigValue, LossFnConfig, ProvenanceSpan, TensorData,
    TensorValues, proto,
};

/// The body of a forward or forward/backward pass (PROTOCOL 12.1).
#[derive(Clone, Copy, Debug)]
pub struct ForwardBackwardBody<'a> {
    /// The model.
    pub model_id: &'a str,
    /// The request's number, from 1.
    pub seq_id: u64,
    /// The examples, at least one.
    pub data: &'a [Datum],
    /// The loss function.
    pub loss: &'a Loss,
    /// Compute no gradient.
    pub forward_only: bool,
}

impl ForwardBackwardBody<'_> {
    fn validate(&self) -> Result<(), InvalidInput> {
        if self.data.is_empty() {
            return Err(InvalidInput::new("data", "must not be empty"));
        }
        self.loss.validate()?;
        self.data.iter().try_for_each(Datum::validate)
    }

    /// The body of `POST /api/v1/forward_backward` as protobuf: a `ForwardBackwardRequest`, written in one pass into
    /// one buffer of exact size.
    ///
    /// # Errors
    /// Where there is no data, an example or the loss is invalid, an example refers to an image asset (the protobuf
    /// form has none), or a number does not fit the wire.
    pub fn to_protobuf(&self) -> Result<Bytes, InvalidInput> {
        self.validate()?;
        let seq_id = i32::try_from(self.seq_id)
            .map_err(|_| InvalidInput::new("seq_id", format!("must fit 31 bits, not be {}", self.seq_id)))?;
        self.data.iter().try_for_each(Datum::check_protobuf)?;
        Ok(ProtobufWriter::write(|out| {
            out.text(1, self.model_id);
            out.int(2, seq_id.into());
            for datum in self.data {
                out.message(3, |out| write_datum(datum, out));
            }
            out.text(4, self.loss.loss_fn.as_str());
            for (name, value) in self.loss.config.entries() {
                if let LossConfigValue::Number(number) = value {
                    out.entry(5, name, |out| out.double(2, *number));
                }
            }
            out.bool(6, self.forward_only);
            for (name, value) in self.loss.config.entries() {
                out.entry(7, name, |out| {
                    out.message(2, |out| match value {
                        LossConfigValue::Number(number) => out.present_double(1, *number),
                        LossConfigValue::Text(text) => out.present_packed(2, text.as_bytes()),
                    });
                });
            }
        }))
    }

    /// The body as JSON, for servers of the older protocol: of `POST /api/v1/forward_backward`, or of
    /// `POST /api/v1/forward` where no gradient is wanted (PROTOCOL 23). That protocol knows neither provenance, which is
    /// left out, nor sparse tensors, which are written dense.
    ///
    /// # Errors
    /// Where there is no data, an example or the loss is invalid, or a float is not finite, which JSON cannot say.
    pub fn to_json(&self) -> Result<Vec<u8>, InvalidInput> {
        #[derive(Serialize)]
        struct Input<'a> {
            data: &'a [Datum],
            loss_fn: &'a str,
            #[serde(skip_serializing_if = "LossFnConfig::is_empty")]
            loss_fn_config: &'a LossFnConfig,
        }
        #[derive(Serialize)]
        struct Body<'a> {
            model_id: &'a str,
            seq_id: u64,
            #[serde(skip_serializing_if = "Option::is_none")]
            forward_backward_input: Option<Input<'a>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            forward_input: Option<Input<'a>>,
        }
        self.validate()?;
        self.data.iter().try_for_each(Datum::check_json)?;
        let sparse = self.data.iter().any(|datum| datum.loss_fn_inputs.values().any(|t| t.csr().is_some()));
        let dense =
            if sparse { self.data.iter().map(dense).collect::<Result<Vec<_>, _>>()? } else { Vec::new() };
        let input = Input {
            data: if sparse { &dense } else { self.data },
            loss_fn: self.loss.loss_fn.as_str(),
            loss_fn_config: &self.loss.config,
        };
        let (forward_backward_input, forward_input) =
            if self.forward_only { (None, Some(input)) } else { (Some(input), None) };
        let body =
            Body { model_id: self.model_id, seq_id: self.seq_id, forward_backward_input, forward_input };
        serde_json::to_vec(&body).map_err(|e| InvalidInput::new("data", format!("cannot be written: {e}")))
    }
}

/// What the two forms of a training request can say.
impl Datum {
    /// Checks that a protobuf request can say this example.
    ///
    /// # Errors
    /// Where it refers to an image asset, which the protobuf form has none of, or a number does not fit the wire.
    pub fn check_protobuf(&self) -> Result<(), InvalidInput> {
        const FIELD: &str = "model_input";
        for chunk in self.model_input.chunks() {
            match chunk {
                Chunk::ImageAssetPointer(_) => {
                    let problem = "must not refer to an image asset: the protobuf form has none";
                    return Err(InvalidInput::new(FIELD, problem));
                }
                Chunk::Image(image) if image.expected_tokens.is_some_and(|n| i32::try_from(n).is_err()) => {
                    return Err(InvalidInput::new(FIELD, "must expect less than 2^31 tokens of an image"));
                }
                _ => {}
            }
        }
        let dimensions = self.loss_fn_inputs.values().flat_map(|tensor| tensor.shape().unwrap_or_default());
        if dimensions.into_iter().any(|n| i64::try_from(*n).is_err()) {
            return Err(InvalidInput::new("loss_fn_inputs", "must have dimensions of less than 2^63"));
        }
        Ok(())
    }

    /// Checks that a JSON request can say the numbers of this example.
    ///
    /// # Errors
    /// Where a float is not finite.
    pub fn check_json(&self) -> Result<(), InvalidInput> {
        for (name, tensor) in &self.loss_fn_inputs {
            if tensor.as_float32().is_some_and(|values| values.iter().any(|v| !v.is_finite())) {
                let problem = format!("must be finite in a JSON request, but `{name}` is not");
                return Err(InvalidInput::new("loss_fn_inputs", problem));
            }
        }
        Ok(())
    }

    /// Whether a JSON request says the example as it is: without provenance, which is left out there, and without
    /// sparse tensors, which are written dense.
    pub fn is_whole_in_json(&self) -> bool {
        self.model_input_spans.is_empty()
            && self.loss_fn_input_spans.is_empty()
            && self.loss_fn_inputs.values().all(|tensor| tensor.csr().is_none())
    }
}

fn dense(datum: &Datum) -> Result<Datum, InvalidInput> {
    let mut datum = datum.clone();
    for tensor in datum.loss_fn_inputs.values_mut().filter(|tensor| tensor.csr().is_some()) {
        *tensor = tensor.to_dense().map_err(|e| InvalidInput::new("loss_fn_inputs", format!("{e}")))?;
    }
    Ok(datum)
}

fn write_datum(datum: &Datum, out: &mut ProtobufWriter) {
    for chunk in datum.model_input.chunks() {
        out.message(1, |out| match chunk {
            Chunk::EncodedText { tokens } => out.message(1, |out| out.packed(1, tokens.as_slice())),
            Chunk::Image(image) => out.message(2, |out| {
                out.packed(1, &image.data[..]);
                out.text(2, image.format.as_str());
                if let Some(tokens) = image.expected_tokens {
                    out.present_int(3, tokens.into());
                }
            }),
            Chunk::Audio(audio) => out.message(3, |out| out.packed(1, &audio.dmel[..])),
            Chunk::ImageAssetPointer(_) => {} // refused before
        });
    }
    for (name, tensor) in &datum.loss_fn_inputs {
        out.entry(2, name, |out| out.message(2, |out| write_tensor(tensor, out)));
    }
    for span in &datum.model_input_spans {
        out.message(3, |out| write_span(span, out));
    }
    for span in &datum.loss_fn_input_spans {
        out.message(4, |out| write_span(span, out));
    }
}

fn write_tensor(tensor: &TensorData, out: &mut ProtobufWriter) {
    match tensor.csr() {
        None => match tensor.values() {
            TensorValues::Float32(values) => out.present_packed(1, &values[..]),
            TensorValues::Int64(values) => out.present_packed(1, &values[..]),
        },
        Some(csr) => out.message(2, |out| {
            match tensor.values() {
                TensorValues::Float32(values) => out.packed(1, &values[..]),
                TensorValues::Int64(values) => out.packed(1, &values[..]),
            }
            out.packed(2, &csr.crow[..]);
            out.packed(3, &csr.col[..]);
        }),
    }
    let dtype = match tensor.dtype() {
        DType::Float32 => proto::DType::DtypeFloat32,
        DType::Int64 => proto::DType::DtypeInt64,
    };
    out.int(3, i64::from(i32::from(dtype)));
    out.varints(4, tensor.shape().unwrap_or_default().iter().copied());
}

fn write_span(span: &ProvenanceSpan, out: &mut ProtobufWriter) {
    let tag = match span {
        ProvenanceSpan::Prompt { .. } => 1,
        ProvenanceSpan::Sampled { .. } => 2,
    };
    out.message(tag, |out| {
        out.text(1, span.sequence_id());
        out.int(2, i64::try_from(span.offset()).unwrap_or(i64::MAX)); // checked before
        out.int(3, i64::try_from(span.length()).unwrap_or(i64::MAX));
    });
}
