//! Delays: the server's hint in all its spellings, and the backoff (PROTOCOL 7.1, C-2, RL-6).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use tinkex_http::{Backoff, LONGEST_HINT, retry_after};

use crate::support::{fixture, ms, secs};

fn now() -> SystemTime {
    UNIX_EPOCH + secs(1_700_000_000)
}

fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    lines
        .iter()
        .map(|(name, value)| {
            (name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap())
        })
        .collect()
}

/// Golden vector: headers, at a fixed time of day.
#[test]
fn reads_hints_like_the_reference_sdk() {
    let vector = fixture(include_str!("../fixtures/retry_delay.json"));
    let now = UNIX_EPOCH + secs(vector["clock_unix_seconds"].as_u64().unwrap());
    let cases = vector["header_cases"].as_array().unwrap();
    assert!(cases.len() > 15);
    for case in cases {
        let lines: Vec<_> = case["headers"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str().unwrap()))
            .collect();
        let hint = retry_after(&headers(&lines), b"", now);
        let expected = case["honoured"].as_bool().unwrap().then(|| case["parsed_seconds"].as_f64().unwrap());
        assert_eq!(hint.map(|hint| hint.as_secs_f64()), expected, "{case}");
        // Where there is no hint the backoff stands in, after two retries.
        let least = hint.unwrap_or(Backoff::default().delay(2, 1.0)).as_secs_f64();
        let most = hint.unwrap_or(Backoff::default().delay(2, 0.0)).as_secs_f64();
        assert_eq!(Some(least), case["delay_seconds_min"].as_f64(), "{case}");
        assert_eq!(Some(most), case["delay_seconds_max"].as_f64(), "{case}");
    }
}

/// Golden vector: the backoff and its jitter.
#[test]
fn backs_off_like_the_reference_sdk() {
    let vector = fixture(include_str!("../fixtures/retry_delay.json"));
    for case in vector["base_client_backoff"].as_array().unwrap() {
        let retries = u32::try_from(case["retries_taken"].as_u64().unwrap()).unwrap();
        let backoff = Backoff::default();
        assert_eq!(Some(backoff.delay(retries, 0.0).as_secs_f64()), case["max_seconds"].as_f64(), "{case}");
        assert_eq!(Some(backoff.delay(retries, 1.0).as_secs_f64()), case["min_seconds"].as_f64(), "{case}");
    }
}

/// C-2: the spellings beyond the reference SDK's, and their order. A value that cannot be read falls through to the
/// next spelling; one that is read but out of range hides the rest (PROTOCOL 24.5).
#[test]
fn reads_every_spelling_in_order() {
    let body = br#"{"detail": "slow down", "retry_after_ms": 250}"#;
    for (lines, body, expected) in [
        (&[("retry_after_ms", "300")][..], &b""[..], Some(ms(300))),
        (&[("retry-after-ms", "100"), ("retry_after_ms", "300"), ("retry-after", "9")], body, Some(ms(100))),
        (&[("retry-after-ms", "soon"), ("retry_after_ms", "300"), ("retry-after", "9")], body, Some(ms(300))),
        (&[("retry-after-ms", "soon"), ("retry-after", "9")], body, Some(secs(9))),
        (&[("retry-after", "soon")], body, Some(ms(250))),
        (&[], body, Some(ms(250))),
        (&[], b" \n{\"retry_after_ms\": 1.5}", Some(Duration::from_micros(1500))),
        (&[("retry-after-ms", "60001"), ("retry-after", "9")], body, None),
        (&[("retry-after", "-1")], body, None),
        (&[("retry-after-ms", "1_500")], b"", Some(ms(1500))),
        (&[("retry-after-ms", "1__500")], b"", None),
        (&[("retry-after-ms", "_1")], b"", None),
        (&[("retry-after", "Tuesday, 14-Nov-23 22:13:50 GMT")], b"", Some(secs(30))),
        (&[("retry-after", "Tue Nov 14 22:13:50 2023")], b"", Some(secs(30))),
    ] {
        let hint = retry_after(&headers(lines), body, now());
        assert_eq!(hint, expected, "{lines:?} {:?}", String::from_utf8_lossy(body));
    }
}

/// RL-6: nothing but a wait in (0, 60 s] comes out, whatever goes in.
#[test]
fn refuses_what_is_no_wait() {
    for value in [
        "",
        " ",
        "-3",
        "-0",
        "0",
        "0.0",
        "86400",
        "60.000001",
        "nan",
        "inf",
        "-inf",
        "infinity",
        "1e400",
        "-1e400",
        "1e-400",
        "1e-12",
        "0x10",
        "1,5",
        "five",
        "\u{e9}",
        "Tue, 14 Nov 2023 22:13:20 GMT",
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "Thu, 01 Jan 1970 00:00:00 GMT",
        "Tue, 99 Nov 2023 22:13:20 GMT",
    ] {
        let lines = [("retry-after", value)];
        assert_eq!(retry_after(&headers(&lines), b"", now()), None, "{value:?}");
    }
    for body in [
        "",
        "{",
        "[]",
        "null",
        "250",
        "{\"retry_after_ms\": null}",
        "{\"retry_after_ms\": \"250\"}",
        "{\"retry_after_ms\": -1}",
        "{\"retry_after_ms\": 1e999}",
        "{\"retry_after_ms\": 60001}",
        "{\"retry_after_ms\": 1e-9}",
        "<html>",
    ] {
        assert_eq!(retry_after(&HeaderMap::new(), body.as_bytes(), now()), None, "{body:?}");
    }
}

fn any_value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        "[-+ ]?[0-9_]{0,8}[.]?[0-9]{0,8}(e[-+]?[0-9]{1,4})?".prop_map(String::into_bytes),
        "(nan|inf|-inf|[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT)"
            .prop_map(String::into_bytes),
    ]
}

fn any_body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..60),
        any::<f64>().prop_map(|number| format!("{{\"retry_after_ms\":{number}}}").into_bytes()),
    ]
}

proptest! {
    /// RL-6: any header and body bytes, at any time of day.
    #[test]
    fn a_hint_is_always_a_bounded_wait(
        lines in prop::collection::vec((0usize..3, any_value()), 0..4),
        body in any_body(),
        time in 0u64..=253_402_300_799,
    ) {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                map.append(["retry-after-ms", "retry_after_ms", "retry-after"][name], value);
            }
        }
        if let Some(hint) = retry_after(&map, &body, UNIX_EPOCH + secs(time)) {
            prop_assert!(hint > Duration::ZERO && hint <= LONGEST_HINT, "{hint:?}");
        }
    }

    /// A backoff is never longer than its cap, whatever its parameters.
    #[test]
    fn a_backoff_never_exceeds_its_cap(
        base in any::<u64>(),
        cap in any::<u64>(),
        jitter in any::<f64>(),
        retries in any::<u32>(),
        random in any::<f64>(),
    ) {
        let backoff = Backoff { base: Duration::from_nanos(base), cap: Duration::from_nanos(cap), jitter };
        prop_assert!(backoff.delay(retries, random) <= backoff.cap);
        let longest = Backoff { base: Duration::MAX, cap: Duration::MAX, jitter };
        prop_assert!(longest.delay(retries, random) <= Duration::MAX);
    }

    /// Within the protocol's range of parameters the delay lies between its bounds.
    #[test]
    fn a_backoff_lies_between_its_bounds(retries in 0u32..2000, random in 0.0..1.0) {
        let full = (0.5 * 2f64.powi(retries.min(100) as i32)).min(10.0);
        let delay = Backoff::default().delay(retries, random).as_secs_f64();
        prop_assert!(delay <= full && delay >= full * 0.75 - 1e-9, "{delay}");
    }
}
