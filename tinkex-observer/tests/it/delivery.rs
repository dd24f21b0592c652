//! User observers that misbehave: they panic, block, fall behind, or outlive their set (S2-20, QS-6, F-09).

use std::collections::BTreeMap;
use std::panic::panic_any;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use metrics_util::debugging::DebuggingRecorder;
use tinkex_observer::{ObserverSet, QueueState, QueueStateObserver};

use crate::capture::{CAPACITY_LINE, Log, sampling};
use crate::metrics::counters;

/// Far longer than any delivery takes; reached only where a test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// An observer that tells when it is called, and returns when the test lets it.
struct Blocked {
    called: Sender<QueueState>,
    gate: Mutex<Receiver<()>>,
    /// Closes when the observer is dropped.
    _alive: Sender<()>,
}

impl QueueStateObserver for Blocked {
    fn on_queue_state_change(&self, state: QueueState) {
        let _ = self.called.send(state);
        // An open gate is one whose other end is gone.
        let _ = self.gate.lock().unwrap().recv();
    }
}

/// What the test holds of a blocked observer.
struct Held {
    calls: Receiver<QueueState>,
    gate: Sender<()>,
    alive: Receiver<()>,
}

impl Blocked {
    fn new() -> (Arc<Self>, Held) {
        let ((called, calls), (gate, gate_end), (alive_end, alive)) = (channel(), channel(), channel());
        let observer = Arc::new(Self { called, gate: Mutex::new(gate_end), _alive: alive_end });
        (observer, Held { calls, gate, alive })
    }
}

impl Held {
    fn next_call(&self) -> QueueState {
        self.calls.recv_timeout(PATIENCE).expect("the observer is called")
    }

    fn open(&mut self) {
        // The old sender goes, and with it the gate.
        self.gate = channel().0;
    }

    /// Waits until nobody holds the observer.
    fn wait_for_drop(&self) {
        let ended = self.alive.recv_timeout(PATIENCE);
        assert_eq!(ended, Err(std::sync::mpsc::RecvTimeoutError::Disconnected), "the observer is dropped");
    }
}

/// A panic payload whose drop panics too.
struct Grenade;

impl Drop for Grenade {
    fn drop(&mut self) {
        panic!("even dropping this panics");
    }
}

/// QS-6: panics are caught whatever their payload; one warning per observer; later transitions still reach it, and
/// its neighbour misses none.
#[test]
fn a_panicking_observer_is_warned_about_once() {
    let (log, _guard) = Log::start();
    let (calls, good) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted, counted_good) = (calls.clone(), good.clone());
    let set = ObserverSet::default()
        .with_observer(Arc::new(move |_: QueueState| match counted.fetch_add(1, Ordering::SeqCst) {
            0 => panic!("text"),
            1 => panic_any(Grenade),
            _ => panic_any(7),
        }))
        .with_observer(Arc::new(move |_: QueueState| {
            counted_good.fetch_add(1, Ordering::SeqCst);
        }));
    let other = set.for_another_client();
    for _ in 0..3 {
        set.on_observation(&sampling(QueueState::PausedCapacity));
        other.on_observation(&sampling(QueueState::Active));
    }
    assert!(set.flush(PATIENCE));
    assert_eq!(calls.load(Ordering::SeqCst), 6);
    assert_eq!(good.load(Ordering::SeqCst), 6);
    assert_eq!(
        log.complaints(),
        ["a queue-state observer panicked; it is still called, and this is said once"]
    );
    assert_eq!(log.pauses(), [CAPACITY_LINE]);
}

/// Each observer that panics gets its own warning.
#[test]
fn two_panicking_observers_are_two_warnings() {
    let (log, _guard) = Log::start();
    let panicking = || Arc::new(|_: QueueState| panic!("no"));
    let set = ObserverSet::default().with_observer(panicking()).with_observer(panicking());
    for _ in 0..3 {
        set.on_observation(&sampling(QueueState::Active));
    }
    assert!(set.flush(PATIENCE));
    assert_eq!(log.complaints().len(), 2);
}

/// QS-6: an observer that blocks holds up neither the poll, nor the built-in line, nor another observer; what it
/// could not take is counted, and warned about once; what was queued reaches it in order.
#[test]
fn a_blocked_observer_loses_only_what_does_not_fit() {
    let (log, _guard) = Log::start();
    let recorder = DebuggingRecorder::new();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let (blocked, mut held) = Blocked::new();
    let others = Arc::new(AtomicUsize::new(0));
    let counted = others.clone();
    let set = ObserverSet::default().with_bounded_observer(blocked, 2).with_observer(Arc::new(
        move |_: QueueState| {
            counted.fetch_add(1, Ordering::SeqCst);
        },
    ));

    set.on_observation(&sampling(QueueState::PausedCapacity));
    assert_eq!(held.next_call(), QueueState::PausedCapacity);
    // It is in the first call now. Two wait, three are lost.
    let state = |n: u8| QueueState::Unknown(format!("state {n}").into());
    for n in 1..=5 {
        set.on_observation(&sampling(state(n)));
    }
    assert!(!set.flush(Duration::ZERO), "it has not taken them");
    assert_eq!(log.pauses(), [CAPACITY_LINE]);
    let dropped = counters(&recorder.snapshotter());
    assert_eq!(dropped["tinkex_observer_dropped_total{client=sampling}"], 3);
    assert_eq!(
        log.complaints(),
        ["a queue-state observer misses transitions: it is slow and its queue is full; this is said once"]
    );

    held.open();
    assert!(set.flush(PATIENCE));
    assert_eq!(others.load(Ordering::SeqCst), 6, "its neighbour got all");
    assert_eq!(held.calls.try_iter().collect::<Vec<_>>(), [state(1), state(2)]);
    set.on_observation(&sampling(state(9)));
    assert_eq!(held.next_call(), state(9), "it is served again");
}

/// QS-6: dropping the set does not wait for a blocked observer; what is queued is delivered, and then the thread
/// lets the observer go.
#[test]
fn dropping_the_set_does_not_wait() {
    let (blocked, mut held) = Blocked::new();
    let set = ObserverSet::default().with_observer(blocked);
    set.on_observation(&sampling(QueueState::PausedCapacity));
    set.on_observation(&sampling(QueueState::Active));
    held.next_call();
    drop(set);
    // Still inside its call: only the gate can end it.
    held.open();
    assert_eq!(held.next_call(), QueueState::Active);
    held.wait_for_drop();
}

/// The thread ends with the last set that shares the observer, not before.
#[test]
fn a_shared_observer_lives_as_long_as_its_last_set() {
    let (blocked, mut held) = Blocked::new();
    held.open();
    let set = ObserverSet::default().with_observer(blocked);
    let other = set.for_another_client();
    set.on_observation(&sampling(QueueState::PausedCapacity));
    held.next_call();
    drop(set);
    other.on_observation(&sampling(QueueState::Active));
    assert_eq!(held.next_call(), QueueState::Active);
    drop(other);
    held.wait_for_drop();
}

/// QS-6: an observer whose receiver is gone, or whose caller let go of it, changes nothing for the poll.
#[test]
fn a_dropped_receiver_is_harmless() {
    let (log, _guard) = Log::start();
    let (sender, receiver) = channel();
    let set =
        ObserverSet::default().with_observer(Arc::new(move |state: QueueState| sender.send(state).unwrap()));
    drop(receiver);
    set.on_observation(&sampling(QueueState::PausedCapacity));
    set.on_observation(&sampling(QueueState::Active));
    assert!(set.flush(PATIENCE));
    assert_eq!(log.pauses(), [CAPACITY_LINE]);
    assert_eq!(log.complaints().len(), 1);
}

/// No transition, no thread: the call happens off the caller's thread, on a named one, and the first transition is
/// what starts it.
#[test]
fn the_thread_is_started_by_the_first_transition() {
    let threads = Arc::new(Mutex::new(Vec::new()));
    let sink = threads.clone();
    let set = ObserverSet::default().with_observer(Arc::new(move |_: QueueState| {
        let thread = std::thread::current();
        sink.lock().unwrap().push((thread.id(), thread.name().map(str::to_owned)));
    }));
    assert!(set.flush(Duration::ZERO), "nothing was queued");
    set.on_observation(
        &sampling(QueueState::PausedCapacity).with_previous(Some(QueueState::PausedCapacity), false),
    );
    assert!(set.flush(Duration::ZERO), "a repeat is not queued");
    set.on_observation(&sampling(QueueState::PausedCapacity));
    set.on_observation(&sampling(QueueState::Active));
    assert!(set.flush(PATIENCE));
    let threads = threads.lock().unwrap();
    assert_eq!(threads.len(), 2);
    assert_eq!(threads[0], threads[1], "one thread for all");
    assert_ne!(threads[0].0, std::thread::current().id());
    assert_eq!(threads[0].1.as_deref(), Some("tinkex-observer"));
}

/// Many threads at once: every transition is delivered exactly once, and those of one thread stay in order.
#[test]
fn concurrent_transitions_keep_their_order() {
    const THREADS: usize = 8;
    const EACH: usize = 50;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = seen.clone();
    let set = ObserverSet::default().with_observer(Arc::new(move |state: QueueState| {
        sink.lock().unwrap().push(state.as_str().to_owned());
    }));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let set = &set;
            scope.spawn(move || {
                for n in 0..EACH {
                    set.on_observation(&sampling(QueueState::Unknown(format!("{thread}:{n}").into())));
                }
            });
        }
    });
    assert!(set.flush(PATIENCE));
    let mut per_thread: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for text in seen.lock().unwrap().iter() {
        let (thread, n) = text.split_once(':').unwrap();
        per_thread.entry(thread.parse().unwrap()).or_default().push(n.parse().unwrap());
    }
    assert_eq!(per_thread.len(), THREADS);
    assert!(per_thread.values().all(|ns| ns.iter().copied().eq(0..EACH)), "{per_thread:?}");
}

/// A capacity of zero is one, and an absurd one does not reach the allocator.
#[test]
fn any_capacity_works() {
    for capacity in [0, 1, usize::MAX] {
        let (blocked, mut held) = Blocked::new();
        held.open();
        let set = ObserverSet::default().with_bounded_observer(blocked, capacity);
        for _ in 0..3 {
            set.on_observation(&sampling(QueueState::Active));
            assert!(set.flush(PATIENCE));
        }
        assert_eq!(held.calls.try_iter().count(), 3, "capacity {capacity}");
    }
}
