//! `auth/token`: short-lived tokens in exchange for a key, and what is demanded of those who send one (PROTOCOL 3.4).
//!
//! A token looks like a JWT: its payload has `iat` and `exp` as numbers, and its signature is nobody's. What counts here is
//! whether the service issued it and its life is not over.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tinkex_http::WallClock;
use tokio::time::Instant;

use super::Service;
use super::refusal::Refusal;
use crate::{Received, Reply};

/// How many tokens are remembered; beyond it all are forgotten but the newest.
const KEEP_TOKENS: usize = 10_000;

/// The tokens of a service.
pub(crate) struct Tokens {
    clock: WallClock,
    /// How long a token lives.
    lifetime: Duration,
    /// Whether nothing but a token is taken, except where flags and tokens are asked for.
    demanded: bool,
    /// How many more requests that carry a token are refused.
    rejections: u64,
    /// What `auth/token` answers instead of a token.
    refusal: Option<u16>,
    /// What was issued, with the end of its life.
    issued: HashMap<String, Instant>,
    count: u64,
}

impl Tokens {
    /// Without a clock, the system's as it is now, going on with tokio's: so `exp` and `iat` keep up with virtual time.
    pub(crate) fn new(clock: Option<WallClock>) -> Self {
        let clock = clock.unwrap_or_else(|| {
            let (wall, began) = (WallClock::default().now(), Instant::now());
            WallClock::new(move || wall + began.elapsed())
        });
        Self {
            clock,
            lifetime: Duration::from_secs(3600),
            demanded: false,
            rejections: 0,
            refusal: None,
            issued: HashMap::new(),
            count: 0,
        }
    }

    fn issue(&mut self, now: Instant) -> String {
        self.issued.retain(|_, end| *end > now);
        if self.issued.len() >= KEEP_TOKENS {
            self.issued.clear();
        }
        self.count += 1;
        let issued = seconds(self.clock.now());
        let claims = json!({
            "iss": "passport-testkit",
            "sub": "tml:organization_user:u-1",
            "org_id": "org-1",
            "email": "user@example.com",
            "jti": self.count,
            "iat": issued,
            "exp": issued + self.lifetime.as_secs_f64(),
        });
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let head = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
        let token = format!("{head}.{}.unsigned", part(claims));
        self.issued.insert(token.clone(), now + self.lifetime);
        token
    }

    /// What is wrong with a request that carries this credential, as far as tokens go; true where it is a good token.
    fn check(&mut self, key: &str, now: Instant) -> Result<bool, Refusal> {
        let valid = match self.issued.get(key) {
            Some(end) => *end > now,
            None if self.demanded && key.starts_with("eyJ") => false,
            None if self.demanded => {
                return Err(Refusal::new(
                    401,
                    "this service takes tokens only; exchange the key at auth/token",
                ));
            }
            None => return Ok(false),
        };
        if !valid {
            return Err(Refusal::invalid_token("the token is unknown or has expired"));
        }
        if self.rejections > 0 {
            self.rejections -= 1;
            return Err(Refusal::invalid_token("the token was made to be rejected"));
        }
        Ok(true)
    }
}

fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

impl Service {
    /// Says whether everything but `healthz`, `client/config` and `auth/token` takes tokens only. Until then they are taken
    /// as well as keys. Clients have to be told with the flag `pjwt_auth_enabled`.
    pub fn demand_tokens(&self, demand: bool) {
        self.state().tokens.demanded = demand;
    }

    /// How long tokens issued from now on live. Default an hour.
    pub fn set_token_lifetime(&self, lifetime: Duration) {
        self.state().tokens.lifetime = lifetime;
    }

    /// Refuses the next request that carries a token, as if the token were invalid; a later one may carry the same.
    pub fn reject_next_token(&self) {
        self.state().tokens.rejections += 1;
    }

    /// Makes every token issued so far invalid.
    pub fn revoke_tokens(&self) {
        self.state().tokens.issued.clear();
    }

    /// Answers `auth/token` with this error status from now on; none for tokens again.
    pub fn refuse_exchange(&self, status: Option<u16>) {
        self.state().tokens.refusal = status;
    }

    pub(crate) fn auth_token(&self) -> Result<Reply, Refusal> {
        let mut state = self.state();
        match state.tokens.refusal {
            Some(status) => Err(Refusal::new(status, "the exchange was made to be refused")),
            None => Ok(Reply::json(200, &json!({ "jwt": state.tokens.issue(Instant::now()) }))),
        }
    }

    /// Judges the credential of a request as a token; true where it is a good one.
    pub(crate) fn check_token(&self, request: &Received, key: &str) -> Result<bool, Refusal> {
        if matches!(request.route(), "client/config" | "auth/token") {
            return Ok(false);
        }
        self.state().tokens.check(key, Instant::now())
    }
}
