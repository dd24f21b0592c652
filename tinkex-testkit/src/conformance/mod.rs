//! The conformance suite for transports: anybody's own [`Transport`] is put through the contract.
//!
//! Whatever the server does, the outcome has to be the one that the contract names; nothing may be sent that was not
//! asked for; and giving a call up has to leave nothing behind. In detail:
//!
//! * Requests and responses: method, path, query, status, headers (repeated ones in their order, empty ones, bytes
//!   beyond ASCII) and bodies, up to 8 MiB, arrive as they were made; responses without a body have none.
//! * Restraint: no retry, also not of a `GET` nor on a connection that was used before; no redirect to another origin;
//!   no credentials or cookies; no decompression behind the headers' back; no hurry.
//! * Failures: each has its [kind](tinkex_http::TransportErrorKind).
//! * Cancelling: a call may be dropped at any point, and so may its body.
//! * Concurrency: two hundred calls at one time, none of which waits for another that hangs.
//!
//! [`transport`] runs it over real sockets; [`transport_in_memory`] is for transports that have none.

mod cancelling;
mod concurrency;
mod failures;
mod requests;
mod responses;
mod restraint;
mod rig;

use std::fmt;
use std::future::Future;
use std::time::Duration;

use tinkex_http::{SharedTransport, Transport};

use crate::FakeServer;
use rig::{Outcome, Reach};

/// How long one check may take. A transport that hangs fails instead of holding the suite up.
const PATIENCE: Duration = Duration::from_secs(20);

/// How many bytes a large body has.
const LARGE: usize = 8 << 20;

/// Checks a transport against the contract of [`Transport`], over real sockets on 127.0.0.1.
///
/// It takes real time, so call it in a runtime whose time is not paused and which has I/O enabled. It takes about two
/// seconds where all is well, most of it to see that the transport is patient, and needs some 500 file descriptors.
///
/// ```no_run
/// # async fn check(my_transport: impl tinkex_http::Transport) -> Result<(), tinkex_testkit::conformance::Nonconformity> {
/// tinkex_testkit::conformance::transport(&my_transport).await
/// # }
/// ```
///
/// # Errors
/// All the checks that failed, each with what was wrong.
pub async fn transport(transport: &impl Transport) -> Result<(), Nonconformity> {
    run(&Reach::sockets(transport)).await
}

/// The same for a transport that reaches a [`FakeServer`] without sockets, such as a layer over
/// [`FakeServer::transport`]: `reach` makes one for a server of the suite. Works in virtual time too, where it takes
/// none.
///
/// ```
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
/// # runtime.block_on(async {
/// tinkex_testkit::conformance::transport_in_memory(|server| server.transport()).await
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// All the checks that failed, each with what was wrong.
pub async fn transport_in_memory(
    reach: impl Fn(&FakeServer) -> SharedTransport + Send + Sync,
) -> Result<(), Nonconformity> {
    run(&Reach::memory(&reach)).await
}

async fn run(reach: &Reach<'_>) -> Result<(), Nonconformity> {
    let mut findings = Findings::default();
    findings.note("a request arrives as it was made", requests::arrives_as_made(reach)).await;
    findings.note("request headers arrive as they were given", requests::headers(reach)).await;
    findings.note("a large request body arrives whole", requests::large_body(reach)).await;
    findings.note("a response is given back as it was sent", responses::given_back_as_sent(reach)).await;
    findings.note("response headers are given back as they were sent", responses::headers(reach)).await;
    findings.note("a large response body is given back whole", responses::large_body(reach)).await;
    findings.note("any status is a success", responses::any_status(reach)).await;
    findings.note("a response without a body has none", responses::bodiless(reach)).await;
    findings.note("a body that comes in pieces is read whole", responses::pieces(reach)).await;
    findings.note("the head comes before the body", responses::head_before_body(reach)).await;
    findings.note("nothing is tried again", restraint::no_retry(reach)).await;
    findings.note("redirects to another origin are not followed", restraint::no_redirect(reach)).await;
    findings.note("cookies are not kept", restraint::no_cookies(reach)).await;
    findings
        .note(
            "bodies are not decompressed behind the headers' back",
            restraint::no_hidden_decompression(reach),
        )
        .await;
    findings.note("a slow answer is waited for", restraint::patience(reach)).await;
    findings.note("each failure has its kind", failures::have_kinds(reach)).await;
    findings.note("nobody listening is a connect error", failures::nobody_listens(reach)).await;
    findings.note("a call that is dropped is given up", cancelling::dropped_call(reach)).await;
    findings.note("a body that is dropped is given up", cancelling::dropped_body(reach)).await;
    findings.note("a call may be dropped at every point", cancelling::dropped_at_every_point(reach)).await;
    findings.note("many calls go on at one time", concurrency::many_at_once(reach)).await;
    findings.verdict()
}

/// What the checks have found so far.
#[derive(Default)]
struct Findings(Vec<String>);

impl Findings {
    async fn note(&mut self, name: &'static str, check: impl Future<Output = Outcome>) {
        let outcome = tokio::time::timeout(PATIENCE, Box::pin(check)).await;
        let outcome = outcome.unwrap_or_else(|_| Err(format!("not done after {} s", PATIENCE.as_secs())));
        if let Err(text) = outcome {
            self.0.push(format!("{name}: {text}"));
        }
    }

    fn verdict(self) -> Result<(), Nonconformity> {
        if self.0.is_empty() { Ok(()) } else { Err(Nonconformity { failures: self.0 }) }
    }
}

/// What the suite found.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("the transport does not keep the contract:\n  {}", self.failures.join("\n  "))]
#[non_exhaustive]
pub struct Nonconformity {
    /// One text for each check that failed, in the order of the checks.
    pub failures: Vec<String>,
}

impl fmt::Debug for Nonconformity {
    /// As `Display`: it is what an `unwrap` in a test shows.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
