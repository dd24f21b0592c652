//! CA-1: half of the samples dropped, stage by stage.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use tinkex_client::{QueueState, Stage};
use tinkex_testkit::{Gate, Received, Step};
use tokio::time::Instant;

use super::{
    AT_REST, all_well, assert_nothing_leaks, cancelled, connected, drop_half, fan_out, promises, settle,
};
use crate::harness::{assert_within, request};

/// CA-1: samples dropped while they wait for a place among those in flight were never sent.
#[tokio::test(start_paused = true)]
async fn queued_samples_are_abandoned_unsent() {
    for cancels in [true, false] {
        let flags = json!({"sample_max_concurrent_requests": 10});
        let (service, server, client, sampler) = connected(cancels, flags).await;
        service.pause(QueueState::PausedCapacity, None, None);
        let mut handles = fan_out(&sampler, 210);
        server.wait_for_in_flight("retrieve_future", 10).await;
        let queued = client.inflight().iter().filter(|row| row.stage == Stage::Queued).count();
        assert_eq!(queued, 200);
        let kept = drop_half(handles.split_off(10));
        settle().await;
        assert_eq!(client.inflight().len(), 110);
        service.resume();
        all_well(handles).await;
        all_well(kept).await;
        assert_eq!((server.count("asample"), service.samples_accepted()), (110, 110));
        server.assert_contiguous_seq_ids("asample");
        assert!(cancelled(&service).is_empty());
        assert_nothing_leaks(&client).await;
    }
}

/// CA-1, F-11: samples dropped in the wait for a window were never sent; their sequence ids are drawn again.
#[tokio::test(start_paused = true)]
async fn samples_in_a_window_are_abandoned_unsent() {
    for cancels in [true, false] {
        let (service, server, client, sampler) = connected(cancels, json!({})).await;
        server.script("asample", [Step::status(429).header("retry-after", "30")]).then_behave();
        let start = Instant::now();
        let first = sampler.sample(request(&[0]));
        server.wait_for("asample", 1).await;
        settle().await;
        let kept = drop_half(fan_out(&sampler, 200));
        settle().await;
        assert_eq!((client.inflight().len(), client.dispatch_available()), (101, AT_REST));
        all_well(kept).await;
        first.await.unwrap();
        assert_eq!(server.count("asample"), 102);
        server.assert_no_arrival_between("asample", start, start + Duration::from_secs(30));
        all_well(fan_out(&sampler, 100)).await;
        let mut ids = service.seq_ids(sampler.sampling_session_id());
        ids.sort_unstable();
        assert!(ids.into_iter().eq(0..201), "every id that came back is drawn again");
        assert!(cancelled(&service).is_empty());
        assert_nothing_leaks(&client).await;
    }
}

/// CA-1, F-07: samples dropped while they wait for a submission slot were never sent either.
#[tokio::test(start_paused = true)]
async fn samples_without_a_slot_are_abandoned_unsent() {
    let (service, server, client, sampler) =
        connected(true, json!({"sample_dispatch_bytes_semaphore_size": 0})).await;
    let gate = Gate::new();
    server.script("asample", [Step::behave().gate(&gate)]).then_behave();
    let first = sampler.sample(request(&[0]));
    gate.arrived(1).await;
    // The budget is overdrawn by the first, so all others wait for bytes or, beyond 400, for a slot.
    let kept = drop_half(fan_out(&sampler, 600));
    settle().await;
    assert_eq!((server.count("asample"), client.inflight().len()), (1, 301));
    gate.open();
    first.await.unwrap();
    all_well(kept).await;
    assert_eq!(server.count("asample"), 301);
    assert!(cancelled(&service).is_empty());
    settle().await;
    assert_eq!(client.dispatch_available(), Some((400, 0)));
}

/// CA-1, PROTOCOL 15.8: samples dropped while their submission is on the wire: the attempt is finished, then the
/// promises are cancelled, exactly theirs; none of them is polled.
#[tokio::test(start_paused = true)]
async fn submissions_on_the_wire_are_finished_then_cancelled() {
    for cancels in [true, false] {
        let (service, server, client, sampler) = connected(cancels, json!({})).await;
        let gate = Gate::new();
        server.script("asample", [Step::behave().gate(&gate)]).then_repeat_last();
        let handles = fan_out(&sampler, 200);
        gate.arrived(200).await;
        let kept = drop_half(handles);
        settle().await;
        assert_eq!((gate.waiting(), client.inflight().len()), (200, 200), "attempts are not interrupted");
        gate.open();
        server.wait_for("retrieve_future", 100).await;
        let kept_promises = promises(&kept);
        all_well(kept).await;
        settle().await;
        assert_eq!(service.samples_accepted(), 200);
        let gone = cancelled(&service);
        assert_eq!(gone.len(), if cancels { 100 } else { 0 });
        assert!(gone.is_disjoint(&kept_promises));
        assert_eq!(server.count("retrieve_future"), 100, "the abandoned are never asked for");
        let mut ids = service.seq_ids(sampler.sampling_session_id());
        ids.sort_unstable();
        assert!(ids.into_iter().eq(0..200));
        assert_nothing_leaks(&client).await;
    }
}

/// CA-1, PROTOCOL 15.8: samples dropped in their long polls: the polls end at once, and exactly these promises are
/// cancelled.
#[tokio::test(start_paused = true)]
async fn polling_samples_are_cancelled() {
    for cancels in [true, false] {
        let (service, server, client, sampler) = connected(cancels, json!({})).await;
        service.pause(QueueState::PausedCapacity, None, None);
        let handles = fan_out(&sampler, 200);
        // Each was told of the pause at once, and has asked again.
        server.wait_for("retrieve_future", 400).await;
        server.wait_for_in_flight("retrieve_future", 200).await;
        let all = promises(&handles);
        assert_eq!(all.len(), 200);
        let start = Instant::now();
        let kept = drop_half(handles);
        let kept_promises = promises(&kept);
        server.wait_for_in_flight("retrieve_future", 100).await;
        settle().await;
        let expected: BTreeSet<_> =
            if cancels { all.difference(&kept_promises).cloned().collect() } else { BTreeSet::new() };
        assert_eq!(cancelled(&service), expected);
        assert_eq!(service.in_progress(), if cancels { 100 } else { 200 });
        assert_within(start.elapsed().as_secs_f64(), 0.0..=0.01, "at once");
        service.resume();
        all_well(kept).await;
        assert_nothing_leaks(&client).await;
        assert_eq!(server.count("cancel_future"), expected.len() as u64);
    }
}

/// CA-1, FU-2: samples dropped while they wait for the payload budget, or fetch a large result: their share comes
/// back, and those that are left get their results.
#[tokio::test(start_paused = true)]
async fn fetching_samples_give_their_bytes_back() {
    // Every result is large, and the budget holds three at a time: it admits while its balance is not negative.
    let (service, server, client, sampler) =
        connected(true, json!({"inflight_response_bytes_semaphore_size": 1})).await;
    service.set_metadata_threshold(0);
    let gate = Gate::new();
    let fetches = |request: &Received| request.field("allow_metadata_only") == Some(&json!(false));
    server.script_when("retrieve_future", fetches, [Step::behave().gate(&gate)]).then_repeat_last();
    let handles = fan_out(&sampler, 200);
    gate.arrived(1).await;
    settle().await;
    assert_eq!(gate.waiting(), 1, "one result is over the budget, so one comes at a time");
    // The first sample, which holds the bytes, is kept; then it is dropped too.
    let mut kept = drop_half(handles);
    let holder = kept.remove(0);
    settle().await;
    assert_eq!((gate.waiting(), client.inflight().len()), (1, 100));
    drop(holder);
    gate.arrived(1).await;
    settle().await;
    assert_eq!((gate.waiting(), client.inflight().len()), (1, 99), "the bytes went to the next");
    gate.open();
    all_well(kept).await;
    assert_nothing_leaks(&client).await;
    // The promises had finished, so their cancellation changes nothing; it is sent all the same.
    assert_eq!(cancelled(&service).len(), 101);
}
