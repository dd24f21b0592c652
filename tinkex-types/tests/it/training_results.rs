//! Results of forward/backward passes, and how those of chunks become one (PROTOCOL 12.6, 19.3, 23).

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message as _;
use serde_json::{Map, Value, json};
use tinkex_types::{ForwardBackwardOutput, LossFnOutput, MetricValue, Metrics, TensorData, proto};

use crate::support::{bytes, exchanges, fixture, proto_result, tensor};

/// A result as the golden files write it.
fn decoded(output: &ForwardBackwardOutput) -> Value {
    let outputs = output.loss_fn_outputs.iter();
    let outputs: Vec<Map<String, Value>> =
        outputs.map(|output| output.iter().map(|(name, t)| (name.to_owned(), tensor(t))).collect()).collect();
    json!({
        "loss_fn_output_type": output.loss_fn_output_type,
        "loss_fn_outputs": outputs,
        "metrics": numbers(&output.metrics),
    })
}

fn numbers(metrics: &Metrics) -> Value {
    let number = |value: &MetricValue| match value {
        MetricValue::Number(value) if value.is_nan() => json!("NaN"),
        MetricValue::Number(value) => json!(value),
        MetricValue::Hash(hash) => json!(hash),
    };
    metrics.iter().map(|(name, value)| (name.clone(), number(value))).collect::<Map<_, _>>().into()
}

/// Golden vector `proto_decode`, the forward/backward cases.
#[test]
fn protobuf_results_decode_like_the_reference_sdk() {
    let vector = fixture(include_str!("../fixtures/proto_decode.json"));
    let cases = vector["cases"].as_array().unwrap().iter();
    let cases: Vec<_> = cases.filter(|c| c["message"] == "tinker_public.ForwardBackwardOutput").collect();
    assert_eq!(cases.len(), 7);
    for case in cases {
        let output = ForwardBackwardOutput::from_protobuf(bytes(&case["bytes_base64"])).unwrap();
        assert_eq!(decoded(&output), case["decoded"], "{}", case["name"]);
    }
}

/// The result of a golden scenario, and of the older JSON protocol; JSON is read like protobuf.
#[test]
fn recorded_results_decode_to_what_the_caller_got() {
    let scenario = fixture(include_str!("../fixtures/forward_backward_dense.json"));
    let from_protobuf = ForwardBackwardOutput::from_protobuf(proto_result(&scenario)).unwrap();
    assert_eq!(decoded(&from_protobuf), scenario["decoded"]);
    let from_json = ForwardBackwardOutput::from_json(scenario["decoded"].to_string().as_bytes()).unwrap();
    assert_eq!(from_json, from_protobuf);
    assert_eq!(from_json.loss_fn_outputs[0].logprobs(), Some(&[-0.5, -0.25][..]));
    assert_eq!(
        (from_json.loss(), from_json.metric("num:sum"), from_json.metric("x")),
        (Some(0.75), Some(1.0), None)
    );

    let classic = fixture(include_str!("../fixtures/classic_forward_backward.json"));
    let body = exchanges(&classic).last().unwrap()["response"]["body"].to_string();
    let output = ForwardBackwardOutput::from_json(body.as_bytes()).unwrap();
    assert_eq!(decoded(&output), classic["decoded"]);
    assert_eq!(serde_json::to_value(&output).unwrap(), serde_json::from_str::<Value>(&body).unwrap());
}

/// What servers leave out of the JSON form does no harm; what is no result is an error.
#[test]
fn json_results_are_read_generously() {
    let read = |json: Value| ForwardBackwardOutput::from_json(json.to_string().as_bytes());
    assert_eq!(read(json!({})).unwrap(), ForwardBackwardOutput::default());
    let nulls = json!({"loss_fn_output_type": null, "loss_fn_outputs": null, "metrics": null, "new": 1});
    assert_eq!(read(nulls).unwrap(), ForwardBackwardOutput::default());
    let output = read(json!({
        "loss_fn_outputs": [{"logprobs": {"data": [-1, null], "dtype": "float32"}, "x": null}, {}],
        "metrics": {"loss:sum": 1, "a:sum": null, "b:sum": "text", "h:hash2": 18_446_744_073_709_551_615u64},
    }))
    .unwrap();
    let logprobs = output.loss_fn_outputs[0].logprobs().unwrap();
    assert!(logprobs[0] == -1.0 && logprobs[1].is_nan());
    assert_eq!((output.loss_fn_outputs[0].len(), output.loss_fn_outputs[1].is_empty()), (1, true));
    assert_eq!((output.loss(), output.metrics.len()), (Some(1.0), 3));
    assert!(output.metric("a:sum").unwrap().is_nan());
    assert_eq!(output.metric("h:hash2"), Some(18_446_744_073_709_551_615.0));
    for bad in [
        json!(1),
        json!({"loss_fn_outputs": [1]}),
        json!({"loss_fn_outputs": [{"x": 1}]}),
        json!({"metrics": 1}),
    ] {
        let error = read(bad.clone()).unwrap_err().to_string();
        assert!(error.starts_with("cannot read forward/backward output: "), "{bad}: {error}");
    }
}

#[test]
fn outputs_are_maps() {
    let tensor = |value: f32| TensorData::from(vec![value]);
    let output: LossFnOutput =
        [("b", tensor(1.0)), ("a", tensor(2.0)), ("b", tensor(3.0))].into_iter().collect();
    assert_eq!(output.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(output.get("b"), Some(&tensor(3.0)), "the last of a name");
    assert_eq!((output.get("c"), output.logprobs()), (None, None));
    assert_eq!(
        format!("{output:?}"),
        r#"{"a": TensorData(Float32 Some([1]), 1 values), "b": TensorData(Float32 Some([1]), 1 values)}"#
    );
}

fn packed(offsets: &[i64]) -> Bytes {
    offsets.iter().flat_map(|n| n.to_le_bytes()).collect()
}

fn field(data: usize, offsets: &[i64], trailing_shape: &[i64]) -> proto::BatchedTensor {
    proto::BatchedTensor {
        data: vec![0; data].into(),
        offsets: packed(offsets),
        dtype: proto::DType::DtypeFloat32.into(),
        trailing_shape: trailing_shape.to_vec(),
    }
}

fn record(fields: &[(&str, proto::BatchedTensor)], num_datums: i64) -> proto::ArrayRecord {
    let fields = fields.iter().map(|(name, field)| ((*name).to_owned(), field.clone())).collect();
    proto::ArrayRecord { fields, num_datums, ..Default::default() }
}

fn read(records: Vec<proto::ArrayRecord>) -> Result<ForwardBackwardOutput, String> {
    let message = proto::ForwardBackwardOutput { loss_fn_outputs: records, ..Default::default() };
    ForwardBackwardOutput::from_protobuf(message.encode_to_vec().into()).map_err(|e| e.to_string())
}

/// A result that contradicts itself is an error, said in words, and never a panic.
#[test]
fn broken_results_are_errors() {
    let dtype = |dtype: i32| proto::BatchedTensor { dtype, ..field(4, &[0, 4], &[]) };
    let cut = proto::BatchedTensor { offsets: Bytes::from_static(b"123"), ..field(4, &[], &[]) };
    let order = |datum: usize, bytes: usize| {
        format!(
            "cannot read batched tensor: the offsets of datum {datum} do not lie in order in {bytes} bytes"
        )
    };
    for (broken, message) in [
        (field(8, &[0, 12], &[]), order(0, 8)),
        (field(8, &[0, 8, 4], &[]), order(1, 8)),
        (field(8, &[4, 0], &[]), order(0, 8)),
        (field(8, &[-4, 8], &[]), order(0, 8)),
        (field(8, &[0, i64::MAX], &[]), order(0, 8)),
        (field(8, &[i64::MAX, i64::MAX], &[]), order(0, 8)),
        (field(8, &[0, 6], &[]), "cannot read tensor: 6 bytes are not whole elements of 4".to_owned()),
        (
            field(8, &[], &[]),
            "cannot read batched tensor: 0 bytes of offsets are not whole int64 values".to_owned(),
        ),
        (cut, "cannot read batched tensor: 3 bytes of offsets are not whole int64 values".to_owned()),
        (dtype(0), "cannot read batched tensor: dtype 0 is not known".to_owned()),
        (dtype(9), "cannot read batched tensor: dtype 9 is not known".to_owned()),
        (
            field(12, &[0, 12], &[2]),
            "cannot read batched tensor: 3 values do not fill rows of shape [2]".to_owned(),
        ),
        (
            field(12, &[0, 12], &[0]),
            "cannot read batched tensor: 3 values do not fill rows of shape [0]".to_owned(),
        ),
        (
            field(4, &[0, 4], &[i64::MAX, 3]),
            "cannot read batched tensor: trailing shape [9223372036854775807, 3]".to_owned(),
        ),
        (field(4, &[0, 4], &[1; 9]), "cannot read batched tensor: 9 trailing dimensions".to_owned()),
    ] {
        assert_eq!(read(vec![record(&[("v", broken)], 0)]).unwrap_err(), message);
    }
    let negative = read(vec![record(&[("v", field(4, &[0, 4], &[-1]))], 1)]).unwrap_err();
    assert!(negative.starts_with("cannot read trailing shape: "), "{negative}");
    assert!(read(vec![record(&[], -1)]).unwrap_err().starts_with("cannot read number of datums: "));
    let one = || field(4, &[0, 4], &[]);
    let two = || field(8, &[0, 4, 8], &[]);
    for records in [
        vec![record(&[("v", two())], 1)],
        vec![record(&[("a", one()), ("v", two())], 0)],
        vec![record(&[("a", one())], 1), record(&[("v", two())], 1)],
    ] {
        let message = "cannot read forward/backward output: `v` has 2 datums, its record 1";
        assert_eq!(read(records).unwrap_err(), message);
    }
    let garbage = ForwardBackwardOutput::from_protobuf(Bytes::from_static(b"\x12\x05")).unwrap_err();
    assert!(garbage.to_string().starts_with("cannot read forward/backward output: "), "{garbage}");
}

/// Fields that a server leaves out or blank are absent, in the records where they are.
#[test]
fn missing_fields_leave_the_others_in_place() {
    let two = |from: f32| proto::BatchedTensor {
        data: [from, from + 1.0].iter().flat_map(|v| v.to_le_bytes()).collect(),
        ..field(0, &[0, 4, 8], &[])
    };
    let blank = proto::BatchedTensor::default();
    let output = read(vec![
        record(&[("a", two(1.0)), ("b", blank.clone())], 2),
        record(&[("a", blank), ("b", two(3.0))], 2),
    ])
    .unwrap();
    let found: Vec<_> = output
        .loss_fn_outputs
        .iter()
        .map(|output| ["a", "b"].map(|name| output.get(name).map(|t| t.as_float32().unwrap()[0])))
        .collect();
    assert_eq!(found, [[Some(1.0), None], [Some(2.0), None], [None, Some(3.0)], [None, Some(4.0)]]);
}

/// A short message cannot ask for much: a number of empty examples is believed up to a bound, and so are lists.
#[test]
fn large_numbers_in_small_messages_are_not_believed() {
    assert_eq!(read(vec![record(&[], 65_536)]).unwrap().loss_fn_outputs.len(), 65_536);
    for records in [
        vec![record(&[], 65_537)],
        vec![record(&[], 65_536), record(&[], 1)],
        vec![record(&[], i64::MAX)],
        vec![record(&[], i64::MAX); 3],
    ] {
        let error = read(records).unwrap_err();
        assert!(error.ends_with(" datums have no output"), "{error}");
    }
    assert!(read(vec![record(&[], 0); 4096]).is_ok());
    let error = read(vec![record(&[], 0); 10_000]).unwrap_err();
    assert_eq!(error, "cannot read forward/backward output: more than 5762 entries in 20000 bytes");
}

fn number(value: &Value) -> f64 {
    if value == "NaN" { f64::NAN } else { value.as_f64().unwrap() }
}

/// Golden vector `metric_reduction`. The outputs are numbered through here, which shows their order better than the
/// numbers of the vector do.
#[test]
fn chunks_combine_like_the_reference_sdk_combines_them() {
    let vector = fixture(include_str!("../fixtures/metric_reduction.json"));
    let cases = vector["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 14);
    for case in cases {
        let mut numbered = 0..;
        let chunks = case["inputs"].as_array().unwrap().iter().map(|chunk| {
            let output = |n: u16| [("v", TensorData::from(vec![f32::from(n)]))].into_iter().collect();
            let metrics = chunk["metrics"].as_object().unwrap().iter();
            let metrics: BTreeMap<_, _> =
                metrics.map(|(name, value)| (name.clone(), number(value))).collect();
            ForwardBackwardOutput {
                loss_fn_output_type: chunk["loss_fn_output_type"].as_str().unwrap().to_owned(),
                loss_fn_outputs: (&mut numbered)
                    .take(chunk["n_outputs"].as_u64().unwrap() as usize)
                    .map(output)
                    .collect(),
                metrics: metrics.into(),
            }
        });
        let result = ForwardBackwardOutput::combine(chunks.collect());
        let name = case["name"].as_str().unwrap();
        let Some(expected) = case.get("combined") else {
            let message = match name {
                "no_colon" => "cannot read metrics: `plain` is not of the form name:reduction",
                "zero_weights_mean" => "cannot read metrics: `a:mean` is a mean over no outputs",
                other => panic!("a new case: {other}"),
            };
            assert_eq!(result.unwrap_err().to_string(), message);
            continue;
        };
        let combined = result.unwrap();
        assert_eq!(json!(combined.loss_fn_output_type), expected["loss_fn_output_type"], "{name}");
        let values = combined.loss_fn_outputs.iter().map(|o| o.get("v").unwrap().as_float32().unwrap()[0]);
        let expected_values = (0..expected["n_outputs"].as_u64().unwrap()).map(|n| n as f32);
        assert!(values.eq(expected_values), "{name}: {:?}", combined.loss_fn_outputs);
        assert_eq!(numbers(&combined.metrics), expected["metrics"], "{name}");
    }
}

fn combined(name: &str, values: &[f64]) -> Result<Metrics, String> {
    let chunk = |value: &f64| ForwardBackwardOutput {
        loss_fn_outputs: vec![LossFnOutput::default()],
        metrics: BTreeMap::from([(name.to_owned(), *value)]).into(),
        ..Default::default()
    };
    let chunks = values.iter().map(chunk).collect();
    ForwardBackwardOutput::combine(chunks).map(|output| output.metrics).map_err(|e| e.to_string())
}

/// PROTOCOL 12.6, beyond the vectors: negative hashes wrap, all 64 bits survive, NaN wins wherever it stands.
#[test]
fn reductions_at_their_edges() {
    let hash = |values: &[f64]| combined("h:hash2", values).unwrap()["h:hash2"];
    assert_eq!(hash(&[-1.5]), MetricValue::Hash(u64::MAX));
    assert_eq!(hash(&[-1.0, 3.0]), MetricValue::Hash(2));
    assert_eq!(hash(&[2f64.powi(64) + 4096.0]), MetricValue::Hash(4096));
    assert_eq!(hash(&[-(2f64.powi(64)) - 4096.0]), MetricValue::Hash(4096u64.wrapping_neg()));
    assert_eq!(hash(&[2f64.powi(63), 5.0]), MetricValue::Hash((1 << 63) + 5), "no double has this");
    assert_eq!(hash(&[1e308]), MetricValue::Hash(0));
    for bad in [f64::NAN, f64::INFINITY] {
        assert_eq!(
            combined("h:hash2", &[1.0, bad]).unwrap_err(),
            "cannot read metrics: `h:hash2` is not finite"
        );
    }
    for values in [[f64::NAN, 1.0, 2.0], [1.0, f64::NAN, 2.0], [1.0, 2.0, f64::NAN]] {
        for name in ["a:min", "a:max", "a:sum", "a:mean", "a:slack"] {
            assert!(combined(name, &values).unwrap().number(name).unwrap().is_nan(), "{name} {values:?}");
        }
    }
    assert_eq!(combined("a:min", &[2.0, 1.0, 3.0]).unwrap().number("a:min"), Some(1.0));
    assert_eq!(combined("a:max", &[2.0, 3.0, 1.0]).unwrap().number("a:max"), Some(3.0));
    for name in ["a", "a:b:sum", ""] {
        let message = format!("cannot read metrics: `{name}` is not of the form name:reduction");
        assert_eq!(combined(name, &[1.0]).unwrap_err(), message);
    }
    // A combined hash combines once more, bit by bit.
    let mut metrics = Metrics::default();
    metrics.insert("h:hash2", MetricValue::Hash(u64::MAX));
    let chunk = ForwardBackwardOutput { metrics, ..Default::default() };
    let twice = ForwardBackwardOutput::combine(vec![chunk.clone(), chunk]).unwrap();
    assert_eq!(twice.metrics["h:hash2"], MetricValue::Hash(u64::MAX - 1));
}
