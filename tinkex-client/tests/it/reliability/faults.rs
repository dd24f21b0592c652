//! The faults that are played against several kinds of calls.

use serde_json::json;
use tinkex_testkit::{Received, Reply, Step};

/// A fault, in the words of the document, and how the fake server plays it.
pub(super) struct Fault {
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    pub(super) advice: &'static str,
    pub(super) step: fn() -> Step,
}

const WAIT: &str = "nothing while it is repeated; after the error, find out why the service is down";

pub(super) static REFUSED: Fault = Fault {
    name: "refused",
    what: "no connection is made; the request was never sent",
    advice: "check the address and the network; nothing was sent, so calling again is safe",
    step: Step::refuse,
};
pub(super) static RESET: Fault = Fault {
    name: "reset",
    what: "the connection breaks before the request is processed, which the client cannot know",
    advice: WAIT,
    step: Step::reset,
};
pub(super) static LOST_ANSWER: Fault = Fault {
    name: "answer lost",
    what: "the request is processed, and the connection breaks before the answer",
    advice: WAIT,
    step: || Step::behave().then_lose(),
};
pub(super) static HALF_A_BODY: Fault = Fault {
    name: "half a body",
    what: "the request is processed, and the connection closes in the middle of the answer's body",
    advice: WAIT,
    step: || Step::close_mid_body(5),
};
pub(super) static STALL: Fault = Fault {
    name: "stall",
    what: "the answer's headers come, its body never does",
    advice: WAIT,
    step: Step::stall_after_headers,
};
pub(super) static HANG: Fault = Fault {
    name: "hang",
    what: "the request is taken and never answered",
    advice: "set a deadline where waiting has an end for you",
    step: Step::hang,
};
pub(super) static BILLING: Fault = Fault {
    name: "402",
    what: "billing is paused (PROTOCOL 7.4)",
    advice: "settle the account; the job goes on by itself within 5 s",
    step: || Step::status(402).json_body(json!({"detail": "no credit"})),
};
pub(super) static REQUEST_TIMEOUT: Fault = Fault {
    name: "408 loop",
    what: "408 at once, without a queue state; on a poll that means \"not ready yet\"",
    advice: "on a poll nothing, the work is pending; `inflight()` shows for how long",
    step: || Step::status(408).body(""),
};
pub(super) static CONFLICT: Fault = Fault {
    name: "409",
    what: "a conflict without a word about sequence ids",
    advice: "read the server's words; a conflict that lasts is about state at the server",
    step: || Step::status(409).json_body(json!({"detail": "busy with another request"})),
};
pub(super) static NUMBERED_CONFLICT: Fault = Fault {
    name: "409, numbered",
    what: "a conflict that names a sequence id ahead of the one that was sent",
    advice: "call again, it gets a new id; if that fails too, another process uses the same session or model",
    step: || Step::respond_with(ahead),
};
pub(super) static GONE: Fault = Fault {
    name: "410",
    what: "the server no longer knows what is asked about",
    advice: "make the thing that is gone anew: the request, the client, or the model from a checkpoint",
    step: || Step::status(410).json_body(json!({"detail": "gone"})),
};
pub(super) static THROTTLED: Fault = Fault {
    name: "429",
    what: "too many requests, without a hint when to come back",
    advice: "nothing, the client slows down by itself; or fewer requests at once",
    step: || Step::status(429).json_body(json!({"detail": "slow down"})),
};
pub(super) static THROTTLED_WITH_HINT: Fault = Fault {
    name: "429, `retry-after: 7`",
    what: "too many requests, with a hint",
    advice: "as 429",
    step: || Step::status(429).json_body(json!({"detail": "slow down"})).header("retry-after", "7"),
};
pub(super) static SERVER_ERROR: Fault = Fault {
    name: "500",
    what: "a failure inside the server; the same for all 5xx but 501",
    advice: WAIT,
    step: || Step::status(500).json_body(json!({"detail": "oops"})),
};
pub(super) static UNAVAILABLE: Fault = Fault {
    name: "503, `retry-after: 2`",
    what: "a server that is overloaded or restarts, with a hint",
    advice: WAIT,
    step: || Step::status(503).json_body(json!({"detail": "restarting"})).header("retry-after", "2"),
};
pub(super) static NOT_IMPLEMENTED: Fault = Fault {
    name: "501",
    what: "the server does not have what is asked for",
    advice: "use a server that has it; repeating is of no use",
    step: || Step::status(501).json_body(json!({"detail": "no such feature"})),
};

/// All of them, in the order of the document.
pub(super) static ALL: [&Fault; 16] = [
    &REFUSED,
    &RESET,
    &LOST_ANSWER,
    &HALF_A_BODY,
    &STALL,
    &HANG,
    &BILLING,
    &REQUEST_TIMEOUT,
    &CONFLICT,
    &NUMBERED_CONFLICT,
    &GONE,
    &THROTTLED,
    &THROTTLED_WITH_HINT,
    &SERVER_ERROR,
    &UNAVAILABLE,
    &NOT_IMPLEMENTED,
];

/// A refusal whose count is always four ahead of the request's.
fn ahead(request: &Received) -> Reply {
    let sent = request.seq_id().unwrap_or_default();
    Reply::detail(409, format!("sequence conflict: expected {}, got {sent}", sent + 4))
}
