//! Examples and batches: coercion of plain numbers, spans, sparse tensors, estimates, chunks (PROTOCOL 12.2 to 12.5).

use proptest::prelude::*;
use serde_json::Value;
use tinkex_types::{
    AudioChunk, Chunk, ChunkLimits, ClientConfig, CsrIndices, Datum, ImageAssetPointerChunk, ImageChunk,
    ImageFormat, ModelInput, PlainValue, ProvenanceSpan, TensorData, TensorValues, chunk_ranges,
};

use crate::support::{fixture, tensor};

fn plain(value: &Value) -> PlainValue {
    match value {
        Value::Bool(value) => PlainValue::Bool(*value),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => PlainValue::Int(whole),
            None => PlainValue::Float(number.as_f64().unwrap()),
        },
        Value::Array(values) => PlainValue::List(values.iter().map(plain).collect()),
        other => panic!("no plain value: {other}"),
    }
}

/// Golden vector `datum_coercion`: the name decides the element type; names without one are errors.
#[test]
fn plain_numbers_become_tensors_by_name() {
    let vector = fixture(include_str!("../fixtures/datum_coercion.json"));
    let cases = vector["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 11);
    for case in cases {
        let name = case["key"].as_str().unwrap();
        let datum = Datum::default().with(name, plain(&case["value"]));
        match case["result"].get("error") {
            Some(_) => assert_eq!(
                datum.unwrap_err().to_string(),
                format!(
                    "loss_fn_inputs has no element type for plain numbers under `{name}`; give it a tensor"
                )
            ),
            None => assert_eq!(tensor(&datum.unwrap().loss_fn_inputs[name]), case["result"], "{case}"),
        }
    }
}

#[test]
fn vectors_arrays_and_slices_are_plain_values() {
    let grid = Datum::default().with("weights", vec![vec![0.5f32, 1.0], vec![2.0, 3.0]]).unwrap();
    assert_eq!(grid, Datum::default().with("weights", [[0.5f64, 1.0], [2.0, 3.0]]).unwrap());
    assert_eq!(grid, Datum::default().with("weights", &[[0.5, 1.0], [2.0, 3.0]][..]).unwrap());
    assert_eq!(grid.loss_fn_inputs["weights"].shape(), Some(&[2, 2][..]));
    let cube = Datum::default().with("target_tokens", vec![vec![vec![1u32, 2]; 3]; 4]).unwrap();
    assert_eq!(cube.loss_fn_inputs["target_tokens"].shape(), Some(&[4, 3, 2][..]));
    let scalar = Datum::default().with("advantages", 1.5).unwrap();
    assert_eq!(scalar.loss_fn_inputs["advantages"], TensorData::scalar_f32(1.5));
    let flat = Datum::default().target_tokens([1, 2]).weights([0.0, 1.0]).advantages([2.0]).logprobs([-1.0]);
    let same =
        Datum::default().with("target_tokens", [1i64, 2]).and_then(|d| d.with("weights", [false, true]));
    let same = same.and_then(|d| d.with("advantages", [2])?.with("logprobs", vec![-1.0]));
    assert_eq!(Ok(flat), same);
}

#[test]
fn plain_values_that_are_no_tensors_are_refused() {
    let ragged = [
        plain(&serde_json::json!([[1, 2], [3]])),
        plain(&serde_json::json!([1, [2]])),
        plain(&serde_json::json!([[1], 2])),
        plain(&serde_json::json!([[], [1]])),
        plain(&serde_json::json!([[[1]], [1]])),
    ];
    for value in ragged {
        let error = Datum::default().with("weights", value).unwrap_err().to_string();
        assert_eq!(error, "loss_fn_inputs must not be ragged, but `weights` is");
    }
    for value in [f64::NAN, f64::INFINITY, 2f64.powi(63), -9.3e18] {
        let error = Datum::default().with("target_tokens", [value]).unwrap_err().to_string();
        assert_eq!(error, "loss_fn_inputs must hold numbers that fit int64 under `target_tokens`");
    }
    let least = Datum::default().with("target_tokens", [i64::MIN as f64]).unwrap();
    assert_eq!(least.loss_fn_inputs["target_tokens"].as_int64(), Some(&[i64::MIN][..]));
    let nested = |depth: usize| {
        let value = (0..depth).fold(PlainValue::Int(1), |value, _| PlainValue::List(vec![value]));
        Datum::default().with("weights", value)
    };
    assert!(nested(16).is_ok());
    assert_eq!(
        nested(17).unwrap_err().to_string(),
        "loss_fn_inputs must not nest `weights` deeper than 16 lists"
    );
}

fn spanned(input: &[ProvenanceSpan], targets: &[ProvenanceSpan]) -> Datum {
    Datum::new(vec![1, 2, 3])
        .target_tokens([2, 3, 4])
        .model_input_spans(input.to_vec())
        .loss_fn_input_spans(targets.to_vec())
}

/// Golden vector `client_validation`, the rows about spans. Negative numbers cannot be written in the first place.
#[test]
fn spans_are_checked_like_the_reference_sdk() {
    let vector = fixture(include_str!("../fixtures/client_validation.json"));
    let golden = |name: &str| -> bool {
        let case = vector["cases"].as_array().unwrap().iter().find(|case| case["name"] == name).unwrap();
        case["ok"].as_bool().unwrap()
    };
    let whole = [ProvenanceSpan::prompt("q", 0, 2), ProvenanceSpan::sampled("q", 0, 1)];
    let short = [ProvenanceSpan::prompt("q", 0, 2)];
    let nameless = [ProvenanceSpan::prompt("", 0, 3)];
    for (name, datum, message) in [
        ("tiling ok", spanned(&whole, &whole), ""),
        ("tiling short", spanned(&short, &whole), "model_input_spans must cover 3 tokens, not 2"),
        ("tiling loss mismatch", spanned(&whole, &short), "loss_fn_input_spans must cover 3 tokens, not 2"),
        ("span empty id", spanned(&nameless, &whole), "model_input_spans must name a sequence in every span"),
    ] {
        let result = datum.validate();
        assert_eq!(result.is_ok(), golden(name), "{name}");
        assert_eq!(result.map_or_else(|e| e.to_string(), |()| String::new()), message);
    }
    for name in ["span negative length", "span negative offset"] {
        assert!(!golden(name) && u64::try_from(-1).is_err());
    }
}

/// PROTOCOL 12.3: both lists or neither; targets are counted where they have one dimension.
#[test]
fn spans_come_in_pairs_and_fit_what_can_be_counted() {
    let whole = [ProvenanceSpan::sampled("q", 5, 3)];
    let message = |datum: &Datum| datum.validate().unwrap_err().to_string();
    assert_eq!(message(&spanned(&whole, &[])), "loss_fn_input_spans must come with model_input_spans");
    assert_eq!(message(&spanned(&[], &whole)), "model_input_spans must come with loss_fn_input_spans");
    let grid = TensorData::int64(vec![0; 12], &[3, 4]).unwrap();
    let many = [ProvenanceSpan::sampled("q", 0, 99)];
    spanned(&whole, &many).tensor("target_tokens", grid).validate().unwrap();
    let huge = [ProvenanceSpan::prompt("q", u64::MAX, 3)];
    assert_eq!(
        message(&spanned(&huge, &whole)),
        "model_input_spans must have offsets and lengths of at most 2^63 - 1"
    );
    let mut unsized_image = spanned(&whole, &whole);
    unsized_image.model_input = ModelInput::default().with_image(image(3, None));
    assert_eq!(message(&unsized_image), "model_input_spans need images that state their expected tokens");
    unsized_image.model_input = ModelInput::default().with_image(image(3, Some(3)));
    unsized_image.validate().unwrap();
}

#[test]
fn malformed_inputs_are_refused() {
    for (input, message) in [
        (ModelInput::from_ints([1, -2]), "model_input must not contain the negative token -2"),
        (
            ModelInput::default().with_image(image(0, None)),
            "model_input must not contain an image without bytes",
        ),
        (
            ModelInput::default().with_audio(AudioChunk { dmel: vec![9].into() }),
            "model_input contains audio whose DMel header is malformed",
        ),
    ] {
        assert_eq!(Datum::new(input).validate().unwrap_err().to_string(), message);
    }
}

fn image(bytes: usize, expected_tokens: Option<u32>) -> ImageChunk {
    ImageChunk { data: vec![0; bytes].into(), format: ImageFormat::Png, expected_tokens }
}

/// Golden vector `chunking`, the estimates of a training request.
#[test]
fn examples_weigh_what_the_reference_sdk_says() {
    let vector = fixture(include_str!("../fixtures/chunking.json"));
    let cases = vector["fwdbwd_datum_estimates"].as_array().unwrap();
    assert_eq!(cases.len(), 6);
    for case in cases {
        let empty = Datum::default();
        let of = |chunk: Chunk| Datum::new(ModelInput::new(vec![chunk]));
        let datum = match case["name"].as_str().unwrap() {
            "text" => Datum::new(vec![1; 10]),
            "text_plus_dense" => Datum::new(vec![1; 10]).target_tokens([1; 10]).weights([1.0; 10]),
            "image" => of(Chunk::Image(image(123, Some(9)))),
            "image_asset_pointer" => of(Chunk::ImageAssetPointer(ImageAssetPointerChunk {
                format: ImageFormat::Png,
                location: "tinker://i/1".to_owned(),
                expected_tokens: Some(9),
            })),
            "dmel" => of(Chunk::Audio(AudioChunk { dmel: vec![0; 77].into() })),
            "sparse" => {
                let csr = CsrIndices { crow: vec![0, 1, 1, 2].into(), col: vec![0, 3].into() };
                let values = TensorValues::Float32(vec![0.5, 0.25].into());
                empty.tensor("weights", TensorData::sparse(values, csr, 3, 8).unwrap())
            }
            other => panic!("a new case: {other}"),
        };
        assert_eq!(Some(datum.estimated_bytes()), case["estimated_bytes"].as_u64(), "{case}");
    }
}

/// Golden vector `chunking`, and F-22: an oversized first datum has no empty chunk before it.
#[test]
fn batches_are_cut_like_the_reference_sdk_cuts_them() {
    let vector = fixture(include_str!("../fixtures/chunking.json"));
    let cases = vector["chunk_cases"].as_array().unwrap();
    assert_eq!(cases.len(), 8);
    let number = |value: &Value| value.as_u64().unwrap();
    for case in cases {
        let sizes: Vec<u64> = match &case["datum_bytes"] {
            Value::Array(sizes) => sizes.iter().map(number).collect(),
            _ => vec![number(&case["uniform_datum_bytes"]); number(&case["datum_count"]) as usize],
        };
        let limits = ChunkLimits {
            max_len: number(&case["max_chunk_len"]) as usize,
            max_bytes: number(&case["max_chunk_bytes"]),
        };
        let chunks = chunk_ranges(sizes.iter().copied(), &limits);
        let found: Vec<_> = chunks
            .iter()
            .map(|range| (range.len() as u64, sizes[range.clone()].iter().sum::<u64>()))
            .collect();
        let expected = case["chunks"].as_array().unwrap().iter();
        let expected: Vec<_> = expected.map(|c| (number(&c["n"]), number(&c["estimated_bytes"]))).collect();
        assert_eq!(found, expected, "{}", case["name"]);
    }
    let defaults = ChunkLimits::from(&ClientConfig::default());
    assert_eq!(defaults, ChunkLimits { max_len: 1024, max_bytes: 5_000_000 });
}

proptest! {
    /// F-22: whatever the sizes and limits, no chunk is empty, the chunks are the batch in order, none breaks a limit
    /// unless it is a single datum, and none could have taken the next datum too.
    #[test]
    fn chunks_are_the_batch(
        sizes in prop::collection::vec(prop_oneof![0u64..20, Just(u64::MAX)], 0..60),
        max_len in 0usize..8,
        max_bytes in 0u64..50,
    ) {
        let limits = ChunkLimits { max_len, max_bytes };
        let chunks = chunk_ranges(sizes.iter().copied(), &limits);
        prop_assert!(chunks.iter().all(|chunk| !chunk.is_empty()));
        prop_assert_eq!(
            chunks.iter().cloned().flatten().collect::<Vec<_>>(),
            (0..sizes.len()).collect::<Vec<_>>()
        );
        let bytes = |range: std::ops::Range<usize>| sizes[range].iter().fold(0, |a: u64, b| a.saturating_add(*b));
        for chunk in &chunks {
            prop_assert!(chunk.len() == 1 || (chunk.len() <= max_len && bytes(chunk.clone()) <= max_bytes));
            if chunk.end < sizes.len() {
                let longer = chunk.start..chunk.end + 1;
                prop_assert!(longer.len() > max_len || bytes(longer) > max_bytes);
            }
        }
    }

    /// Sparse and back is the same tensor.
    #[test]
    fn sparse_tensors_expand_to_what_they_were(
        rows in 0u64..12,
        columns in 0u64..12,
        seed in prop::collection::vec(prop_oneof![8 => Just(0i64), 1 => any::<i64>()], 144),
    ) {
        let values = &seed[..(rows * columns) as usize];
        let dense = TensorData::int64(values, &[rows, columns]).unwrap();
        let sparse = dense.sparsified();
        let stored = values.iter().filter(|v| **v != 0).count() as u64;
        prop_assert_eq!(sparse.csr().is_some(), rows + 1 + 2 * stored < rows * columns);
        prop_assert_eq!(sparse.to_dense().unwrap(), dense);
        let floats: Vec<f32> = values.iter().map(|v| *v as f32).collect();
        let dense = TensorData::float32(floats, &[rows, columns]).unwrap();
        prop_assert_eq!(dense.sparsified().to_dense().unwrap(), dense);
    }
}

/// Golden vector `tensor`: dense or CSR.
#[test]
fn tensors_become_sparse_where_that_is_smaller() {
    let vector = fixture(include_str!("../fixtures/tensor.json"));
    let cases = vector["sparse_decision"].as_array().unwrap();
    assert_eq!(cases.len(), 9);
    for case in cases {
        let number = |name: &str| case[name].as_u64().unwrap();
        let (rows, columns, stored) = (number("rows"), number("cols"), number("nonpad"));
        let values: Vec<i64> = (0..rows * columns).map(|n| i64::from(n < stored) * (n as i64 + 1)).collect();
        let tensor = TensorData::int64(values, &[rows, columns]).unwrap().sparsified();
        assert_eq!(tensor.csr().is_some(), case["csr"].as_bool().unwrap(), "{case}");
        if let Some(csr) = tensor.csr() {
            assert_eq!(serde_json::json!(csr.crow), case["crow"]);
            assert_eq!(serde_json::json!(csr.col), case["col"]);
            assert_eq!(tensor.as_int64().unwrap(), (1..=stored as i64).collect::<Vec<_>>());
        }
    }
    let flat = TensorData::from(vec![0.0f32; 100]);
    assert_eq!(flat.sparsified(), flat, "one dimension stays dense");
    let cube = TensorData::int64(vec![0; 100], &[10, 5, 2]).unwrap();
    assert_eq!(cube.sparsified(), cube);
}

/// What a server sent need not be a tensor.
#[test]
fn sparse_tensors_that_do_not_fit_do_not_expand() {
    let read =
        |json: Value| serde_json::from_value::<TensorData>(json).unwrap().to_dense().unwrap_err().to_string();
    let tensor = |crow: &[i64], col: &[i64], shape: &[u64]| {
        read(serde_json::json!({
            "data": [1], "dtype": "int64", "shape": shape, "sparse_crow_indices": crow, "sparse_col_indices": col,
        }))
    };
    let offsets = "cannot read sparse tensor: tensor has row offsets that do not fit its rows and values";
    assert_eq!(tensor(&[0, 2], &[0], &[1, 4]), offsets);
    assert_eq!(tensor(&[0, 1, 1], &[0], &[1, 4]), offsets);
    let columns =
        "cannot read sparse tensor: tensor has column indices that do not fit its columns and values";
    assert_eq!(tensor(&[0, 1], &[4], &[1, 4]), columns);
    assert_eq!(tensor(&[0, 1], &[0], &[4]), "cannot read sparse tensor: its shape is Some([4])");
    for columns in [1 << 29, u64::MAX] {
        let message = format!("cannot read sparse tensor: 1 x {columns} are too many elements");
        assert_eq!(tensor(&[0, 1], &[0], &[1, columns]), message);
    }
}
