//! What passes between a client and the fake server: one request as it was got, one reply as it is meant.

use std::fmt;
use std::io::Read;
use std::sync::OnceLock;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Version};
use serde_json::Value;
use tokio::time::Instant;

/// The prefix of every route of the protocol (PROTOCOL section 2).
const API_PREFIX: &str = "/api/v1";

/// The content type of protobuf bodies (PROTOCOL section 5).
pub const PROTOBUF: &str = "application/x-protobuf";

/// A body longer than this after decompression is refused, so that a test cannot be made to eat all memory.
const MAX_DECODED_BODY: u64 = 512 * 1024 * 1024;

/// One request as the server got it.
pub struct Received {
    /// The number of the request on this server, from 0, in order of arrival over all routes.
    pub index: u64,
    /// When the request had arrived in full. tokio's clock, so it is virtual time where the test runs in it.
    pub at: Instant,
    /// The method.
    pub method: Method,
    /// The path, starting with `/api/v1` for every route of the protocol; other paths are as they were sent.
    pub path: String,
    /// What stood before `/api/v1` in the path (`/services/x`), or nothing.
    pub base_path: String,
    /// The query, without the question mark.
    pub query: Option<String>,
    /// The headers, as sent. Header names compare without regard to case.
    pub headers: HeaderMap,
    /// The body as sent, so possibly compressed. Empty where the server was told not to record bodies and the
    /// request comes out of its log.
    pub body: Bytes,
    /// Which connection it came on. On the socket each accepted connection has a number, in memory each transport.
    pub connection: u64,
    /// The version of HTTP it came by. In memory the one the client put on its request, which is HTTP/1.1 unless it
    /// said otherwise.
    pub version: Version,
    derived: Derived,
}

/// What is worked out from the body once, when somebody asks.
#[derive(Default)]
struct Derived {
    decoded: OnceLock<Result<Bytes, String>>,
    json: OnceLock<Option<Value>>,
    seq_id: OnceLock<Option<u64>>,
}

impl Received {
    /// A request made by hand, as a test of a [`Behaviour`](crate::Behaviour) needs it: number 0, on connection 0,
    /// arriving now. `path` may hold a base path and a query.
    pub fn new(method: Method, path: &str) -> Self {
        let (path, query) = match path.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (path, None),
        };
        let (base_path, path) = split_base_path(path);
        Self {
            index: 0,
            at: Instant::now(),
            method,
            path: path.to_owned(),
            base_path: base_path.to_owned(),
            query,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            connection: 0,
            version: Version::HTTP_11,
            derived: Derived::default(),
        }
    }

    /// A `POST` of a JSON body to a route, such as `asample`. Shorthand for tests of a behaviour.
    pub fn post(route: &str, body: &Value) -> Self {
        Self::new(Method::POST, &format!("{API_PREFIX}/{route}"))
            .with_header("content-type", "application/json")
            .with_body(body.to_string())
    }

    /// A `GET` of a route. Shorthand for tests of a behaviour.
    pub fn get(route: &str) -> Self {
        Self::new(Method::GET, &format!("{API_PREFIX}/{route}"))
    }

    /// Adds a header. Names and values that are not legal in HTTP are left out.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        append(&mut self.headers, name, value);
        self
    }

    /// Replaces all headers.
    #[must_use]
    pub fn with_headers(mut self, headers: HeaderMap) -> Self {
        self.headers = headers;
        self.derived = Derived::default();
        self
    }

    /// Replaces the body.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self.derived = Derived::default();
        self
    }

    /// The path after `/api/v1/`, such as `asample` or `sessions/abc/finish`. For other paths: the path without its
    /// leading slash.
    pub fn route(&self) -> &str {
        self.path.strip_prefix(API_PREFIX).unwrap_or(&self.path).trim_start_matches('/')
    }

    /// The segments of the route.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.route().split('/')
    }

    /// The first value of a header, where it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The content type without its parameters, or nothing.
    pub fn content_type(&self) -> &str {
        let whole = self.header(CONTENT_TYPE.as_str()).unwrap_or_default();
        whole.split(';').next().unwrap_or_default().trim()
    }

    /// Whether the body is protobuf by its content type.
    pub fn is_protobuf(&self) -> bool {
        self.content_type().eq_ignore_ascii_case(PROTOBUF)
    }

    /// Whether the client takes protobuf answers.
    pub fn accepts_protobuf(&self) -> bool {
        self.headers.get_all("accept").iter().any(|v| v.to_str().is_ok_and(|v| v.contains(PROTOBUF)))
    }

    /// The body after undoing `Content-Encoding` (`gzip`, `deflate`, `zstd`, `identity`, or several of them).
    ///
    /// # Errors
    /// A text saying what is wrong, where the encoding is unknown or the bytes are not in it.
    pub fn decoded_body(&self) -> Result<Bytes, String> {
        self.derived
            .decoded
            .get_or_init(|| {
                let mut body = self.body.clone();
                let encodings = self.header(CONTENT_ENCODING.as_str()).unwrap_or_default();
                for encoding in encodings.split(',').map(str::trim).filter(|e| !e.is_empty()).rev() {
                    body = decompress(encoding, &body)?;
                }
                Ok(body)
            })
            .clone()
    }

    /// The decoded body as JSON, whatever the content type says; none where it is not JSON. Parsed once.
    pub fn json(&self) -> Option<&Value> {
        self.derived
            .json
            .get_or_init(|| {
                if self.is_protobuf() {
                    return None;
                }
                serde_json::from_slice(&self.decoded_body().ok()?).ok()
            })
            .as_ref()
    }

    /// A member of the JSON body, by name.
    pub fn field(&self, name: &str) -> Option<&Value> {
        self.json()?.get(name)
    }

    /// A member of the JSON body, where it is text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.field(name)?.as_str()
    }

    /// The `seq_id` of the body, be it JSON or a protobuf `ForwardBackwardRequest`.
    pub fn seq_id(&self) -> Option<u64> {
        *self.derived.seq_id.get_or_init(|| {
            if self.is_protobuf() {
                let message: SeqIdOnly = prost::Message::decode(self.decoded_body().ok()?).ok()?;
                return u64::try_from(message.seq_id).ok();
            }
            self.field("seq_id")?.as_u64()
        })
    }

    /// The `request_id` of the JSON body, as `retrieve_future` and `cancel_future` carry it.
    pub fn request_id(&self) -> Option<&str> {
        self.text("request_id")
    }

    /// The `X-Idempotency-Key` header (PROTOCOL section 5.1).
    pub fn idempotency_key(&self) -> Option<&str> {
        self.header("x-idempotency-key")
    }

    /// The same request with its body let go, but with its sequence number kept.
    pub(crate) fn without_body(&self) -> Self {
        let derived = Derived::default();
        let _ = derived.seq_id.set(self.seq_id());
        Self {
            index: self.index,
            at: self.at,
            method: self.method.clone(),
            path: self.path.clone(),
            base_path: self.base_path.clone(),
            query: self.query.clone(),
            headers: self.headers.clone(),
            body: Bytes::new(),
            connection: self.connection,
            version: self.version,
            derived,
        }
    }
}

impl fmt::Debug for Received {
    /// Headers and bodies stay out: they may hold keys and prompts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Received")
            .field("index", &self.index)
            .field("method", &self.method)
            .field("base_path", &self.base_path)
            .field("path", &self.path)
            .field("connection", &self.connection)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// The one field all sequenced protobuf requests share; the others are skipped.
#[derive(Clone, PartialEq, prost::Message)]
struct SeqIdOnly {
    #[prost(int32, tag = "2")]
    seq_id: i32,
}

/// Parts a path into what stands before `/api/v1` and the rest.
fn split_base_path(path: &str) -> (&str, &str) {
    let mut from = 0;
    while let Some(found) = path[from..].find(API_PREFIX) {
        let start = from + found;
        let after = path[start + API_PREFIX.len()..].chars().next();
        if matches!(after, None | Some('/')) {
            return path.split_at(start);
        }
        from = start + API_PREFIX.len();
    }
    ("", path)
}

fn decompress(encoding: &str, body: &[u8]) -> Result<Bytes, String> {
    let mut decoded = Vec::new();
    let read = match encoding.to_ascii_lowercase().as_str() {
        "identity" => return Ok(Bytes::copy_from_slice(body)),
        "gzip" | "x-gzip" => {
            flate2::read::MultiGzDecoder::new(body).take(MAX_DECODED_BODY).read_to_end(&mut decoded)
        }
        "deflate" => flate2::read::ZlibDecoder::new(body).take(MAX_DECODED_BODY).read_to_end(&mut decoded),
        "zstd" => zstd::Decoder::new(body).and_then(|d| d.take(MAX_DECODED_BODY).read_to_end(&mut decoded)),
        other => return Err(format!("unknown content encoding {other:?}")),
    };
    read.map_err(|e| format!("the body is not {encoding}: {e}"))?;
    Ok(decoded.into())
}

pub(crate) fn append(headers: &mut HeaderMap, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
        headers.append(name, value);
    }
}

/// An answer: status, headers, body. The faces add `Content-Length` where it is missing.
#[derive(Clone, PartialEq, Eq)]
pub struct Reply {
    /// The status code.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Reply {
    /// A JSON body. A number that is no HTTP status becomes 500.
    pub fn json(status: u16, value: &Value) -> Self {
        Self::raw(status, value.to_string(), "application/json")
    }

    /// A 200 with a protobuf body, already encoded.
    pub fn proto(bytes: impl Into<Bytes>) -> Self {
        Self::raw(200, bytes, PROTOBUF)
    }

    /// Bytes of any content type.
    pub fn raw(status: u16, bytes: impl Into<Bytes>, content_type: &str) -> Self {
        Self { body: bytes.into(), ..Self::empty(status) }.header("content-type", content_type)
    }

    /// A status without a body.
    pub fn empty(status: u16) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, headers: HeaderMap::new(), body: Bytes::new() }
    }

    /// The error body of the protocol: `{"detail": ..}`.
    pub fn detail(status: u16, detail: impl Into<String>) -> Self {
        Self::json(status, &serde_json::json!({ "detail": detail.into() }))
    }

    /// Adds a header, keeping others of the same name. What is not legal in HTTP is left out.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        append(&mut self.headers, name, value);
        self
    }

    /// The body as JSON, where it is JSON. For tests.
    pub fn to_json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reply({}, {} bytes)", self.status.as_u16(), self.body.len())
    }
}
