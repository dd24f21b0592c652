//! Redirects: what follows, what stays behind, and where it ends (PROTOCOL 5.2, HT-1).

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::json;
use tinkex_http::{ApiRequest, Delivery, HttpErrorKind, RetryPolicy};
use tinkex_testkit::Step;
use tokio::time::Instant;

use crate::support::{KEY, ROUTE, builder, ok, post, scripted, secs, server};

fn redirect(status: u16, to: &str) -> Step {
    Step::status(status).header("location", to)
}

/// 307 and 308 repeat the request as it is: method, body, identity, credential.
#[tokio::test(start_paused = true)]
async fn a_repeating_redirect_keeps_method_body_and_credential() {
    for (status, to) in [(307, "/api/v1/moved?x=1"), (308, "moved?x=1")] {
        let (server, client) = scripted([redirect(status, to)]);
        server.script("moved", [ok()]);
        let response = client.send(&post()).await.unwrap();
        assert_eq!(response.attempts, 1, "a redirect is no retry");
        let (first, then) = (&server.requests(ROUTE)[0], &server.requests("moved")[0]);
        assert_eq!((then.method.as_str(), then.json()), ("POST", Some(&json!({"n": 1}))));
        assert_eq!(then.query.as_deref(), Some("x=1"));
        assert_eq!(then.header("x-api-key"), Some(KEY));
        assert_eq!(then.idempotency_key(), first.idempotency_key());
        assert_eq!(then.content_type(), "application/json");
    }
}

/// 301, 302 and 303 turn a POST into a GET without a body, and without words about a body.
#[tokio::test(start_paused = true)]
async fn other_redirects_turn_a_post_into_a_get() {
    for status in [301, 302, 303] {
        let (server, client) = scripted([redirect(status, "/api/v1/moved")]);
        server.script("moved", [ok()]);
        let encoding = (HeaderName::from_static("content-encoding"), HeaderValue::from_static("zstd"));
        client.send(&post().header(encoding.0, encoding.1)).await.unwrap();
        let then = &server.requests("moved")[0];
        assert_eq!((then.method.as_str(), then.body.len()), ("GET", 0), "{status}");
        assert_eq!((then.header("content-type"), then.header("content-encoding")), (None, None));
        assert_eq!(then.header("x-api-key"), Some(KEY));
    }
}

/// Another origin gets nothing that identifies the caller: not the key, not the caller's own headers.
#[tokio::test(start_paused = true)]
async fn another_origin_gets_no_credentials() {
    for to in
        ["http://other.test/api/v1/moved", "//other.test/api/v1/moved", "http://other.test:81/api/v1/moved"]
    {
        let server = server();
        server.script(ROUTE, [redirect(307, to)]);
        server.script("moved", [ok()]);
        let own = |name: &'static str| (HeaderName::from_static(name), HeaderValue::from_static("hush"));
        let headers = HeaderMap::from_iter([
            own("cf-access-client-secret"),
            own("authorization"),
            own("cookie"),
            own("x-my-token"),
        ]);
        let client = builder(&server).headers(headers).build().unwrap();
        let token =
            (HeaderName::from_static("x-tinker-weights-access-token"), HeaderValue::from_static("hush"));
        client.send(&post().header(token.0, token.1)).await.unwrap();
        let requests = server.requests("moved");
        let sent = &requests[0].headers;
        let mut names: Vec<_> = sent.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            ["accept", "accept-encoding", "content-length", "content-type", "host", "user-agent"],
            "{to}"
        );
        assert_eq!(requests[0].json(), Some(&json!({"n": 1})));
    }
}

/// Once left, the origin's credentials stay behind: neither a step within the other origin nor a way back fetches them
/// out again.
#[tokio::test(start_paused = true)]
async fn credentials_do_not_come_back() {
    let (server, client) = scripted([redirect(307, "http://other.test/api/v1/there")]);
    let home = format!("{}/api/v1/home", server.url());
    server.script("there", [redirect(307, "/api/v1/further")]);
    server.script("further", [redirect(307, &home)]);
    server.script("home", [ok()]);
    client.send(&post()).await.unwrap();
    for route in ["there", "further", "home"] {
        assert_eq!(server.requests(route)[0].header("x-api-key"), None, "{route}");
    }
}

/// A circle ends, and is not tried again.
#[tokio::test(start_paused = true)]
async fn a_circle_ends() {
    let server = server();
    server.script(ROUTE, [redirect(307, "/api/v1/op")]).then_repeat_last();
    let client = builder(&server).build().unwrap();
    let started = Instant::now();
    let error = client.send(&post()).await.unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (HttpErrorKind::Decode, 1));
    assert_eq!(error.message(), "more than 10 redirects");
    assert_eq!(error.delivery(), Delivery::Uncertain);
    assert_eq!(server.count(ROUTE), 11);
    assert_eq!(started.elapsed(), Duration::ZERO);
}

/// All hops share the time of one attempt.
#[tokio::test(start_paused = true)]
async fn hops_share_the_time_of_one_attempt() {
    let server = server();
    server.script(ROUTE, [redirect(307, "/api/v1/op").delay(secs(2))]).then_repeat_last();
    let client = builder(&server).build().unwrap();
    let started = Instant::now();
    let request = post().timeout(secs(5)).policy(RetryPolicy::none());
    assert_eq!(client.send(&request).await.unwrap_err().kind(), HttpErrorKind::Timeout);
    assert_eq!(started.elapsed(), secs(5));
}

/// What leads nowhere is an error that says where, without the query, which may be a signature.
#[tokio::test(start_paused = true)]
async fn a_redirect_that_leads_nowhere_is_an_error() {
    for (to, message) in [
        ("ftp://h/x?sig=hush", "cannot follow the redirect to \"ftp://h/x\": not HTTP"),
        (
            "http://h:99999/x?sig=hush",
            "cannot follow the redirect to \"http://h:99999/x\": invalid port number",
        ),
    ] {
        let (server, client) = scripted([redirect(302, to)]);
        let error = client.send(&post()).await.unwrap_err();
        assert_eq!((error.kind(), error.message()), (HttpErrorKind::Decode, message));
        server.verify().unwrap();
    }
    // Without a place to go it is a status like others.
    let (_, client) = scripted([Step::status(302), Step::status(304)]);
    for status in [302, 304] {
        assert_eq!(client.send(&post()).await.unwrap_err().status(), Some(status));
    }
}

/// From TLS to plain text a prompt does not go.
#[tokio::test(start_paused = true)]
async fn a_redirect_does_not_leave_tls() {
    let server = server();
    server.script(ROUTE, [redirect(307, "http://fake.test/api/v1/moved")]);
    let url = server.url().replace("http://", "https://").parse().unwrap();
    let client = tinkex_http::HttpClient::builder(url, server.transport()).build().unwrap();
    let error = client.send(&post()).await.unwrap_err();
    assert_eq!(
        error.message(),
        "cannot follow the redirect to \"http://fake.test/api/v1/moved\": it leaves TLS"
    );
    assert_eq!(server.count("moved"), 0);
}

/// HT-1: a GET that is sent elsewhere (an archive) arrives there.
#[tokio::test(start_paused = true)]
async fn a_get_is_followed_to_another_origin() {
    let (server, client) = scripted([redirect(302, "http://archive.test/file?sig=1")]);
    server.script("file", [Step::raw("bytes", "application/x-tar")]);
    let response = client.send(&ApiRequest::get("archive", "/api/v1/op")).await.unwrap();
    assert_eq!(
        (&response.body[..], response.media_type().as_deref()),
        (&b"bytes"[..], Some("application/x-tar"))
    );
    assert_eq!(server.requests("file")[0].header("x-api-key"), None);
}
