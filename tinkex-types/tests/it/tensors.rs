//! Tensors and the audio container (PROTOCOL 12.2, 19.2).

use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;
use tinkex_types::proto::{self, tensor::Encoding};
use tinkex_types::{AudioChunk, CsrIndices, DType, TensorData, TensorValues};

use crate::support::fixture;

fn wire(dtype: proto::DType, dense: &[u8], shape: &[i64]) -> proto::Tensor {
    proto::Tensor {
        encoding: Some(Encoding::Dense(Bytes::copy_from_slice(dense))),
        dtype: dtype.into(),
        shape: shape.to_vec(),
    }
}

/// PROTOCOL 19.2: INT32 and INT64 read as int64, FLOAT32 and BFLOAT16 as float32; NaN, infinities and -0 survive.
#[test]
fn element_types_widen() {
    let ints: Vec<u8> = [1i32, -2, i32::MIN].iter().flat_map(|v| v.to_le_bytes()).collect();
    let tensor = TensorData::from_proto(&wire(proto::DType::DtypeInt32, &ints, &[3])).unwrap();
    assert_eq!((tensor.as_int64(), tensor.as_float32()), (Some(&[1, -2, i64::from(i32::MIN)][..]), None));
    let longs: Vec<u8> = [i64::MAX, -1].iter().flat_map(|v| v.to_le_bytes()).collect();
    let tensor = TensorData::from_proto(&wire(proto::DType::DtypeInt64, &longs, &[2])).unwrap();
    assert_eq!(tensor.as_int64(), Some(&[i64::MAX, -1][..]));
    let floats: Vec<u8> = [0.5f32, f32::INFINITY, -0.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    let tensor = TensorData::from_proto(&wire(proto::DType::DtypeFloat32, &floats, &[3])).unwrap();
    let values = tensor.as_float32().unwrap();
    assert_eq!(
        values.iter().map(|v| v.to_bits()).collect::<Vec<_>>(),
        [0.5f32, f32::INFINITY, -0.0].map(f32::to_bits)
    );
    let halves = [0xc0, 0x7f, 0x80, 0x7f, 0x80, 0xff, 0x00, 0x80, 0x00, 0xbf];
    let tensor = TensorData::from_proto(&wire(proto::DType::DtypeBfloat16, &halves, &[5])).unwrap();
    let values = tensor.as_float32().unwrap();
    assert!(values[0].is_nan());
    assert_eq!(values[1..], [f32::INFINITY, f32::NEG_INFINITY, -0.0, -0.5]);
    assert!(values[3].is_sign_negative());
    assert_eq!(tensor.dtype(), DType::Float32);
}

/// No shape on the wire is no shape, which is also how a scalar looks (PROTOCOL 24.12); no payload is no elements.
#[test]
fn shapes_are_taken_as_given() {
    let scalar = TensorData::from_proto(&wire(proto::DType::DtypeFloat32, &1f32.to_le_bytes(), &[])).unwrap();
    assert_eq!((scalar.shape(), scalar.as_float32()), (None, Some(&[1.0][..])));
    let bare = proto::Tensor { encoding: None, dtype: proto::DType::DtypeInt64.into(), shape: vec![0, 2] };
    let empty = TensorData::from_proto(&bare).unwrap();
    assert_eq!((empty.shape(), empty.as_int64()), (Some(&[0, 2][..]), Some(&[][..])));
}

#[test]
fn broken_tensors_are_errors() {
    use proto::DType::*;
    let unknown = proto::Tensor { dtype: 9, ..wire(DtypeFloat32, &[], &[]) };
    let crow = proto::SparseCsr { crow_indices: Bytes::from_static(b"123"), ..Default::default() };
    let sparse =
        proto::Tensor { encoding: Some(Encoding::SparseCsr(crow)), dtype: DtypeInt64.into(), shape: vec![] };
    for (tensor, message) in [
        (wire(DtypeUnspecified, &[], &[]), "cannot read tensor: dtype 0 is not known"),
        (unknown, "cannot read tensor: dtype 9 is not known"),
        (wire(DtypeFloat32, &[0; 5], &[1]), "cannot read tensor: 5 bytes are not whole elements of 4"),
        (wire(DtypeBfloat16, &[0; 3], &[1]), "cannot read tensor: 3 bytes are not whole elements of 2"),
        (wire(DtypeInt64, &[0; 12], &[1]), "cannot read tensor: 12 bytes are not whole elements of 8"),
        (sparse, "cannot read tensor: 3 bytes are not whole elements of 8"),
    ] {
        assert_eq!(TensorData::from_proto(&tensor).unwrap_err().to_string(), message);
    }
    let negative = TensorData::from_proto(&wire(DtypeFloat32, &[0; 4], &[-1])).unwrap_err().to_string();
    assert!(negative.starts_with("cannot read tensor shape: "), "{negative}");
}

/// "Wrong tensor shape": the message says both sides.
#[test]
fn shapes_must_hold_the_values() {
    assert!(TensorData::float32(vec![1.0], &[]).is_ok(), "a scalar");
    assert!(TensorData::int64(vec![], &[0, 4]).is_ok());
    assert!(TensorData::int64(vec![1, 2, 3, 4], &[2, 2]).is_ok());
    for (count, shape, message) in [
        (3, &[2, 2][..], "tensor of shape [2, 2] cannot hold 3 values"),
        (0, &[], "tensor of shape [] cannot hold 0 values"),
        (1, &[u64::MAX, 2], "tensor of shape [18446744073709551615, 2] cannot hold 1 values"),
    ] {
        let error = TensorData::int64(vec![0; count], shape).unwrap_err();
        assert_eq!((error.to_string().as_str(), error.field()), (message, "tensor"));
    }
}

fn sparse(crow: &[i64], col: &[i64], values: usize, rows: u64, columns: u64) -> Result<TensorData, String> {
    let csr = CsrIndices { crow: crow.into(), col: col.into() };
    TensorData::sparse(TensorValues::Float32(vec![1.0; values].into()), csr, rows, columns)
        .map_err(|e| e.to_string())
}

#[test]
fn sparse_indices_must_fit() {
    let tensor = sparse(&[0, 1, 1, 2], &[3, 0], 2, 3, 4).unwrap();
    assert_eq!(tensor.shape(), Some(&[3, 4][..]));
    assert_eq!(&*tensor.csr().unwrap().crow, [0, 1, 1, 2]);
    assert!(sparse(&[0], &[], 0, 0, 0).is_ok(), "no rows");
    for (crow, values, rows) in [
        (&[0, 1][..], 2, 3), // too few rows
        (&[1, 1, 1, 2], 2, 3),
        (&[0, 2, 1, 2], 2, 3),
        (&[0, 1, 1, 3], 2, 3),
        (&[], 0, 0),
        (&[0], 0, u64::MAX),
    ] {
        let error = sparse(crow, &vec![0; values], values, rows, 4).unwrap_err();
        assert_eq!(error, "tensor has row offsets that do not fit its rows and values", "{crow:?}");
    }
    for col in [&[0][..], &[0, 4], &[-1, 0], &[0, 0, 0]] {
        let error = sparse(&[0, 1, 1, 2], col, 2, 3, 4).unwrap_err();
        assert_eq!(error, "tensor has column indices that do not fit its columns and values", "{col:?}");
    }
}

/// PROTOCOL 21: the JSON form. Integers keep all their digits; shape and sparse indices only where there are some.
#[test]
fn json_forms() {
    let big = 9_007_199_254_740_993i64; // 2^53 + 1: no float64
    for (tensor, json) in [
        (
            TensorData::int64(vec![big, -1], &[2]).unwrap(),
            json!({"data": [big, -1], "dtype": "int64", "shape": [2]}),
        ),
        (
            TensorData::float32(vec![-0.5], &[1, 1]).unwrap(),
            json!({"data": [-0.5], "dtype": "float32", "shape": [1, 1]}),
        ),
        (
            sparse(&[0, 0, 1], &[2], 1, 2, 3).unwrap(),
            json!({"data": [1.0], "dtype": "float32", "shape": [2, 3],
                   "sparse_crow_indices": [0, 0, 1], "sparse_col_indices": [2]}),
        ),
    ] {
        assert_eq!(serde_json::to_value(&tensor).unwrap(), json);
        assert_eq!(serde_json::from_value::<TensorData>(json).unwrap(), tensor);
    }
    let read = |json| serde_json::from_value::<TensorData>(json);
    let tensor = read(json!({"data": [1, 2.0], "dtype": "int64"})).unwrap();
    assert_eq!((tensor.as_int64(), tensor.shape()), (Some(&[1, 2][..]), None));
    let tensor = read(json!({"data": [1, null, 2.5], "dtype": "float32", "shape": null})).unwrap();
    let values = tensor.as_float32().unwrap();
    assert!(values[0] == 1.0 && values[1].is_nan() && values[2] == 2.5);
    for bad in [
        json!({"data": [1.5], "dtype": "int64"}),
        json!({"data": [null], "dtype": "int64"}),
        json!({"data": [1e300], "dtype": "int64"}),
        json!({"data": [1], "dtype": "int8"}),
        json!({"data": ["1"], "dtype": "float32"}),
        json!({"dtype": "float32"}),
        json!({"data": [1], "dtype": "int64", "sparse_crow_indices": [0, 1]}),
        json!({"data": [1], "dtype": "int64", "shape": [-1]}),
    ] {
        assert!(read(bad.clone()).is_err(), "{bad}");
    }
}

/// A tensor in a log line is its outline, not its values.
#[test]
fn tensors_print_their_outline() {
    let tensor = TensorData::int64(vec![0; 6], &[2, 3]).unwrap();
    assert_eq!(format!("{tensor:?}"), "TensorData(Int64 Some([2, 3]), 6 values)");
    assert_eq!(
        format!("{:?}", sparse(&[0, 0, 1], &[2], 1, 2, 3).unwrap()),
        "TensorData(sparse Float32 Some([2, 3]), 1 values)"
    );
    let shared: Arc<[f32]> = Arc::from(vec![0.0; 3]);
    assert_eq!(format!("{:?}", TensorValues::Float32(shared)), "TensorValues(3 values)");
}

/// Golden vector: the header of the audio container.
#[test]
fn container_shapes() {
    let vector = fixture(include_str!("../fixtures/tensor.json"));
    for case in vector["tensor_container"].as_array().unwrap() {
        let hex = case["header_hex"].as_str().unwrap();
        let dmel: Vec<u8> =
            (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect();
        let audio = AudioChunk { dmel: dmel.into() };
        let expected =
            case["shape"].as_array().map(|s| s.iter().map(|n| n.as_u64().unwrap()).collect::<Vec<_>>());
        assert_eq!(audio.shape(), expected, "{hex}");
        let tokens = expected.and_then(|shape| usize::try_from(*shape.first()?).ok());
        assert_eq!(audio.token_count(), tokens, "{hex}");
    }
    // A header that promises more dimensions than there are bytes costs nothing.
    let lying = AudioChunk { dmel: Bytes::from_static(b"\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x01") };
    assert_eq!(lying.shape(), None);
}
