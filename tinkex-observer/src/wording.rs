//! The words of a pause line: built-in reasons and sentence forms (PROTOCOL 17.3, 17.4).
//!
//! The default form is the plain one. The others repeat, word for word, what releases of the reference SDK print, for
//! people whose log searches depend on it. Wording and timing are separate choices: see
//! [`LogPolicy::of_release`](crate::LogPolicy::of_release) for both together.

use std::borrow::Cow;

use tinkex_types::{ClientKind, QueueState};

/// What a line names where the client has no id.
const MISSING_ID: &str = "unknown";

/// The sentence, the built-in reasons, and whether the server's own reason is used (PROTOCOL 17.3, 17.4).
///
/// | | sampling | training | model creation | server reason |
/// |---|---|---|---|---|
/// | `Bare`, `V0_4` | `Sampling is paused for <id>. Reason: …` | `Training is paused for <id>. Reason: …` | `Model creation is paused for <id>. Reason: …`; `V0_4` as training | used; `V0_4` ignores it |
/// | `V0_6` | `Sampling is paused for sampler <id>. Reason: …` | `Training is paused for <id>. Reason: …` | as training | ignored |
/// | `V0_7` | as `V0_6` | as `V0_6` | as training | used |
/// | `V0_38` | as `V0_6` | `Training for <id> is paused. Reason: ….` | `Model creation for <id> is paused. Reason: ….` | used |
///
/// `Bare`, `V0_4` and `V0_6` share the built-in reasons of [`reason_for_state`]. `V0_7` and `V0_38` say
/// `concurrent sampler weights limit hit` (sampling) or `concurrent training clients rate limit hit`, and
/// `Tinker backend is running short on capacity, please wait`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LogWording {
    /// The default: no noun before the id, no final period, server reasons used.
    #[default]
    Bare,
    /// Releases 0.4.x. (There, the id of a sampling client was its model path.)
    V0_4,
    /// Releases 0.5 and 0.6.
    V0_6,
    /// Release 0.7.
    V0_7,
    /// Releases 0.25 to 0.38.
    V0_38,
}

impl LogWording {
    /// The built-in reason for a state; `unknown` for everything but the two paused states.
    pub fn default_reason(self, state: &QueueState, client: ClientKind) -> &'static str {
        let newer = matches!(self, Self::V0_7 | Self::V0_38);
        match (state, client) {
            (QueueState::PausedRateLimit, ClientKind::Sampling) if newer => {
                "concurrent sampler weights limit hit"
            }
            (QueueState::PausedRateLimit, ClientKind::Sampling) => "concurrent LoRA rate limit hit",
            // Everything that is not sampling creates or drives a training model.
            (QueueState::PausedRateLimit, _) if newer => "concurrent training clients rate limit hit",
            (QueueState::PausedRateLimit, _) => "concurrent models rate limit hit",
            (QueueState::PausedCapacity, _) if newer => {
                "Tinker backend is running short on capacity, please wait"
            }
            (QueueState::PausedCapacity, _) => "out of capacity",
            _ => "unknown",
        }
    }

    /// The reason a line gives: the server's own text where there is any that is not blank and this wording uses it,
    /// the built-in one otherwise (C-10).
    pub fn reason<'a>(self, state: &QueueState, client: ClientKind, server: Option<&'a str>) -> &'a str {
        let usable = !matches!(self, Self::V0_4 | Self::V0_6);
        match server {
            Some(text) if usable && !text.trim().is_empty() => text,
            _ => self.default_reason(state, client),
        }
    }

    /// The complete line. A blank id prints `unknown`; control characters print as blanks, so text from a server
    /// cannot begin a second line.
    pub fn line(self, client: ClientKind, id: &str, reason: &str) -> String {
        let id = one_line(if id.trim().is_empty() { MISSING_ID } else { id });
        let reason = one_line(reason);
        match (self, client) {
            (Self::Bare | Self::V0_4, ClientKind::Sampling) => {
                format!("Sampling is paused for {id}. Reason: {reason}")
            }
            (_, ClientKind::Sampling) => format!("Sampling is paused for sampler {id}. Reason: {reason}"),
            (Self::Bare, ClientKind::ModelCreation) => {
                format!("Model creation is paused for {id}. Reason: {reason}")
            }
            (Self::V0_38, ClientKind::ModelCreation) => {
                format!("Model creation for {id} is paused. Reason: {reason}.")
            }
            (Self::V0_38, _) => format!("Training for {id} is paused. Reason: {reason}."),
            // The releases before 0.25 had no line of its own for model creation.
            _ => format!("Training is paused for {id}. Reason: {reason}"),
        }
    }
}

/// The built-in reason for a state in the default wording (S2-06 to S2-09): `concurrent LoRA rate limit hit`
/// (sampling), `concurrent models rate limit hit` (training and model creation), `out of capacity`, `unknown`.
pub fn reason_for_state(state: &QueueState, client: ClientKind) -> &'static str {
    LogWording::Bare.default_reason(state, client)
}

/// The text with every control character and line separator as a blank.
fn one_line(text: &str) -> Cow<'_, str> {
    let breaks = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    if text.contains(breaks) { Cow::Owned(text.replace(breaks, " ")) } else { Cow::Borrowed(text) }
}
