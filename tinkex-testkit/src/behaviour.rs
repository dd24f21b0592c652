//! What the server does with a request that no script step speaks for.

use std::sync::Arc;

use futures_core::future::BoxFuture;
use serde_json::Value;

use crate::{Received, Reply};

/// Answers requests. The stateful service is one; so is any closure `Fn(&Received) -> Reply`.
///
/// The future may wait as long as it likes in tokio's time (long polls do). It is dropped when the client gives the
/// connection up, so it must leave its state in order at every `.await`.
pub trait Behaviour: Send + Sync + 'static {
    /// Answers one request.
    fn respond<'a>(&'a self, request: &'a Received) -> BoxFuture<'a, Reply>;

    /// Carries out a command that came over the `/control/` routes and is not the server's own: `config` with the
    /// flags to replace, `reset` to forget all state, or a command of the behaviour's own making. None where the
    /// command is unknown. `reset` is called whether or not it is known.
    fn control(&self, command: &str, body: &Value) -> Option<Reply> {
        let _ = (command, body);
        None
    }
}

impl<F> Behaviour for F
where
    F: Fn(&Received) -> Reply + Send + Sync + 'static,
{
    fn respond<'a>(&'a self, request: &'a Received) -> BoxFuture<'a, Reply> {
        Box::pin(async move { self(request) })
    }
}

impl<B: Behaviour + ?Sized> Behaviour for Arc<B> {
    fn respond<'a>(&'a self, request: &'a Received) -> BoxFuture<'a, Reply> {
        (**self).respond(request)
    }

    fn control(&self, command: &str, body: &Value) -> Option<Reply> {
        (**self).control(command, body)
    }
}

/// Knows nothing: answers 404 and says so. For tests in which every answer is scripted.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoBehaviour;

impl Behaviour for NoBehaviour {
    fn respond<'a>(&'a self, request: &'a Received) -> BoxFuture<'a, Reply> {
        let detail = format!(
            "the fake server has neither a script nor a behaviour for {} {}",
            request.method,
            request.route()
        );
        Box::pin(async move { Reply::detail(404, detail) })
    }
}
