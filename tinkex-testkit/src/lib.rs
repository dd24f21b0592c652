//! A fake Tinker server, to test code that talks to Tinker: offline, in milliseconds, and with every fault at hand.
//!
//! One server has two faces. [`FakeServer::transport`] is an in-memory [`Transport`](tinkex_http::Transport): all
//! its time is tokio's, so with paused time an hour of polling takes a millisecond and durations are exact.
//! [`FakeServer::listen`] is a real server on 127.0.0.1, for any client in any language, which speaks HTTP/1.1 and
//! HTTP/2 (feature `tls`: also over TLS, `FakeServer::listen_tls`); faults happen on the wire there. Use the first wherever you can: under paused time a real socket makes timers fire at once.
//!
//! [`FakeServer::transport_over`] joins the two: the script is played in tokio's time, and any transport of yours carries
//! the bytes over a real socket, while which the clock stands still. So a test suite in virtual time runs over any HTTP
//! stack.
//!
//! Beneath is a [`Behaviour`]; [`service::Service`] is the one that answers like the real service, or like one of
//! the open servers ([`service::Dialect`]), with samples from a small
//! [language model](model) that a [learner] trains. On top are scripts:
//! for a route, what happens to the first request, the second, and so on. Whatever no script speaks for, the
//! behaviour answers.
//!
//! # Testing your own code
//!
//! ```
//! use std::time::Duration;
//!
//! use bytes::Bytes;
//! use serde_json::json;
//! use tinkex_http::{SharedTransport, Transport, TransportError};
//! use tinkex_testkit::{FakeServer, NoBehaviour, Step};
//! use tokio::time::Instant;
//!
//! /// The code to be tested: it waits and tries again when it is told to.
//! async fn submit(transport: &SharedTransport, url: &str) -> Result<u16, TransportError> {
//!     loop {
//!         let request = http::Request::post(format!("{url}/api/v1/asample"))
//!             .header("content-type", "application/json")
//!             .body(Bytes::from_static(br#"{"seq_id": 0}"#))
//!             .expect("a legal request");
//!         let response = transport.call(request).await?;
//!         if response.status() != 429 {
//!             return Ok(response.status().as_u16());
//!         }
//!         tokio::time::sleep(Duration::from_millis(200)).await;
//!     }
//! }
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?;
//! # runtime.block_on(async {
//! // In a test of your own: #[tokio::test(start_paused = true)]
//! let server = FakeServer::with(NoBehaviour);
//! server.script("asample", [Step::status(429).repeat(2), Step::json(json!({"request_id": "1"}))]);
//!
//! let started = Instant::now();
//! assert_eq!(submit(&server.transport(), &server.url()).await?, 200);
//!
//! assert_eq!(started.elapsed(), Duration::from_millis(400)); // to the millisecond, and at once
//! assert_eq!(server.count("asample"), 3);
//! assert_eq!(server.seq_ids("asample"), [0, 0, 0]);
//! server.verify()?; // nothing was left over, nothing came unexpected
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What there is
//!
//! * [`Step`]: an answer, a delay, a compressed or a broken body, a reset, a hang, a lost response.
//! * [`Script`]: what happens after the last step. Unless told otherwise, one request too many fails the test.
//! * [`Gate`]: holds a response until the test lets it go, which makes races play out the same way every time.
//! * [`Chaos`]: random faults with a seed, for soaks.
//! * The log: [`FakeServer::requests`], counters, gauges, [`FakeServer::wait_for`] and assertions such as
//!   [`FakeServer::assert_contiguous_seq_ids`].
//! * [`conformance`]: the contract of a transport, for those who bring their own HTTP stack.
//! * The program `tinkex-testkit serve`, which a client in another language scripts over `/control/` routes.

mod assertions;
mod behaviour;
mod carried;
mod chaos;
mod control;
mod engine;
mod exchange;
mod gate;
mod log;
mod memory;
mod nobody;
mod outcome;
mod route;
mod script;
mod server;
mod socket;
mod step;
#[cfg(feature = "tls")]
mod tls;
mod wire;

pub use behaviour::{Behaviour, NoBehaviour};
pub use chaos::{Chaos, ChaosFault};
pub use engine::ChaosStrike;
pub use exchange::{PROTOBUF, Received, Reply};
pub use gate::Gate;
pub use script::Script;
pub use server::{FakeServer, Unmet};
pub use socket::SocketServer;
pub use step::Step;
#[cfg(feature = "tls")]
pub use tls::Tls;

pub mod conformance;

// --- the stateful service and its language model ---
pub mod learner;
pub mod model;
pub mod service;
