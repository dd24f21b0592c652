//! Holding a paused clock while bytes are under way.
//!
//! tokio's paused clock does not jump ahead while a blocking task is running (so that blocking work takes no virtual
//! time). A hold is such a task, which does nothing but wait for its end.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeFlavor};

/// How long the clock is held at most, in real time: a transport that never gets its bytes across makes the client's
/// deadlines fire instead of hanging the test.
const LONGEST_HOLD: Duration = Duration::from_secs(60);

/// The clock of a runtime, which stands still while anybody holds it. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct HeldClock(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    holders: usize,
    /// Dropped to end the blocking task.
    task: Option<Sender<()>>,
}

impl HeldClock {
    /// Resolves as the future does, which makes its way through the operating system: whenever it is pending, time
    /// stands still.
    pub(crate) async fn held<F: Future>(&self, travelling: F) -> F::Output {
        let mut travelling = pin!(travelling);
        let mut hold = None;
        poll_fn(|cx| match travelling.as_mut().poll(cx) {
            Poll::Pending => {
                hold.get_or_insert_with(|| self.hold());
                Poll::Pending
            }
            ready => {
                hold = None;
                ready
            }
        })
        .await
    }

    fn hold(&self) -> Hold {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.holders += 1;
        if state.task.is_none() {
            state.task = stop_the_clock();
        }
        Hold(self.clone())
    }
}

/// Starts the blocking task, where there is a clock that can be stopped: that of a runtime with one thread.
fn stop_the_clock() -> Option<Sender<()>> {
    let runtime = Handle::try_current().ok()?;
    if runtime.runtime_flavor() != RuntimeFlavor::CurrentThread {
        return None;
    }
    let (task, ended) = channel::<()>();
    runtime.spawn_blocking(move || {
        // Nothing is ever sent: it returns when the sender is dropped.
        let _ = ended.recv_timeout(LONGEST_HOLD);
    });
    Some(task)
}

/// Holds the clock until it is dropped.
struct Hold(HeldClock);

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.holders -= 1;
        if state.holders == 0 {
            state.task = None;
        }
    }
}
