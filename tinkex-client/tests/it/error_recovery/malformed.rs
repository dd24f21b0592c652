//! Answers that cannot be read.

use tinkex_client::{ErrorCategory, ErrorKind};
use tinkex_testkit::service::Service;
use tinkex_testkit::{FakeServer, Gate, Step};

use super::repeats_a_source;
use crate::harness::{self, request};

/// What a malformed poll answer leads to.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Malformed {
    /// It is understood as "not yet".
    Pending,
    /// It is understood as a result.
    Result,
    /// It is understood as a failure of this category.
    Failure(ErrorCategory),
    /// It is not understood.
    Decode,
}

/// FU-1, F-08: every malformed body ends in a result or a typed error, without a panic, and leaves the samples
/// beside it alone.
#[tokio::test(start_paused = true)]
async fn malformed_results_hurt_nobody_else() {
    use ErrorCategory::{Server, Unknown, User};
    use Malformed::{Decode, Failure, Pending, Result};
    let service = Service::default();
    let (server, client, sampler) = harness::in_front_of(&service).await;
    let sequence = r#"{"tokens":[1,2],"logprobs":[-0.1,-0.2],"stop_reason":"length"}"#;
    let bodies: Vec<(String, Malformed)> = vec![
        (r#"{"type":"try_again"}"#.into(), Pending),
        (r#"{"type":"TRY_AGAIN","queue_state":null,"retry_after_ms":0.5}"#.into(), Pending),
        (r#"{"type":"try_again","queue_state":42,"retry_after_ms":"soon","request_id":7}"#.into(), Pending),
        (r#"{"status":"pending"}"#.into(), Pending),
        (r#"{"status":"complete_metadata"}"#.into(), Pending),
        (r#"{"status":"complete_metadata","response_payload_size":"many"}"#.into(), Pending),
        (format!(r#"{{"sequences":[{sequence}]}}"#), Result),
        (format!(r#"{{"status":"completed","result":{{"sequences":[{sequence}]}}}}"#), Result),
        (
            format!(r#"{{"type":"sample","sequences":[{sequence}],"news":{{"from":["the","future"]}}}}"#),
            Result,
        ),
        (r#"{"error":"no","category":"user"}"#.into(), Failure(User)),
        (r#"{"error":"no"}"#.into(), Failure(Unknown)),
        (r#"{"error":null}"#.into(), Failure(Unknown)),
        (r#"{"error":["a","list"],"category":7}"#.into(), Failure(Unknown)),
        (r#"{"status":"failed","error":"text"}"#.into(), Failure(Unknown)),
        (r#"{"status":"failed","error":{"message":"m","category":"server"}}"#.into(), Failure(Server)),
        (r#"{"status":"failed"}"#.into(), Failure(Unknown)),
        (String::new(), Decode),
        ("   ".into(), Decode),
        ("not JSON".into(), Decode),
        ("[]".into(), Decode),
        ("null".into(), Decode),
        ("42".into(), Decode),
        ("{}".into(), Decode),
        (r#"{"sequences":"x"}"#.into(), Decode),
        (r#"{"sequences":[{"tokens":"x"}]}"#.into(), Decode),
        (r#"{"sequences":[{"tokens":[1"#.into(), Decode),
        (r#"{"status":"completed","result":17}"#.into(), Decode),
    ];
    let all = bodies.len() as u64;
    for (body, expected) in bodies {
        hurt_one(&server, &sampler, Step::raw(body.clone(), "application/json"), &body, expected).await;
    }
    for (bytes, kind) in [
        (&b"\xff\xfe\x00"[..], "application/json"),
        (b"\x0a\xff\xff\xff\xff\x0f", "application/x-protobuf"),
        (b"<html>sorry</html>", "text/html"),
    ] {
        hurt_one(&server, &sampler, Step::raw(bytes, kind), kind, Decode).await;
    }
    assert_eq!(service.samples_accepted(), (all + 3) * 3, "nothing was submitted anew");
    assert!(client.inflight().is_empty());
}

async fn hurt_one(
    server: &FakeServer,
    sampler: &tinkex_client::SamplingClient,
    step: Step,
    what: &str,
    expected: Malformed,
) {
    let gate = Gate::new();
    server.script("retrieve_future", [step.gate(&gate)]).then_behave();
    let victim = sampler.sample(request(&[1]));
    gate.arrived(1).await;
    let victim_id = victim.request_id().unwrap();
    let siblings = [sampler.sample(request(&[2])), sampler.sample(request(&[3]))];
    server.wait_for_in_flight("retrieve_future", 3).await;
    gate.open();
    let result = victim.await;
    for sibling in siblings {
        sibling.await.unwrap_or_else(|error| panic!("a sibling of {what}: {error}"));
    }
    let seen = match &result {
        // A poll that was answered again behaved, and its sample has 4 tokens; a made-up result has 2.
        Ok(reply) if reply.sequences[0].tokens.len() == 4 => Malformed::Pending,
        Ok(_) => Malformed::Result,
        Err(error) if error.kind() == ErrorKind::RequestFailed => Malformed::Failure(error.category()),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Decode, "{what}: {error}");
            assert!(!error.is_retryable() && !repeats_a_source(error), "{what}: {error:?}");
            Malformed::Decode
        }
    };
    assert_eq!(seen, expected, "{what}: {result:?}");
    if let Err(error) = result {
        assert_eq!(error.request_id(), Some(&*victim_id), "{what}");
        assert!(error.to_string().contains(&*victim_id), "{what}: {error}");
    }
}

/// FU-1 on the submission: an acceptance that cannot be read is a decode error after one call.
#[tokio::test(start_paused = true)]
async fn malformed_acceptances_are_errors() {
    let (server, client, sampler) = harness::in_front_of(&Service::default()).await;
    for body in ["", "{}", "null", "[]", "<html>", r#"{"request_id":null}"#, r#"{"request_id":["x"]}"#] {
        server.script("asample", [Step::raw(body, "application/json")]).then_behave();
        let before = server.count("asample");
        let error = sampler.sample(request(&[1])).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Decode, "{body}: {error}");
        assert_eq!(server.count("asample"), before + 1, "{body}");
        assert!(error.to_string().starts_with("asample: HTTP 200: the response cannot be read: "), "{error}");
        sampler.sample(request(&[1])).await.unwrap();
    }
    assert!(client.inflight().is_empty());
    server.assert_contiguous_seq_ids("asample");
}
