//! One token: what is sent, and when it has to be renewed (PROTOCOL 3.4).

use std::fmt;

use http::HeaderValue;
use serde_json::Value;
use tinkex_http::AuthError;
use tokio::time::Instant;

use super::claims::Claims;

/// A token that lives longer than this, in seconds, and is all but expired when it arrives, tells of a clock that is ahead.
const LONG_LIFE: f64 = 120.0;

pub(crate) struct Token {
    header: HeaderValue,
    claims: Claims,
    received: Instant,
    refresh_at: Instant,
    /// Where this machine's clock cannot be right, a token's own lifetime counts, from its receipt.
    clock_is_ahead: bool,
}

impl Token {
    /// Reads the answer to `auth/token`, received at `now` (seconds since 1970); `jitter` in [0, 1) spreads its refresh.
    pub(crate) fn read(answer: &[u8], now: f64, jitter: f64) -> Result<Self, AuthError> {
        // In words of its own: those of the JSON reader may quote the token.
        let unusable = |problem: &str| AuthError::new(format!("auth/token: the answer {problem}"));
        let answer: Value = serde_json::from_slice(answer).map_err(|_| unusable("is not JSON"))?;
        let jwt = answer.get("jwt").and_then(Value::as_str).ok_or_else(|| unusable("holds no token"))?;
        let sendable = !jwt.is_empty() && jwt.bytes().all(|byte| byte.is_ascii_graphic());
        let header = HeaderValue::from_str(jwt).ok().filter(|_| sendable);
        let mut header = header.ok_or_else(|| unusable("holds a token that cannot be sent"))?;
        header.set_sensitive(true);
        let claims = Claims::read(jwt).unwrap_or_default();
        let received = Instant::now();
        let ahead = claims.is_due(now) && claims.lifetime().is_some_and(|lifetime| lifetime > LONG_LIFE);
        if ahead {
            let seconds = claims.lifetime().unwrap_or_default() - claims.left(now);
            tracing::warn!(
                "a fresh token has all but expired by this machine's clock, which seems to be {seconds:.0} s ahead of \
                 the service's; going by the token's lifetime instead"
            );
        }
        Ok(Self {
            header,
            claims,
            received,
            refresh_at: received + claims.refresh_delay(jitter),
            clock_is_ahead: ahead,
        })
    }

    /// The value of `X-API-Key`.
    pub(crate) fn header(&self) -> &HeaderValue {
        &self.header
    }

    /// When it is refreshed in the background.
    pub(crate) fn refresh_at(&self) -> Instant {
        self.refresh_at
    }

    /// How many seconds are left at `now` (seconds since 1970); not positive where it can no longer be used.
    pub(crate) fn left(&self, now: f64) -> f64 {
        self.read_at(now).0
    }

    /// Whether it has to be renewed before it is used.
    pub(crate) fn is_due(&self, now: f64) -> bool {
        self.read_at(now).1
    }

    fn read_at(&self, now: f64) -> (f64, bool) {
        let (claims, now) = match (self.clock_is_ahead, self.claims.issued) {
            (true, Some(issued)) => (self.claims, issued + self.received.elapsed().as_secs_f64()),
            _ => (self.claims, now),
        };
        (claims.left(now), claims.is_due(now))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("claims", &self.claims).finish_non_exhaustive()
    }
}
