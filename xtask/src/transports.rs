//! The suite `transports`: the client's sampling and training tests over real sockets, once for each HTTP stack.
//!
//! The tests are the same as in memory, in virtual time as well (`FakeServer::transport_over`). An environment variable,
//! which only their harness reads, names the stack.

/// Names the transport that the tests run on.
pub(crate) const VARIABLE: &str = "TINKEX_TEST_TRANSPORT";

/// The transports, with a label for the summary each.
pub(crate) const TRANSPORTS: [(&str, &str); 4] = [
    ("hyper", "over hyper"),
    ("reqwest", "over reqwest"),
    ("ureq", "over ureq"),
    ("tower", "over tower services"),
];

/// What is run: everything about sampling and training.
pub(crate) const MODULES: [&str; 14] = [
    "cancellation::",
    "concurrency::",
    "custom_loss::",
    "dialects::",
    "error_recovery::",
    "golden::",
    "queue_states::",
    "session::",
    "soak::",
    "training::",
    "training_dialects::",
    "training_interleavings::",
    "training_regressions::",
    "workflow::",
];

/// Of these what plain `cargo xtask test` leaves to the suite, since it would take minutes: the long random plays.
pub(crate) const LONG: [&str; 2] = ["soak::", "training_interleavings::"];

/// A test that is left out, and why.
pub(crate) struct Exception {
    pub(crate) test: &'static str,
    pub(crate) reason: &'static str,
}

/// All of them.
pub(crate) const EXCEPTIONS: [Exception; 2] = [
    Exception {
        test: "session::stuck::the_detection_ends_with_its_sampler",
        reason: "it counts the tasks of the runtime, among which are an HTTP stack's own connections",
    },
    Exception {
        test: "training::wire_forms::large_requests_are_written_elsewhere",
        reason: "it counts the turns of the scheduler before the request arrives; on a socket they are as many as they are",
    },
];
