//! Gates: a response waits until the test lets it go, so a race plays out the same way every time.

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

/// Holds responses back. Cloning gives another handle on the same gate; one gate may stand in many steps.
///
/// A gate starts closed. [`Gate::open`] lets through all who wait and all who come later; [`Gate::release`] lets
/// through a number of them and stays closed; [`Gate::close`] makes it ready for use again.
///
/// ```
/// # use tinkex_testkit::{FakeServer, Gate, NoBehaviour, Step};
/// let gate = Gate::new();
/// let server = FakeServer::with(NoBehaviour);
/// server.script("asample", [Step::json(serde_json::json!({})).gate(&gate)]).then_behave();
/// // ... start the call, `gate.arrived(1).await`, look at the client while it waits, then:
/// gate.open();
/// ```
#[derive(Clone)]
pub struct Gate(Arc<watch::Sender<State>>);

#[derive(Default)]
struct State {
    open: bool,
    waiting: usize,
    passes: usize,
}

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(State::default())))
    }

    /// Lets all through, now and later.
    pub fn open(&self) {
        self.0.send_modify(|s| s.open = true);
    }

    /// Lets `n` requests through, be they waiting already or not, in no fixed order.
    pub fn release(&self, n: usize) {
        self.0.send_modify(|s| s.passes += n);
    }

    /// Closes the gate again and takes back what [`Gate::release`] allowed and nobody used.
    pub fn close(&self) {
        self.0.send_modify(|s| {
            s.open = false;
            s.passes = 0;
        });
    }

    /// How many requests wait at the gate now.
    pub fn waiting(&self) -> usize {
        self.0.borrow().waiting
    }

    /// Resolves when at least `n` requests wait at the gate at one time.
    pub async fn arrived(&self, n: usize) {
        // The sender is alive as long as `self`, so the error cannot come up.
        let _ = self.0.subscribe().wait_for(|s| s.waiting >= n).await;
    }

    /// Counts a request as waiting, until the ticket is dropped.
    pub(crate) fn enter(&self) -> Ticket {
        self.0.send_modify(|s| s.waiting += 1);
        Ticket(self.clone())
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.borrow();
        f.debug_struct("Gate").field("open", &state.open).field("waiting", &state.waiting).finish()
    }
}

/// A place in front of a gate. Dropping it, passed or not, gives the place up.
pub(crate) struct Ticket(Gate);

impl Ticket {
    /// Resolves when the gate lets this request through.
    pub(crate) async fn pass(self) {
        let mut changes = self.0.0.subscribe();
        loop {
            let mut passed = false;
            self.0.0.send_if_modified(|s| {
                passed = s.open || s.passes > 0;
                if !s.open && s.passes > 0 {
                    s.passes -= 1;
                    return true;
                }
                false
            });
            if passed || changes.changed().await.is_err() {
                return;
            }
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.0.send_modify(|s| s.waiting -= 1);
    }
}
