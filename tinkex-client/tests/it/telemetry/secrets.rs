//! Credentials are in no event, whatever the server echoes (PROTOCOL 20, security note).

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::json;
use tinkex_client::{
    AuthProvider, CopyWeights, CredentialFuture, FinishReason, ServiceClient, ServiceClientBuilder,
    WallClock, secrecy::SecretString,
};
use tinkex_testkit::service::{Dialect, Service, ServiceOptions};
use tinkex_testkit::{FakeServer, Received, Reply, Step};

use super::{SECOND, settle};
use crate::environment::in_environment;
use crate::harness::{self, MODEL, request};

/// Everything of a request that can be echoed.
fn echo(request: &Received) -> String {
    let headers = request.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()));
    headers.collect::<Vec<_>>().join("; ")
}

/// Answers that echo the request, in every place that reaches an event: error bodies, in JSON and as text, and failures
/// that a 200 tells of.
fn echoes() -> Vec<Step> {
    let detail = |status| Step::respond_with(move |request| Reply::detail(status, echo(request)));
    let text = |status| Step::respond_with(move |request| Reply::raw(status, echo(request), "text/plain"));
    let failure = |category: &'static str| {
        Step::respond_with(move |request| {
            Reply::json(200, &json!({ "error": echo(request), "category": category }))
        })
    };
    let headers = Step::respond_with(|request| {
        Reply::detail(404, echo(request))
            .header("x-echo", &echo(request))
            .header("retry-after", &echo(request))
    });
    vec![detail(500), text(503), failure("user"), failure("server"), text(404), detail(403), headers]
}

/// Refusals of which errors keep only the beginning, 500 characters, which ends in the middle of a secret.
fn cut_off() -> Vec<Step> {
    let refusal = |length: usize| {
        Step::respond_with(move |request| {
            let secret = request.header("x-team-secret").or(request.header("x-api-key")).unwrap();
            Reply::detail(422, format!("{}{secret}{}", "x ".repeat(length / 2), "y".repeat(3000)))
        })
    };
    [492, 494, 496].into_iter().map(refusal).collect()
}

/// A session in which the server echoes what it is sent; everything that was reported.
async fn session(builder: ServiceClientBuilder, server: &FakeServer) -> String {
    let service: ServiceClient = builder.build().await.unwrap();
    let sampler = service.sampling_client().base_model(MODEL).create().await.unwrap();
    let trainer = service.lora_training_client(MODEL).rank(4).create().await.unwrap();
    server.script("retrieve_future", echoes()).then_behave();
    server.script("asample", echoes().split_off(4).into_iter().chain(cut_off())).then_behave();
    server.script("copy_weights", echoes().split_off(5)).then_behave();
    for _ in 0..20 {
        let _ = sampler.sample(request(&[1])).await;
        let _ = trainer.optim_step(tinkex_client::AdamParams::new(1e-3)).await;
    }
    let copy = CopyWeights::new("tinker://a/weights/b").weights_access_token("odd weights token");
    let _ = service.copy_weights(copy.destination_project("p")).await;
    settle().await;
    service.close(FinishReason::Success).await.unwrap();
    let bodies = server.requests("telemetry");
    bodies.iter().map(|request| String::from_utf8(request.body.to_vec()).unwrap()).collect()
}

#[track_caller]
fn assert_hidden(reported: &str, secrets: &[&str]) {
    assert!(reported.matches("[REDACTED]").count() >= 10, "the echoes were seen: {reported}");
    for secret in secrets {
        assert!(!reported.contains(secret), "{secret} in {reported}");
    }
}

/// A key of an odd form, and headers of the user's.
#[tokio::test(start_paused = true)]
async fn keys_and_headers() {
    let server = FakeServer::new();
    let builder = harness::reporting_builder(&server)
        .api_key("0dd/key'of+a\"server")
        .header("x-team-secret", "blue whale")
        .header("authorization", "Bearer t0ken-of-a-proxy")
        .header("cf-access-client-secret", "cl0udflare");
    let reported = session(builder, &server).await;
    let secrets = ["0dd/key", "of+a", "blue w", "t0ken-of-a-proxy", "cl0udflare", "odd weights token"];
    assert_hidden(&reported, &secrets);
    assert!(
        server.requests("copy_weights").iter().all(|request| echo(request).contains("odd weights token"))
    );
    for request in server.requests("telemetry") {
        assert_eq!(request.header("x-sdk-method"), None);
    }
}

/// Cloudflare's values come from the environment.
#[tokio::test(start_paused = true)]
async fn of_the_environment() {
    let variables = [
        ("CLOUDFLARE_ACCESS_CLIENT_ID", "cl0udflare-id"),
        ("CLOUDFLARE_ACCESS_CLIENT_SECRET", "cl0udflare-secret"),
        ("TINKER_TELEMETRY", "1"),
    ];
    if !in_environment("telemetry::secrets::of_the_environment", &variables) {
        return;
    }
    let server = FakeServer::new();
    let reported = session(harness::reporting_builder(&server).from_env(), &server).await;
    assert!(echo(&server.requests("asample")[0]).contains("cl0udflare-secret"));
    assert_hidden(&reported, &["cl0udflare", "tml-test"]);
}

/// Tokens that a key is exchanged for, which change, and the key itself.
#[tokio::test(start_paused = true)]
async fn tokens() {
    let began = tokio::time::Instant::now();
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let clock = WallClock::new(move || at + began.elapsed());
    let options = ServiceOptions { clock: Some(clock.clone()), ..ServiceOptions::of(Dialect::production()) };
    let behind = Service::with_options(options);
    behind.set_client_config(&json!({ "pjwt_auth_enabled": true }));
    behind.demand_tokens(true);
    let server = FakeServer::with(behind.clone());
    behind.reject_next_token();
    let reported = session(harness::reporting_builder(&server).wall_clock(clock), &server).await;
    let tokens: Vec<_> =
        server.requests("**").iter().map(|r| r.header("x-api-key").unwrap_or_default().to_owned()).collect();
    assert!(tokens.iter().any(|token| token.starts_with("eyJ")));
    assert_hidden(&reported, &["tml-test", "eyJ"]);
    assert_hidden(&reported, &tokens.iter().map(String::as_str).collect::<Vec<_>>());
}

/// A credential that only its provider knows.
#[derive(Debug)]
struct Provider;

impl AuthProvider for Provider {
    fn credential(&self) -> CredentialFuture<'_> {
        Box::pin(async { Ok(Some(http::HeaderValue::from_static("known-to-nobody"))) })
    }

    fn identity(&self) -> SecretString {
        SecretString::from("account 7")
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_provider() {
    let server = FakeServer::new();
    let reported = session(harness::reporting_builder(&server).auth(Arc::new(Provider)), &server).await;
    assert_hidden(&reported, &["known-to-nobody"]);
    tokio::time::sleep(SECOND).await;
}
