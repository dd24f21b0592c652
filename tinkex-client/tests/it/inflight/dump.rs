//! The text that is dumped, wherever it goes.

use std::io::{self, Write};
use std::time::Duration;

use serde_json::json;
use tinkex_client::ServiceClient;
use tinkex_testkit::{FakeServer, Step};

use super::{OneInEachStage, SESSION, TABLE, with_fixed_ids};
use crate::harness;

fn dumped(service: &ServiceClient) -> String {
    let mut text = Vec::new();
    service.dump_inflight(&mut text).unwrap();
    String::from_utf8(text).unwrap()
}

/// A line about the service, the table, an empty line.
#[tokio::test(start_paused = true)]
async fn the_dump_is_the_table_below_a_line() {
    let forced = OneInEachStage::forced().await;
    let text = dumped(&forced.service);
    let head = format!(
        "--- tinkex, 33.0 s after the service was built: session {SESSION}, not in backoff, 399 free dispatch slots"
    );
    assert_eq!(with_fixed_ids(&text, &forced.service), format!("{head}\n{TABLE}\n\n"));
    for secret in ["tml-test", "x-secret", "hunter2"] {
        assert!(!text.contains(secret), "{text}");
    }
    let service = forced.end().await;
    let head = head.replace("399", "400");
    let at_rest = dumped(&service);
    assert!(at_rest.ends_with("400 free dispatch slots\nnothing in flight\n\n"), "{at_rest}");
    assert_eq!(at_rest.split(" s after").next(), head.split(" s after").next(), "no time has passed");
}

/// Before there is a session that is said, and while samples back off, that.
#[tokio::test(start_paused = true)]
async fn the_line_tells_the_state_of_the_service() {
    let server = FakeServer::new();
    let lazy = harness::builder(&server).connect_lazily().build().await.unwrap();
    tokio::time::advance(Duration::from_millis(1_250)).await;
    let before = "--- tinkex, 1.2 s after the service was built: no session yet\nnothing in flight\n\n";
    assert_eq!(dumped(&lazy), before);

    let (service, sampler) = harness::sampler(&server).await;
    let limited = Step::status(429).header("retry-after", "30").json_body(json!({"detail": "slow down"}));
    server.script("asample", [limited]).then_behave();
    let sample = sampler.sample(harness::request(&[1]));
    server.wait_for("asample", 1).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let text = dumped(&service);
    assert!(
        text.contains(", in backoff, 400 free dispatch slots\n1 in flight: 0 queued, 1 submitting"),
        "{text}"
    );
    sample.await.unwrap();
    assert!(dumped(&service).contains(", not in backoff, "), "the window is over");
}

/// A writer that fails is heard of.
#[tokio::test(start_paused = true)]
async fn the_errors_of_the_writer_are_passed_on() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let service = harness::service(&FakeServer::new()).await;
    assert_eq!(service.dump_inflight(&mut Full).unwrap_err().kind(), io::ErrorKind::StorageFull);
}
