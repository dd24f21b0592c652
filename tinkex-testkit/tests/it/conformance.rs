//! The conformance suite: it lets right transports pass, and finds what is wrong with wrong ones.

mod broken;

use tinkex_http::SharedTransport;
use tinkex_testkit::conformance;

use crate::plain::Plain;
use broken::{Broken, Fault};

/// The contract, on sockets.
#[tokio::test]
async fn a_right_transport_passes_on_sockets() {
    conformance::transport(&Plain).await.unwrap();
}

/// The contract, in memory: in virtual time, and in real time on many threads.
#[tokio::test(start_paused = true)]
async fn the_in_memory_transport_passes() {
    conformance::transport_in_memory(|server| server.transport()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_in_memory_transport_passes_in_real_time() {
    conformance::transport_in_memory(|server| server.transport()).await.unwrap();
}

/// The contract holds over the carried face too, in virtual time.
#[tokio::test(start_paused = true)]
async fn a_carried_transport_passes() {
    conformance::transport_in_memory(|server| server.transport_over(Plain).unwrap()).await.unwrap();
}

/// Each way to break the contract is found, by the checks that are about it and by no other.
#[tokio::test(start_paused = true)]
async fn each_fault_is_found_and_named() {
    let mut wrong = Vec::new();
    for (fault, checks) in [
        (Fault::None, &[][..]),
        (Fault::Retries, &["nothing is tried again"]),
        (Fault::RetriesIdempotent, &["nothing is tried again"]),
        (Fault::FollowsRedirects, &["redirects to another origin"]),
        (Fault::AddsKey, &["a request arrives as it was made"]),
        (Fault::KeepsCookies, &["cookies are not kept"]),
        (Fault::DropsRequestHeaders, &["request headers"]),
        (Fault::MergesRequestHeaders, &["request headers"]),
        (Fault::DropsResponseHeaders, &["response headers"]),
        (Fault::MergesResponseHeaders, &["response headers"]),
        (Fault::CutsRequests, &["a large request body"]),
        (Fault::CutsResponses, &["a large response body"]),
        (Fault::Decompresses, &["bodies are not decompressed"]),
        (Fault::TimesOut, &["a slow answer is waited for"]),
        (Fault::OneKind, &["each failure has its kind", "nobody listening"]),
        (Fault::HidesBrokenBodies, &["each failure has its kind"]),
        (Fault::StatusIsError, &["any status", "a response without a body", "redirects"]),
        (Fault::BuffersBodies, &["the head comes before the body", "a body that is dropped"]),
        (Fault::Detaches, &["a call that is dropped"]),
        (Fault::OneAtATime, &["many calls go on at one time"]),
    ] {
        let found = conformance::transport_in_memory(|server| {
            SharedTransport::new(Broken::new(server.transport(), fault))
        })
        .await;
        let failures = found.err().map(|found| found.failures).unwrap_or_default();
        let named = |check: &&&str| failures.iter().any(|failure| failure.starts_with(**check));
        let missed: Vec<_> = checks.iter().filter(|check| !named(check)).collect();
        let unasked: Vec<_> =
            failures.iter().filter(|f| !checks.iter().any(|check| f.starts_with(check))).collect();
        if !missed.is_empty() || !unasked.is_empty() {
            wrong.push(format!("{fault:?}: missed {missed:#?}, not asked for {unasked:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A transport that answers only itself fails nearly everywhere.
#[tokio::test]
async fn a_dead_transport_fails_everywhere() {
    let found = conformance::transport(&broken::Dead).await.unwrap_err();
    assert!((17..=21).contains(&found.failures.len()), "{found}");
}
