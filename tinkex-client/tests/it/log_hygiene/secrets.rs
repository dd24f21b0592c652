//! No credential is in anything that a run says, whatever goes wrong and whatever the server echoes.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use tinkex_client::{
    AdamParams, FinishReason, LossFn, QueueState, SampleOptions, SamplingClient, ServiceClient,
    ServiceClientBuilder,
};
use tinkex_testkit::service::Service;
use tinkex_testkit::{FakeServer, Received, Reply, Step};

use super::said::Said;
use crate::harness::{self, MODEL};
use crate::trace_capture::TraceCapture;

const KEY: &str = "tml-hygiene-7f3a9c1e5b2d8046";
const JWT: &str = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJoeWdpZW5lIn0.c2lnbmF0dXJlLW9mLWh5Z2llbmU";

/// Every header of a request, the credential among them, in words and as JSON.
fn echoed(request: &Received) -> Value {
    let pairs = request.headers.iter().map(|(name, value)| {
        (name.as_str().to_owned(), Value::from(String::from_utf8_lossy(value.as_bytes())))
    });
    Value::Object(pairs.collect())
}

fn credential(request: &Received) -> &str {
    request.header("x-api-key").unwrap_or_default()
}

/// An error whose body echoes the request.
fn echo(status: u16) -> Step {
    Step::respond_with(move |request| {
        let detail = format!("{} is not welcome", credential(request));
        Reply::json(status, &json!({ "detail": detail, "headers": echoed(request) }))
    })
}

/// The same as text, with the credential where long messages are cut.
fn echo_at_the_cut(status: u16) -> Step {
    Step::respond_with(move |request| {
        Reply::raw(
            status,
            format!("{}{}{}", "x".repeat(485), credential(request), "y".repeat(90)),
            "text/plain",
        )
    })
}

/// A 2xx that tells of something, with the credential in the words.
fn telling(tell: impl Fn(&str) -> Value + Send + Sync + 'static) -> Step {
    Step::respond_with(move |request| Reply::json(200, &tell(credential(request))))
}

/// One thing that goes wrong with one sample, by what the submissions and the polls are answered.
async fn sample(
    said: &mut Said,
    server: &FakeServer,
    sampler: &SamplingClient,
    submissions: Vec<Step>,
    polls: Vec<Step>,
) {
    let scripts = [server.script("asample", submissions), server.script("retrieve_future", polls)];
    for script in scripts {
        script.then_behave();
    }
    let request = harness::request(&[1, 2]);
    said.shown(&request);
    let handle = sampler.sample_with(request, SampleOptions::default().deadline(Duration::from_secs(900)));
    said.shown(&handle);
    match handle.await {
        Ok(response) => said.shown(&response),
        Err(error) => said.error(&error),
    }
}

/// All that can go wrong with samples.
async fn samples(said: &mut Said, server: &FakeServer, sampler: &SamplingClient) {
    let hinted = |step: Step| step.header("retry-after-ms", "300").header("x-echo", KEY);
    let note = || {
        Step::respond_with(|request| {
            Reply::detail(503, "busy")
                .header("x-deprecation-note", &format!("{} is old", credential(request)))
        })
    };
    let pause = || {
        telling(|key| {
            json!({"type": "try_again", "request_id": "any", "queue_state": "paused_capacity",
                   "queue_state_reason": format!("no room for {key}")})
        })
    };
    let failed = || telling(|key| json!({"error": format!("{key} broke it"), "category": "server"}));
    let failed_in_words =
        || telling(|key| json!({"status": "failed", "message": format!("{key} broke it"), "error": null}));
    let unreadable = || telling(|key| json!({"sequences": key}));
    let away = |to: &'static str| {
        Step::respond_with(move |request| {
            Reply::empty(307).header("location", &to.replace("KEY", credential(request)))
        })
    };
    let cases: Vec<(Vec<Step>, Vec<Step>)> = vec![
        (vec![hinted(echo(429)).repeat(3), echo(503), echo_at_the_cut(500), note()], vec![]),
        (vec![Step::reset(), Step::refuse(), Step::close_mid_body(9), Step::close_before_headers()], vec![]),
        (vec![echo(402).repeat(2), Step::status(400).body("")], vec![]),
        (vec![echo(409), echo(408)], vec![echo(408), hinted(echo(429)), echo(503), Step::reset()]),
        (vec![], vec![echo(402), Step::close_mid_body(3), echo(410)]),
        (vec![], vec![pause(), failed()]),
        (vec![], vec![failed_in_words()]),
        (vec![], vec![unreadable()]),
        (vec![], vec![echo(401)]),
        (vec![], vec![echo(400).repeat(4)]),
        (vec![], vec![echo(404)]),
        (vec![echo(401)], vec![]),
        (vec![echo(400)], vec![]),
        (vec![echo_at_the_cut(422)], vec![]),
        (vec![telling(|key| json!({"request_id": [key]}))], vec![]),
        (vec![Step::garbage(KEY)], vec![]),
        (vec![away("http://other.test/api/v1/elsewhere")], vec![]),
        (vec![away("ftp://other.test/KEY")], vec![]),
        (vec![away("http://other.test:port/KEY")], vec![]),
    ];
    server.script("elsewhere", [echo(403)]).then_behave();
    for (submissions, polls) in cases {
        sample(said, server, sampler, submissions, polls).await;
    }
}

/// Training, closing, heartbeats, and what is dropped on the way.
async fn the_rest(said: &mut Said, server: &FakeServer, behind: &Service, service: &ServiceClient) {
    let observer = |_: QueueState| std::panic::resume_unwind(Box::new(KEY));
    let trainer = service.lora_training_client(MODEL).rank(4).queue_state_observer(observer);
    said.shown(&trainer);
    let trainer = trainer.create().await.unwrap();
    said.shown(&trainer);
    behind.pause_next(QueueState::PausedRateLimit, Some("slow down"), Duration::from_secs(40));
    trainer.forward_backward([harness::example("ab")], LossFn::CrossEntropy).await.unwrap();
    assert!(trainer.flush_observers(Duration::from_secs(30)));
    server.script("optim_step", [echo(503), echo(422)]).then_behave();
    said.error(&trainer.optim_step(AdamParams::new(1e-3)).await.unwrap_err());
    server
        .script("retrieve_future", [telling(|key| json!({"error": key, "category": "user"}))])
        .then_behave();
    let failing = trainer.optim_step(AdamParams::new(1e-3));
    said.shown(&failing);
    said.error(&failing.await.unwrap_err());
    drop(trainer.optim_step(AdamParams::new(1e-3)));

    let sampler = service.sampling_client().base_model(MODEL);
    let sampler = sampler.create().await.unwrap();
    drop(sampler.sample(harness::request(&[1])));
    let dropped = sampler.sample(harness::request(&[1]));
    server.wait_for_in_flight("asample", 0).await;
    drop(dropped);
    said.shown(&sampler.handle());

    server.script("get_server_capabilities", [echo(400)]).then_behave();
    said.error(&service.server_capabilities().await.unwrap_err());
    said.shown(&service.rest_client());
    said.shown(&service.inflight());
    server.script("session_heartbeat", [echo(500).repeat(10), echo(401).repeat(10)]).then_behave();
    tokio::time::sleep(Duration::from_secs(210)).await;
    server.script("sessions/*/finish", [echo(400)]).then_behave();
    said.error(&service.close(FinishReason::Success).await.unwrap_err());
    said.error(&sampler.sample(harness::request(&[1])).await.unwrap_err());
}

/// A service client whose session is announced with echoes; the session itself does not exist.
async fn greeting(said: &mut Said, server: &FakeServer, builder: ServiceClientBuilder) {
    said.shown(&builder);
    let greeting = telling(|key| {
        json!({"session_id": "none", "info_message": format!("welcome {key}"), "warning_message": key,
               "error_message": key})
    });
    server.script("create_session", [greeting]).then_behave();
    let service = builder.build().await.unwrap();
    said.shown(&service);
    let builder = service.sampling_client().base_model(MODEL);
    said.error(&builder.create().await.unwrap_err());
}

#[track_caller]
fn assert_no_leak(said: &Said, secrets: &BTreeSet<String>) {
    for secret in secrets {
        if let Some(leak) = said.leak(secret) {
            panic!("{leak}");
        }
    }
    let everything = said.everything();
    assert!(everything.matches("[REDACTED]").count() > 50, "the echoes were seen");
    assert!(everything.matches("is not welcome").count() > 20, "and shown without the credential");
    for word in ["http_request", "operation", "still retrying", "heartbeat", "Deprecation notice", "welcome"]
    {
        assert!(everything.contains(word), "{word} was not seen");
    }
}

/// Whatever the server echoes of a key, and whatever fails, nothing says any of it.
#[tokio::test(start_paused = true)]
async fn a_key_is_never_said() {
    let (capture, _guard) = TraceCapture::start();
    let mut said = Said::new(capture);
    let behind = Service::default();
    behind.set_dynamic_config(&json!({ "sample_cancel_enabled": true }));
    let server = FakeServer::with(behind.clone());
    let panicking = |_: QueueState| std::panic::resume_unwind(Box::new(KEY));
    let builder = || harness::builder(&server).api_key(KEY).queue_state_observer(panicking);
    greeting(&mut said, &server, builder()).await;
    let service = builder().build().await.unwrap();
    let sampler = service.sampling_client().base_model(MODEL).create().await.unwrap();
    said.shown(&service);
    said.shown(&sampler);
    samples(&mut said, &server, &sampler).await;
    the_rest(&mut said, &server, &behind, &service).await;

    let sent: BTreeSet<_> =
        server.all_requests().iter().map(|request| credential(request).to_owned()).collect();
    assert!(sent.contains(KEY));
    // The observers run on threads of their own; what is said there is among what was looked at.
    assert!(said.everything().contains("a queue-state observer panicked"), "it was seen");
    assert_no_leak(&said, &BTreeSet::from([KEY.to_owned()]));
}

/// The same of a JWT and of the tokens it is exchanged for, those that were rejected or have run out among them.
#[tokio::test(start_paused = true)]
async fn a_jwt_and_its_tokens_are_never_said() {
    let (capture, _guard) = TraceCapture::start();
    let mut said = Said::new(capture);
    let (behind, server, wall) = crate::credentials::exchanging();
    behind.set_dynamic_config(&json!({ "sample_cancel_enabled": true }));
    let builder = || harness::builder(&server).api_key(JWT).wall_clock(wall.clock());
    greeting(&mut said, &server, builder()).await;
    let service = builder().build().await.unwrap();
    let sampler = service.sampling_client().base_model(MODEL).create().await.unwrap();
    said.shown(&service);
    said.shown(&sampler);
    behind.reject_next_token();
    sample(&mut said, &server, &sampler, vec![], vec![]).await;
    samples(&mut said, &server, &sampler).await;

    // What failed names the token that it was submitted with, which is not that of the poll; or the JWT.
    let old = credential(&server.requests("asample")[0]).to_owned();
    behind.revoke_tokens();
    let quoting = |secret: &str| {
        let secret = secret.to_owned();
        telling(move |_| json!({"error": format!("submitted with {secret}"), "category": "server"}))
    };
    for secret in [&*old, JWT] {
        sample(&mut said, &server, &sampler, vec![], vec![quoting(secret)]).await;
        let refusal = Step::status(400).json_body(json!({ "detail": format!("{secret} is known") }));
        sample(&mut said, &server, &sampler, vec![refusal], vec![]).await;
    }
    // No token can be had any more.
    server
        .script("auth/token", [echo(500).repeat(3), echo(401), telling(|key| json!({"jwt": [key]}))])
        .then_behave();
    behind.revoke_tokens();
    wall.jump(7200);
    for _ in 0..3 {
        if let Err(error) = service.server_capabilities().await {
            said.error(&error);
        }
    }
    the_rest(&mut said, &server, &behind, &service).await;

    let secrets: BTreeSet<_> =
        server.all_requests().iter().map(|request| credential(request).to_owned()).collect();
    assert!(secrets.contains(JWT) && secrets.contains(&old) && secrets.len() >= 4, "{}", secrets.len());
    assert_no_leak(&said, &secrets);
}

/// The same collector finds what is planted: in a message, a field, a span, a Debug, the cause of an error.
#[test]
fn what_is_planted_is_found() {
    let plant: [fn(&mut Said); 6] = [
        |_| tracing::trace!("sent with {KEY}"),
        |_| tracing::debug!(target: "elsewhere", key = KEY),
        |_| drop(tracing::trace_span!("a span", key = %KEY)),
        |_| {
            let span = tracing::info_span!("a span", key = tracing::field::Empty);
            span.record("key", &KEY[..12]);
        },
        |said| said.shown(&Some(&KEY[..9])),
        |said| {
            let cause = std::io::Error::other(std::io::Error::other(KEY));
            said.error(&cause);
        },
    ];
    for (number, plant) in plant.into_iter().enumerate() {
        let (capture, _guard) = TraceCapture::start();
        let mut said = Said::new(capture);
        assert_eq!(said.leak(KEY), None);
        plant(&mut said);
        assert!(said.leak(KEY).is_some(), "{number}");
    }
    let mut said = Said::new(TraceCapture::default());
    said.shown(&&KEY[..8]);
    assert_eq!(said.leak(KEY), None, "eight characters are no secret");
    said.shown(&JWT.split('.').nth(1));
    assert!(said.leak(JWT).is_some());
}
