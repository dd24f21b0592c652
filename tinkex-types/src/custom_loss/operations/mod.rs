//! The operations that the evaluator knows, one file per family, found by the names the tracer writes.
//!
//! Functions and methods of the same name are the same operation, and so are the functions of `operator`, `torch`,
//! `torch.nn.functional` and `math`: what they do to tensors does not differ.

mod comparison;
mod conversion;
mod creation;
mod elementwise;
mod indexing;
mod reduction;
mod selection;
mod shape;

use super::call::{Call, Value};
use super::error::LossGraphError;

type Result<T> = std::result::Result<T, LossGraphError>;

/// One family: the result of the operation of that name, nothing where it is not of the family.
type Family = fn(&str, &mut Call<'_>) -> Result<Option<Value>>;

const FAMILIES: [Family; 8] = [
    elementwise::apply,
    comparison::apply,
    selection::apply,
    reduction::apply,
    creation::apply,
    conversion::apply,
    indexing::apply,
    shape::apply,
];

/// The modules whose functions are known, longest first where one begins another.
const MODULES: [&str; 7] = [
    "operator.",
    "torch.nn.functional.",
    "torch._C._nn.",
    "torch._C._special.",
    "torch.special.",
    "torch.",
    "math.",
];

/// Runs what a `call_function` or `call_method` node calls.
pub(super) fn apply(target: &str, call: &mut Call<'_>) -> Result<Value> {
    let unsupported = || LossGraphError::unsupported("this evaluator does not know that operation");
    let name = if call.is_method() || target == "getattr" {
        target
    } else {
        MODULES.iter().find_map(|module| target.strip_prefix(module)).ok_or_else(unsupported)?
    };
    for family in FAMILIES {
        if let Some(value) = family(name, call)? {
            return Ok(value);
        }
    }
    Err(unsupported())
}
