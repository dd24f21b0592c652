//! Who is to blame for a failed promise (PROTOCOL 16.4).

use std::fmt;

/// The category a server gives a failure (PROTOCOL 16.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorCategory {
    /// Not said, or said in words this version does not know.
    #[default]
    Unknown,
    /// The service failed; the same request may succeed later.
    Server,
    /// The request is at fault; the same request will fail again.
    User,
}

impl ErrorCategory {
    /// Reads the wire text, ignoring case and blanks; anything unknown is [`ErrorCategory::Unknown`].
    pub fn parse(text: &str) -> Self {
        let text = text.trim();
        if text.eq_ignore_ascii_case("server") {
            Self::Server
        } else if text.eq_ignore_ascii_case("user") {
            Self::User
        } else {
            Self::Unknown
        }
    }

    /// The category an HTTP status implies where the body names none (REQUIREMENTS 2.3): 408, 409, 410 and 429 are
    /// never the user's, the other 4xx are, 5xx are the server's.
    pub fn of_status(status: u16) -> Self {
        match status {
            408..=410 | 429 => Self::Unknown,
            400..=499 => Self::User,
            500..=599 => Self::Server,
            _ => Self::Unknown,
        }
    }

    /// The wire text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Server => "server",
            Self::User => "user",
        }
    }
}

impl fmt::Display for ErrorCategory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
