//! The buckets of the histograms.

/// Upper bounds, in seconds, of the buckets of every histogram: from a local answer to an hour in a queue.
pub const DURATION_BUCKETS: [f64; 19] = [
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0,
    1800.0, 3600.0,
];
