//! The order of the operations of one training run, by their sequence ids (PROTOCOL 12.4, 22).
//!
//! Pure bookkeeping: what may be accepted, and whose turn it is. Promises are numbers here.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::super::{Dialect, TrainingOrder};

/// How many used ids are told apart from each other; older ones are known to be used, and no more.
const KEEP_USED: usize = 65_536;

/// The most operations that wait for an id that has not come.
const MOST_WAITING: usize = 16_384;

#[derive(Debug)]
pub(crate) struct Order {
    rule: TrainingOrder,
    refused_ids_block: bool,
    rejected_requests_use_ids: bool,
    /// The lowest id that was neither accepted nor passed over.
    next: u64,
    /// The promise each id led to, and a hash of its request.
    used: BTreeMap<u64, (u64, u64)>,
    /// All ids below are used, or were passed over for good.
    floor: u64,
    /// Ids of refused requests that lie ahead.
    passed: BTreeSet<u64>,
    /// Accepted operations that wait for earlier ids.
    waiting: BTreeMap<u64, u64>,
    arrived: VecDeque<u64>,
    refused: BTreeSet<u64>,
    keep: usize,
}

/// What becomes of a sequence id.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It is new, and may be used.
    New,
    /// The same request was accepted before, as this promise.
    Repeated(u64),
    /// 409 with this detail.
    Conflict(String),
    /// 400 with this detail: no such id can ever be used.
    Impossible(String),
}

impl Order {
    /// An order of which up to `keep` ids are remembered for inspection.
    pub(crate) fn new(dialect: &Dialect, keep: usize) -> Self {
        Self {
            rule: dialect.training_order,
            refused_ids_block: dialect.refused_ids_block,
            rejected_requests_use_ids: dialect.rejected_requests_use_ids,
            next: 1,
            used: BTreeMap::new(),
            floor: 1,
            passed: BTreeSet::new(),
            waiting: BTreeMap::new(),
            arrived: VecDeque::new(),
            refused: BTreeSet::new(),
            keep,
        }
    }

    /// Whether a request with this id and body may be accepted.
    pub(crate) fn admit(&self, seq_id: u64, hash: u64) -> Admission {
        let used = self.used.get(&seq_id);
        match (self.rule, used) {
            (TrainingOrder::Strict, _) if seq_id != self.next => {
                Admission::Conflict(format!("Sequence conflict: expected {}, got {seq_id}", self.next))
            }
            (_, Some((number, was))) if *was == hash => Admission::Repeated(*number),
            (_, Some(_)) => Admission::Conflict(format!("seq_id {seq_id} was used by a different request")),
            (_, None) if seq_id == 0 => {
                Admission::Impossible("seq_id must be at least 1, the first of a model".into())
            }
            (_, None) if seq_id < self.floor => {
                Admission::Conflict(format!("seq_id {seq_id} was used long ago"))
            }
            (TrainingOrder::Waiting, None) if self.waiting.len() >= MOST_WAITING && seq_id != self.next => {
                Admission::Impossible(format!("{MOST_WAITING} operations wait for seq_id {}", self.next))
            }
            (_, None) => Admission::New,
        }
    }

    /// Takes in an accepted operation. The promises whose turn it is now, in order; they may be none.
    pub(crate) fn accept(&mut self, seq_id: u64, hash: u64, number: u64) -> Vec<u64> {
        self.arrived.push_back(seq_id);
        while self.arrived.len() > self.keep {
            self.arrived.pop_front();
        }
        self.refused.remove(&seq_id);
        self.used.insert(seq_id, (number, hash));
        while self.used.len() > KEEP_USED
            && let Some((oldest, _)) = self.used.pop_first()
        {
            self.floor = self.floor.max(oldest + 1);
        }
        if self.rule != TrainingOrder::Waiting {
            self.next = self.next.max(seq_id.saturating_add(1));
            return vec![number];
        }
        self.passed.remove(&seq_id);
        if seq_id < self.next {
            // Its place was passed over when an earlier request with this id was refused.
            return vec![number];
        }
        self.waiting.insert(seq_id, number);
        self.advance()
    }

    /// Notes that a request with this id was refused. The promises whose turn it is now.
    pub(crate) fn refuse(&mut self, seq_id: u64) -> Vec<u64> {
        if seq_id == 0 || self.used.contains_key(&seq_id) {
            return Vec::new();
        }
        if self.refused.len() < self.keep {
            self.refused.insert(seq_id);
        }
        match self.rule {
            TrainingOrder::Tolerant => {}
            TrainingOrder::Strict => {
                if self.rejected_requests_use_ids && seq_id == self.next {
                    self.next += 1;
                }
            }
            TrainingOrder::Waiting => {
                let room = self.passed.len() < MOST_WAITING;
                if !self.refused_ids_block && seq_id >= self.next && room {
                    self.passed.insert(seq_id);
                    return self.advance();
                }
            }
        }
        Vec::new()
    }

    fn advance(&mut self) -> Vec<u64> {
        let mut ready = Vec::new();
        loop {
            if let Some(number) = self.waiting.remove(&self.next) {
                ready.push(number);
            } else if !self.passed.remove(&self.next) {
                return ready;
            }
            self.next += 1;
        }
    }

    /// Gives up on all that wait: their promises, in the order of their ids.
    pub(crate) fn abandon(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.waiting).into_values().collect()
    }

    /// The ids below the highest used that no request came with, as far as that is known; at most `most`.
    pub(crate) fn gaps(&self, most: usize) -> Vec<u64> {
        let ahead = self.waiting.keys().chain(&self.passed).max();
        let (first, last) = match self.rule {
            TrainingOrder::Waiting => (self.next, ahead),
            TrainingOrder::Tolerant | TrainingOrder::Strict => (self.floor, self.used.keys().next_back()),
        };
        let missing = |seq_id: &u64| !self.used.contains_key(seq_id) && !self.refused.contains(seq_id);
        (first..=last.copied().unwrap_or(0)).filter(missing).take(most).collect()
    }

    /// The ids of accepted operations in order of arrival; the last ones where there were very many.
    pub(crate) fn arrived(&self) -> Vec<u64> {
        self.arrived.iter().copied().collect()
    }

    /// The ids of requests that were refused and not accepted later, in ascending order.
    pub(crate) fn refused(&self) -> Vec<u64> {
        self.refused.iter().copied().collect()
    }

    /// The ids that wait for earlier ones, in ascending order.
    pub(crate) fn waiting(&self) -> Vec<u64> {
        self.waiting.keys().copied().collect()
    }
}
