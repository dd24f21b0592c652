//! Clocks that jump: the machine sleeps with requests in flight, or the time of day is wrong.

use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime};

use tinkex_client::{AdamParams, Error};
use tinkex_testkit::service::Service;
use tinkex_testkit::{FakeServer, Step};

use super::seen::Observed;
use super::stage::{self, observe};
use super::table::{Played, rows};
use crate::harness::{assert_within, request};

const HOUR: Duration = Duration::from_secs(3600);

/// An hour passes at once while a request of `route` is in flight. Times are counted from the waking.
async fn asleep(server: &FakeServer, route: &str, call: impl Future<Output = Result<(), Error>>) -> Observed {
    let before = server.requests(route).len();
    let sleeping = async {
        server.wait_for_in_flight(route, 1).await;
        tokio::time::advance(HOUR).await;
    };
    let both = async { tokio::join!(call, sleeping).0 };
    let mut observed = observe(|| server.requests(route).len() - before, both).await;
    observed.took -= HOUR;
    observed
}

fn played(fault: &str, observed: Observed, bounds: RangeInclusive<f64>) -> Played {
    let seen = observed.within(bounds, fault);
    Played { fault: fault.to_owned(), once: Some(seen), lasting: None }
}

/// The first request is held until the machine sleeps, and lost with it.
async fn sample(fault: &str, route: &str, bounds: RangeInclusive<f64>) -> Played {
    let server = FakeServer::new();
    let client = stage::service(&server).await;
    let sampler = stage::sampler(&client).await;
    server.script(route, [Step::hang()]).then_behave();
    let observed = asleep(&server, route, async { sampler.sample(request(&[1])).await.map(drop) }).await;
    // Heartbeats: the one that was due comes with the waking, then every 10 s again.
    let woken = tokio::time::Instant::now() - observed.took;
    tokio::time::sleep(Duration::from_secs(35)).await;
    let heartbeats = server.requests("session_heartbeat");
    let came: Vec<_> =
        heartbeats.iter().filter(|h| h.at >= woken).map(|h| (h.at - woken).as_secs_f64()).collect();
    assert_eq!(came.len(), 4, "{came:?}");
    came.iter()
        .zip([0.0, 10.0, 20.0, 30.0])
        .for_each(|(at, due)| assert_within(*at, due..=due + 0.01, fault));
    assert!(client.inflight().is_empty());
    played(fault, observed, bounds)
}

async fn training(fault: &str, route: &str, bounds: RangeInclusive<f64>) -> Played {
    let service = Service::default();
    let server = FakeServer::with(service.clone());
    let trainer = stage::trainer(&stage::service(&server).await).await;
    server.script(route, [Step::hang()]).then_behave();
    let step = async { trainer.optim_step(AdamParams::new(1e-3)).await.map(drop) };
    let observed = asleep(&server, route, step).await;
    trainer.optim_step(AdamParams::new(1e-3)).await.unwrap();
    let run = service.run(trainer.model_id()).unwrap();
    assert_eq!((run.gaps(), run.steps), (vec![], 2));
    played(fault, observed, bounds)
}

/// A sample whose first answer tells it to come back 5 s later, by a clock that is off by so many seconds.
async fn dated(fault: &str, off: i64, bounds: RangeInclusive<f64>) -> Played {
    let server = FakeServer::new();
    let sampler = stage::sampler(&stage::service(&server).await).await;
    let date = httpdate::fmt_http_date(now(5 - off));
    server.script("asample", [Step::status(503).header("retry-after", &date)]).then_behave();
    let call = async { sampler.sample(request(&[1])).await.map(drop) };
    let observed = observe(|| server.requests("asample").len(), call).await;
    played(fault, observed, bounds)
}

/// The client's time of day, plus so many seconds.
fn now(ahead: i64) -> SystemTime {
    let now = tinkex_http::WallClock::default().now();
    let by = Duration::from_secs(ahead.unsigned_abs());
    if ahead < 0 { now - by } else { now + by }
}

rows! {
    "Clocks that jump", "Durations are measured on a clock that never goes back; where the system lets that clock go on while \
     the machine sleeps, an hour passes at once, and times below are counted from the waking. The time of day matters only \
     where a server names a date: one further ahead than 60 s, or past, is no hint.";

    asleep_while_submitting_a_sample:
        sample("asleep for 1 h, submitting a sample", "asample", 0.375..=0.51);
    asleep_while_waiting_for_a_sample:
        sample("asleep for 1 h, waiting for a sample", "retrieve_future", 0.0..=0.01);
    asleep_while_submitting_a_step:
        training("asleep for 1 h, submitting a training operation", "optim_step", 0.375..=0.51);
    asleep_while_waiting_for_a_step:
        training("asleep for 1 h, waiting for a training operation", "retrieve_future", 0.0..=0.01);
    a_date_by_the_right_clock:
        dated("`retry-after` names a date 5 s ahead", 0, 4.0..=5.01);
    a_date_when_the_clock_is_ahead:
        dated("the same, and the clock here is 1 h ahead", 3600, 0.375..=0.51);
    a_date_when_the_clock_is_behind:
        dated("the same, and the clock here is 1 h behind", -3600, 0.375..=0.51);
}
