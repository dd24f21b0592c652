//! The key is in no Debug, Display, log or metric, whatever the server echoes.

use std::error::Error;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use secrecy::SecretString;
use serde_json::json;
use tinkex_http::{
    ApiKey, AuthProvider, BackoffGate, CredentialFuture, HttpError, RetryPolicy, shown_headers,
};
use tinkex_testkit::Step;
use tracing::Level;

use crate::capture::Log;
use crate::support::{KEY, ROUTE, builder, ok, post, scripted, server, steady};

/// Everything that can be had of an error.
fn everything(error: &HttpError) -> String {
    let mut text = format!("{error} {error:?} {error:#?} {} {:?}", error.message(), error.body());
    text += &String::from_utf8_lossy(error.body());
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!("{error} {error:?}");
        source = error.source();
    }
    text
}

#[track_caller]
fn assert_silent(text: &str) {
    assert!(!text.contains(KEY), "the key is in {text}");
    assert!(!text.contains("0123456789"), "a part of the key is in {text}");
}

fn shown(value: &impl Debug) -> String {
    format!("{value:?} {value:#?}")
}

#[tokio::test(start_paused = true)]
async fn nothing_prints_the_key() {
    let (_, client) = scripted([ok()]);
    let key = ApiKey::new(KEY).unwrap();
    let request = post().header(HeaderName::from_static("x-my-token"), HeaderValue::from_static(KEY));
    for text in [
        shown(&key),
        shown(&client),
        shown(&client.gate_key()),
        shown(&request),
        shown(&builder(&server())),
        shown(&key.credential().await.unwrap()),
        shown(&key.identity()),
    ] {
        assert_silent(&text);
    }
    assert_eq!(format!("{key:?}"), "ApiKey([REDACTED])");
}

/// Error bodies that echo the request: in text, in JSON, in pieces of JSON, at the cut of a long message.
#[tokio::test(start_paused = true)]
async fn an_echoed_key_is_scrubbed() {
    let (log, _guard) = Log::start();
    let long = format!("{}{KEY}{}", "x".repeat(490), "y".repeat(200));
    for step in [
        Step::status(401).body(format!("bad key {KEY}, {KEY}")),
        Step::status(401).body(KEY),
        Step::status(401).json_body(json!({"detail": format!("bad key {KEY}")})),
        Step::status(422).json_body(json!({"detail": [{"input": {"x-api-key": KEY}}]})),
        Step::status(400).json_body(json!({"detail": "no", "headers": {"x-api-key": KEY}})),
        Step::status(400).body(long),
        Step::status(503).body(KEY).header("x-echo", KEY),
    ] {
        let (_, client) = scripted([step.repeat(3)]);
        let error = client.send(&post().policy(steady().max_retries(Some(2)))).await.unwrap_err();
        assert_silent(&everything(&error));
    }
    assert_silent(&log.text());
}

/// The billing line quotes the body; it quotes it scrubbed, and not all of a long one.
#[tokio::test(start_paused = true)]
async fn the_billing_line_is_scrubbed() {
    let (log, _guard) = Log::start();
    let (_, client) = scripted([Step::status(402).body(format!("{KEY} owes\n{}", "x".repeat(9000))), ok()]);
    client.send(&post()).await.unwrap();
    assert_silent(&log.text());
    let lines = log.at(Level::WARN);
    let expected = "The job is paused due to billing status. Error: Error code: 402 - [REDACTED] owes x";
    assert!(lines.len() == 1 && lines[0].starts_with(expected), "{lines:?}");
    assert!(lines[0].ends_with('…') && lines[0].len() < 600, "{}", lines[0].len());
}

/// PROTOCOL 5.2: deprecation notes are logged at the level they ask for; a key in one is not.
#[tokio::test(start_paused = true)]
async fn deprecation_notes_are_logged_without_the_key() {
    let (log, _guard) = Log::start();
    let note = |text: &str| ok().header("x-deprecation-note", text);
    let (_, client) = scripted([
        note(&format!("{KEY} is old")),
        note("gone").header("x-deprecation-level", " ERROR "),
        note("soon").header("x-deprecation-level", "other"),
        ok().header("x-deprecation-level", "error"),
    ]);
    for _ in 0..4 {
        client.send(&post()).await.unwrap();
    }
    assert_eq!(log.at(Level::WARN), ["Deprecation notice: [REDACTED] is old", "Deprecation notice: soon"]);
    assert_eq!(log.at(Level::ERROR), ["Deprecation notice: gone"]);
    assert_silent(&log.text());
}

/// Retries are logged without what was sent.
#[tokio::test(start_paused = true)]
async fn retries_are_logged_and_hold_no_secret() {
    let (log, _guard) = Log::start();
    let (_, client) = scripted([Step::status(503).repeat(3), ok()]);
    client.send(&post()).await.unwrap();
    let lines = log.at(Level::WARN);
    assert_eq!(lines.len(), 1);
    let beginning = "op: still retrying after 2 attempts, next in ";
    assert!(lines[0].starts_with(beginning) && lines[0].ends_with(" s: HTTP 503: scripted 503"), "{lines:?}");
    assert_silent(&log.text());
    assert!(log.text().contains("url.template"), "spans are looked at too");
}

/// A retry is seen at once where the attempt before it took long: nobody should wonder for two minutes.
#[tokio::test(start_paused = true)]
async fn the_first_retry_after_a_long_attempt_is_a_warning() {
    let (log, _guard) = Log::start();
    let (_, client) = scripted([Step::hang(), ok()]);
    client.send(&post()).await.unwrap();
    assert_eq!(
        log.at(Level::WARN),
        ["op: still retrying after 1 attempt, next in 0.5 s: no complete response within 60 s"]
    );
}

/// A 429 behind a gate is waited out without a limit, so it must not be silent for ever: a line a minute, from the second
/// minute on.
#[tokio::test(start_paused = true)]
async fn long_throttling_is_a_warning_a_minute() {
    let (log, _guard) = Log::start();
    let server = server();
    server.script(ROUTE, [Step::status(429).header("retry-after", "5")]).then_repeat_last();
    let client = builder(&server).build().unwrap();
    let gate = Arc::new(BackoffGate::default());
    let request = post().gate(gate).deadline(Some(Duration::from_secs(59)));
    client.send(&request).await.unwrap_err();
    assert_eq!(log.at(Level::WARN), Vec::<String>::new(), "throttling is usual");
    let request = post().gate(Arc::new(BackoffGate::default())).deadline(Some(Duration::from_secs(200)));
    client.send(&request).await.unwrap_err();
    let lines = log.at(Level::WARN);
    assert_eq!(lines.len(), 3, "{lines:?}");
    let beginning = lines[0].strip_prefix("op: still retrying after ").unwrap();
    assert!(beginning.ends_with(" s: HTTP 429: scripted 429"), "{lines:?}");
    assert!(lines[1].contains(" more retries since the last line)"), "{lines:?}");
}

/// An outage that hits many calls is a line in ten seconds, which says how many retries it stands for.
#[tokio::test(start_paused = true)]
async fn an_outage_is_no_flood_of_lines() {
    let (log, _guard) = Log::start();
    let server = server();
    server.script(ROUTE, [Step::status(503)]).then_repeat_last();
    let client = builder(&server).policy(RetryPolicy::patient(Duration::from_secs(120))).build().unwrap();
    let calls: Vec<_> = (0..100)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.send(&post()).await.unwrap_err() })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
    let lines = log.at(Level::WARN);
    assert!((10..=14).contains(&lines.len()), "{} lines for {} attempts", lines.len(), server.count(ROUTE));
    let told: u64 = lines[1..]
        .iter()
        .map(|line| {
            let (_, others) = line.rsplit_once(" (").unwrap();
            others.split(' ').next().unwrap().parse::<u64>().unwrap()
        })
        .sum();
    assert!(told > 800 && told < server.count(ROUTE), "{told} of {}", server.count(ROUTE));
}

/// A credential with characters that JSON escapes is found in its escaped form too.
#[tokio::test(start_paused = true)]
async fn an_escaped_echo_is_scrubbed() {
    let key = r#"tml-"quo\ted"#;
    let server = server();
    server.script(ROUTE, [Step::status(400).json_body(json!({"detail": "no", "key": key}))]);
    let client = builder(&server).auth(Arc::new(ApiKey::new(key).unwrap())).build().unwrap();
    let error = client.send(&post()).await.unwrap_err();
    assert_eq!(error.body(), &br#"{"detail":"no","key":"[REDACTED]"}"#[..]);
}

/// A provider that forgets to mark its header.
#[derive(Debug)]
struct Careless;

impl AuthProvider for Careless {
    fn credential(&self) -> CredentialFuture<'_> {
        Box::pin(std::future::ready(Ok(Some(HeaderValue::from_static(KEY)))))
    }

    fn identity(&self) -> SecretString {
        SecretString::from(KEY)
    }
}

/// The pipeline marks the credential as sensitive, so that no transport's Debug shows it.
#[tokio::test(start_paused = true)]
async fn a_credential_is_marked_whatever_the_provider_did() {
    let server = server();
    server.script(ROUTE, [ok()]);
    let client = builder(&server).auth(Arc::new(Careless)).build().unwrap();
    client.send(&post()).await.unwrap();
    let requests = server.requests(ROUTE);
    assert!(requests[0].headers["x-api-key"].is_sensitive());
    assert_silent(&shown(&requests[0].headers));
}

/// A response may hold a token or a prompt: its Debug shows neither body nor unknown headers.
#[tokio::test(start_paused = true)]
async fn responses_do_not_print_their_contents() {
    let (_, client) = scripted([Step::json(json!({"jwt": KEY})).header("set-cookie", KEY)]);
    let response = client.send(&post().policy(RetryPolicy::none())).await.unwrap();
    let text = shown(&response);
    assert_silent(&text);
    assert!(text.contains("body_bytes") && text.contains("application/json"), "{text}");
}

/// What may be shown of headers is a list of names; the rest is hidden, and so is anything marked sensitive.
#[test]
fn headers_are_hidden_unless_known() {
    let mut secret = HeaderValue::from_static("hush");
    secret.set_sensitive(true);
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("content-type", HeaderValue::from_static("application/json")),
        ("x-api-key", HeaderValue::from_static("hush")),
        ("authorization", HeaderValue::from_static("hush")),
        ("x-tinker-weights-access-token", HeaderValue::from_static("hush")),
        ("cf-access-client-secret", HeaderValue::from_static("hush")),
        ("x-anything-else", HeaderValue::from_static("hush")),
        ("user-agent", secret),
        ("x-sdk-method", HeaderValue::from_bytes(b"\xff").unwrap()),
    ] {
        headers.insert(name, value);
    }
    let shown = shown_headers(&headers);
    assert_eq!(shown.len(), headers.len());
    for (name, value) in shown {
        let expected = if name == "content-type" { "application/json" } else { "[REDACTED]" };
        assert_eq!(value, expected, "{name}");
    }
}
