//! How it was measured, in sentences for the report.

use crate::cell::Http;
use crate::pinning::Pinning;
use crate::plan::MOST_FOR_PYTHON;
use crate::server::SAMPLED_TOKENS;

/// The sentences.
pub(crate) fn describe(pinning: Option<Pinning>, http: Http) -> Vec<String> {
    let http = match http {
        Http::One => "HTTP/1.1",
        Http::Two => "HTTP/2 with prior knowledge (the Python SDK: HTTP/1.1)",
    };
    vec![
        format!(
            "Server and contenders are processes of their own, over {http} on the loopback; {}.",
            Pinning::description(pinning)
        ),
        "The server is the same process for all: the testkit's socket face with answers made beforehand. What it \
         spends is not counted, but it is part of latencies and of samples per second."
            .to_owned(),
        "In a round every contender does the same cell once, each in a new process; who begins changes from round \
         to round. Ratios are taken within a round. Figures are medians, with the least and the most in parentheses."
            .to_owned(),
        "tinkex is the client as its documentation shows it. The bare loop is reqwest: the same two requests a \
         sample with the same bodies and headers, one task a sample, no retries, no limits, no observers; with the \
         session poller one more loop that asks what is ready."
            .to_owned(),
        format!(
            "The Python SDK is driven through `sample_async`, one prompt object for all samples, telemetry off. It \
             does a twentieth of the samples, and at most {MOST_FOR_PYTHON} in flight: more takes minutes a run."
        ),
        "With one sample in flight after the other most of a sample is the system's own work, sending, sleeping and \
         waking, which the bare loop has as well; the ratio to the Python SDK is judged where there are many."
            .to_owned(),
        "With metrics on, a Prometheus recorder is installed in the client's process, and rendered every second."
            .to_owned(),
        "CPU is user and system time of all threads of the contender's process between two readings of its own \
         clock; starting up, connecting to the service and a fifth of the samples as a warm-up come before."
            .to_owned(),
        "Memory is the peak of the resident set less the resident set before the first sample. Per sample in \
         flight it is divided by their number, and four bytes a token of the prompt are taken off: each sample has a \
         prompt of its own. A service without the session poller bounds the samples at a time (2,000 unless it \
         says otherwise), so 10,000 in flight are judged with it. Polled one by one they hold a connection each, \
         or a stream of one, whose cost is the HTTP library's: there the client is judged by what it adds to the \
         bare loop."
            .to_owned(),
        format!("A result is {SAMPLED_TOKENS} tokens with their log-probabilities."),
        "The tables of CPU, of samples per second and of latency have a server that answers at once: the contender \
         is busy all the time, so with many in flight latency is mostly waiting for its own processor."
            .to_owned(),
        "Thousands in flight: results come 5 s after the acceptance. Begun evenly, the samples start spread over \
         the first 5 s and each is followed by the next, so that the load is the same in every moment; the \
         measurement begins when all are in flight. Begun at once, as many are started in one go, and all of it is \
         measured; no target speaks of that. Added latency is the time from the call to the result, less the 5 s. \
         The time without heartbeats is seen by the server, from the first request of a run to the last."
            .to_owned(),
        "Instructions and allocations are counted by valgrind as the difference of two runs with different \
         repetitions; a whole sample runs on one thread over a transport that answers from memory."
            .to_owned(),
    ]
}
