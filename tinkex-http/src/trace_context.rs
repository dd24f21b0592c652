//! Propagation of a trace to the service: a seam, since what propagates it is the application's choice.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::{HeaderMap, HeaderName};
use tracing::Span;

use crate::attempt_span::AttemptSpan;

/// Tells the service to which trace an attempt belongs, usually by the header `traceparent` of W3C. Closures are trace
/// contexts.
pub trait TraceContext: Send + Sync {
    /// Writes headers that name `span`, the attempt's; where no subscriber wants that, the one around it, which may be
    /// disabled itself. Called once per attempt, on the path of the call: it must be quick and must not block. A panic is
    /// caught, told once, and costs the attempt these headers only.
    ///
    /// `headers` is empty. What is written there is added to the attempt's headers. It does not replace any, nor can it add
    /// credentials, or headers that belong to HTTP or to the protocol; of several values under one name the first
    /// is sent. After a redirect to another origin nothing of it is sent any more.
    fn inject(&self, span: &Span, headers: &mut HeaderMap);
}

impl<F: Fn(&Span, &mut HeaderMap) + Send + Sync> TraceContext for F {
    fn inject(&self, span: &Span, headers: &mut HeaderMap) {
        self(span, headers);
    }
}

/// The trace context of a client, where it has one.
#[derive(Clone, Default)]
pub(crate) struct Propagation(Option<Arc<Guarded>>);

struct Guarded {
    context: Arc<dyn TraceContext>,
    panic_told: AtomicBool,
}

impl Propagation {
    pub(crate) fn by(context: Arc<dyn TraceContext>) -> Self {
        Self(Some(Arc::new(Guarded { context, panic_told: AtomicBool::new(false) })))
    }

    /// The headers that name the span of an attempt; none, and no memory, where there is no trace context.
    pub(crate) fn headers(&self, span: &AttemptSpan) -> HeaderMap {
        let Some(guarded) = &self.0 else { return HeaderMap::new() };
        let span = span.or_current();
        let injected = catch_unwind(AssertUnwindSafe(|| {
            let mut headers = HeaderMap::new();
            guarded.context.inject(&span, &mut headers);
            headers
        }));
        injected.unwrap_or_else(|_| {
            if !guarded.panic_told.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    "the trace context panicked; such attempts go out without it, and this is said once"
                );
            }
            HeaderMap::new()
        })
    }
}

/// Adds what a trace context wrote to the headers of an attempt.
pub(crate) fn add(injected: &HeaderMap, headers: &mut HeaderMap) {
    for (name, value) in injected {
        if !headers.contains_key(name) && !is_reserved(name) {
            headers.insert(name.clone(), value.clone());
        }
    }
}

/// Whether a header is not a trace context's to write, whether or not the attempt has it.
fn is_reserved(name: &HeaderName) -> bool {
    const NAMES: [&str; 18] = [
        "accept",
        "accept-encoding",
        "authorization",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "cookie",
        "expect",
        "host",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
        "x-api-key",
        "x-idempotency-key",
    ];
    const PREFIXES: [&str; 4] = ["cf-access-", "x-sdk-", "x-stainless-", "x-tinker-"];
    let name = name.as_str();
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

impl fmt::Debug for Propagation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Propagation(on)" } else { "Propagation(off)" })
    }
}
