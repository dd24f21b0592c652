//! A real Prometheus reads the metrics of a run and tells three troubles apart. Real programs, real sockets, real time.

use std::time::Duration;

use tinkex_client::prometheus;
use tinkex_dashboard::dashboard::{Dashboard, TEXT};
use tinkex_dashboard::prometheus::{Api, Server, check_exposition, check_rules};
use tinkex_dashboard::time;
use tinkex_metrics::DURATION_BUCKETS;

use crate::load::{self, Account, Phase};
use crate::{contract, installed};

const ALERTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../dashboards/alerts.yml");
/// How long Prometheus may take to see what is there.
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn a_real_prometheus_reads_the_metrics_and_tells_the_troubles_apart() {
    let Some((server, promtool)) = installed::programs("the test with a real Prometheus") else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let listening = prometheus::install_with_listener(([127, 0, 0, 1], 0).into()).unwrap();
    let server = Server::start(&server, listening.address(), "250ms").unwrap();
    let api = server.api();
    time::wait_for("the target to be up", PATIENCE, || match api.sum("up", time::now())? {
        1.0 => Ok(()),
        up => Err(format!("up is {up}").into()),
    })
    .unwrap();

    let account = runtime.block_on(load::run());
    check_exposition(&promtool, &listening.handle().render()).unwrap();
    check_rules(&promtool, ALERTS.as_ref()).unwrap();
    let end = all_is_scraped(api, &account);
    values_are_right(api, &account, end);
    the_rate_limit_shows(api, &account);
    the_capacity_pause_shows(api, &account);
    the_retry_storm_shows(api, &account);
    every_query_can_be_evaluated(api, end);
    runtime.block_on(listening.close());
}

/// Waits until Prometheus has the last sample, and says when that was.
fn all_is_scraped(api: &Api, account: &Account) -> f64 {
    let expression = r#"tinkex_request_duration_seconds_count{request_type="Sample", outcome="ok"}"#;
    time::wait_for("all samples to be scraped", PATIENCE, || {
        let now = time::now();
        let scraped = api.sum(expression, now)?;
        if scraped == account.samples as f64 { Ok(now) } else { Err(format!("{scraped} so far").into()) }
    })
    .unwrap()
}

fn values_are_right(api: &Api, account: &Account, end: f64) {
    let sum = |expression: &str| api.sum(expression, end).unwrap();
    assert_eq!(sum("tinkex_training_steps_total"), account.steps as f64);
    let attempts = r#"tinkex_http_attempt_duration_seconds_count{operation="asample"}"#;
    assert_eq!(sum(attempts), account.submissions as f64, "every submission that arrived is an attempt");
    assert_eq!(
        sum(r#"tinkex_tokens_total{request_type="Sample", direction="out"}"#),
        4.0 * account.samples as f64
    );
    assert_eq!(sum("tinkex_requests_in_flight"), 0.0, "nothing is in flight any more");

    let buckets = api
        .at_time(r#"tinkex_request_duration_seconds_bucket{request_type="Sample", outcome="ok"}"#, end)
        .unwrap();
    let bound = |text: &str| if text == "+Inf" { f64::INFINITY } else { text.parse().unwrap() };
    let mut buckets: Vec<_> =
        buckets.iter().map(|bucket| (bound(bucket.label("le").unwrap()), bucket.points[0].1)).collect();
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    let bounds: Vec<_> = buckets.iter().map(|bucket| bucket.0).collect();
    assert_eq!(bounds, [DURATION_BUCKETS.as_slice(), &[f64::INFINITY]].concat());
    assert!(buckets.is_sorted_by(|a, b| a.1 <= b.1), "{buckets:?}");
    assert_eq!(buckets[0].1, 0.0, "no sample takes a millisecond");
    assert_eq!(buckets[bounds.len() - 1].1, account.samples as f64);
}

/// By how much the sum of counters grew from the beginning of a phase to its end. (Not `increase`, which cannot see the
/// first value of a series that is new.)
fn growth(api: &Api, expression: &str, phase: Phase) -> f64 {
    api.sum(expression, phase.end).unwrap() - api.sum(expression, phase.begin).unwrap()
}

/// The most that the sum of gauges was in a phase.
fn peak(api: &Api, expression: &str, phase: Phase) -> f64 {
    let series = api.over(&format!("sum({expression})"), phase.begin, phase.end, 0.25).unwrap();
    series.iter().flat_map(|series| &series.points).map(|point| point.1).fold(0.0, f64::max)
}

const THROTTLED: &str = r#"tinkex_http_retries_total{cause="throttled"}"#;
const MENDED: &str = r#"tinkex_http_retries_total{cause=~"server|interrupted"}"#;
const PAUSED: &str = r#"tinkex_queue_state_requests{state="paused_capacity"}"#;
const WINDOW: &str = "tinkex_backoff_window_seconds_sum";

/// 429 for 2.5 s, with hints of 0.5 s: the gate is closed most of that time, and never longer than time goes by.
fn the_rate_limit_shows(api: &Api, account: &Account) {
    let [own, pause, storm] = [account.rate_limit, account.capacity_pause, account.retry_storm];
    assert!(growth(api, THROTTLED, own) >= 4.0);
    assert_eq!([growth(api, THROTTLED, pause), growth(api, THROTTLED, storm)], [0.0, 0.0]);
    let closed = growth(api, WINDOW, own);
    assert!((1.5..=own.end - own.begin).contains(&closed), "the window was closed for {closed} s");
    assert_eq!([growth(api, WINDOW, pause), growth(api, WINDOW, storm)], [0.0, 0.0]);
}

/// What is accepted is not worked on: 32 samples at most.
fn the_capacity_pause_shows(api: &Api, account: &Account) {
    let paused = peak(api, PAUSED, account.capacity_pause);
    assert!((5.0..=32.0).contains(&paused), "{paused} were paused");
    assert_eq!([peak(api, PAUSED, account.rate_limit), peak(api, PAUSED, account.retry_storm)], [0.0, 0.0]);
    assert_eq!(api.sum(PAUSED, account.capacity_pause.end).unwrap(), 0.0, "the pause is over");
}

/// Faults of the server, and retries that mend them.
fn the_retry_storm_shows(api: &Api, account: &Account) {
    assert!(account.faults >= 20, "{} faults", account.faults);
    let retries = growth(api, MENDED, account.retry_storm);
    let faults = account.faults as f64;
    // Faults of polls are followed by polls, not by retries.
    assert!((10.0..=faults).contains(&retries), "{retries} retries for {faults} faults");
    assert_eq!(
        [account.rate_limit, account.capacity_pause].map(|phase| growth(api, MENDED, phase)),
        [0.0, 0.0]
    );
}

/// Panels of what does not happen in this run, or too seldom to be sure of it.
const MAY_BE_EMPTY: [&str; 7] = [
    "Wait for dispatch permits, p95",
    "Wait for payload bytes, p95",
    "Resubmissions per second",
    "Heartbeats per minute",
    "Lateness of heartbeats, p99",
    "Telemetry events per minute",
    "Transitions that observers missed, per minute",
];

/// Prometheus understands all queries, and nearly all have something to show.
fn every_query_can_be_evaluated(api: &Api, end: f64) {
    let dashboard = Dashboard::read(TEXT).unwrap();
    let mut empty = Vec::new();
    for (panel, graph) in dashboard.graphs() {
        for query in &graph.queries {
            let found = api.over(&query.filled_in("2s"), end - 20.0, end, 0.5).unwrap();
            if found.is_empty() {
                empty.push(panel.title.as_str());
            }
        }
    }
    empty.retain(|panel| !MAY_BE_EMPTY.contains(panel));
    assert!(empty.is_empty(), "nothing is shown in {empty:?}");
    for expression in contract::documented() {
        api.at_time(&expression, end).unwrap();
    }
}
