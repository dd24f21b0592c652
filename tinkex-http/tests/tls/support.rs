//! What the tests share: a server that answers everything, a client of it, its usual request.

use std::time::Duration;

use serde_json::json;
use tinkex_http::{
    ApiRequest, HttpClient, HttpError, Jitter, ReqwestTransport, ReqwestTransportBuilder, RetryPolicy,
    SharedTransport,
};
use tinkex_testkit::{FakeServer, Received, Reply};

/// Nothing here takes longer than this.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A server that answers everything.
pub(crate) fn server() -> FakeServer {
    FakeServer::with(|_: &Received| Reply::json(200, &json!({"ok": true})))
}

/// A transport that heeds nothing of the environment's proxies.
pub(crate) fn transport(authority: Option<&str>) -> ReqwestTransportBuilder {
    let builder = ReqwestTransport::builder().no_proxy();
    match authority {
        Some(pem) => builder.authority(pem.to_owned()),
        None => builder,
    }
}

pub(crate) fn client(url: &str, transport: &ReqwestTransport) -> HttpClient {
    HttpClient::builder(url.parse().unwrap(), SharedTransport::new(transport.clone()))
        .jitter(Jitter::seeded(7))
        .build()
        .unwrap()
}

pub(crate) fn post(operation: &'static str) -> ApiRequest {
    ApiRequest::post_json(operation, format!("/api/v1/{operation}"), &json!({"n": 1})).unwrap()
}

/// One call, with the default policy of retries.
pub(crate) async fn call(client: &HttpClient) -> Result<(), HttpError> {
    tokio::time::timeout(PATIENCE, client.send(&post("op"))).await.unwrap().map(|_| ())
}

/// One call that is tried once.
pub(crate) async fn call_once(client: &HttpClient) -> Result<(), HttpError> {
    let request = post("op").policy(RetryPolicy::none());
    tokio::time::timeout(PATIENCE, client.send(&request)).await.unwrap().map(|_| ())
}
