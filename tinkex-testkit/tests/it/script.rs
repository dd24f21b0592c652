//! Scripts: order, predicates, wildcards, endings and loudness.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::json;
use tinkex_testkit::{FakeServer, Received, Step};

use crate::client::{bare, echo, post};

async fn status(server: &FakeServer, route: &str) -> u16 {
    post(server, route, &json!({})).await.unwrap().status.as_u16()
}

#[tokio::test(start_paused = true)]
async fn steps_are_consumed_in_order_and_repeats_count_as_many() {
    let server = echo();
    let script = server.script("x", [Step::status(500), Step::status(503).repeat(2), Step::behave()]);
    assert_eq!((script.calls(), script.remaining()), (0, 4));
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(status(&server, "x").await);
    }
    assert_eq!(seen, [500, 503, 503, 200]);
    assert_eq!((script.calls(), script.remaining()), (4, 0));
    assert_eq!(status(&server, "y").await, 200, "other routes are not touched");
    server.verify().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_script_that_runs_out_fails_loudly() {
    let server = echo();
    server.script("x", [Step::status(500)]);
    status(&server, "x").await;
    let answer = post(&server, "x", &json!({})).await.unwrap();
    assert_eq!(answer.status, 418);
    assert_eq!(answer.header("x-should-retry"), Some("false"));
    assert_eq!(answer.json(), json!({"detail": "script for x exhausted after 1 steps"}));

    let panic = catch_unwind(AssertUnwindSafe(|| drop(server))).unwrap_err();
    let text = panic.downcast_ref::<String>().unwrap();
    assert!(text.contains("script for x exhausted after 1 steps"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn verify_tells_all_and_what_it_told_does_not_panic_again() {
    let server = echo();
    server.script("x", [Step::status(500)]);
    server.script("y", [Step::status(500), Step::status(501)]);
    for route in ["x", "x", "y"] {
        status(&server, route).await;
    }
    let unmet = server.verify().unwrap_err();
    assert_eq!(unmet.violations, ["script for x exhausted after 1 steps"]);
    assert_eq!(unmet.leftovers, ["script for y: 1 of 2 steps not consumed"]);
    let text = unmet.to_string();
    assert!(text.contains("exhausted") && text.contains("not consumed"), "{text}");
    drop(server);
}

#[tokio::test(start_paused = true)]
async fn only_the_last_handle_judges_and_leftovers_do_not_panic() {
    let server = echo();
    server.script("x", []);
    let clone = server.clone();
    status(&server, "x").await;
    drop(server);
    assert!(clone.verify().is_err());

    let unused = echo();
    unused.script("x", [Step::status(500)]);
    drop(unused);
}

#[tokio::test(start_paused = true)]
async fn scripts_can_end_otherwise() {
    let server = echo();
    server.script("behaves", [Step::status(500)]).then_behave();
    let repeating = server.script("repeats", [Step::status(500), Step::status(503)]).then_repeat_last();
    for (route, expected) in [("behaves", [500, 200, 200]), ("repeats", [500, 503, 503])] {
        for expected in expected {
            assert_eq!(status(&server, route).await, expected, "{route}");
        }
    }
    assert_eq!((repeating.calls(), repeating.remaining()), (3, 0));
    server.verify().unwrap();
}

#[tokio::test(start_paused = true)]
async fn scripts_of_one_route_follow_each_other() {
    let server = echo();
    server.script("x", [Step::status(500)]).then_behave();
    server.script("x", [Step::status(501)]);
    assert_eq!(
        [status(&server, "x").await, status(&server, "x").await, status(&server, "x").await],
        [500, 501, 418]
    );
    assert!(server.verify().is_err());
}

#[tokio::test(start_paused = true)]
async fn predicates_go_before_and_may_use_the_server() {
    let server = echo();
    server.script("retrieve_future", [Step::status(500)]).then_repeat_last();
    // A predicate that looks at the server must not run into its lock.
    let other = server.clone();
    let is_b = move |r: &Received| other.count("asample") == 0 && r.request_id() == Some("b");
    server.script_when("retrieve_future", is_b, [Step::status(410)]);
    let mut seen = Vec::new();
    for id in ["a", "b", "b", "c"] {
        seen.push(
            post(&server, "retrieve_future", &json!({"request_id": id})).await.unwrap().status.as_u16(),
        );
    }
    // The second "b" finds its own script used up, but the general one still has a step.
    assert_eq!(seen, [500, 410, 500, 500]);
    server.verify().unwrap();
}

#[tokio::test(start_paused = true)]
async fn wildcards_match_one_segment() {
    let server = echo();
    let script = server.script("sessions/*/finish", [Step::status(201).repeat(2)]);
    assert_eq!(status(&server, "sessions/a/finish").await, 201);
    assert_eq!(status(&server, "sessions/a").await, 200);
    assert_eq!(status(&server, "sessions/b/finish").await, 201);
    assert_eq!(script.remaining(), 0);
    assert_eq!(server.count("sessions/*/finish"), 2);
    assert_eq!(server.count("sessions/**"), 3);
}

#[tokio::test(start_paused = true)]
async fn a_failed_check_is_a_violation_and_the_answer_is_given_all_the_same() {
    let server = bare();
    let check = |r: &Received| match r.field("n") {
        Some(n) if n == 1 => Ok(()),
        other => Err(format!("n is {other:?}")),
    };
    server.script("x", [Step::status(200).assert(check).repeat(2)]);
    for n in [1, 2] {
        assert_eq!(post(&server, "x", &json!({ "n": n })).await.unwrap().status, 200);
    }
    let violations = server.verify().unwrap_err().violations;
    assert_eq!(violations.len(), 1);
    assert!(violations[0].contains("request 1 to x: n is"), "{violations:?}");
}
