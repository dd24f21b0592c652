//! Plain numbers as tensors: the name of an input decides its element type (PROTOCOL 12.2).

use crate::{InvalidInput, TensorData};

/// A number, or a list of such values: what [`Datum::with`](crate::Datum::with) takes. Made from vectors, arrays and
/// slices of numbers, nested to any depth.
#[derive(Clone, Debug, PartialEq)]
pub enum PlainValue {
    /// A whole number.
    Int(i64),
    /// A floating-point number.
    Float(f64),
    /// A truth value, 1 or 0.
    Bool(bool),
    /// A list.
    List(Vec<PlainValue>),
}

const FIELD: &str = "loss_fn_inputs";

/// The deepest nesting.
const MAX_DIMENSIONS: usize = 16;

/// The element type of plain numbers under a name; none where the name says nothing.
enum Element {
    Int64,
    Float32,
}

fn element(name: &str) -> Option<Element> {
    match name {
        "target_tokens" => Some(Element::Int64),
        "weights"
        | "advantages"
        | "logprobs"
        | "clip_low_threshold"
        | "clip_high_threshold"
        | "sequence_ratio_mask" => Some(Element::Float32),
        _ => None,
    }
}

impl PlainValue {
    pub(crate) fn to_tensor(&self, name: &str) -> Result<TensorData, InvalidInput> {
        let shape = self.shape(name)?;
        match element(name) {
            None => {
                let problem =
                    format!("has no element type for plain numbers under `{name}`; give it a tensor");
                Err(InvalidInput::new(FIELD, problem))
            }
            Some(Element::Int64) => {
                let mut values = Vec::new();
                self.each(&shape, name, &mut |number| {
                    values.push(number.to_int64(name)?);
                    Ok(())
                })?;
                TensorData::int64(values, &shape)
            }
            Some(Element::Float32) => {
                let mut values = Vec::new();
                self.each(&shape, name, &mut |number| {
                    values.push(number.to_float32());
                    Ok(())
                })?;
                TensorData::float32(values, &shape)
            }
        }
    }

    /// The lengths along the first elements, to which all others must agree.
    fn shape(&self, name: &str) -> Result<Vec<u64>, InvalidInput> {
        let mut shape = Vec::new();
        let mut value = self;
        while let Self::List(values) = value {
            shape.push(values.len() as u64);
            if shape.len() > MAX_DIMENSIONS {
                let problem = format!("must not nest `{name}` deeper than {MAX_DIMENSIONS} lists");
                return Err(InvalidInput::new(FIELD, problem));
            }
            let Some(first) = values.first() else { break };
            value = first;
        }
        Ok(shape)
    }

    fn each(
        &self,
        shape: &[u64],
        name: &str,
        visit: &mut impl FnMut(&Self) -> Result<(), InvalidInput>,
    ) -> Result<(), InvalidInput> {
        match (self, shape) {
            (Self::List(values), [length, inner @ ..]) if values.len() as u64 == *length => {
                values.iter().try_for_each(|value| value.each(inner, name, visit))
            }
            (Self::Int(_) | Self::Float(_) | Self::Bool(_), []) => visit(self),
            _ => Err(InvalidInput::new(FIELD, format!("must not be ragged, but `{name}` is"))),
        }
    }

    fn to_int64(&self, name: &str) -> Result<i64, InvalidInput> {
        const BOUND: f64 = 9_223_372_036_854_775_808.0; // 2^63
        match self {
            Self::Int(value) => Ok(*value),
            Self::Bool(value) => Ok(i64::from(*value)),
            Self::Float(value) if *value >= -BOUND && *value < BOUND => Ok(*value as i64),
            _ => Err(InvalidInput::new(FIELD, format!("must hold numbers that fit int64 under `{name}`"))),
        }
    }

    fn to_float32(&self) -> f32 {
        match self {
            Self::Int(value) => *value as f32,
            Self::Bool(value) => f32::from(u8::from(*value)),
            Self::Float(value) => *value as f32,
            Self::List(_) => f32::NAN, // `each` hands out numbers only
        }
    }
}

impl From<i32> for PlainValue {
    fn from(value: i32) -> Self {
        Self::Int(value.into())
    }
}

impl From<u32> for PlainValue {
    fn from(value: u32) -> Self {
        Self::Int(value.into())
    }
}

impl From<i64> for PlainValue {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<f32> for PlainValue {
    fn from(value: f32) -> Self {
        Self::Float(value.into())
    }
}

impl From<f64> for PlainValue {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<bool> for PlainValue {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl<T: Into<PlainValue>> From<Vec<T>> for PlainValue {
    fn from(values: Vec<T>) -> Self {
        Self::List(values.into_iter().map(Into::into).collect())
    }
}

impl<T: Into<PlainValue>, const N: usize> From<[T; N]> for PlainValue {
    fn from(values: [T; N]) -> Self {
        Self::List(values.into_iter().map(Into::into).collect())
    }
}

impl<T: Clone + Into<PlainValue>> From<&[T]> for PlainValue {
    fn from(values: &[T]) -> Self {
        Self::List(values.iter().cloned().map(Into::into).collect())
    }
}
