//! The backoff gate (REQUIREMENTS 1.4, S1-06..S1-08, S1-12, S1-13, RL-2..RL-5, IS-1..IS-3, F-01..F-05).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tinkex_http::{ApiKey, AuthProvider, BackoffGate, GateKey, HttpClient, SharedTransport};
use tinkex_testkit::{Gate, Step};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::{KEY, ROUTE, assert_within, builder, ms, ok, post, scripted, secs, server};

/// A key that no other test uses.
fn unique_key(path: &str) -> GateKey {
    GateKey::new(&format!("{}/{path}", server().url()).parse().unwrap(), b"key")
}

fn gate_of(url: &str, key: &str) -> Arc<BackoffGate> {
    let transport = SharedTransport::new(server().transport());
    let client = HttpClient::builder(url.parse().unwrap(), transport)
        .auth(Arc::new(ApiKey::new(key).unwrap()))
        .build()
        .unwrap();
    BackoffGate::for_key(&client.gate_key())
}

/// Resolves when somebody has closed the gate. No time passes.
async fn until_closed(gate: &BackoffGate) {
    while !gate.in_backoff() {
        tokio::task::yield_now().await;
    }
}

/// S1-13: the same service and key is the same gate, whoever asks; however the address is spelled.
#[test]
fn one_service_and_key_share_one_gate() {
    let gate = gate_of("https://gate-sharing.example", "tml-a");
    assert!(Arc::ptr_eq(&gate, &gate_of("https://GATE-sharing.Example:443/", "tml-a")));
    assert!(Arc::ptr_eq(&gate, &gate_of("https://gate-sharing.example", " tml-a ")));
}

/// S1-13: also when many ask at the same time.
#[test]
fn one_gate_is_made_for_many_who_ask_at_once() {
    let key = unique_key("at-once");
    let gates: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| BackoffGate::for_key(&key))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(gates.iter().all(|gate| Arc::ptr_eq(gate, &gates[0])));
}

/// IS-1, IS-2, IS-3, F-05: another key, another host, another port, another scheme, another path is another gate.
#[test]
fn everybody_else_has_a_gate_of_their_own() {
    let gate = gate_of("https://gate-own.example/a", "tml-a");
    for (url, key) in [
        ("https://gate-own.example/a", "tml-b"),
        ("https://gate-other.example/a", "tml-a"),
        ("https://gate-own.example:444/a", "tml-a"),
        ("http://gate-own.example/a", "tml-a"),
        ("https://gate-own.example/b", "tml-a"),
        ("https://gate-own.example", "tml-a"),
    ] {
        assert!(!Arc::ptr_eq(&gate, &gate_of(url, key)), "{url} {key}");
    }
}

/// IS-1..IS-3 at work: B is served inside A's window.
#[tokio::test(start_paused = true)]
async fn a_window_holds_up_nobody_else() {
    let server = server();
    server.script_when(
        ROUTE,
        |r| r.base_path == "/a",
        [Step::status(429).header("retry-after-ms", "400"), ok()],
    );
    server.script_when(ROUTE, |r| r.base_path == "/b", [ok()]);
    let client = |path: &str| {
        let url = server.url_with_path(path).parse().unwrap();
        let auth: Arc<dyn AuthProvider> = Arc::new(ApiKey::new(KEY).unwrap());
        HttpClient::builder(url, server.transport()).auth(auth).build().unwrap()
    };
    let started = Instant::now();
    let (a, b) = (client("/a"), client("/b"));
    let (gate_a, gate_b) = (BackoffGate::for_key(&a.gate_key()), BackoffGate::for_key(&b.gate_key()));
    let held = tokio::spawn({
        let gate = gate_a.clone();
        async move { a.send(&post().gate(gate)).await }
    });
    until_closed(&gate_a).await;
    tokio::time::advance(ms(100)).await;
    b.send(&post().gate(gate_b)).await.unwrap();
    assert!(started.elapsed() < ms(200));
    held.await.unwrap().unwrap();
    assert_within(started.elapsed(), ms(400), ms(500));
}

/// A new client cannot escape a window that runs: the gate outlives its holders until it is over, and is forgotten
/// after that.
#[tokio::test(start_paused = true)]
async fn a_running_window_outlives_its_holders() {
    let (key, other) = (unique_key("escape"), unique_key("other"));
    BackoffGate::for_key(&key).penalise(secs(10));
    drop(BackoffGate::for_key(&other));
    let gate = BackoffGate::for_key(&key);
    assert!(gate.in_backoff());
    drop(gate);
    tokio::time::advance(secs(11)).await;
    drop(BackoffGate::for_key(&unique_key("sweep")));
    assert_eq!(BackoffGate::for_key(&key).until(), None, "forgotten");
}

/// A gate that somebody holds is never replaced, window or not.
#[tokio::test(start_paused = true)]
async fn a_held_gate_stays() {
    let key = unique_key("held");
    let gate = BackoffGate::for_key(&key);
    drop(BackoffGate::for_key(&unique_key("sweep")));
    assert!(Arc::ptr_eq(&gate, &BackoffGate::for_key(&key)));
}

/// RL-3, F-01: the longer of two penalties wins, in either order.
#[tokio::test(start_paused = true)]
async fn the_longer_penalty_wins() {
    let now = Instant::now();
    for (first, second) in [(secs(5), ms(50)), (ms(50), secs(5))] {
        let gate = BackoffGate::default();
        gate.penalise(first);
        gate.penalise(second);
        assert_eq!(gate.until(), Some(now + secs(5)));
    }
}

/// RL-2, F-01: a success does not shorten a window, not even of a request sent before it.
#[tokio::test(start_paused = true)]
async fn a_late_success_does_not_open_the_gate() {
    let hold = Gate::new();
    let (server, client) = scripted([ok().gate(&hold), Step::status(429).header("retry-after", "2"), ok()]);
    let gate = Arc::new(BackoffGate::default());
    let request = post().gate(gate.clone());
    let spawn = || {
        let (client, request) = (client.clone(), request.clone());
        tokio::spawn(async move { client.send(&request).await })
    };
    let a = spawn();
    hold.arrived(1).await;
    let b = spawn();
    until_closed(&gate).await;
    let until = gate.until().unwrap();
    hold.open();
    a.await.unwrap().unwrap();
    assert_eq!(gate.until(), Some(until));
    assert!(gate.in_backoff());
    b.await.unwrap().unwrap();
    server.assert_no_arrival_between(ROUTE, until - secs(2), until);
}

/// RL-4, F-03: a window that grows while 20 wait holds all of them.
#[tokio::test(start_paused = true)]
async fn a_window_that_grows_holds_everybody() {
    let gate = Arc::new(BackoffGate::default());
    gate.penalise(ms(200));
    let mut waiters = JoinSet::new();
    for _ in 0..20 {
        let gate = gate.clone();
        waiters.spawn(async move {
            gate.ready().await;
            Instant::now()
        });
    }
    tokio::task::yield_now().await;
    tokio::time::advance(ms(150)).await;
    gate.penalise(secs(1));
    let until = gate.until().unwrap();
    while let Some(out) = waiters.join_next().await {
        let out = out.unwrap();
        assert!(out >= until && out <= until + ms(251), "{:?}", out - until);
    }
}

/// RL-5, F-03: the end of a window is no stampede: 50 waiters leave spread over a quarter of it.
#[tokio::test(start_paused = true)]
async fn waiters_leave_spread_out() {
    for (penalty, spread) in [(ms(400), ms(100)), (secs(60), secs(1))] {
        let gate = Arc::new(BackoffGate::default());
        gate.penalise(penalty);
        let until = gate.until().unwrap();
        let mut waiters = JoinSet::new();
        for _ in 0..50 {
            let gate = gate.clone();
            waiters.spawn(async move {
                gate.ready().await;
                Instant::now()
            });
        }
        let mut moments = BTreeSet::new();
        while let Some(out) = waiters.join_next().await {
            moments.insert(out.unwrap() - until);
        }
        assert!(moments.len() >= 20, "{} different moments", moments.len());
        assert!(*moments.last().unwrap() <= spread + ms(1), "{:?}", moments.last());
        assert!(*moments.last().unwrap() - *moments.first().unwrap() >= spread / 2);
    }
}

/// S1-06, S1-08: after one 429 nothing reaches the server inside the window, and not much later than its end.
#[tokio::test(start_paused = true)]
async fn nothing_arrives_inside_the_window() {
    let (server, client) = scripted([Step::status(429).header("retry-after-ms", "200"), ok().repeat(21)]);
    let gate = Arc::new(BackoffGate::default());
    let started = Instant::now();
    let first = tokio::spawn({
        let (client, gate) = (client.clone(), gate.clone());
        async move { client.send(&post().gate(gate)).await }
    });
    until_closed(&gate).await;
    let mut calls = JoinSet::new();
    for _ in 0..20 {
        let (client, gate) = (client.clone(), gate.clone());
        calls.spawn(async move { client.send(&post().gate(gate)).await });
    }
    while let Some(call) = calls.join_next().await {
        call.unwrap().unwrap();
    }
    first.await.unwrap().unwrap();
    server.assert_no_arrival_between(ROUTE, started, started + ms(200));
    assert!(server.requests(ROUTE).iter().all(|r| r.at < started + ms(300)));
    server.verify().unwrap();
}

/// Penalties from many threads at once: the greatest wins, none is lost.
#[test]
fn the_greatest_of_many_penalties_wins() {
    for _ in 0..50 {
        let gate = BackoffGate::default();
        let before = Instant::now();
        std::thread::scope(|scope| {
            for thread in 0..8u64 {
                let gate = &gate;
                scope.spawn(move || {
                    for n in 0..50 {
                        gate.penalise(ms((thread * 131 + n * 37) % 1000));
                    }
                    if thread == 3 {
                        gate.penalise(secs(20));
                    }
                });
            }
        });
        let until = gate.until().unwrap();
        assert!(until >= before + secs(20) && until <= Instant::now() + secs(20));
        assert!(gate.in_backoff());
    }
}

/// "Recently throttled": while the window runs, and some time after it.
#[tokio::test(start_paused = true)]
async fn a_gate_remembers_a_recent_window() {
    let gate = BackoffGate::default();
    assert!(!gate.throttled_within(secs(10)), "never penalised");
    gate.penalise(secs(5));
    assert!(gate.throttled_within(Duration::ZERO) && gate.throttled_within(secs(10)));
    tokio::time::advance(secs(5)).await;
    assert!(!gate.in_backoff() && gate.throttled_within(secs(10)));
    tokio::time::advance(ms(9999)).await;
    assert!(gate.throttled_within(secs(10)));
    tokio::time::advance(ms(1)).await;
    assert!(!gate.throttled_within(secs(10)));
}

/// No penalty overflows, and none closes the gate for good.
#[tokio::test(start_paused = true)]
async fn no_penalty_is_too_long() {
    for penalty in [Duration::MAX, secs(u64::MAX / 2), Duration::from_nanos(u64::MAX), secs(90_000)] {
        let gate = BackoffGate::default();
        gate.penalise(penalty);
        let until = gate.until().unwrap();
        assert_eq!(until, Instant::now() + BackoffGate::LONGEST_WINDOW);
        assert!(tokio::time::timeout(secs(80_000), gate.ready()).await.is_err());
        gate.ready().await;
        assert!(Instant::now() >= until && Instant::now() <= until + ms(1001));
    }
    let gate = BackoffGate::default();
    gate.penalise(Duration::ZERO);
    gate.ready().await;
    assert!(!gate.in_backoff());
}

/// An open gate lets everybody through at once.
#[tokio::test(start_paused = true)]
async fn an_open_gate_costs_no_time() {
    let gate = BackoffGate::default();
    let started = Instant::now();
    gate.ready().await;
    gate.penalise(ms(10));
    gate.ready().await;
    let after = Instant::now();
    gate.ready().await;
    assert_eq!(after, Instant::now());
    assert_within(after - started, ms(10), ms(13));
}

/// Two clients of one service share one window through the registry (S1-13 on the wire).
#[tokio::test(start_paused = true)]
async fn a_second_client_waits_for_the_first_ones_window() {
    let server = server();
    server.script(ROUTE, [Step::status(429).header("retry-after-ms", "300"), ok().repeat(2)]);
    let (a, b) = (builder(&server).build().unwrap(), builder(&server).build().unwrap());
    let started = Instant::now();
    let first = tokio::spawn({
        let gate = BackoffGate::for_key(&a.gate_key());
        async move { a.send(&post().gate(gate)).await }
    });
    let gate = BackoffGate::for_key(&b.gate_key());
    until_closed(&gate).await;
    b.send(&post().gate(gate)).await.unwrap();
    assert_within(started.elapsed(), ms(300), ms(375));
    first.await.unwrap().unwrap();
}
