//! What an answer means: every row of REQUIREMENTS 3.2 and PROTOCOL 16.4, and bodies nobody should send.

use std::time::Duration;

use bytes::Bytes;
use tinkex_future::{Answer, Outcome, PayloadEncoding, RawResponse};
use tinkex_types::{ErrorCategory, QueueState};

use crate::support::{cut_off, json, ms, refused};

/// An answer in one line, for tables.
fn brief(answer: &Answer) -> String {
    match answer {
        Answer::Payload { encoding, body } => format!("{encoding:?} {}", String::from_utf8_lossy(body)),
        Answer::Pending { queue, hint, forgives_rejections } => {
            let queue = queue
                .as_ref()
                .map(|q| format!("{}/{}", q.state.as_str(), q.reason.as_deref().unwrap_or("-")));
            let hint = hint.map(|hint| format!(" hint {hint:?}")).unwrap_or_default();
            let forgives = if *forgives_rejections { " forgives" } else { "" };
            format!("pending {}{hint}{forgives}", queue.as_deref().unwrap_or("-"))
        }
        Answer::Metadata { bytes } => format!("metadata {bytes}"),
        Answer::Failed { message, category } => format!("failed {category}: {message}"),
        Answer::Rejected { failure, message } => format!("rejected {failure:?} {message}"),
        Answer::Refused { status, failure, message } => format!("refused {status} {failure:?} {message}"),
        Answer::Undecodable { message, .. } => format!("undecodable: {message}"),
        Answer::Throttled { queue, hint, .. } => {
            format!("throttled {:?} {hint:?}", queue.as_ref().map(|q| q.state.clone()))
        }
        other => other.label().to_owned(),
    }
}

fn of_200(body: &str) -> String {
    brief(&Answer::of(json(200, body)))
}

/// Every 200 shape of REQUIREMENTS 3.2, and FU-1: malformed bodies give a typed answer and never panic.
#[test]
fn a_200_is_read_generously() {
    let table = [
        // The older envelope.
        (r#"{"status":"completed","result":{"a":1}}"#, r#"Json {"a":1}"#),
        (r#"{"status":"Completed", "result" : [1] , "error":null}"#, "Json [1]"),
        (r#"{"status":"completed","result":null}"#, r#"Json {"status":"completed","result":null}"#),
        (r#"{"status":"completed"}"#, r#"Json {"status":"completed"}"#),
        (r#"{"status":"completed","result":{},"error":"no"}"#, "failed unknown: no"),
        (r#"{"status":"pending"}"#, "pending -"),
        (r#"{"status":"PENDING","retry_after_ms":250}"#, "pending - hint 250ms"),
        (r#"{"status":"failed","error":{"message":"bad","category":"user"}}"#, "failed user: bad"),
        (r#"{"status":"failed","error":"text"}"#, "failed unknown: text"),
        (r#"{"status":"failed","error":"text","category":"Server"}"#, "failed server: text"),
        (r#"{"status":"failed"}"#, "failed unknown: the server reports a failure without a message"),
        (r#"{"status":"failed","message":"m"}"#, "failed unknown: m"),
        // Raw results: any other object.
        (r#"{"sequences":[{"tokens":[1]}]}"#, r#"Json {"sequences":[{"tokens":[1]}]}"#),
        (r#"{"metrics":{}}"#, r#"Json {"metrics":{}}"#),
        (r#"{"type":"save_weights","path":"p"}"#, r#"Json {"type":"save_weights","path":"p"}"#),
        (r#"{"result":{"x":1}}"#, r#"Json {"result":{"x":1}}"#),
        ("{}", "Json {}"),
        (r#"{"type":7,"status":[],"category":{}}"#, r#"Json {"type":7,"status":[],"category":{}}"#),
        // Pending.
        (
            r#"{"type":"try_again","request_id":"r","queue_state":"paused_capacity"}"#,
            "pending paused_capacity/-",
        ),
        (r#"{"type":"TRY_AGAIN","queue_state":"Paused_Rate_Limit"}"#, "pending paused_rate_limit/-"),
        (r#"{"type":"try_again","queue_state":"active","queue_state_reason":"why"}"#, "pending active/why"),
        (r#"{"type":"try_again"}"#, "pending -"),
        (r#"{"type":"try_again","queue_state":"","queue_state_reason":" "}"#, "pending -"),
        (r#"{"type":"try_again","queue_state":"draining"}"#, "pending draining/-"),
        (r#"{"type":"try_again","queue_state_reason":"r"}"#, "pending unknown/r"),
        (r#"{"type":"try_again","queue_state":5,"queue_state_reason":{}}"#, "pending -"),
        (r#"{"type":"try_again","queue_state":null}"#, "pending -"),
        (r#"{"type":"try_again","retry_after_ms":12.5}"#, "pending - hint 12.5ms"),
        (r#"{"type":"try_again","retry_after_ms":"40"}"#, "pending - hint 40ms"),
        (r#"{"type":"try_again","retry_after_ms":-1}"#, "pending -"),
        (r#"{"type":"try_again","retry_after_ms":"NaN"}"#, "pending -"),
        (r#"{"type":"try_again","retry_after_ms":1e999}"#, "pending -"),
        (r#"{"type":"try_again","retry_after_ms":[]}"#, "pending -"),
        (r#"{"type":"try_again","error":"x"}"#, "pending -"),
        // A large result.
        (r#"{"status":"complete_metadata","response_payload_size":10}"#, "metadata 10"),
        (r#"{"status":"complete_metadata"}"#, "metadata 0"),
        (r#"{"status":"COMPLETE_METADATA","response_payload_size":-4}"#, "metadata 0"),
        (r#"{"status":"complete_metadata","response_payload_size":1e3}"#, "metadata 1000"),
        (r#"{"status":"complete_metadata","response_payload_size":"12"}"#, "metadata 12"),
        (r#"{"status":"complete_metadata","response_payload_size":1e300}"#, "metadata 18446744073709551615"),
        (r#"{"status":"complete_metadata","response_payload_size":{}}"#, "metadata 0"),
        // Failures by the presence of a key.
        (r#"{"error":"bad prompt","category":"user"}"#, "failed user: bad prompt"),
        (r#"{"error":"boom","category":"server"}"#, "failed server: boom"),
        (r#"{"error":"hm","category":"weird"}"#, "failed unknown: hm"),
        (r#"{"error":"hm"}"#, "failed unknown: hm"),
        (r#"{"error":"hm","category":3}"#, "failed unknown: hm"),
        (r#"{"error":null}"#, "failed unknown: the server reports a failure without a message"),
        (r#"{"error":{"detail":{"message":"deep"}}}"#, "failed unknown: deep"),
        (r#"{"error":[1,2]}"#, "failed unknown: [1,2]"),
        (r#"{"error":"","message":"m"}"#, "failed unknown: m"),
        (r#"{"\u0065rror":"escaped key"}"#, "failed unknown: escaped key"),
        (r#"{"error":"first","error":"last"}"#, "failed unknown: last"),
        // Not an object at all.
        ("", "undecodable: the answer with status 200 has no body"),
        ("  \n", "undecodable: the answer with status 200 has no body"),
        ("null", "undecodable: the answer is not a JSON object"),
        ("[]", "undecodable: the answer is not a JSON object"),
        ("\"text\"", "undecodable: the answer is not a JSON object"),
        ("17", "undecodable: the answer is not a JSON object"),
        ("{", "undecodable: the answer is not a JSON object"),
        (r#"{"sequences":[1,2"#, "undecodable: the answer is not a JSON object"),
        ("{} trailing", "undecodable: the answer is not a JSON object"),
        ("<html>hello</html>", "undecodable: the answer is not a JSON object"),
    ];
    for (body, expected) in table {
        assert_eq!(of_200(body), expected, "{body}");
    }
}

/// FU-1: bodies that attack the reader: deep nesting, broken text encodings, enormous messages.
#[test]
fn hostile_bodies_do_no_harm() {
    let deep = format!(r#"{{"error":{}1{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    assert!(of_200(&deep).starts_with("failed unknown: [[["));
    let deep = format!(r#"{{"sequences":{}1{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    assert!(matches!(Answer::of(json(200, &deep)), Answer::Payload { .. }));
    let wrapped = format!(r#"{{"error":{}"x"{}}}"#, r#"{"error":"#.repeat(50), "}".repeat(50));
    assert!(of_200(&wrapped).starts_with("failed unknown: {"), "unwrapping stops at some depth");

    for broken in
        [&b"\xff\xfe"[..], b"{\"error\":\"\xff\"}", b"{\"\xff\":1}", b"{\"error\":\"\\ud800\"}", b"\0"]
    {
        let answer = Answer::of(RawResponse::json(200, Bytes::from_static(broken)).into());
        assert!(
            matches!(answer, Answer::Undecodable { .. } | Answer::Failed { .. }),
            "{broken:?} {answer:?}"
        );
    }

    let long = format!(r#"{{"error":"{}"}}"#, "ä".repeat(100_000));
    let Answer::Failed { message, .. } = Answer::of(json(200, &long)) else { panic!("not a failure") };
    assert!((1900..2100).contains(&message.len()), "{}", message.len());
    let page = "é".repeat(50_000);
    let Answer::ServerError { message, .. } = Answer::of(json(502, &page)) else {
        panic!("not a server error")
    };
    assert!((1900..2100).contains(&message.len()), "{}", message.len());
}

/// The media type alone tells protobuf, and its bytes are not touched, nor copied.
#[test]
fn protobuf_is_handed_through() {
    for content_type in ["application/x-protobuf", "Application/X-Protobuf; v=1", "application/protobuf"] {
        let body = Bytes::from_static(b"{\"error\":\"not json\"}");
        let response = RawResponse {
            status: 200,
            content_type: Some(content_type.to_owned()),
            body: body.clone(),
            retry_after: None,
        };
        let Answer::Payload { encoding: PayloadEncoding::Protobuf, body: out } = Answer::of(response.into())
        else {
            panic!("{content_type}")
        };
        assert_eq!(out.as_ptr(), body.as_ptr());
    }
    // An open server may leave the media type out: then it is JSON.
    let response =
        RawResponse { status: 200, content_type: None, body: Bytes::from_static(b"{}"), retry_after: None };
    assert_eq!(brief(&Answer::of(response.into())), "Json {}");
}

/// A result inside an envelope is a slice of the body, not a copy.
#[test]
fn an_unwrapped_result_shares_the_body() {
    let body = Bytes::from_static(br#"{"status":"completed","result":{"x":[1,2,3]}}"#);
    let Answer::Payload { body: out, .. } = Answer::of(RawResponse::json(200, body.clone()).into()) else {
        panic!("no payload")
    };
    assert!(body.as_ptr_range().contains(&out.as_ptr()));
}

/// OPEN_SERVERS 10: any 2xx is success.
#[test]
fn any_2xx_is_success() {
    for status in [200, 201, 202, 204, 299] {
        assert_eq!(brief(&Answer::of(json(status, "{}"))), "Json {}", "{status}");
    }
}

/// S2-24, C-5: a 408 reports a state only where it names one; a JSON body of any kind forgives 400s.
#[test]
fn a_408_is_pending_with_or_without_a_body() {
    let table = [
        (
            r#"{"queue_state":"paused_capacity","queue_state_reason":"r"}"#,
            "pending paused_capacity/r forgives",
        ),
        (r#"{"type":"try_again","queue_state":"weird"}"#, "pending weird/- forgives"),
        (r#"{"type":"try_again","queue_state_reason":"only reason"}"#, "pending - forgives"),
        (r#"{"queue_state":""}"#, "pending - forgives"),
        (r#"{"queue_state":1,"retry_after_ms":30}"#, "pending - hint 30ms forgives"),
        ("[]", "pending - forgives"),
        ("not json", "pending -"),
        ("", "pending -"),
    ];
    for (body, expected) in table {
        assert_eq!(brief(&Answer::of(json(408, body))), expected, "{body}");
    }
}

/// The other statuses: what they mean, and what is taken from their bodies.
#[test]
fn other_statuses() {
    let detail = r#"{"detail":"bad"}"#;
    let table = [
        (400, detail, r#"rejected Some(("bad", User)) HTTP 400: bad"#),
        (400, "", "rejected None HTTP 400"),
        (400, r#"{"detail":null}"#, "rejected None HTTP 400"),
        (400, r#"{"error":"x","category":"server"}"#, r#"rejected Some(("x", Server)) HTTP 400: x"#),
        (
            409,
            r#"{"message":"expected 4"}"#,
            r#"refused 409 Some(("expected 4", Unknown)) HTTP 409: expected 4"#,
        ),
        (422, detail, r#"refused 422 Some(("bad", User)) HTTP 422: bad"#),
        (422, "plain", "refused 422 None HTTP 422: plain"),
        (401, detail, "refused 401 None HTTP 401: bad"),
        (403, "", "refused 403 None HTTP 403"),
        (404, r#"{"detail":["a"]}"#, r#"refused 404 None HTTP 404: ["a"]"#),
        (302, "", "refused 302 None HTTP 302"),
        (600, "", "refused 600 None HTTP 600"),
        (0, "", "refused 0 None HTTP 0"),
        (100, "", "refused 100 None HTTP 100"),
        (501, detail, "refused 501 None HTTP 501: bad"),
        (500, detail, "server_error"),
        (599, "", "server_error"),
        (402, detail, "billing_pause"),
        (410, detail, "expired"),
        (429, "", "throttled None None"),
        (
            429,
            r#"{"queue_state":"paused_rate_limit","retry_after_ms":9}"#,
            "throttled Some(PausedRateLimit) Some(9ms)",
        ),
    ];
    for (status, body, expected) in table {
        assert_eq!(brief(&Answer::of(json(status, body))), expected, "{status} {body}");
    }
    assert_eq!(Answer::of(refused()).label(), "unreachable");
    assert_eq!(Answer::of(cut_off()).label(), "timed_out");
    let Answer::BillingPause { message } = Answer::of(json(402, detail)) else { panic!("no pause") };
    assert_eq!(message, r#"Error code: 402 - {"detail":"bad"}"#);
}

/// C-2: the wait in the headers outranks the one in the body.
#[test]
fn headers_outrank_the_body() {
    let response = RawResponse::json(429, r#"{"retry_after_ms":9}"#).with_retry_after(ms(40));
    let Answer::Throttled { hint, .. } = Answer::of(response.into()) else { panic!("not throttled") };
    assert_eq!(hint, Some(ms(40)));
    let huge = json(408, r#"{"retry_after_ms":1e300}"#);
    let Answer::Pending { hint, .. } = Answer::of(huge) else { panic!("not pending") };
    assert_eq!(hint, Some(Duration::MAX), "out of range, but no panic");
}

/// C-11: the server's own text of a state survives.
#[test]
fn unknown_states_keep_their_text() {
    let Answer::Pending { queue: Some(queue), .. } =
        Answer::of(json(200, r#"{"type":"try_again","queue_state":"Draining"}"#))
    else {
        panic!("no state")
    };
    assert_eq!(queue.state, QueueState::Unknown("Draining".into()));
    assert_eq!(ErrorCategory::of_status(422), ErrorCategory::User);
    let Outcome::Response(response) = json(200, "{}") else { panic!("no response") };
    assert_eq!(response.status, 200);
}
