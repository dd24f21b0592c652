//! The two claims of a JWT that matter here, read without verifying anything (PROTOCOL 3.1, 3.4).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::Value;

/// What a JWT begins with: the encoded form of `{"`.
pub(crate) const JWT_PREFIX: &str = "eyJ";
/// The life of a token whose claims do not tell it, until it is refreshed.
const UNKNOWN_LIFE: Duration = Duration::from_secs(60);
/// The least and the most time until a refresh, in seconds, whatever the claims say.
const REFRESH_BOUNDS: (f64, f64) = (1.0, 30.0 * 86_400.0);
/// A token with no more than this left, in seconds, is renewed before it is used.
const NEAR_EXPIRY: f64 = 60.0;

const ENGINE: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// When a JWT was issued and when it expires, in seconds since 1970; none where it does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Claims {
    pub(crate) expires: Option<f64>,
    pub(crate) issued: Option<f64>,
}

impl Claims {
    /// Reads the claims of a JWT; none where it holds none.
    pub(crate) fn read(jwt: &str) -> Option<Self> {
        let payload = jwt.split('.').nth(1)?;
        let claims: Value = serde_json::from_slice(&ENGINE.decode(payload).ok()?).ok()?;
        let claims = claims.as_object()?;
        let seconds = |name: &str| claims.get(name).and_then(seconds);
        Some(Self { expires: seconds("exp"), issued: seconds("iat") })
    }

    /// How many seconds are left at `now`; 0 where the expiry is unknown, negative where it has passed.
    pub(crate) fn left(&self, now: f64) -> f64 {
        self.expires.map_or(0.0, |expires| expires - now)
    }

    /// Whether so little is left at `now` that the token is renewed before it is used.
    pub(crate) fn is_due(&self, now: f64) -> bool {
        self.left(now) <= NEAR_EXPIRY
    }

    /// How many seconds the token lives from its issue; none where that is unknown or no time at all.
    pub(crate) fn lifetime(&self) -> Option<f64> {
        Some(self.expires? - self.issued?).filter(|lifetime| *lifetime > 0.0)
    }

    /// How long after its receipt a token is refreshed; `jitter` is in [0, 1). No clock has a part in it.
    pub(crate) fn refresh_delay(&self, jitter: f64) -> Duration {
        self.lifetime().map_or(UNKNOWN_LIFE, |lifetime| {
            let seconds = lifetime * (0.45 + 0.1 * jitter);
            Duration::from_secs_f64(seconds.clamp(REFRESH_BOUNDS.0, REFRESH_BOUNDS.1))
        })
    }
}

/// A number of seconds, which some issuers write as text.
fn seconds(claim: &Value) -> Option<f64> {
    let number = match claim {
        Value::String(text) => text.trim().parse().ok(),
        value => value.as_f64(),
    };
    number.filter(|number: &f64| number.is_finite())
}

/// A time of day in seconds since 1970.
pub(crate) fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn vectors() -> Value {
        let text = include_str!("../../../tinkex-testkit/fixtures/golden/vectors/jwt.json");
        serde_json::from_str(text).unwrap()
    }

    /// `vectors/jwt`: expiry, the decision on demand and the bounds of the refresh, at the recorded clock.
    #[test]
    fn every_vector() {
        let vectors = vectors();
        let now = vectors["clock_unix_seconds"].as_f64().unwrap();
        let cases = vectors["cases"].as_array().unwrap();
        assert_eq!(cases.len(), 8);
        for case in cases {
            let name = &case["name"];
            let claims = Claims::read(case["jwt"].as_str().unwrap()).unwrap();
            assert_eq!(claims.left(now), case["seconds_until_expiry"].as_f64().unwrap(), "{name}");
            assert_eq!(claims.is_due(now), case["needs_on_demand_refresh"].as_bool().unwrap(), "{name}");
            for (jitter, bound) in [(0.0, "refresh_delay_min"), (1.0, "refresh_delay_max")] {
                let delay = claims.refresh_delay(jitter).as_secs_f64();
                assert!(
                    (delay - case[bound].as_f64().unwrap()).abs() < 1e-6,
                    "{name}: {delay} s for {bound}"
                );
            }
        }
    }

    #[test]
    fn what_holds_no_claims() {
        for text in ["", "eyJ", "eyJx.", "eyJx.!!!.s", "eyJx.bm9uZQ.s", "eyJx.W10.s", "a.b.c"] {
            assert_eq!(Claims::read(text), None, "{text:?}");
        }
        let padded = Claims::read("eyJhIjoxfQ.eyJleHAiOjF9.s").unwrap();
        assert_eq!(padded, Claims { expires: Some(1.0), issued: None });
        assert_eq!(Claims::read("eyJhIjoxfQ.eyJleHAiOjEwfQ==.s").unwrap().expires, Some(10.0));
    }

    proptest! {
        /// Whatever a server claims, the next refresh is neither at once nor beyond what a timer can hold.
        #[test]
        fn refreshes_stay_within_bounds(expires: f64, issued: f64, jitter in 0.0..1.0_f64) {
            let finite = |number: f64| Some(number).filter(|number| number.is_finite());
            let claims = Claims { expires: finite(expires), issued: finite(issued) };
            let delay = claims.refresh_delay(jitter);
            prop_assert!(delay >= Duration::from_secs(1) && delay <= Duration::from_secs(30 * 86_400));
        }

        #[test]
        fn no_text_is_fatal(text: String) {
            let _ = Claims::read(&text);
            let _ = Claims::read(&format!("eyJ.{text}.x"));
        }
    }
}
