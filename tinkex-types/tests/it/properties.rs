//! Properties: whatever bytes come, nothing panics; what is written reads back.

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message as _;
use tinkex_types::{
    AudioChunk, ClientConfig, CsrIndices, ModelInput, Promise, QueueState, RetrieveFuturesResponse,
    SampleResponse, SamplerHandle, TensorData, TensorValues, TinkerPath, Tokens, proto,
};

/// Some JSON, more or less like a result.
fn json_like() -> impl Strategy<Value = String> {
    let cell = prop_oneof![
        Just("null".to_owned()),
        Just("[]".to_owned()),
        Just("[[1,-0.5]]".to_owned()),
        Just("[null]".to_owned()),
        Just("{\"data\":[1],\"dtype\":\"int64\"}".to_owned()),
        Just("-1".to_owned()),
        Just("\"x\"".to_owned()),
        any::<f64>().prop_map(|v| v.to_string()),
        any::<i64>().prop_map(|v| format!("[{v}]")),
    ];
    let name = prop_oneof![
        Just("sequences"),
        Just("tokens"),
        Just("logprobs"),
        Just("stop_reason"),
        Just("topk_logprobs"),
        Just("prompt_logprobs"),
        Just("topk_prompt_logprobs"),
        Just("target_prompt_logprobs"),
        Just("prompt_alt_tokens"),
        Just("prompt_cache_hit_tokens"),
        Just("request_id"),
        Just("cursor"),
        Just("completions"),
    ];
    let object = |members: Vec<(&str, String)>| {
        let members: Vec<_> =
            members.into_iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        format!("{{{}}}", members.join(","))
    };
    let inner = prop::collection::vec((name.clone(), cell.clone()), 0..5).prop_map(object);
    let listed = inner.prop_map(|inner| format!("[{inner}]"));
    prop::collection::vec((name, prop_oneof![cell, listed]), 0..6).prop_map(object)
}

proptest! {
    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = SampleResponse::from_proto(Bytes::from(bytes.clone()));
        let _ = SampleResponse::from_json(&bytes);
        let _ = Tokens::from_le_bytes(&bytes);
        let audio = AudioChunk { dmel: bytes.clone().into() };
        let _ = (audio.shape(), audio.token_count(), format!("{audio:?}"));
        let text = String::from_utf8_lossy(&bytes);
        let _ = (text.parse::<TinkerPath>(), text.parse::<SamplerHandle>(), QueueState::parse(&text));
    }

    #[test]
    fn no_json_makes_a_reader_panic(text in json_like()) {
        let _ = SampleResponse::from_json(text.as_bytes()).map(|mut response| {
            response.align_prompt_logprobs(1);
            format!("{response:?}")
        });
        let _ = serde_json::from_str::<Promise>(&text);
        let _ = serde_json::from_str::<RetrieveFuturesResponse>(&text);
        let _ = serde_json::from_str::<ModelInput>(&text);
        prop_assert!(serde_json::from_str::<ClientConfig>(&text).is_ok(), "flags are never fatal");
    }

    /// A message that is well formed as protobuf and says whatever it likes.
    #[test]
    fn no_message_makes_a_decoder_panic(
        buffers in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 6),
        numbers in prop::collection::vec(any::<i32>(), 3),
        shape in prop::collection::vec(any::<i64>(), 0..3),
        (k, length) in prop_oneof![(0u32..4, 0u32..6), (any::<u32>(), any::<u32>())],
    ) {
        let mut buffers = buffers.into_iter().map(Bytes::from);
        let mut next = || buffers.next().unwrap_or_default();
        let topk = proto::TopkLogprobs { token_ids: next(), logprobs: next(), k, length };
        let tensor = proto::Tensor {
            encoding: Some(proto::tensor::Encoding::Dense(next())),
            dtype: numbers[0].rem_euclid(7),
            shape,
        };
        let message = proto::SampleResponse {
            sequences: vec![proto::SampledSequence {
                stop_reason: numbers[1],
                tokens: next(),
                logprobs: Some(next()),
                topk_sampled_logprobs: Some(topk.clone()),
            }],
            prompt_logprobs: Some(next()),
            topk_prompt_logprobs: Some(topk),
            prompt_cache_hit_tokens: numbers[2],
            target_prompt_logprobs: Some(tensor.clone()),
            prompt_alt_tokens: Some(proto::PromptAltTokens { tokens: Some(tensor), logprobs: None }),
        };
        let _ = SampleResponse::from_proto(message.encode_to_vec().into());
    }

    #[test]
    fn tokens_come_back(tokens in prop::collection::vec(any::<i32>(), 0..100)) {
        let tokens = Tokens::from(tokens);
        prop_assert_eq!(&Tokens::from_le_bytes(&tokens.to_le_bytes()).unwrap(), &tokens);
        let json = serde_json::to_string(&tokens).unwrap();
        prop_assert_eq!(serde_json::from_str::<Tokens>(&json).unwrap(), tokens);
    }

    /// Dense tensors through both wires, bit by bit through protobuf.
    #[test]
    fn dense_tensors_come_back(
        bits in prop::collection::vec(any::<u32>(), 1..40),
        ints in prop::collection::vec(any::<i64>(), 1..40),
    ) {
        let floats: Vec<f32> = bits.iter().map(|b| f32::from_bits(*b)).collect();
        let tensor = TensorData::float32(floats, &[1, bits.len() as u64]).unwrap();
        let back = TensorData::from_proto(&tensor.to_proto()).unwrap();
        prop_assert_eq!(back.as_float32().unwrap().iter().map(|v| v.to_bits()).collect::<Vec<_>>(), bits);
        prop_assert_eq!(back.shape(), tensor.shape());
        let finite: Vec<f32> = tensor.as_float32().unwrap().iter().copied().filter(|v| v.is_finite()).collect();
        let finite = TensorData::float32(finite.clone(), &[finite.len() as u64]).unwrap();
        let json = serde_json::to_string(&finite).unwrap();
        prop_assert_eq!(serde_json::from_str::<TensorData>(&json).unwrap(), finite);
        let tensor = TensorData::int64(ints.clone(), &[ints.len() as u64]).unwrap();
        prop_assert_eq!(&TensorData::from_proto(&tensor.to_proto()).unwrap(), &tensor);
        let json = serde_json::to_string(&tensor).unwrap();
        prop_assert_eq!(serde_json::from_str::<TensorData>(&json).unwrap(), tensor);
    }

    /// Sparse tensors through both wires.
    #[test]
    fn sparse_tensors_come_back(
        rows in prop::collection::vec(prop::collection::vec((0i64..50, any::<i64>()), 0..5), 0..8),
    ) {
        let mut crow = vec![0];
        let (mut col, mut values) = (Vec::new(), Vec::new());
        for row in &rows {
            col.extend(row.iter().map(|(column, _)| *column));
            values.extend(row.iter().map(|(_, value)| *value));
            crow.push(values.len() as i64);
        }
        let csr = CsrIndices { crow: crow.into(), col: col.into() };
        let tensor = TensorData::sparse(TensorValues::Int64(values.into()), csr, rows.len() as u64, 50).unwrap();
        prop_assert_eq!(&TensorData::from_proto(&tensor.to_proto()).unwrap(), &tensor);
        let json = serde_json::to_string(&tensor).unwrap();
        prop_assert_eq!(serde_json::from_str::<TensorData>(&json).unwrap(), tensor);
    }

    /// A queue state is read whatever its case and blanks, and never lost.
    #[test]
    fn queue_states_come_back(text in "\\PC{0,20}") {
        let state = QueueState::parse(&text);
        if !text.trim().is_empty() && !state.is_known() {
            prop_assert_eq!(state.as_str(), text);
        }
        let known: QueueState = format!(" {} ", QueueState::PausedCapacity.as_str().to_uppercase()).parse().unwrap();
        prop_assert_eq!(known, QueueState::PausedCapacity);
    }
}
