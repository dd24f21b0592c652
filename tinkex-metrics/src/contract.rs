//! Every metric there is. `docs/metrics.md` shows this list, with what the shapes mean.

use metrics::Unit;

use crate::description::{Description, Kind, LabelDescription, Values};
use crate::instrument::{Counter, Gauge, Histogram};

const OPERATION: LabelDescription = LabelDescription { name: "operation", values: Values::Operation };

const REQUEST_TYPE: LabelDescription = one_of(
    "request_type",
    &[
        "CreateModel",
        "Forward",
        "ForwardBackward",
        "OptimStep",
        "SaveWeights",
        "SaveWeightsForSampler",
        "SaveWeightsExternal",
        "LoadWeights",
        "Sample",
        "CreateCustomLoss",
        "UnloadModel",
    ],
);

const CLIENT: LabelDescription = one_of("client", &["sampling", "training", "model_creation"]);

const STATE: LabelDescription =
    one_of("state", &["active", "paused_rate_limit", "paused_capacity", "unknown"]);

const GATE: LabelDescription = one_of("gate", &["shared", "training", "model_creation", "own"]);

const fn one_of(name: &'static str, values: &'static [&'static str]) -> LabelDescription {
    LabelDescription { name, values: Values::OneOf(values) }
}

/// Makes the statics and the list of all of them.
macro_rules! contract {
    ($($static:ident: $kind:ident<$count:literal> = $name:literal, $unit:ident, [$($label:expr),* $(,)?], $help:literal;)*) => {
        $(
            #[doc = $help]
            pub static $static: $kind<$count> = $kind::new(Description {
                name: $name,
                kind: Kind::$kind,
                unit: Unit::$unit,
                labels: &[$($label),*],
                help: $help,
            });
        )*

        /// The descriptions of all metrics, in the order of the documentation.
        pub static ALL: &[Description] = &[$($static.description()),*];

        /// One measurement of each metric, under the first value of each label. For tests and benchmarks of what
        /// measuring costs.
        #[doc(hidden)]
        pub fn measure_each() {
            $($static.measure($static.first_values());)*
        }
    };
}

contract! {
    REQUEST_DURATION: Histogram<2> = "tinkex_request_duration_seconds", Seconds,
        [REQUEST_TYPE, one_of("outcome", &["ok", "failed", "deadline", "stuck", "abandoned", "detached"])],
        "Time from the call of a method to the word the caller gets. `deadline`: the deadline given with a sample passed; `stuck`: a sample given up because nothing finished; `abandoned`: its handle, or the future that makes a client, was dropped; `detached`: a training operation whose handle was dropped, up to the end of its submission.";

    REQUEST_QUEUE: Histogram<1> = "tinkex_request_queue_seconds", Seconds, [REQUEST_TYPE],
        "Time from the call of a method to the beginning of its submission, or to its end where it never came to that: the wait for a place among the requests in flight, or for its turn among the operations of a training client.";

    REQUESTS_IN_FLIGHT: Gauge<2> = "tinkex_requests_in_flight", Count,
        [REQUEST_TYPE, one_of("stage", &["queued", "submitting", "polling"])],
        "Requests that were called and have not ended: waiting for their place, being sent (or waiting to be sent again), accepted and waiting for the result.";

    RESUBMISSIONS: Counter<1> = "tinkex_resubmissions_total", Count, [REQUEST_TYPE],
        "Requests that were submitted anew because the server had lost them (HTTP 410).";

    TOKENS: Counter<2> = "tinkex_tokens_total", Count,
        [one_of("request_type", &["Sample", "Forward", "ForwardBackward"]), one_of("direction", &["in", "out"])],
        "Tokens of the prompts and the training data that the server took in, and of the sequences that came out. A chunk of image or audio whose size is not stated counts nothing.";

    TRAINING_STEPS: Counter<0> = "tinkex_training_steps_total", Count, [],
        "Optimizer steps whose result came. A step whose handle was dropped is not counted.";

    QUEUE_STATE_TRANSITIONS: Counter<2> = "tinkex_queue_state_transitions_total", Count, [CLIENT, STATE],
        "Changes of the queue state of requests, by the new state. Repeats of a state, with another reason too, are not counted.";

    QUEUE_STATE_REQUESTS: Gauge<2> = "tinkex_queue_state_requests", Count, [CLIENT, STATE],
        "Polled requests by the queue state that the server told last. Requests of which nothing was told are in none, and none is told of samples whose results a session poller announces.";

    QUEUE_STATE_DURATION: Histogram<2> = "tinkex_queue_state_duration_seconds", Seconds, [CLIENT, STATE],
        "Time a polled request stayed in a queue state, recorded when it leaves the state or ends.";

    OBSERVER_DROPPED: Counter<1> = "tinkex_observer_dropped_total", Count, [CLIENT],
        "Transitions that a user's observer did not get because its queue was full, or its thread could not start.";

    BACKOFF_WINDOW: Histogram<1> = "tinkex_backoff_window_seconds", Seconds, [GATE],
        "By how much an answer 429 (or a billing pause) made a backoff window longer, counted when it is made longer: the sum grows by the time that the gate is closed. `shared`: the window of all samples of a service and key; `training`: that of one training client; `model_creation`: that of creations.";

    BACKOFF_WAIT: Histogram<1> = "tinkex_backoff_wait_seconds", Seconds, [GATE],
        "Time a submission waited at the closed gate of a backoff window, also where it was given up meanwhile.";

    DISPATCH_WAIT: Histogram<1> = "tinkex_dispatch_wait_seconds", Seconds,
        [one_of("limit", &["slots", "throttled_slots", "bytes"])],
        "Time a submission of a sample waited for a permit, also where it was given up meanwhile: for one of the slots, for one of the few slots that there are after a 429, or for bytes of the prompt budget. Those that found one at once are not in it.";

    DISPATCH_SLOTS_IN_USE: Gauge<0> = "tinkex_dispatch_slots_in_use", Count, [],
        "Slots that submissions of samples hold, of 400 for each service.";

    DISPATCH_IN_USE_BYTES: Gauge<0> = "tinkex_dispatch_in_use_bytes", Bytes, [],
        "Estimated bytes of the prompts under way; twentyfold while the server has throttled.";

    PAYLOAD_WAIT: Histogram<0> = "tinkex_payload_wait_seconds", Seconds, [],
        "Time a result that is ready waited for bytes of the budget of results that are being fetched, also where it was given up meanwhile.";

    POLLS: Counter<2> = "tinkex_polls_total", Count,
        [
            REQUEST_TYPE,
            one_of(
                "outcome",
                &[
                    "payload", "pending", "timed_out", "metadata", "failed", "rejected", "billing_pause", "expired",
                    "throttled", "server_error", "unreachable", "refused", "undecodable",
                ],
            ),
        ],
        "Polls for single results by what came of them. Not yet: `pending` (also as 408), `timed_out` (no answer in time). To be asked again later: `billing_pause`, `throttled`, `server_error`, `unreachable`, and `rejected` (400) a few times where something in front of the service may have said it. The end: `payload`, `failed` (the operation failed at the server), `refused` (another 4xx, or 501), `expired` (410), `undecodable`. `metadata`: the result is announced with its size, and asked for again.";

    HTTP_CALL_DURATION: Histogram<2> = "tinkex_http_call_duration_seconds", Seconds,
        [OPERATION, one_of("outcome", &["ok", "status", "transport", "edge", "deadline", "abandoned", "auth"])],
        "Time of a call with all its attempts and the waits between them. `status`: it ended with a status that is not a success, as long polls without a result do (408); `transport`: without an answer; `edge`: turned down in front of the service; `deadline`, `abandoned`: given up by the time or by the caller; `auth`: there was no credential. A call whose future is dropped is not in it.";

    HTTP_ATTEMPT_DURATION: Histogram<2> = "tinkex_http_attempt_duration_seconds", Seconds,
        [
            OPERATION,
            one_of(
                "outcome",
                &[
                    "2xx", "3xx", "4xx", "401", "402", "408", "409", "410", "429", "5xx", "connect", "timeout",
                    "interrupted", "decode", "other",
                ],
            ),
        ],
        "Time of one attempt up to the end of the answer's body, by its status or by how it failed; `4xx` are those without a line of their own. A long poll takes as long as the server holds it. An attempt that is dropped is not in it.";

    HTTP_RETRIES: Counter<2> = "tinkex_http_retries_total", Count,
        [
            OPERATION,
            one_of(
                "cause",
                &[
                    "throttled", "billing", "timeout", "conflict", "server", "connect", "interrupted", "edge", "asked",
                ],
            ),
        ],
        "Attempts that are to be made again, by what was wrong with the one before; counted before the wait. Polls are not retried but made anew, and are not in it.";

    HEARTBEATS: Counter<1> = "tinkex_heartbeats_total", Count, [one_of("outcome", &["ok", "failed", "gone"])],
        "Heartbeats of sessions. `gone`: the server says that the session is over (410), and no further one follows.";

    HEARTBEAT_LATENESS: Histogram<0> = "tinkex_heartbeat_lateness_seconds", Seconds, [],
        "By how much a heartbeat came later than its interval after the one before.";

    TELEMETRY_EVENTS: Counter<1> = "tinkex_telemetry_events_total", Count,
        [one_of("outcome", &["sent", "dropped", "failed"])],
        "Events of the service telemetry: accepted by the server; dropped because the queue was full; lost with a batch that failed.";
}
