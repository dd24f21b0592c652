//! The state of a server-side queue, as poll answers report it (PROTOCOL 17.1).

use std::fmt;
use std::str::FromStr;

/// Whether the work behind a promise is being done or is held back, and why (PROTOCOL 17.1).
///
/// The set is open: text this version does not know is kept in [`QueueState::Unknown`], so a new server state
/// never fails a poll and is never lost.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum QueueState {
    /// The queue moves. Wire text `active`.
    Active,
    /// A limit of the account holds the work back. Wire text `paused_rate_limit`.
    PausedRateLimit,
    /// The service is short of capacity. Wire text `paused_capacity`.
    PausedCapacity,
    /// Anything else, with the text as the server sent it; empty where it sent none.
    Unknown(Box<str>),
}

impl QueueState {
    /// Reads the wire text. Surrounding blanks and case are ignored (C-11); empty text becomes an
    /// [`QueueState::Unknown`] without text.
    pub fn parse(text: &str) -> Self {
        let trimmed = text.trim();
        if trimmed.eq_ignore_ascii_case("active") {
            Self::Active
        } else if trimmed.eq_ignore_ascii_case("paused_rate_limit") {
            Self::PausedRateLimit
        } else if trimmed.eq_ignore_ascii_case("paused_capacity") {
            Self::PausedCapacity
        } else if trimmed.is_empty() {
            Self::Unknown("".into())
        } else {
            Self::Unknown(text.into())
        }
    }

    /// The wire text: one of the three known words, the server's own text, or `unknown` where there was none.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Active => "active",
            Self::PausedRateLimit => "paused_rate_limit",
            Self::PausedCapacity => "paused_capacity",
            Self::Unknown(text) if text.is_empty() => "unknown",
            Self::Unknown(text) => text,
        }
    }

    /// A label from a closed set (`active`, `paused_rate_limit`, `paused_capacity`, `unknown`), for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::PausedRateLimit => "paused_rate_limit",
            Self::PausedCapacity => "paused_capacity",
            Self::Unknown(_) => "unknown",
        }
    }

    /// True for [`QueueState::Active`].
    pub fn is_active(&self) -> bool {
        matches!(self, Self::Active)
    }

    /// True for the two paused states the protocol names.
    pub fn is_paused(&self) -> bool {
        matches!(self, Self::PausedRateLimit | Self::PausedCapacity)
    }

    /// True where the text is one of the three words of the protocol.
    pub fn is_known(&self) -> bool {
        self.is_active() || self.is_paused()
    }
}

impl Default for QueueState {
    /// The state nobody has told yet: [`QueueState::Unknown`] without text.
    fn default() -> Self {
        Self::Unknown("".into())
    }
}

impl fmt::Display for QueueState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for QueueState {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self::parse(text))
    }
}

#[cfg(test)]
mod tests {
    use super::QueueState;

    /// S2-01, C-11: the parse table.
    #[test]
    fn parses_the_wire_words_whatever_their_case_and_blanks() {
        for (text, state) in [
            ("active", QueueState::Active),
            ("PAUSED_RATE_LIMIT", QueueState::PausedRateLimit),
            (" paused_capacity ", QueueState::PausedCapacity),
            ("", QueueState::Unknown("".into())),
            ("  ", QueueState::Unknown("".into())),
            ("Draining ", QueueState::Unknown("Draining ".into())),
        ] {
            assert_eq!(QueueState::parse(text), state, "{text:?}");
        }
        assert_eq!(QueueState::parse("Draining ").as_str(), "Draining ", "the server's text is kept");
        assert_eq!(QueueState::parse("").as_str(), "unknown");
        assert_eq!(QueueState::parse("Draining ").label(), "unknown", "labels stay bounded");
    }
}
