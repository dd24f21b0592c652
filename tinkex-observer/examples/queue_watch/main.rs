//! Watching a queue with `tinkex-observer` alone: five minutes of polls, told in a few lines.
//!
//! `cargo run -p tinkex-observer --example queue_watch` needs nothing, and takes no five minutes: the clock is tokio's, so
//! it can be one that jumps.

#![allow(clippy::print_stdout, reason = "this program talks to a person")]

mod watch;

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    // The pause log goes where the program's log goes.
    tracing_subscriber::fmt().with_writer(std::io::stdout).without_time().with_ansi(false).init();
    watch::run(|line| println!("{line}")).await;
}
