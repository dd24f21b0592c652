//! The carried face: virtual time is exact over real sockets.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use serde_json::json;
use tinkex_http::{Body, SharedTransport, Transport, TransportError, TransportErrorKind};
use tinkex_testkit::{FakeServer, Gate, NoBehaviour, Step};
use tokio::time::{Instant, sleep, timeout};

use crate::plain::Plain;

fn scripted(steps: impl IntoIterator<Item = Step>) -> (FakeServer, SharedTransport) {
    let server = FakeServer::with(NoBehaviour);
    server.script("x", steps);
    let transport = server.transport_over(Plain).unwrap();
    (server, transport)
}

async fn exchange(server: &FakeServer, transport: &SharedTransport) -> Result<(u16, Bytes), TransportError> {
    let request = http::Request::post(format!("{}/base/api/v1/x", server.url()))
        .header("content-type", "application/json")
        .body(Bytes::from_static(b"{\"seq_id\": 4}"))
        .unwrap();
    let (head, body): (_, Body) = transport.call(request).await?.into_parts();
    Ok((head.status.as_u16(), body.collect(1 << 24).await?))
}

const SECOND: Duration = Duration::from_secs(1);

/// An hour that is far away must not come while bytes are under way.
async fn with_a_timer_pending<T>(exchange: impl Future<Output = T>) -> T {
    tokio::select! {
        biased;
        result = exchange => result,
        () = sleep(Duration::from_millis(1)) => panic!("time has passed while bytes were under way"),
    }
}

/// A plain call takes no time, however many come after each other, and the log looks as in memory.
#[tokio::test(start_paused = true)]
async fn bytes_take_no_time() {
    let (server, transport) =
        scripted([Step::json(json!({"a": 1})).repeat(50), Step::proto(vec![7; 8 << 20])]);
    let start = Instant::now();
    for _ in 0..50 {
        let (status, body) = with_a_timer_pending(exchange(&server, &transport)).await.unwrap();
        assert_eq!((status, &body[..]), (200, &b"{\"a\":1}"[..]));
    }
    let (_, large) = with_a_timer_pending(exchange(&server, &transport)).await.unwrap();
    assert_eq!(large.len(), 8 << 20);
    assert_eq!(start.elapsed(), Duration::ZERO);

    let request = &server.requests("x")[0];
    assert_eq!(format!("http://{}", request.header("host").unwrap()), server.url());
    assert_eq!((request.base_path.as_str(), request.seq_id()), ("/base", Some(4)));
    assert!(request.headers.keys().all(|name| !name.as_str().starts_with("x-testkit")));
    server.verify().unwrap();
}

/// What the server waits for passes at once, and to the millisecond.
#[tokio::test(start_paused = true)]
async fn the_waits_of_the_script_are_exact() {
    let pieces = vec![(SECOND, Bytes::from_static(b"a")), (2 * SECOND, Bytes::from_static(b"b"))];
    let (server, transport) = scripted([
        Step::status(200),
        Step::status(200).delay(3600 * SECOND),
        Step::status(200).chunks(pieces),
        Step::status(503).delay(SECOND),
    ]);
    server.latency(Duration::from_millis(10));
    let start = Instant::now();
    let mut at = Vec::new();
    for _ in 0..4 {
        exchange(&server, &transport).await.unwrap();
        at.push(start.elapsed().as_millis());
    }
    assert_eq!(at, [10, 3_600_020, 3_603_030, 3_604_040]);
}

/// A gate holds while time goes on, and the answer takes no time once it is open.
#[tokio::test(start_paused = true)]
async fn a_gate_holds_the_answer_and_not_the_clock() {
    let gate = Gate::new();
    let (server, transport) = scripted([Step::status(200).gate(&gate)]);
    let start = Instant::now();
    let opening = async {
        gate.arrived(1).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        sleep(90 * SECOND).await;
        gate.open();
    };
    let (answer, ()) = tokio::join!(exchange(&server, &transport), opening);
    assert_eq!(answer.unwrap().0, 200);
    assert_eq!(start.elapsed(), 90 * SECOND);
}

/// Where nothing comes any more, a deadline is what ends it: after its time, not before.
#[tokio::test(start_paused = true)]
async fn a_deadline_ends_what_hangs() {
    let stall = Step::status(200).body("later").then_stall_after_headers();
    let (server, transport) = scripted([Step::hang(), stall, Step::status(200)]);
    for _ in 0..2 {
        let start = Instant::now();
        timeout(30 * SECOND, exchange(&server, &transport)).await.unwrap_err();
        assert_eq!(start.elapsed(), 30 * SECOND);
        assert_eq!(server.in_flight("x"), 0, "given up at once");
    }
    exchange(&server, &transport).await.unwrap();
    server.verify().unwrap();
}

/// Faults have the transport's own kinds, and take no time.
#[tokio::test(start_paused = true)]
async fn faults_take_no_time() {
    let body = Step::raw("0123456789", "text/plain");
    let cases = [
        (Step::refuse(), TransportErrorKind::Connect),
        (Step::reset(), TransportErrorKind::Interrupted),
        (Step::close_before_headers(), TransportErrorKind::Interrupted),
        (body.clone().then_close_mid_body(5), TransportErrorKind::Interrupted),
        (body.clone().then_wrong_content_length(), TransportErrorKind::Interrupted),
        (body.then_lose(), TransportErrorKind::Interrupted),
        (Step::garbage("no HTTP\r\n\r\n"), TransportErrorKind::Decode),
    ];
    let (server, transport) = scripted(cases.iter().map(|(step, _)| step.clone()));
    let start = Instant::now();
    for (step, kind) in cases {
        let error = with_a_timer_pending(exchange(&server, &transport)).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{step:?}: {error}");
    }
    assert_eq!(start.elapsed(), Duration::ZERO);
    server.verify().unwrap();
}

/// A call that is dropped is in flight no longer at once, and the clock is let go.
#[tokio::test(start_paused = true)]
async fn a_dropped_call_is_over_at_once() {
    let gate = Gate::new();
    let (server, transport) = scripted([Step::status(200).gate(&gate), Step::status(200)]);
    {
        let call = exchange(&server, &transport);
        tokio::select! {
            result = call => panic!("{result:?}"),
            () = gate.arrived(1) => {}
        }
    }
    assert_eq!((server.in_flight("x"), gate.waiting()), (0, 0));
    let start = Instant::now();
    sleep(3600 * SECOND).await;
    assert_eq!(start.elapsed(), 3600 * SECOND);
    exchange(&server, &transport).await.unwrap();
    server.verify().unwrap();
}

/// Arrivals come in the order of the calls, and answers in the order in which they were played.
#[tokio::test(start_paused = true)]
async fn the_order_is_that_of_memory() {
    const MANY: u64 = 100;
    let server = FakeServer::with(NoBehaviour);
    // Every other answer is large, so it is longer under way.
    let steps = (0..MANY).map(|n| Step::proto(vec![0; if n % 2 == 0 { 200_000 } else { 1 }]));
    server.script("x", steps.collect::<Vec<_>>());
    let transport = server.transport_over(Plain).unwrap();
    let done = std::sync::Mutex::new(Vec::new());
    let call = async |n: u64| {
        let request = http::Request::post(format!("{}/api/v1/x", server.url()))
            .header("content-type", "application/json")
            .body(Bytes::from(format!("{{\"seq_id\": {n}}}")))
            .unwrap();
        let body = transport.call(request).await.unwrap().into_body();
        body.collect(1 << 20).await.unwrap();
        done.lock().unwrap().push(n);
    };
    join_all((0..MANY).map(call)).await;
    assert!(server.seq_ids("x").into_iter().eq(0..MANY));
    assert!(done.into_inner().unwrap().into_iter().eq(0..MANY));
    server.verify().unwrap();
}

/// A transport that sends a request again of its own accord is found out.
#[tokio::test(start_paused = true)]
async fn a_transport_that_repeats_is_found_out() {
    struct Twice;
    impl Transport for Twice {
        async fn call(&self, request: http::Request<Bytes>) -> Result<http::Response<Body>, TransportError> {
            match Plain.call(request.clone()).await {
                Err(_) => Plain.call(request).await,
                done => done,
            }
        }
    }
    let server = FakeServer::with(NoBehaviour);
    server.script("x", [Step::reset()]);
    let transport = server.transport_over(Twice).unwrap();
    exchange(&server, &transport).await.unwrap_err();
    let unmet = server.verify().unwrap_err();
    assert!(unmet.to_string().contains("the transport sent call 0 again"), "{unmet}");
}

/// On a runtime with threads, in real time, it is an ordinary transport.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_time_works_too() {
    let (server, transport) = scripted([Step::status(200).delay(Duration::from_millis(20)).repeat(20)]);
    let start = Instant::now();
    let calls = join_all((0..20).map(|_| exchange(&server, &transport))).await;
    assert!(calls.into_iter().all(|call| call.is_ok()));
    assert!(start.elapsed() >= Duration::from_millis(20));
    server.verify().unwrap();
}
