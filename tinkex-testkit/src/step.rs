//! One step of a script: what the server does with one request.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::Value;

use crate::exchange::append;
use crate::outcome::{Delivery, Encoding, Outcome};
use crate::{Behaviour, Gate, Received, Reply};

type Answerer = Arc<dyn Fn(&Received) -> Reply + Send + Sync>;
type Check = Arc<dyn Fn(&Received) -> Result<(), String> + Send + Sync>;

/// What the server does with one request: where the answer comes from, changes to it, and what goes wrong.
///
/// A step is made by a constructor and refined by modifiers. The order of modifiers does not matter, except that
/// the last one of a kind wins; headers add up. Time passes in this order: arrival, checks, the answer is worked
/// out, gate, delay, delivery.
///
/// ```
/// # use std::time::Duration;
/// # use tinkex_testkit::Step;
/// # use serde_json::json;
/// let busy = Step::status(429).header("retry-after-ms", "200").repeat(3);
/// let slow = Step::json(json!({"request_id": "1"})).delay(Duration::from_secs(2)).gzip();
/// let lost = Step::behave().then_lose();
/// ```
#[derive(Clone)]
pub struct Step {
    source: Source,
    status: Option<StatusCode>,
    body: Option<Bytes>,
    content_type: Option<HeaderValue>,
    headers: HeaderMap,
    encoding: Option<Encoding>,
    delay: Duration,
    gate: Option<Gate>,
    delivery: Delivery,
    checks: Vec<Check>,
    times: usize,
}

/// Where the answer comes from, or why there is none.
#[derive(Clone)]
enum Source {
    Behave,
    Fixed(Reply),
    With(Answerer),
    /// The request is processed, and then the connection is reset.
    Lost(Box<Source>),
    Refuse,
    Reset,
    Close,
    Hang,
    Garbage(Bytes),
}

impl Step {
    fn from_source(source: Source) -> Self {
        Self {
            source,
            status: None,
            body: None,
            content_type: None,
            headers: HeaderMap::new(),
            encoding: None,
            delay: Duration::ZERO,
            gate: None,
            delivery: Delivery::Whole,
            checks: Vec::new(),
            times: 1,
        }
    }

    /// A status with the protocol's error body, `{"detail": "scripted <status>"}`; no body where the status is 2xx
    /// or 3xx.
    pub fn status(status: u16) -> Self {
        let reply = match status {
            0..=399 => Reply::empty(status),
            _ => Reply::detail(status, format!("scripted {status}")),
        };
        Self::reply(reply)
    }

    /// A 200 with a JSON body.
    pub fn json(value: Value) -> Self {
        Self::reply(Reply::json(200, &value))
    }

    /// An answer made elsewhere.
    pub fn reply(reply: Reply) -> Self {
        Self::from_source(Source::Fixed(reply))
    }

    /// A 200 with an encoded protobuf body.
    pub fn proto(bytes: impl Into<Bytes>) -> Self {
        Self::reply(Reply::proto(bytes))
    }

    /// A 200 with any bytes under any content type.
    pub fn raw(bytes: impl Into<Bytes>, content_type: &str) -> Self {
        Self::reply(Reply::raw(200, bytes, content_type))
    }

    /// An answer worked out from the request. The closure may itself use the server's handle.
    pub fn respond_with(answer: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        Self::from_source(Source::With(Arc::new(answer)))
    }

    /// The server behaves: its [`Behaviour`] answers this request.
    pub fn behave() -> Self {
        Self::from_source(Source::Behave)
    }

    /// No connection is made. In memory: a `Connect` transport error. On the socket, where the request has to be
    /// read before its route is known, the connection is reset at once. The log holds the request all the same.
    pub fn refuse() -> Self {
        Self::from_source(Source::Refuse)
    }

    /// The connection is reset without an answer; the request is not processed. In memory: `Interrupted`.
    pub fn reset() -> Self {
        Self::from_source(Source::Reset)
    }

    /// The connection is closed in good order before any byte of an answer. In memory: `Interrupted`.
    pub fn close_before_headers() -> Self {
        Self::from_source(Source::Close)
    }

    /// The server behaves, but the connection closes after this many bytes of the body.
    /// See [`Step::then_close_mid_body`].
    pub fn close_mid_body(bytes_sent: usize) -> Self {
        Self::behave().then_close_mid_body(bytes_sent)
    }

    /// The server behaves, but after the headers of the answer nothing more comes.
    /// See [`Step::then_stall_after_headers`].
    pub fn stall_after_headers() -> Self {
        Self::behave().then_stall_after_headers()
    }

    /// The server takes the request and never answers. It notices when the client goes away.
    pub fn hang() -> Self {
        Self::from_source(Source::Hang)
    }

    /// These bytes instead of an HTTP response, after which the connection closes. In memory: `Decode`. The bytes
    /// may also be a handwritten HTTP response, which on the socket reaches the client as it is.
    pub fn garbage(bytes: impl Into<Bytes>) -> Self {
        Self::from_source(Source::Garbage(bytes.into()))
    }

    /// The server behaves, but calls the body `text/html`.
    pub fn wrong_content_type() -> Self {
        let mut step = Self::behave();
        step.content_type = Some(HeaderValue::from_static("text/html"));
        step
    }

    /// The server behaves, but announces more bytes than it sends, and closes.
    /// See [`Step::then_wrong_content_length`].
    pub fn wrong_content_length() -> Self {
        Self::behave().then_wrong_content_length()
    }

    /// Adds a header to the answer, keeping others of the same name, so headers can repeat. `Content-Type` is
    /// replaced instead, and `Content-Length` is always worked out. What is not legal in HTTP is left out.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        append(&mut self.headers, name, value);
        self
    }

    /// Replaces the body of the answer, keeping its content type.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Replaces the body of the answer by JSON, as in `Step::status(400).json_body(json!({"detail": "no"}))`.
    #[must_use]
    pub fn json_body(mut self, value: Value) -> Self {
        self.content_type = Some(HeaderValue::from_static("application/json"));
        self.body(value.to_string())
    }

    /// Replaces the status of the answer, as in `Step::json(json!({..})).with_status(201)`.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = StatusCode::from_u16(status).ok();
        self
    }

    /// Waits before the answer (or the fault), in tokio's time.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Holds the answer (or the fault) until the gate lets it go. The request has arrived, and it has been
    /// processed, when it waits at the gate; it counts as waiting from its arrival on.
    #[must_use]
    pub fn gate(mut self, gate: &Gate) -> Self {
        self.gate = Some(gate.clone());
        self
    }

    /// Compresses the body with gzip and says so, whatever the client accepts.
    #[must_use]
    pub fn gzip(mut self) -> Self {
        self.encoding = Some(Encoding::Gzip);
        self
    }

    /// Compresses the body with zstd and says so, whatever the client accepts.
    #[must_use]
    pub fn zstd(mut self) -> Self {
        self.encoding = Some(Encoding::Zstd);
        self
    }

    /// Sends these pieces as the body, each after its wait, and without `Content-Length`. Not compressed by
    /// [`Step::gzip`] and [`Step::zstd`].
    #[must_use]
    pub fn chunks(mut self, pieces: Vec<(Duration, Bytes)>) -> Self {
        self.delivery = Delivery::Pieces(pieces);
        self
    }

    /// Stands for `times` requests instead of one.
    #[must_use]
    pub fn repeat(mut self, times: usize) -> Self {
        self.times = times;
        self
    }

    /// Checks the request. An error is a violation: [`FakeServer::verify`](crate::FakeServer::verify) reports it,
    /// and so does dropping the server. The answer is given all the same.
    #[must_use]
    pub fn assert<E: fmt::Display>(
        mut self,
        check: impl Fn(&Received) -> Result<(), E> + Send + Sync + 'static,
    ) -> Self {
        self.checks.push(Arc::new(move |request| check(request).map_err(|e| e.to_string())));
        self
    }

    /// The request is processed, and then the connection is reset before the answer: the client cannot know whether
    /// it was. In memory: `Interrupted`.
    #[must_use]
    pub fn then_lose(mut self) -> Self {
        self.source = Source::Lost(Box::new(self.source));
        self
    }

    /// The connection closes after this many bytes of the body (fewer where the body is shorter). The announced
    /// length is always more than what was sent.
    #[must_use]
    pub fn then_close_mid_body(mut self, bytes_sent: usize) -> Self {
        self.delivery = Delivery::CutAfter(bytes_sent);
        self
    }

    /// After the headers nothing more comes, until the client goes away.
    #[must_use]
    pub fn then_stall_after_headers(mut self) -> Self {
        self.delivery = Delivery::Stall;
        self
    }

    /// The announced length is greater than what is sent, after which the connection closes.
    #[must_use]
    pub fn then_wrong_content_length(mut self) -> Self {
        self.delivery = Delivery::WrongLength;
        self
    }

    pub(crate) fn times(&self) -> usize {
        self.times
    }

    /// What the checks find wrong with the request.
    pub(crate) fn complaints(&self, request: &Received) -> Vec<String> {
        self.checks.iter().filter_map(|check| check(request).err()).collect()
    }

    /// Plays the step.
    pub(crate) async fn perform(&self, request: &Received, behaviour: &dyn Behaviour) -> Outcome {
        let ticket = self.gate.as_ref().map(Gate::enter);
        let outcome = self.work_out(request, behaviour).await;
        if let Some(ticket) = ticket {
            ticket.pass().await;
        }
        if !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
        }
        outcome
    }

    async fn work_out(&self, request: &Received, behaviour: &dyn Behaviour) -> Outcome {
        let (source, lost) = match &self.source {
            Source::Lost(source) => (&**source, true),
            source => (source, false),
        };
        let reply = match source {
            Source::Behave => behaviour.respond(request).await,
            Source::Fixed(reply) => reply.clone(),
            Source::With(answer) => answer(request),
            Source::Reset | Source::Lost(_) => return Outcome::Reset,
            Source::Refuse => return Outcome::Refuse,
            Source::Close => return Outcome::Close,
            Source::Hang => return Outcome::Hang,
            Source::Garbage(bytes) => return Outcome::Garbage(bytes.clone()),
        };
        if lost {
            return Outcome::Reset;
        }
        Outcome::Answer(self.refine(reply), self.delivery.clone())
    }

    fn refine(&self, mut reply: Reply) -> Reply {
        if let Some(status) = self.status {
            reply.status = status;
        }
        if let Some(body) = &self.body {
            reply.body = body.clone();
        }
        if let Some(content_type) = &self.content_type {
            reply.headers.insert(CONTENT_TYPE, content_type.clone());
        }
        for (name, value) in &self.headers {
            if name == CONTENT_TYPE {
                reply.headers.insert(name, value.clone());
            } else {
                reply.headers.append(name, value.clone());
            }
        }
        if let Some(encoding) = self.encoding
            && !matches!(self.delivery, Delivery::Pieces(_))
        {
            encoding.apply(&mut reply);
        }
        reply
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut source = &self.source;
        let lost = matches!(source, Source::Lost(_));
        while let Source::Lost(inner) = source {
            source = inner;
        }
        let text = match source {
            Source::Behave => "behave".to_owned(),
            Source::Fixed(reply) => format!("{reply:?}"),
            Source::With(_) => "closure".to_owned(),
            Source::Refuse => "refuse".to_owned(),
            Source::Reset | Source::Lost(_) => "reset".to_owned(),
            Source::Close => "close".to_owned(),
            Source::Hang => "hang".to_owned(),
            Source::Garbage(bytes) => format!("garbage, {} bytes", bytes.len()),
        };
        write!(f, "Step({text}{}", if lost { ", lost" } else { "" })?;
        if self.times != 1 {
            write!(f, ", {} times", self.times)?;
        }
        f.write_str(")")
    }
}
