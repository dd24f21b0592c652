//! A transport that answers from memory at the cost of a few clones, so that what is counted is the client.

use bytes::Bytes;
use tinkex_client::http::{Request, Response, header};
use tinkex_client::{Body, Transport, TransportError};

use crate::server;

pub(super) struct CannedTransport {
    result: Bytes,
}

impl CannedTransport {
    pub(super) fn new() -> Self {
        Self { result: server::result().into() }
    }
}

impl Transport for CannedTransport {
    async fn call(&self, request: Request<Bytes>) -> Result<Response<Body>, TransportError> {
        const JSON: &str = "application/json";
        let route = request.uri().path().rsplit('/').next().unwrap_or_default();
        let (kind, body) = match route {
            "asample" => (JSON, Bytes::from_static(br#"{"request_id":"r-1","sample_sequence_ids":["q-1"]}"#)),
            "retrieve_future" => ("application/x-protobuf", self.result.clone()),
            "create_session" => (JSON, Bytes::from_static(br#"{"session_id":"s-1"}"#)),
            "create_sampling_session" => {
                (JSON, Bytes::from_static(br#"{"sampling_session_id":"s-1:sample:0"}"#))
            }
            _ => (JSON, Bytes::from_static(b"{}")),
        };
        let mut response = Response::new(Body::full(body));
        response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
        Ok(response)
    }
}
