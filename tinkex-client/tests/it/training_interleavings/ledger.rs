//! The books of a fake service: which training request was taken in under which sequence id, told apart by marks in
//! the requests themselves. It also refuses requests at random, without the service hearing of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

use futures_util::future::BoxFuture;
use prost::Message as _;
use serde_json::Value;
use tinkex_testkit::service::Service;
use tinkex_testkit::{Behaviour, Received, Reply};
use tinkex_types::proto;

/// Which datum of which call: the first two tokens of its input.
pub(super) type Mark = (usize, usize);

/// What was taken in under a sequence id.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Entry {
    /// A pass that settles an id, and changes nothing.
    Filler,
    Forward(Vec<Mark>),
    Backward(Vec<Mark>),
    /// An optimizer step, by its learning rate.
    Step(f64),
    /// A named save.
    Saved(String),
    /// An unnamed save, by its number in the session.
    Published(u64),
    Restored,
}

/// A service, with a record of what it took in.
pub(super) struct Ledger {
    service: Service,
    inner: Mutex<Inner>,
}

struct Inner {
    random: fastrand::Rng,
    /// The share of requests that are refused.
    refusals: f64,
    /// The ids a filler of which was refused.
    unfilled: BTreeSet<u64>,
    /// In order of arrival.
    entries: Vec<(u64, Entry)>,
    /// What each idempotency key stood for.
    keys: BTreeMap<String, Vec<u8>>,
    /// The calls a request of which was answered with a conflict.
    disputed: BTreeSet<usize>,
    complaints: Vec<String>,
}

impl Ledger {
    pub(super) fn new(service: Service, seed: u64) -> Self {
        let inner = Inner {
            random: fastrand::Rng::with_seed(seed),
            refusals: 0.0,
            unfilled: BTreeSet::new(),
            entries: Vec::new(),
            keys: BTreeMap::new(),
            disputed: BTreeSet::new(),
            complaints: Vec::new(),
        };
        Self { service, inner: Mutex::new(inner) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// Refuses this share of the training requests from now on.
    pub(super) fn refuse(&self, share: f64) {
        self.inner().refusals = share;
    }

    /// What was taken in, in order of arrival; a repeated request counts once.
    pub(super) fn entries(&self) -> Vec<(u64, Entry)> {
        self.inner().entries.clone()
    }

    /// The calls a request of which was answered with a conflict.
    pub(super) fn disputed(&self) -> BTreeSet<usize> {
        self.inner().disputed.clone()
    }

    /// What was wrong with any single request.
    pub(super) fn complaints(&self) -> Vec<String> {
        self.inner().complaints.clone()
    }

    async fn answer(&self, request: &Received) -> Reply {
        let Some((seq_id, entry)) = read(request) else { return self.service.respond(request).await };
        if let Some(status) = self.inner().look(request, seq_id, &entry) {
            return Reply::detail(status, "by chance");
        }
        let reply = self.service.respond(request).await;
        if reply.status.is_success() {
            self.inner().take_in(seq_id, entry);
        } else if reply.status == 409 {
            self.inner().disputed.extend(call_of(&entry));
        }
        reply
    }
}

impl Behaviour for Ledger {
    fn respond<'a>(&'a self, request: &'a Received) -> BoxFuture<'a, Reply> {
        Box::pin(self.answer(request))
    }
}

impl Inner {
    /// Checks the identity of a request (F-14), and says with what it is refused, if it is.
    fn look(&mut self, request: &Received, seq_id: u64, entry: &Entry) -> Option<u16> {
        match request.idempotency_key().map(str::to_owned) {
            None => {
                self.complaints.push(format!("{} under {seq_id} has no idempotency key", request.route()))
            }
            Some(key) => {
                let body = request.body.to_vec();
                let before = self.keys.entry(key).or_insert_with(|| body.clone());
                if *before != body {
                    let text =
                        format!("one key for two requests, the second {} under {seq_id}", request.route());
                    self.complaints.push(text);
                }
            }
        }
        if self.random.f64() >= self.refusals {
            return None;
        }
        // An id whose fillers are all refused is passed over. That is meant for servers that refuse it for what it is,
        // and so know of the id, which the service here does not.
        if *entry == Entry::Filler && !self.unfilled.insert(seq_id) {
            return None;
        }
        Some([400, 403, 413, 422, 501][self.random.usize(..5)])
    }

    fn take_in(&mut self, seq_id: u64, entry: Entry) {
        match self.entries.iter().find(|(taken, _)| *taken == seq_id) {
            None => self.entries.push((seq_id, entry)),
            Some((_, before)) if *before == entry => {}
            // Servers take an unnamed save with another number for its repetition (PROTOCOL 10.4). That may be the next
            // save, where the first was given up in doubt and what was to settle its id was refused.
            Some((_, Entry::Published(_))) if matches!(entry, Entry::Published(_)) => {}
            Some((_, before)) => {
                self.complaints.push(format!("{seq_id} was taken in twice, as {before:?} and as {entry:?}"));
            }
        }
    }
}

/// The sequence id of a training request, and what it is.
fn read(request: &Received) -> Option<(u64, Entry)> {
    if request.is_protobuf() {
        let pass = proto::ForwardBackwardRequest::decode(request.decoded_body().ok()?).ok()?;
        let data = pass.data.iter().map(|datum| {
            let Some(proto::chunk::Chunk::EncodedText(text)) = &datum.model_input.first()?.chunk else {
                return None;
            };
            let (cells, _) = text.tokens.as_chunks::<4>();
            Some(cells.iter().map(|cell| i64::from(i32::from_le_bytes(*cell))).collect::<Vec<_>>())
        });
        return Some((pass.seq_id.try_into().ok()?, entry(data.collect::<Option<_>>()?, pass.forward_only)));
    }
    let seq_id = request.seq_id()?;
    let field = |name: &str| request.field(name).filter(|value| !value.is_null());
    let of_json = |input: &Value, forward_only| {
        let data = input["data"].as_array()?.iter().map(|datum| {
            let tokens = datum["model_input"]["chunks"][0]["tokens"].as_array()?;
            tokens.iter().map(Value::as_i64).collect::<Option<Vec<_>>>()
        });
        Some((seq_id, entry(data.collect::<Option<_>>()?, forward_only)))
    };
    match request.route() {
        "forward" => of_json(field("forward_input")?, true),
        "forward_backward" => of_json(field("forward_backward_input")?, false),
        "optim_step" => Some((seq_id, Entry::Step(field("adam_params")?["learning_rate"].as_f64()?))),
        "save_weights" => Some((seq_id, Entry::Saved(request.text("path")?.to_owned()))),
        "save_weights_for_sampler" => match field("sampling_session_seq_id").and_then(Value::as_u64) {
            Some(number) => Some((seq_id, Entry::Published(number))),
            None => Some((seq_id, Entry::Saved(request.text("path")?.to_owned()))),
        },
        "load_weights" => Some((seq_id, Entry::Restored)),
        _ => None,
    }
}

fn entry(data: Vec<Vec<i64>>, forward_only: bool) -> Entry {
    let mark = |tokens: &[i64]| {
        Some((usize::try_from(*tokens.first()?).ok()?, usize::try_from(*tokens.get(1)?).ok()?))
    };
    match data.iter().map(|tokens| mark(tokens)).collect::<Option<Vec<_>>>() {
        Some(marks) if forward_only => Entry::Forward(marks),
        Some(marks) => Entry::Backward(marks),
        None => Entry::Filler,
    }
}

/// The marks of all entries that `of` selects.
pub(super) fn marks(entries: &[(u64, Entry)], of: fn(&Entry) -> Option<&Vec<Mark>>) -> Vec<Mark> {
    entries.iter().filter_map(|(_, entry)| of(entry)).flatten().copied().collect()
}

/// The gradients that were taken in.
pub(super) fn gradients(entries: &[(u64, Entry)]) -> Vec<Mark> {
    marks(entries, |entry| if let Entry::Backward(marks) = entry { Some(marks) } else { None })
}

/// The forward-only passes that were taken in.
pub(super) fn looks(entries: &[(u64, Entry)]) -> Vec<Mark> {
    marks(entries, |entry| if let Entry::Forward(marks) = entry { Some(marks) } else { None })
}

/// The call an entry belongs to, where that can be told.
pub(super) fn call_of(entry: &Entry) -> Option<usize> {
    match entry {
        Entry::Forward(marks) | Entry::Backward(marks) => marks.first().map(|(call, _)| *call),
        Entry::Step(rate) => Some((rate / super::plan::RATE).round() as usize),
        Entry::Saved(name) => name.strip_prefix("call-")?.parse().ok(),
        Entry::Filler | Entry::Published(_) | Entry::Restored => None,
    }
}

/// Whether no element comes twice.
pub(super) fn all_different<T: Ord>(items: impl IntoIterator<Item = T>) -> bool {
    let mut seen = BTreeSet::new();
    items.into_iter().all(|item| seen.insert(item))
}
