//! The transports of the examples keep the contract of transports, on real sockets in real time.

use std::time::Duration;

use bytes::Bytes;
use tinkex_client::{SharedTransport, Transport as _};
use tinkex_testkit::{FakeServer, Gate, NoBehaviour, Step, conformance};

use crate::harness::{HyperTransport, UreqTransport};

/// Nothing here takes longer than this.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn hyper_keeps_the_contract() {
    conformance::transport(&HyperTransport::new()).await.unwrap();
}

#[tokio::test]
async fn ureq_keeps_the_contract() {
    conformance::transport(&UreqTransport::new(256)).await.unwrap();
}

/// A call that is dropped frees its thread, where it blocks for an answer and where it blocks for a body.
#[tokio::test]
async fn a_dropped_call_of_ureq_frees_its_thread() {
    let server = FakeServer::with(NoBehaviour);
    let stall = Step::status(200).body("later").then_stall_after_headers();
    server.script("x", [Step::hang(), stall, Step::status(200)]);
    let socket = server.listen().await.unwrap();
    let transport = SharedTransport::new(UreqTransport::new(1));
    let call = || {
        let request = http::Request::post(format!("{}/api/v1/x", socket.url())).body(Bytes::new()).unwrap();
        transport.call(request)
    };
    tokio::time::timeout(PATIENCE, async {
        tokio::select! {
            result = call() => panic!("{:?}", result.map(|response| response.status())),
            () = server.wait_for("x", 1) => {}
        }
        drop(call().await.unwrap());
        assert_eq!(call().await.unwrap().status(), 200);
        server.wait_for_in_flight("x", 0).await;
    })
    .await
    .unwrap();
    server.verify().unwrap();
}

/// More calls than threads wait for one; none is lost.
#[tokio::test]
async fn calls_of_ureq_wait_for_a_thread() {
    let server = FakeServer::with(NoBehaviour);
    let gate = Gate::new();
    server.script("x", [Step::status(200).gate(&gate).repeat(10)]);
    let socket = server.listen().await.unwrap();
    let transport = UreqTransport::new(3);
    let calls = futures_util::future::join_all((0..10).map(|_| {
        let request = http::Request::post(format!("{}/api/v1/x", socket.url())).body(Bytes::new()).unwrap();
        transport.call(request)
    }));
    let opening = async {
        gate.arrived(3).await;
        gate.open();
    };
    let both = futures_util::future::join(calls, opening);
    let (answers, ()) = tokio::time::timeout(PATIENCE, both).await.unwrap();
    assert!(answers.into_iter().all(|answer| answer.unwrap().status() == 200));
    assert_eq!((server.count("x"), server.max_in_flight("x")), (10, 3));
}
