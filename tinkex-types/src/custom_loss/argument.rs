//! Arguments of graph nodes: plain JSON values and the one-key objects that stand for everything else
//! (PROTOCOL 13.3).

use std::fmt;

use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Number, Value};

/// One argument of a [`Node`](super::Node) (PROTOCOL 13.3).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Argument {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A finite number, written as an integer or as a float as it was made.
    Number(Number),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Argument>),
    /// `{"ref": node}`: the result of an earlier node.
    Reference(String),
    /// `{"tuple": […]}`.
    Tuple(Vec<Argument>),
    /// `{"dict": {…}}`, in the order it was written.
    Dict(NamedArguments),
    /// `{"slice": [start, stop, step]}`.
    Slice(Box<[Argument; 3]>),
    /// `{"ellipsis": true}`.
    Ellipsis,
    /// `{"float": "inf" | "-inf" | "nan"}`.
    NonFinite(NonFinite),
    /// `{"dtype": name}`.
    DType(String),
    /// `{"device": name}`.
    Device(String),
    /// `{"layout": name}`.
    Layout(String),
    /// `{"memory_format": name}`.
    MemoryFormat(String),
    /// A one-key object that this version does not know, kept as it was.
    Other {
        /// The key.
        form: String,
        /// What it holds.
        content: Value,
    },
}

/// The floats that JSON has no number for (PROTOCOL 13.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum NonFinite {
    /// Positive infinity.
    #[serde(rename = "inf")]
    Infinity,
    /// Negative infinity.
    #[serde(rename = "-inf")]
    NegativeInfinity,
    /// Not a number.
    #[serde(rename = "nan")]
    NaN,
}

impl From<NonFinite> for f64 {
    fn from(value: NonFinite) -> Self {
        match value {
            NonFinite::Infinity => Self::INFINITY,
            NonFinite::NegativeInfinity => Self::NEG_INFINITY,
            NonFinite::NaN => Self::NAN,
        }
    }
}

impl From<f64> for Argument {
    fn from(value: f64) -> Self {
        match Number::from_f64(value) {
            Some(number) => Self::Number(number),
            None if value.is_nan() => Self::NonFinite(NonFinite::NaN),
            None if value > 0.0 => Self::NonFinite(NonFinite::Infinity),
            None => Self::NonFinite(NonFinite::NegativeInfinity),
        }
    }
}

impl From<i32> for Argument {
    fn from(value: i32) -> Self {
        Self::Number(value.into())
    }
}

/// Arguments by name, in the order they were written (PROTOCOL 13.3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamedArguments(Vec<(String, Argument)>);

impl NamedArguments {
    /// The argument of that name.
    pub fn get(&self, name: &str) -> Option<&Argument> {
        self.iter().find(|(known, _)| *known == name).map(|(_, argument)| argument)
    }

    /// Names and arguments in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Argument)> {
        self.0.iter().map(|(name, argument)| (name.as_str(), argument))
    }
}

impl FromIterator<(String, Argument)> for NamedArguments {
    fn from_iter<I: IntoIterator<Item = (String, Argument)>>(arguments: I) -> Self {
        Self(arguments.into_iter().collect())
    }
}

impl Serialize for NamedArguments {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for NamedArguments {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = NamedArguments;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of arguments")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(NamedArguments(members))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

impl Serialize for Argument {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        fn form<S: Serializer>(
            out: S,
            key: &str,
            content: &(impl Serialize + ?Sized),
        ) -> Result<S::Ok, S::Error> {
            let mut map = out.serialize_map(Some(1))?;
            map.serialize_entry(key, content)?;
            map.end()
        }
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(value) => value.serialize(serializer),
            Self::Text(value) => serializer.serialize_str(value),
            Self::List(items) => items.serialize(serializer),
            Self::Reference(node) => form(serializer, "ref", node),
            Self::Tuple(items) => form(serializer, "tuple", items),
            Self::Dict(members) => form(serializer, "dict", members),
            Self::Slice(bounds) => form(serializer, "slice", bounds.as_ref()),
            Self::Ellipsis => form(serializer, "ellipsis", &true),
            Self::NonFinite(value) => form(serializer, "float", value),
            Self::DType(name) => form(serializer, "dtype", name),
            Self::Device(name) => form(serializer, "device", name),
            Self::Layout(name) => form(serializer, "layout", name),
            Self::MemoryFormat(name) => form(serializer, "memory_format", name),
            Self::Other { form: key, content } => form(serializer, key, content),
        }
    }
}

impl<'de> Deserialize<'de> for Argument {
    /// Reads any argument. A known form with content that does not fit it is an error.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ArgumentVisitor)
    }
}

struct ArgumentVisitor;

impl<'de> Visitor<'de> for ArgumentVisitor {
    type Value = Argument;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value, a list or an object with one key")
    }

    fn visit_unit<E>(self) -> Result<Argument, E> {
        Ok(Argument::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Argument, E> {
        Ok(Argument::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Argument, E> {
        Ok(Argument::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Argument, E> {
        Ok(Argument::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Argument, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Argument, E> {
        Ok(Argument::Text(value.to_owned()))
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<Argument, S::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Argument::List(items))
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Argument, M::Error> {
        let Some(key) = map.next_key::<String>()? else {
            return Err(M::Error::custom("an argument that is an object has one key, this one has none"));
        };
        let argument = match key.as_str() {
            "ref" => Argument::Reference(map.next_value()?),
            "tuple" => Argument::Tuple(map.next_value()?),
            "dict" => Argument::Dict(map.next_value()?),
            "slice" => Argument::Slice(Box::new(map.next_value()?)),
            "ellipsis" => {
                map.next_value::<bool>()?;
                Argument::Ellipsis
            }
            "float" => Argument::NonFinite(map.next_value()?),
            "dtype" => Argument::DType(map.next_value()?),
            "device" => Argument::Device(map.next_value()?),
            "layout" => Argument::Layout(map.next_value()?),
            "memory_format" => Argument::MemoryFormat(map.next_value()?),
            _ => Argument::Other { form: key.clone(), content: map.next_value()? },
        };
        match map.next_key::<String>()? {
            None => Ok(argument),
            Some(second) => Err(M::Error::custom(format!(
                "an argument that is an object has one key, this one has `{key}` and `{second}`"
            ))),
        }
    }
}
