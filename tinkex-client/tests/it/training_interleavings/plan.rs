//! What one interleaving is: a server with its faults, a client with its patience, and what is called when.

use std::time::Duration;

use serde_json::{Value, json};
use tinkex_client::{Backoff, Datum, RetryPolicy};
use tinkex_testkit::service::{Dialect, ServiceOptions, TrainingBody, TrainingOrder};
use tinkex_testkit::{Chaos, ChaosFault};

/// The learning rate of the step that is call 1; that of call n is n times as much.
pub(super) const RATE: f64 = 1e-3;

/// The call that judges the run, after all others.
pub(super) const PROBE: usize = 200;

/// All routes on which training operations are submitted.
const ROUTES: [&str; 6] =
    ["forward_backward", "forward", "optim_step", "save_weights", "save_weights_for_sampler", "load_weights"];

/// One interleaving.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) dialect: Dialect,
    /// The most datums of a chunk.
    pub(super) chunk: usize,
    parallel: bool,
    /// The budget of bytes for chunks on their way.
    pub(super) budget: u64,
    pub(super) latency: Duration,
    pub(super) patience: Patience,
    /// The share of requests, submissions and polls, that meet a fault which may pass.
    pub(super) faults: f64,
    /// The share of submissions that are refused for good.
    pub(super) refusals: f64,
    pub(super) calls: Vec<Call>,
    /// How many callers there are. They make the calls in turn, each in an order of its own.
    pub(super) callers: usize,
}

/// How submissions are repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// Not at all.
    None,
    Twice,
    /// Until all is well again.
    Long,
}

/// One call, with what comes before and after it.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) action: Action,
    /// How long the caller waits before it.
    pub(super) pause: Duration,
    /// What becomes at the server of an operation that is accepted from then on.
    pub(super) fate: Option<Fate>,
    /// When the handle is dropped, where it is, after the call.
    pub(super) dropped_after: Option<Duration>,
}

/// An end of an accepted operation without a result. It is not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Fails,
    /// Polls are answered 410.
    IsForgotten,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// A pass over so many datums.
    Backward(usize),
    /// One with a loss that no server has.
    Nonsense,
    Forward(usize),
    /// A custom loss over so many datums; it may fail.
    Custom {
        data: usize,
        fails: bool,
    },
    Step,
    Save,
    SamplerWeights,
    Snapshot,
    /// Back to the checkpoint of the beginning.
    Restore,
}

impl Plan {
    /// A plan drawn from `seed`, for a server with this order of operations.
    pub(super) fn drawn(seed: u64, order: TrainingOrder) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let r = &mut random;
        let dialect = Dialect {
            training_order: order,
            refused_ids_block: r.bool(),
            rejected_requests_use_ids: r.bool(),
            unknown_loss_status: [None, Some(400), Some(501)][r.usize(..3)],
            training_bodies: [TrainingBody::Both, TrainingBody::ProtobufOnly, TrainingBody::JsonOnly]
                [r.usize(..3)],
            ..Dialect::production()
        };
        let calm = r.u8(..5) == 0;
        let fates = !calm && r.u8(..5) == 0;
        let calls = (0..r.usize(3..12)).map(|_| Call::drawn(r, fates)).collect();
        Self {
            seed,
            dialect,
            chunk: r.usize(1..4),
            parallel: r.bool(),
            budget: r.u64(1..1_000),
            latency: Duration::from_millis(r.u64(0..200)),
            patience: [Patience::None, Patience::Twice, Patience::Long, Patience::Long][r.usize(..4)],
            faults: if calm { 0.0 } else { r.f64() * 0.45 },
            refusals: if calm || r.bool() { 0.0 } else { r.f64() * 0.25 },
            calls,
            callers: 1,
        }
    }

    /// The same for real time, and for several callers: nothing is waited for.
    pub(super) fn hurried(mut self) -> Self {
        self.latency = Duration::ZERO;
        for call in &mut self.calls {
            call.pause = Duration::ZERO;
            call.dropped_after = call.dropped_after.map(|_| Duration::ZERO);
        }
        self.callers = 3;
        self
    }

    pub(super) fn options(&self) -> ServiceOptions {
        ServiceOptions { latency: self.latency, ..ServiceOptions::of(self.dialect.clone()) }
    }

    /// The start-up flags of the server.
    pub(super) fn flags(&self) -> Value {
        json!({
            "fwdbwd_max_chunk_len": self.chunk,
            "parallel_fwdbwd_chunks": self.parallel,
            "fwdbwd_dispatch_bytes_semaphore_size": self.budget,
        })
    }

    pub(super) fn chaos(&self) -> Chaos {
        Chaos::seeded(self.seed).rate(self.faults).on(ROUTES.into_iter().chain(["retrieve_future"]))
    }

    /// Faults that take no time.
    pub(super) fn quick_chaos(&self) -> Chaos {
        let faults =
            [ChaosFault::ServerError, ChaosFault::Unavailable, ChaosFault::Reset, ChaosFault::LostResponse];
        Chaos::seeded(self.seed).rate(self.faults).on(ROUTES).faults(faults)
    }

    pub(super) fn policy(&self) -> RetryPolicy {
        match self.patience {
            Patience::None => RetryPolicy::none(),
            Patience::Twice => RetryPolicy::default().max_retries(2),
            Patience::Long => RetryPolicy::patient(Duration::from_secs(1800)),
        }
    }

    /// The same, but for real time.
    pub(super) fn quick_policy(&self) -> RetryPolicy {
        let least = Duration::from_micros(10);
        self.policy().backoff(Backoff { base: least, cap: least, jitter: 0.0 })
    }

    /// Whether operations come to nothing that the server has accepted.
    pub(super) fn has_fates(&self) -> bool {
        self.calls.iter().any(|call| call.fate.is_some())
    }

    /// Whether every call must succeed that is not meant to fail: faults pass, nothing is refused for good, and a
    /// repeated submission is no conflict.
    pub(super) fn is_forgiving(&self) -> bool {
        if self.has_fates() {
            return false;
        }
        let strict = self.dialect.training_order == TrainingOrder::Strict;
        self.faults == 0.0 && self.refusals == 0.0
            || (self.refusals == 0.0 && self.patience == Patience::Long && !strict)
    }
}

impl Call {
    fn drawn(r: &mut fastrand::Rng, fates: bool) -> Self {
        let data = r.usize(1..6);
        let action = match r.u8(..20) {
            0..=5 => Action::Backward(data),
            6 => Action::Nonsense,
            7..=8 => Action::Forward(data),
            9..=11 => Action::Custom { data, fails: r.u8(..4) == 0 },
            12..=15 => Action::Step,
            16 => Action::Save,
            17 => Action::SamplerWeights,
            18 => Action::Snapshot,
            _ => Action::Restore,
        };
        // Mostly nothing is waited for between calls.
        let pause = if r.u8(..3) == 0 { r.u64(0..3_000) } else { 0 };
        let dropped = match r.u8(..6) {
            0 => Some(0),
            1 => Some(r.u64(0..4_000)),
            _ => None,
        };
        let fate = fates.then(|| [None, None, Some(Fate::Fails), Some(Fate::IsForgotten)][r.usize(..4)]);
        Self {
            action,
            pause: Duration::from_millis(pause),
            fate: fate.flatten(),
            dropped_after: dropped.map(Duration::from_millis),
        }
    }
}

/// The `k`-th datum of call `n`, marked by its first two tokens, and unlike any other.
fn datum(n: usize, k: usize, length: usize) -> Datum {
    let [n, k] = [n, k].map(|number| u8::try_from(number).expect("a small number"));
    let rest = (0..length).map(|at| 97 + (i32::from(n) + i32::try_from(at).unwrap_or(0)) % 20);
    let tokens: Vec<i32> = [i32::from(n), i32::from(k)].into_iter().chain(rest).collect();
    let targets: Vec<i32> = tokens[1..].iter().copied().chain([101]).collect();
    let weights = vec![1.0 + f32::from(n) / 8.0; tokens.len()];
    Datum::new(tokens).target_tokens(targets).weights(weights)
}

/// The data of call `n`.
pub(super) fn data(n: usize, count: usize) -> Vec<Datum> {
    (0..count).map(|k| datum(n, k, 2)).collect()
}

/// The data that the run is judged by, of which the last takes the whole budget of bytes.
pub(super) fn probe() -> Vec<Datum> {
    vec![datum(PROBE, 0, 5), datum(PROBE, 1, 3), datum(PROBE, 2, 60)]
}
