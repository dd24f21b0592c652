//! The carried face: the script is played in tokio's time, as in memory, while the bytes travel over a real socket,
//! carried by any transport.
//!
//! A paused clock jumps ahead whenever its runtime has nothing to do, also while bytes are under way in the operating
//! system, so over a plain socket every timer fires at once. Here the time in which the server *waits* (a delay, a
//! gate, a poll that is held) is told from the time in which bytes *travel*: the former is played by the call's own
//! future, exactly as the in-memory face does it; during the latter the clock is [held](clock).
//!
//! ```text
//!   the caller's runtime, virtual time                         the wires' runtime, real time
//!   transport: number the call, hold, send  ── request ──▶  socket: take the number off, hand the request over
//!              let go, log, play the step   ◀── arrival ──
//!              hold                         ── outcome ──▶  socket: put it on the wire
//!              give the response back       ◀── response ──
//! ```
//!
//! Requests are taken in in the order in which their calls were made, and answers given back in the order in which they
//! were played, as in memory. So a test plays out the same way every time, whatever the sockets do.
//!
//! A call that is dropped takes its part of the server with it, at once: it is in flight no longer, and its connection
//! is closed.

mod body;
mod clock;
mod desk;
mod queue;
mod transport;
mod wire_side;
mod wires;

pub(crate) use desk::{Desk, Lookup};
pub(crate) use transport::CarriedTransport;
pub(crate) use wire_side::{Tenure, hand_over};
