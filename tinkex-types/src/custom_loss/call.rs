//! The resolved arguments of one call in a graph, and the ways operations read them.

use std::rc::Rc;

use super::array::{DenseArray, Shape};
use super::error::LossGraphError;
use super::gradient::{Axes, Tape, Variable};

type Result<T> = std::result::Result<T, LossGraphError>;

/// What an argument or a node stands for while a graph runs.
#[derive(Clone)]
pub(super) enum Value {
    Nothing,
    Bool(bool),
    Number(f64),
    Text(Rc<str>),
    Array(Variable),
    /// A tuple or a list.
    Sequence(Rc<[Value]>),
    Slice(Rc<[Value; 3]>),
    Ellipsis,
    /// The name of an element type.
    DType(Rc<str>),
    /// Something that means nothing here: a device, a layout, a memory format.
    Placement,
}

impl Value {
    /// What it is, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "text",
            Self::Array(_) => "a tensor",
            Self::Sequence(_) => "a sequence",
            Self::Slice(_) => "a slice",
            Self::Ellipsis => "an ellipsis",
            Self::DType(_) => "an element type",
            Self::Placement => "a device, layout or memory format",
        }
    }
}

/// Names of arguments that change where or how a result is stored, never what it is.
const STORAGE: [&str; 11] = [
    "dtype",
    "device",
    "layout",
    "memory_format",
    "pin_memory",
    "requires_grad",
    "non_blocking",
    "copy",
    "out",
    "inplace",
    "_stacklevel",
];

struct Slot<'a> {
    name: Option<&'a str>,
    value: Value,
    used: bool,
}

/// One call: its arguments and the tape its result goes to.
pub(super) struct Call<'a> {
    slots: Vec<Slot<'a>>,
    method: bool,
    pub(super) tape: &'a mut Tape,
}

impl<'a> Call<'a> {
    pub(super) fn new(
        positional: Vec<Value>,
        named: Vec<(&'a str, Value)>,
        method: bool,
        tape: &'a mut Tape,
    ) -> Self {
        let positional = positional.into_iter().map(|value| Slot { name: None, value, used: false });
        let named = named.into_iter().map(|(name, value)| Slot { name: Some(name), value, used: false });
        Self { slots: positional.chain(named).collect(), method, tape }
    }

    /// Whether a method is called rather than a function.
    pub(super) fn is_method(&self) -> bool {
        self.method
    }

    /// The argument at a position or of a name, where there is one and it is not `None`.
    pub(super) fn optional(&mut self, position: usize, name: &str) -> Option<Value> {
        let by_position = self.slots.get(position).is_some_and(|slot| slot.name.is_none());
        let index = if by_position {
            position
        } else {
            self.slots.iter().position(|slot| slot.name == Some(name))?
        };
        let slot = self.slots.get_mut(index)?;
        slot.used = true;
        match &slot.value {
            Value::Nothing => None,
            value => Some(value.clone()),
        }
    }

    /// The argument at a position or of a name.
    pub(super) fn required(&mut self, position: usize, name: &str) -> Result<Value> {
        self.optional(position, name)
            .ok_or_else(|| LossGraphError::argument(format!("needs argument `{name}`")))
    }

    /// A tensor; numbers and booleans count as one of rank 0.
    pub(super) fn array(&mut self, position: usize, name: &str) -> Result<Variable> {
        let value = self.required(position, name)?;
        self.as_array(&value, name)
    }

    /// A tensor, or nothing.
    pub(super) fn optional_array(&mut self, position: usize, name: &str) -> Result<Option<Variable>> {
        let Some(value) = self.optional(position, name) else { return Ok(None) };
        self.as_array(&value, name).map(Some)
    }

    fn as_array(&mut self, value: &Value, name: &str) -> Result<Variable> {
        match value {
            Value::Array(variable) => Ok(*variable),
            Value::Number(number) => self.tape.constant(*number),
            Value::Bool(value) => self.tape.constant(f64::from(u8::from(*value))),
            other => Err(wrong(name, "a tensor or a number", other)),
        }
    }

    /// A number; a tensor of rank 0 counts as one.
    pub(super) fn number(&mut self, position: usize, name: &str) -> Result<f64> {
        let value = self.required(position, name)?;
        self.as_number(&value, name)
    }

    /// A number, or `default` where it is left out.
    pub(super) fn number_or(&mut self, position: usize, name: &str, default: f64) -> Result<f64> {
        match self.optional(position, name) {
            Some(value) => self.as_number(&value, name),
            None => Ok(default),
        }
    }

    pub(super) fn as_number(&self, value: &Value, name: &str) -> Result<f64> {
        match value {
            Value::Number(number) => Ok(*number),
            Value::Bool(value) => Ok(f64::from(u8::from(*value))),
            Value::Array(variable) => match self.tape.value(*variable)?.as_ref() {
                array if array.shape() == Shape::SCALAR => {
                    Ok(array.values().first().copied().unwrap_or(f64::NAN))
                }
                _ => Err(LossGraphError::argument(format!("`{name}` must be a number, not a tensor"))),
            },
            other => Err(wrong(name, "a number", other)),
        }
    }

    /// A whole number.
    pub(super) fn as_integer(&self, value: &Value, name: &str) -> Result<i64> {
        let number = self.as_number(value, name)?;
        // Far beyond any length, far within what a float64 holds exactly.
        if number.fract() == 0.0 && number.abs() <= 1e15 {
            Ok(number as i64)
        } else {
            Err(LossGraphError::argument(format!("`{name}` must be a whole number, not {number}")))
        }
    }

    /// A flag that is off where it is left out.
    pub(super) fn flag(&mut self, position: usize, name: &str) -> Result<bool> {
        Ok(self.number_or(position, name, 0.0)? != 0.0)
    }

    /// A whole number, or several in a sequence, or several arguments from `position` on.
    pub(super) fn integers(&mut self, position: usize, name: &str) -> Result<Option<Vec<i64>>> {
        let Some(first) = self.optional(position, name) else { return Ok(None) };
        if let Value::Sequence(items) = &first {
            return items.iter().map(|item| self.as_integer(item, name)).collect::<Result<_>>().map(Some);
        }
        Ok(Some(vec![self.as_integer(&first, name)?]))
    }

    /// Axes to reduce, given by argument; none where it is left out.
    pub(super) fn axes(&mut self, position: usize, of: Shape) -> Result<Option<Axes>> {
        let Some(dimensions) = self.integers(position, "dim")?.filter(|dimensions| !dimensions.is_empty())
        else {
            return Ok(None);
        };
        let mut axes = Axes { rows: false, columns: false };
        for dimension in dimensions {
            match dimension_of(dimension, of)? {
                None | Some(Dimension::Columns) => axes.columns = true,
                Some(Dimension::Rows) => axes.rows = true,
            }
        }
        Ok(Some(axes))
    }

    /// An array of the given shape that depends on nothing.
    pub(super) fn filled(&mut self, shape: Shape, value: f64) -> Result<Variable> {
        self.tape.input(DenseArray::of_shape(shape, vec![value; shape.elements()]), false)
    }

    /// Refuses arguments that the operation did not read, unless they only say where a result is stored: leaving out
    /// one that matters would give a wrong number.
    pub(super) fn finish(&self) -> Result<()> {
        let ignored = |slot: &&Slot<'_>| {
            slot.used
                || matches!(slot.value, Value::Nothing | Value::DType(_) | Value::Placement)
                || slot.name.is_some_and(|name| STORAGE.contains(&name))
        };
        match self.slots.iter().enumerate().find(|(_, slot)| !ignored(slot)) {
            None => Ok(()),
            Some((_, Slot { name: Some(name), .. })) => {
                Err(LossGraphError::argument(format!("argument `{name}` is not supported")))
            }
            Some((index, _)) => {
                Err(LossGraphError::argument(format!("argument {} is one too many", index + 1)))
            }
        }
    }
}

/// A dimension of a shape, as [`Shape`] holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dimension {
    Rows,
    Columns,
}

/// The dimension with that number, from the end where it is negative. A scalar has none, and 0 and -1 name it.
pub(super) fn dimension_of(dimension: i64, of: Shape) -> Result<Option<Dimension>> {
    let count = of.rank().dimensions() as i64;
    let from_start = if dimension < 0 { dimension + count.max(1) } else { dimension };
    match (count, from_start) {
        (0, 0) => Ok(None),
        (1, 0) | (2, 1) => Ok(Some(Dimension::Columns)),
        (2, 0) => Ok(Some(Dimension::Rows)),
        _ => Err(LossGraphError::shape(format!("shape {of} has no dimension {dimension}"))),
    }
}

pub(super) fn wrong(name: &str, expected: &str, value: &Value) -> LossGraphError {
    LossGraphError::argument(format!("`{name}` must be {expected}, not {}", value.kind()))
}
