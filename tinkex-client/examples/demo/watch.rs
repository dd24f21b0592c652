//! Follows a run from outside, through the table of requests in flight.

use std::time::Duration;

use indicatif::ProgressBar;
use tinkex_client::{QueueState, ServiceClient, Stage};

use crate::terminal::Screen;

/// Keeps the bar's message up to date, and says in a line when something holds the run up and when it goes on. Ends
/// when it is aborted.
pub(crate) async fn run(service: ServiceClient, screen: Screen, bar: ProgressBar) {
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    let (mut was_limited, mut was_paused) = (false, false);
    loop {
        ticks.tick().await;
        let rows = service.inflight();
        let paused =
            rows.iter().filter(|row| row.queue_state.as_ref().is_some_and(QueueState::is_paused)).count();
        let limited = service.in_backoff();
        if limited != was_limited {
            screen.line(match limited {
                true => "  429: the server asks for patience; submissions wait together",
                false => "  the backoff window is over; submissions go on",
            });
        }
        if was_paused && paused == 0 {
            screen.line("  the pause is over");
        }
        (was_limited, was_paused) = (limited, paused > 0);
        let polling = rows.count(Stage::Polling);
        let waiting = rows.len() - polling;
        let backoff = if limited { ", backing off" } else { "" };
        let running = polling.saturating_sub(paused);
        bar.set_message(format!("{running} running, {paused} paused, {waiting} to go{backoff}"));
    }
}
