//! Generous readers for fields that servers spell differently.

use std::collections::BTreeMap;

use serde::de::{Deserialize, Deserializer};
use serde_json::Value;

/// Text, or a number written as one (an open server numbers its promises).
pub(crate) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        other => Err(serde::de::Error::custom(format!("expected text, got {other}"))),
    }
}

/// The value, or its default where it is null or of another type.
pub(crate) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: serde::de::DeserializeOwned + Default,
{
    let value = Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).unwrap_or_default())
}

/// Numbers by name. Null is none at all, a null number is NaN, and what is no number is left out.
pub(crate) fn numbers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, f64>, D::Error> {
    let members = Option::<BTreeMap<String, Value>>::deserialize(deserializer)?.unwrap_or_default();
    let number = |value: Value| match value {
        Value::Null => Some(f64::NAN),
        value => value.as_f64(),
    };
    Ok(members.into_iter().filter_map(|(name, value)| Some((name, number(value)?))).collect())
}
