//! Tensors, dense and sparse, as JSON and as protobuf (PROTOCOL 12.2, 19.2, 21).

use std::fmt;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use serde::de::Error as _;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Number;

use crate::{DecodeError, InvalidInput, proto};

/// The two element types the protocol exposes (PROTOCOL 12.2, 19.2, 21).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DType {
    /// 32-bit floats.
    Float32,
    /// 64-bit signed integers.
    Int64,
}

/// The elements of a tensor, in row-major order, shared (PROTOCOL 12.2, 19.2, 21).
#[derive(Clone, PartialEq)]
pub enum TensorValues {
    /// 32-bit floats.
    Float32(Arc<[f32]>),
    /// 64-bit signed integers.
    Int64(Arc<[i64]>),
}

impl TensorValues {
    /// How many elements.
    pub fn len(&self) -> usize {
        match self {
            Self::Float32(values) => values.len(),
            Self::Int64(values) => values.len(),
        }
    }

    /// True where there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The index arrays of a sparse CSR tensor (PROTOCOL 12.2, 19.2, 21).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CsrIndices {
    /// Rows + 1 offsets into the values.
    pub crow: Arc<[i64]>,
    /// One column per value.
    pub col: Arc<[i64]>,
}

/// A tensor: element type, shape and shared values. Sparse where it carries [`CsrIndices`] (PROTOCOL 12.2,
/// 19.2, 21).
#[derive(Clone, PartialEq)]
pub struct TensorData {
    values: TensorValues,
    shape: Option<Arc<[u64]>>,
    csr: Option<CsrIndices>,
}

impl TensorData {
    /// A dense tensor of floats. `shape` must hold as many elements as there are values.
    ///
    /// # Errors
    /// Where shape and values disagree.
    pub fn float32(values: impl Into<Arc<[f32]>>, shape: &[u64]) -> Result<Self, InvalidInput> {
        Self::dense(TensorValues::Float32(values.into()), shape)
    }

    /// A dense tensor of integers. `shape` must hold as many elements as there are values.
    ///
    /// # Errors
    /// Where shape and values disagree.
    pub fn int64(values: impl Into<Arc<[i64]>>, shape: &[u64]) -> Result<Self, InvalidInput> {
        Self::dense(TensorValues::Int64(values.into()), shape)
    }

    fn dense(values: TensorValues, shape: &[u64]) -> Result<Self, InvalidInput> {
        let elements = shape.iter().try_fold(1u64, |product, n| product.checked_mul(*n));
        if elements != Some(values.len() as u64) {
            let problem = format!("of shape {shape:?} cannot hold {} values", values.len());
            return Err(InvalidInput::new("tensor", problem));
        }
        Ok(Self { values, shape: Some(shape.into()), csr: None })
    }

    /// A sparse tensor of `rows` × `columns` in CSR form.
    ///
    /// # Errors
    /// Where the index arrays do not fit the shape or the values.
    pub fn sparse(
        values: TensorValues,
        csr: CsrIndices,
        rows: u64,
        columns: u64,
    ) -> Result<Self, InvalidInput> {
        let offsets_fit = csr.crow.len() as u64 == rows.saturating_add(1)
            && csr.crow.first() == Some(&0)
            && csr.crow.last() == Some(&(values.len() as i64))
            && csr.crow.is_sorted();
        if !offsets_fit {
            return Err(InvalidInput::new("tensor", "has row offsets that do not fit its rows and values"));
        }
        if csr.col.len() != values.len() || csr.col.iter().any(|c| *c < 0 || *c as u64 >= columns) {
            return Err(InvalidInput::new(
                "tensor",
                "has column indices that do not fit its columns and values",
            ));
        }
        Ok(Self { values, shape: Some(Arc::from([rows, columns])), csr: Some(csr) })
    }

    /// A single float, of no dimensions.
    pub fn scalar_f32(value: f32) -> Self {
        Self { values: TensorValues::Float32(Arc::from([value])), shape: Some(Arc::from([])), csr: None }
    }

    /// A tensor whose values are known to fill the shape.
    pub(crate) fn of_parts(values: TensorValues, shape: Arc<[u64]>) -> Self {
        Self { values, shape: Some(shape), csr: None }
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        match self.values {
            TensorValues::Float32(_) => DType::Float32,
            TensorValues::Int64(_) => DType::Int64,
        }
    }

    /// The dimensions; none where the sender gave none, which on the wire is also how a scalar looks.
    pub fn shape(&self) -> Option<&[u64]> {
        self.shape.as_deref()
    }

    /// The stored values: all elements of a dense tensor, the stored ones of a sparse tensor.
    pub fn values(&self) -> &TensorValues {
        &self.values
    }

    /// The values, where they are floats.
    pub fn as_float32(&self) -> Option<&[f32]> {
        match &self.values {
            TensorValues::Float32(values) => Some(values),
            TensorValues::Int64(_) => None,
        }
    }

    /// The values, where they are integers.
    pub fn as_int64(&self) -> Option<&[i64]> {
        match &self.values {
            TensorValues::Int64(values) => Some(values),
            TensorValues::Float32(_) => None,
        }
    }

    /// The index arrays of a sparse tensor.
    pub fn csr(&self) -> Option<&CsrIndices> {
        self.csr.as_ref()
    }

    /// Reads the protobuf form. INT32 widens to int64, BFLOAT16 to float32.
    ///
    /// # Errors
    /// Where the dtype is unset or unknown, or a buffer does not hold whole elements.
    pub fn from_proto(tensor: &proto::Tensor) -> Result<Self, DecodeError> {
        let (payload, csr) = match &tensor.encoding {
            Some(proto::tensor::Encoding::Dense(bytes)) => (bytes.clone(), None),
            Some(proto::tensor::Encoding::SparseCsr(sparse)) => (
                sparse.values.clone(),
                Some(CsrIndices {
                    crow: elements(&sparse.crow_indices, i64::from_le_bytes)?,
                    col: elements(&sparse.col_indices, i64::from_le_bytes)?,
                }),
            ),
            None => (Bytes::new(), None),
        };
        let values = match tensor.dtype() {
            proto::DType::DtypeFloat32 => TensorValues::Float32(elements(&payload, f32::from_le_bytes)?),
            proto::DType::DtypeInt64 => TensorValues::Int64(elements(&payload, i64::from_le_bytes)?),
            proto::DType::DtypeInt32 => {
                TensorValues::Int64(elements(&payload, |b| i64::from(i32::from_le_bytes(b)))?)
            }
            proto::DType::DtypeBfloat16 => TensorValues::Float32(elements(&payload, widen_bfloat16)?),
            proto::DType::DtypeUnspecified => {
                return Err(DecodeError::new("tensor", format!("dtype {} is not known", tensor.dtype)));
            }
        };
        let shape = if tensor.shape.is_empty() {
            None
        } else {
            let dims = tensor.shape.iter().map(|n| u64::try_from(*n));
            Some(dims.collect::<Result<_, _>>().map_err(|e| DecodeError::new("tensor shape", e))?)
        };
        Ok(Self { values, shape, csr })
    }

    /// The protobuf form.
    pub fn to_proto(&self) -> proto::Tensor {
        let payload = match &self.values {
            TensorValues::Float32(values) => packed(values, |out, v| out.put_f32_le(v)),
            TensorValues::Int64(values) => packed(values, |out, v| out.put_i64_le(v)),
        };
        let dtype = match self.dtype() {
            DType::Float32 => proto::DType::DtypeFloat32,
            DType::Int64 => proto::DType::DtypeInt64,
        };
        let encoding = match &self.csr {
            None => proto::tensor::Encoding::Dense(payload),
            Some(csr) => proto::tensor::Encoding::SparseCsr(proto::SparseCsr {
                values: payload,
                crow_indices: packed(&csr.crow, |out, v| out.put_i64_le(v)),
                col_indices: packed(&csr.col, |out, v| out.put_i64_le(v)),
            }),
        };
        proto::Tensor {
            encoding: Some(encoding),
            dtype: dtype.into(),
            shape: self
                .shape
                .iter()
                .flat_map(|s| s.iter())
                .map(|n| i64::try_from(*n).unwrap_or(i64::MAX))
                .collect(),
        }
    }
}

/// Reads packed elements of `N` bytes each.
pub(crate) fn elements<const N: usize, T, C: FromIterator<T>>(
    bytes: &[u8],
    read: impl Fn([u8; N]) -> T,
) -> Result<C, DecodeError> {
    let (cells, rest) = bytes.as_chunks::<N>();
    if !rest.is_empty() {
        return Err(DecodeError::new(
            "tensor",
            format!("{} bytes are not whole elements of {N}", bytes.len()),
        ));
    }
    Ok(cells.iter().map(|cell| read(*cell)).collect())
}

fn packed<T: Copy>(values: &[T], put: impl Fn(&mut BytesMut, T)) -> Bytes {
    let mut out = BytesMut::with_capacity(std::mem::size_of_val(values));
    for value in values {
        put(&mut out, *value);
    }
    out.freeze()
}

/// bfloat16 is the upper half of a float32, so NaN, infinities and -0 survive.
pub(crate) fn widen_bfloat16(bits: [u8; 2]) -> f32 {
    f32::from_bits(u32::from(u16::from_le_bytes(bits)) << 16)
}

/// A one-dimensional tensor.
impl From<Vec<f32>> for TensorData {
    fn from(values: Vec<f32>) -> Self {
        let shape = Arc::from([values.len() as u64]);
        Self::of_parts(TensorValues::Float32(values.into()), shape)
    }
}

/// A one-dimensional tensor.
impl From<Vec<i64>> for TensorData {
    fn from(values: Vec<i64>) -> Self {
        let shape = Arc::from([values.len() as u64]);
        Self::of_parts(TensorValues::Int64(values.into()), shape)
    }
}

impl fmt::Debug for TensorData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sparse = if self.csr.is_some() { "sparse " } else { "" };
        write!(f, "TensorData({sparse}{:?} {:?}, {} values)", self.dtype(), self.shape(), self.values.len())
    }
}

impl fmt::Debug for TensorValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TensorValues({} values)", self.len())
    }
}

impl Serialize for TensorData {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("TensorData", 5)?;
        match &self.values {
            TensorValues::Float32(values) => out.serialize_field("data", values)?,
            TensorValues::Int64(values) => out.serialize_field("data", values)?,
        }
        out.serialize_field("dtype", &self.dtype())?;
        if let Some(shape) = &self.shape {
            out.serialize_field("shape", shape)?;
        }
        if let Some(csr) = &self.csr {
            out.serialize_field("sparse_crow_indices", &csr.crow)?;
            out.serialize_field("sparse_col_indices", &csr.col)?;
        }
        out.end()
    }
}

#[derive(Deserialize)]
struct JsonTensor {
    // Numbers as they were written: a float64 cannot hold every int64.
    data: Vec<Option<Number>>,
    dtype: DType,
    shape: Option<Vec<u64>>,
    sparse_crow_indices: Option<Vec<i64>>,
    sparse_col_indices: Option<Vec<i64>>,
}

/// An integer, also where it was written as a float, as some servers do.
fn integer(number: &Number) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0; // 2^53
    let whole = || number.as_f64().filter(|v| v.fract() == 0.0 && v.abs() <= EXACT).map(|v| v as i64);
    number.as_i64().or_else(whole)
}

impl<'de> Deserialize<'de> for TensorData {
    /// Reads the JSON form. A null among floats is NaN; among integers it is an error, and so is a fraction.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let tensor = JsonTensor::deserialize(deserializer)?;
        let values = match tensor.dtype {
            DType::Int64 => {
                let read = |v: &Option<Number>| {
                    v.as_ref()
                        .and_then(integer)
                        .ok_or_else(|| D::Error::custom("int64 data must be whole numbers"))
                };
                TensorValues::Int64(tensor.data.iter().map(read).collect::<Result<_, _>>()?)
            }
            DType::Float32 => {
                let read =
                    |v: &Option<Number>| v.as_ref().and_then(Number::as_f64).map_or(f32::NAN, |v| v as f32);
                TensorValues::Float32(tensor.data.iter().map(read).collect())
            }
        };
        let csr = match (tensor.sparse_crow_indices, tensor.sparse_col_indices) {
            (Some(crow), Some(col)) => Some(CsrIndices { crow: crow.into(), col: col.into() }),
            (None, None) => None,
            _ => return Err(D::Error::custom("sparse row and column indices come together")),
        };
        Ok(Self { values, shape: tensor.shape.map(Into::into), csr })
    }
}
