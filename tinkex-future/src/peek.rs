//! A look at the top level of a JSON body, without building the rest.
//!
//! Results can be many megabytes. The whole body is checked to be JSON, but only the few keys that decide about the
//! answer are kept, as slices of the body; nothing else is allocated. Keys may hold values of any type, may repeat
//! (the last one wins) and may be absent: nothing here fails on that.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use tinkex_types::ErrorCategory;

/// Longest text taken over from a server into an error, in bytes.
const LONGEST_TEXT: usize = 2000;
/// How deep an error is unwrapped (`{"error":{"detail":{"message":..}}}`).
const DEEPEST_ERROR: u32 = 4;

/// The keys that decide, each a slice of the body.
#[derive(Debug, Default)]
pub(crate) struct Peek<'a> {
    pub(crate) kind: Option<&'a RawValue>,
    pub(crate) status: Option<&'a RawValue>,
    pub(crate) result: Option<&'a RawValue>,
    pub(crate) error: Option<&'a RawValue>,
    pub(crate) message: Option<&'a RawValue>,
    pub(crate) detail: Option<&'a RawValue>,
    pub(crate) category: Option<&'a RawValue>,
    pub(crate) queue_state: Option<&'a RawValue>,
    pub(crate) queue_state_reason: Option<&'a RawValue>,
    pub(crate) retry_after_ms: Option<&'a RawValue>,
    pub(crate) response_payload_size: Option<&'a RawValue>,
}

impl<'a> Peek<'a> {
    /// Reads a JSON object. Anything that is not one is an error.
    pub(crate) fn object(body: &'a [u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(body)
    }

    /// The server's words about a failure, from `error`, else `message`, else `detail`.
    pub(crate) fn failure_text(&self) -> Option<String> {
        [self.error, self.message, self.detail].into_iter().find_map(words)
    }

    /// What a 4xx says in explanation: `detail`, else `error`, else `message`, where one is not null.
    pub(crate) fn explanation(&self) -> Option<String> {
        [self.detail, self.error, self.message].into_iter().find_map(words)
    }

    /// The category of a failure, at the top level or inside the error.
    pub(crate) fn failure_category(&self) -> Option<ErrorCategory> {
        let inside =
            || Peek::object(self.error?.get().as_bytes()).ok()?.category.and_then(|raw| text(Some(raw)));
        text(self.category).or_else(inside).map(|word| ErrorCategory::parse(&word))
    }

    /// The wait a body asks for, in milliseconds, whole or not, even as text.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let millis = number(self.retry_after_ms)?;
        if millis <= 0.0 {
            return None;
        }
        // Too long for a Duration is still a long wait; whoever uses it bounds it.
        Some(Duration::try_from_secs_f64(millis / 1000.0).unwrap_or(Duration::MAX))
    }

    /// The announced size of a result in bytes; 0 where there is none.
    pub(crate) fn payload_size(&self) -> u64 {
        let whole = self.response_payload_size.and_then(|raw| serde_json::from_str(raw.get()).ok());
        // The cast saturates: negative sizes become 0.
        whole.unwrap_or_else(|| number(self.response_payload_size).unwrap_or(0.0) as u64)
    }
}

/// True where the key is there and not null.
pub(crate) fn is_some(raw: Option<&RawValue>) -> bool {
    raw.is_some_and(|raw| raw.get() != "null")
}

/// The text of a JSON string; none for any other value.
pub(crate) fn text(raw: Option<&RawValue>) -> Option<String> {
    serde_json::from_str(raw?.get()).ok()
}

/// Whether the value is this word, whatever its case and blanks.
pub(crate) fn is_word(raw: Option<&RawValue>, word: &str) -> bool {
    text(raw).is_some_and(|text| text.trim().eq_ignore_ascii_case(word))
}

/// Text that is safe to put into an error: trimmed, and cut to a bounded length.
pub(crate) fn shortened(text: &str) -> String {
    let text = text.trim();
    if text.len() <= LONGEST_TEXT {
        return text.to_owned();
    }
    let end = (0..=LONGEST_TEXT).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    format!("{}...", text.get(..end).unwrap_or_default())
}

/// A body that is not JSON, as text.
pub(crate) fn plain_text(body: &[u8]) -> Option<String> {
    // Cut before converting: an error page can be long, and four bytes per character are enough.
    let head = body.get(..LONGEST_TEXT * 4).unwrap_or(body);
    let text = shortened(&String::from_utf8_lossy(head));
    (!text.is_empty()).then_some(text)
}

fn number(raw: Option<&RawValue>) -> Option<f64> {
    let raw = raw?;
    let number = serde_json::from_str(raw.get()).ok().or_else(|| text(Some(raw))?.trim().parse().ok());
    number.filter(|number: &f64| number.is_finite())
}

fn words(raw: Option<&RawValue>) -> Option<String> {
    words_within(raw?, DEEPEST_ERROR)
}

fn words_within(raw: &RawValue, depth: u32) -> Option<String> {
    if raw.get() == "null" {
        return None;
    }
    if let Some(text) = text(Some(raw)) {
        return (!text.trim().is_empty()).then(|| shortened(&text));
    }
    if depth > 0
        && let Ok(inner) = Peek::object(raw.get().as_bytes())
        && let Some(text) = [inner.message, inner.detail, inner.error]
            .into_iter()
            .flatten()
            .find_map(|raw| words_within(raw, depth - 1))
    {
        return Some(text);
    }
    Some(shortened(raw.get()))
}

impl<'de: 'a, 'a> Deserialize<'de> for Peek<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Top;

        impl<'de> Visitor<'de> for Top {
            type Value = Peek<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Peek<'de>, A::Error> {
                let mut peek = Peek::default();
                while let Some(Key(key)) = map.next_key()? {
                    let slot = match key.as_ref() {
                        "type" => &mut peek.kind,
                        "status" => &mut peek.status,
                        "result" => &mut peek.result,
                        "error" => &mut peek.error,
                        "message" => &mut peek.message,
                        "detail" => &mut peek.detail,
                        "category" => &mut peek.category,
                        "queue_state" => &mut peek.queue_state,
                        "queue_state_reason" => &mut peek.queue_state_reason,
                        "retry_after_ms" => &mut peek.retry_after_ms,
                        "response_payload_size" => &mut peek.response_payload_size,
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                    *slot = Some(map.next_value()?);
                }
                Ok(peek)
            }
        }

        deserializer.deserialize_map(Top)
    }
}

/// A key, borrowed from the body unless it holds escapes.
struct Key<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Key<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl<'de> Visitor<'de> for Text {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(key)))
            }

            fn visit_str<E>(self, key: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(key.to_owned())))
            }
        }

        deserializer.deserialize_str(Text)
    }
}
