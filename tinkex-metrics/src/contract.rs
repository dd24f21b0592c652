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
        pub fn measure_each() {
            $($static.measure($static.first_values());)*
        }
    };
}

contract! {
    REQUEST_DURATION: Histogram<2> = "tinkex_request_duration_seconds", Seconds,
        [REQUEST_TYPE, one_of("outcome", &["ok", "failed", "abandoned", "stuck", "detached"])],
        "Time from the call of a method to its result. `abandoned`: a sample whose handle was dropped, or whose deadline passed; `stuck`: a sample given up because nothing finished; `detached`: a training operation whose handle was dropped.";

    REQUEST_QUEUE: Histogram<1> = "tinkex_request_queue_seconds", Seconds, [REQUEST_TYPE],
        "Time from the call of a method to the beginning of its submission: the wait for a place among the requests in flight, or for its turn among the operations of a training client.";

    REQUESTS_IN_FLIGHT: Gauge<2> = "tinkex_requests_in_flight", Count,
        [REQUEST_TYPE, one_of("stage", &["queued", "submitting", "polling"])],
        "Requests that were called and have not ended: waiting for their place, being sent (or waiting to be sent again), accepted and waiting for the result.";

    RESUBMISSIONS: Counter<1> = "tinkex_resubmissions_total", Count, [REQUEST_TYPE],
        "Requests that were submitted anew because the server had lost them (HTTP 410).";

    TOKENS: Counter<2> = "tinkex_tokens_total", Count,
        [one_of("request_type", &["Sample", "Forward", "ForwardBackward"]), one_of("direction", &["in", "out"])],
        "Tokens of the prompts and the training data that the server took in, and of the sequences that came out. Images and audio whose size is not stated count nothing.";

    TRAINING_STEPS: Counter<0> = "tinkex_training_steps_total", Count, [],
        "Optimizer steps that succeeded.";

    QUEUE_STATE_TRANSITIONS: Counter<2> = "tinkex_queue_state_transitions_total", Count, [CLIENT, STATE],
        "Requests that came into a queue state. Repeats of a state are not counted.";

    QUEUE_STATE_REQUESTS: Gauge<2> = "tinkex_queue_state_requests", Count, [CLIENT, STATE],
        "Polled requests by the queue state that the server told last; requests of which nothing was told are in none.";

    QUEUE_STATE_DURATION: Histogram<2> = "tinkex_queue_state_duration_seconds", Seconds, [CLIENT, STATE],
        "Time a polled request stayed in a queue state, recorded when it leaves the state or ends.";

    OBSERVER_DROPPED: Counter<1> = "tinkex_observer_dropped_total", Count, [CLIENT],
        "Transitions that a user's observer did not get because its queue was full, or its thread could not start.";

    BACKOFF_WINDOW: Histogram<0> = "tinkex_backoff_window_seconds", Seconds, [],
        "By how much an answer 429 (or a billing pause) made the shared backoff window longer. The sum grows by the time that the gate is closed.";

    BACKOFF_WAIT: Histogram<0> = "tinkex_backoff_wait_seconds", Seconds, [],
        "Time a submission waited at the closed gate of the backoff window.";

    DISPATCH_WAIT: Histogram<1> = "tinkex_dispatch_wait_seconds", Seconds,
        [one_of("limit", &["slots", "bytes"])],
        "Time a submission of a sample waited for a permit: for a slot, or for bytes of the prompt budget. Those that found one at once are not in it.";

    DISPATCH_SLOTS_IN_USE: Gauge<0> = "tinkex_dispatch_slots_in_use", Count, [],
        "Submissions of samples under way, of 400 at most.";

    DISPATCH_BYTES_IN_USE: Gauge<0> = "tinkex_dispatch_bytes_in_use", Bytes, [],
        "Estimated bytes of the prompts under way; twentyfold while the server has throttled.";

    PAYLOAD_WAIT: Histogram<0> = "tinkex_payload_wait_seconds", Seconds, [],
        "Time a result that is ready waited for bytes of the budget of results that are being fetched.";

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
        "Polls for results by what came of them. `pending` and `timed_out`: not yet; `metadata`: the result is announced with its size.";

    HTTP_REQUEST_DURATION: Histogram<2> = "tinkex_http_request_duration_seconds", Seconds,
        [OPERATION, one_of("outcome", &["ok", "status", "transport", "edge", "deadline", "abandoned", "auth"])],
        "Time of a call with all its attempts and the waits between them.";

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
        "Time of one attempt up to the end of the answer's body, by its status or by how it failed. A long poll takes as long as the server holds it.";

    HTTP_REQUESTS_IN_FLIGHT: Gauge<1> = "tinkex_http_requests_in_flight", Count, [OPERATION],
        "Attempts on the wire.";

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
        "Attempts that are made again, by what was wrong with the one before.";

    HTTP_SENT_BYTES: Counter<1> = "tinkex_http_sent_bytes_total", Bytes, [OPERATION],
        "Bytes of request bodies, as they were sent.";

    HTTP_RECEIVED_BYTES: Counter<1> = "tinkex_http_received_bytes_total", Bytes, [OPERATION],
        "Bytes of the bodies of answers, decompressed.";

    HEARTBEATS: Counter<1> = "tinkex_heartbeats_total", Count, [one_of("outcome", &["ok", "failed"])],
        "Heartbeats of sessions.";

    HEARTBEAT_LATENESS: Histogram<0> = "tinkex_heartbeat_lateness_seconds", Seconds, [],
        "By how much a heartbeat came later than its interval after the one before.";

    TELEMETRY_EVENTS: Counter<1> = "tinkex_telemetry_events_total", Count,
        [one_of("outcome", &["sent", "dropped", "failed"])],
        "Events of the service telemetry: accepted by the server; dropped because the queue was full; lost with a batch that failed.";
}
