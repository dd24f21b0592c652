//! Gates: responses wait until the test lets them go.

use serde_json::json;
use tinkex_testkit::{FakeServer, Gate, Step};
use tokio::task::JoinSet;

use crate::client::{Wire, echo, ms, post};

fn call(server: &FakeServer, calls: &mut JoinSet<u16>) {
    let server = server.clone();
    calls.spawn(async move { post(&server, "x", &json!({})).await.unwrap().status.as_u16() });
}

/// RL-2: one call in flight, another refused meanwhile, the first let go afterwards.
#[tokio::test(start_paused = true)]
async fn a_response_waits_until_the_gate_opens() {
    let server = echo();
    let gate = Gate::new();
    server.script("x", [Step::behave().gate(&gate), Step::status(429)]);
    let mut calls = JoinSet::new();
    call(&server, &mut calls);
    gate.arrived(1).await;
    assert_eq!((server.count("x"), server.in_flight("x"), gate.waiting()), (1, 1, 1));
    call(&server, &mut calls);
    assert_eq!(calls.join_next().await.unwrap().unwrap(), 429);
    tokio::time::advance(ms(3_600_000)).await;
    assert!(calls.try_join_next().is_none(), "time does not open the gate");
    gate.open();
    assert_eq!(calls.join_next().await.unwrap().unwrap(), 200);
    assert_eq!(gate.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_gate_can_let_some_through_and_be_used_again() {
    let server = echo();
    let gate = Gate::new();
    server.script("x", [Step::behave().gate(&gate).repeat(6)]);
    let mut calls = JoinSet::new();
    for _ in 0..4 {
        call(&server, &mut calls);
    }
    gate.arrived(4).await;
    gate.release(3);
    for _ in 0..3 {
        calls.join_next().await.unwrap().unwrap();
    }
    tokio::time::advance(ms(1_000)).await;
    assert!(calls.try_join_next().is_none());
    assert_eq!(gate.waiting(), 1);
    gate.open();
    calls.join_next().await.unwrap().unwrap();
    call(&server, &mut calls);
    calls.join_next().await.unwrap().unwrap();

    gate.close();
    call(&server, &mut calls);
    gate.arrived(1).await;
    tokio::time::advance(ms(1_000)).await;
    assert!(calls.try_join_next().is_none());
    gate.open();
    calls.join_next().await.unwrap().unwrap();
    server.verify().unwrap();
    assert_eq!(server.max_in_flight("x"), 4);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_leaves_the_gate() {
    let server = echo();
    let gate = Gate::new();
    server.script("x", [Step::behave().gate(&gate).repeat(2)]);
    let mut calls = JoinSet::new();
    call(&server, &mut calls);
    call(&server, &mut calls);
    gate.arrived(2).await;
    calls.shutdown().await;
    assert_eq!((gate.waiting(), server.in_flight("x"), server.max_in_flight("x")), (0, 0, 2));
}

#[tokio::test(start_paused = true)]
async fn faults_wait_at_gates_too() {
    let server = echo();
    let gate = Gate::new();
    server.script("x", [Step::reset().gate(&gate)]);
    let failing = tokio::spawn({
        let server = server.clone();
        async move { post(&server, "x", &json!({})).await.is_err() }
    });
    gate.arrived(1).await;
    assert!(!failing.is_finished());
    gate.open();
    assert!(failing.await.unwrap());
}

#[tokio::test]
async fn gates_work_on_the_socket() {
    let server = echo();
    let socket = server.listen().await.unwrap();
    let gate = Gate::new();
    server.script("x", [Step::behave().gate(&gate).repeat(2)]);
    let mut a = Wire::open(socket.address()).await;
    let mut b = Wire::open(socket.address()).await;
    a.send("x", &json!({})).await.unwrap();
    b.send("x", &json!({})).await.unwrap();
    gate.arrived(2).await;
    drop(a);
    server.wait_for_in_flight("x", 1).await;
    gate.open();
    let (head, _) = b.response().await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
}
