//! Sampler handles: a sampler opened elsewhere (PROTOCOL 15.7).

use futures_util::future::join_all;
use serde_json::json;
use tinkex_client::{SamplerHandle, ServiceClient};
use tinkex_testkit::FakeServer;

use super::{MINUTE, SECOND, of_model, pass, with_flags};
use crate::harness::{self, MODEL};

/// PROTOCOL 15.7: a sampler as text, opened elsewhere: the same sampling session, a block of ids of its own, the
/// heartbeat of the same session, and neither flags nor a session are asked for.
#[tokio::test(start_paused = true)]
async fn a_sampler_handle_opened_elsewhere() {
    let server = FakeServer::new();
    let service = harness::builder(&server).header("x-team", "blue").build().await.unwrap();
    let sampler = of_model(&service).await;
    sampler.sample(harness::request(&[1])).await.unwrap();
    let text = sampler.handle().to_string();
    assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_=".contains(&b)), "URL-safe: {text}");
    assert!(!text.contains("tml-test"));
    let handle: SamplerHandle = text.parse().unwrap();
    assert_eq!(handle, sampler.handle());
    let session = service.session_id().unwrap();
    let connected = server.all_requests().len();
    drop((service, sampler));

    let elsewhere = ServiceClient::builder().api_key("tml-other").transport(harness::transport(&server));
    let elsewhere = elsewhere.without_telemetry();
    let opened = elsewhere.open_sampler(&handle).await.unwrap();
    assert_eq!(opened.sampling_session_id(), handle.sampling_session_id);
    assert_eq!(opened.base_model(), MODEL);
    opened.sample(harness::request(&[1])).await.unwrap();
    opened.sample(harness::request(&[2])).await.unwrap();
    pass(25 * SECOND).await;
    let later = &server.all_requests()[connected..];
    let routes: Vec<_> = later.iter().map(|request| request.route()).collect();
    let expected = [
        "asample",
        "retrieve_future",
        "asample",
        "retrieve_future",
        "session_heartbeat",
        "session_heartbeat",
    ];
    assert_eq!(routes, expected);
    assert!(later.iter().all(|request| request.header("x-api-key") == Some("tml-other")));
    assert!(later.iter().all(|request| request.header("x-team") == Some("blue")), "overrides travel along");
    assert_eq!(later[4].text("session_id"), Some(&*session));
    let ids: Vec<_> = later.iter().filter_map(|request| request.seq_id()).collect();
    assert_eq!(ids[1], ids[0] + 1);
    assert_eq!(ids[0] % 1_000_000_000, 0);
    assert!((1..=1_000_000_000).contains(&(ids[0] / 1_000_000_000)), "{ids:?}");

    drop(opened);
    let before = server.all_requests().len();
    pass(10 * MINUTE).await;
    assert_eq!(server.all_requests().len(), before, "the opened sampler's tasks have ended with it");
}

/// A handle that asks for stability records has them asked for by every sample, here and when it is passed on.
#[tokio::test(start_paused = true)]
async fn a_handle_that_records_stability() {
    let server = FakeServer::new();
    let (service, sampler) = harness::sampler(&server).await;
    let recording = service.sampling_client().base_model(harness::MODEL).record_stability_info(true);
    assert!(recording.create().await.unwrap().handle().record_stability_info);
    let mut handle = sampler.handle();
    handle.record_stability_info = true;
    let opened = harness::builder(&server).open_sampler(&handle).await.unwrap();
    assert_eq!(opened.handle(), handle);
    sampler.sample(harness::request(&[1])).await.unwrap();
    opened.sample(harness::request(&[1])).await.unwrap();
    let asked = server.requests("asample");
    assert_eq!(asked[0].field("record_stability_info"), None);
    assert_eq!(asked[1].field("record_stability_info"), Some(&json!(true)));
}

/// PROTOCOL 15.7: clones draw different blocks, never the creator's.
#[tokio::test(start_paused = true)]
async fn random_blocks_differ() {
    let server = FakeServer::new();
    let (_service, sampler) = harness::sampler(&server).await;
    let handle = sampler.handle();
    let mut blocks = Vec::new();
    for _ in 0..20 {
        let opened = harness::builder(&server).open_sampler(&handle).await.unwrap();
        opened.sample(harness::request(&[1])).await.unwrap();
        blocks.push(server.seq_ids("asample").last().unwrap() / 1_000_000_000);
    }
    assert!(blocks.iter().all(|block| (1..=1_000_000_000).contains(block)), "{blocks:?}");
    blocks.sort_unstable();
    blocks.dedup();
    assert_eq!(blocks.len(), 20);
}

/// `sample_join_sampling_session`: the server gives the block (PROTOCOL 15.7).
#[tokio::test(start_paused = true)]
async fn joining_a_sampling_session() {
    let (_behind, server, _service, sampler) =
        with_flags(json!({ "sample_join_sampling_session": true })).await;
    sampler.sample(harness::request(&[1])).await.unwrap();
    let handle = sampler.handle();
    for _ in 0..2 {
        let opened = harness::builder(&server).open_sampler(&handle).await.unwrap();
        join_all((0..3).map(|n| opened.sample(harness::request(&[n])))).await;
    }
    let mut ids = server.seq_ids("asample");
    ids.sort_unstable();
    let block = 1_000_000_000;
    assert_eq!(ids, [0, block, block + 1, block + 2, 2 * block, 2 * block + 1, 2 * block + 2]);
    let joins = server.requests("join_sampling_session");
    assert_eq!(joins.len(), 2);
    let body =
        json!({ "sampling_session_id": sampler.sampling_session_id(), "type": "join_sampling_session" });
    assert_eq!(*joins[0].json().unwrap(), body);
}
