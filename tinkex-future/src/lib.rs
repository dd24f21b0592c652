//! Polls Tinker promises, over any transport.
//!
//! A Tinker server answers a slow operation with a promise: a request id. What became of it is found out by asking
//! again and again, and nearly every answer needs another reaction: a long poll that ran out, a queue that is paused,
//! a result too large to be sent unannounced, a limit, an outage, a failure. This crate knows these rules, and
//! nothing of HTTP: it builds on a seam with one method, [`Retrieve`], "ask once for this request id".
//!
//! # Polling over a closure
//!
//! ```
//! use tinkex_future::{Outcome, PayloadEncoding, Poller, PromiseRef, RawResponse, RequestType, retrieve_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let poller = Poller::new(retrieve_fn(|ask| {
//!     let body = if ask.iteration == 0 {
//!         r#"{"type":"try_again","queue_state":"paused_capacity"}"#
//!     } else {
//!         r#"{"sequences":[{"tokens":[10,11],"stop_reason":"length"}]}"#
//!     };
//!     async move { Outcome::Response(RawResponse::json(200, body)) }
//! }));
//!
//! let payload = poller.poll(PromiseRef::new("req-7", RequestType::Sample)).await?;
//! assert_eq!(payload.encoding, PayloadEncoding::Json);
//! # Ok(())
//! # }
//! ```
//!
//! # What is where
//!
//! * [`Poller`] drives one poll: limits ([`PollPolicy`]), observer of queue states, payload budget, progress.
//!   Dropping its future stops the poll; polling the same id again takes it up again.
//! * [`Answer::of`] says what an answer means, [`step()`] what to do next. Both are pure.
//! * [`ByteBudget`] bounds the bytes in flight.
//! * [`SessionPoller`] waits for all promises of a sampling session with one long poll.
//!
//! The clock is tokio's, so all of it runs in virtual time under test. One counter is kept through the `metrics`
//! facade: `tinkex_polls_total`, with the labels `request_type` and `outcome` (see [`Answer::label`]).

mod answer;
mod budget;
mod error;
mod payload;
mod peek;
mod policy;
mod poller;
mod progress;
mod seam;
mod session;
mod stay;
mod step;
mod throttle;

pub use answer::{Answer, QueueReport};
pub use budget::{BudgetPermit, ByteBudget};
pub use error::{PollError, PollErrorKind};
pub use payload::{Payload, PayloadEncoding};
pub use policy::{LONGEST_WAIT, PollPolicy};
pub use poller::{Poller, PromiseRef};
pub use progress::PollProgress;
pub use seam::{Ask, BoxError, Outcome, RawResponse, Retrieve, RetrieveFn, retrieve_fn};
pub use session::{Completion, ManyAsk, ManyOutcome, RetrieveMany, SessionPollError, SessionPoller};
pub use step::{Next, PollState, Step, step};
// What stands in the signatures of this crate, so that its users need name no other.
pub use tinkex_types::{
    ClientKind, ErrorCategory, QueueState, QueueStateChange, QueueStateObserver, RequestType,
};
