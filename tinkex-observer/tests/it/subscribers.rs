//! Transitions as streams: order, ends, losses that are counted, and nothing that the publisher pays for.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_core::Stream;
use futures_util::StreamExt as _;
use tinkex_observer::{
    ClientKind, ObserverSet, QUEUE_STATES_CAPACITY, QueueLog, QueueState, QueueStateChange,
    QueueStateObserver as _, QueueStates, Subscribers,
};

/// A transition whose reason tells it from others.
fn numbered(number: usize) -> QueueStateChange {
    QueueStateChange::new(QueueState::PausedCapacity, ClientKind::Sampling, "s")
        .with_reason(Some(&number.to_string()))
}

fn reasons(changes: &[QueueStateChange]) -> Vec<usize> {
    changes.iter().map(|change| change.reason.as_deref().unwrap().parse().unwrap()).collect()
}

fn publish(subscribers: &Subscribers, numbers: impl IntoIterator<Item = usize>) {
    for number in numbers {
        drop(subscribers.publish(&numbered(number)));
    }
}

/// Counts how often it is woken.
#[derive(Default)]
struct Alarm(AtomicUsize);

impl Alarm {
    fn rung(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn poll(states: &mut QueueStates, alarm: &Arc<Alarm>) -> Poll<Option<QueueStateChange>> {
    Pin::new(states).poll_next(&mut Context::from_waker(&Waker::from(Arc::clone(alarm))))
}

/// Every reader gets everything from its beginning on, in order, and then the end, for good.
#[tokio::test]
async fn every_reader_gets_everything_in_order() {
    let subscribers = Subscribers::default();
    publish(&subscribers, [0]);
    let first = subscribers.subscribe(None);
    publish(&subscribers, 1..10);
    let second = subscribers.subscribe(Some(numbered(9)));
    publish(&subscribers, 10..20);
    drop(subscribers);
    let mut first_too = first.collect::<Vec<_>>().await;
    assert_eq!(reasons(&first_too), (1..20).collect::<Vec<_>>());
    first_too.drain(..8);
    let mut second = second;
    let mut read = Vec::new();
    while let Some(change) = second.next().await {
        read.push(change);
    }
    assert_eq!(read, first_too, "from the beginning that it was given");
    assert_eq!(second.next().await, None);
    assert_eq!(second.missed(), 0);
}

/// 64 wait; of more the oldest are lost, and the count of losses is exact at every moment.
#[tokio::test]
async fn losses_are_counted_exactly() {
    let subscribers = Subscribers::default();
    let mut states = subscribers.subscribe(None);
    publish(&subscribers, 0..QUEUE_STATES_CAPACITY);
    assert_eq!((QUEUE_STATES_CAPACITY, states.missed()), (64, 0), "it is full, and nothing is lost");
    publish(&subscribers, 64..70);
    assert_eq!(states.missed(), 6);
    assert_eq!(states.size_hint(), (64, None));
    assert_eq!(reasons(&[states.next().await.unwrap(), states.next().await.unwrap()]), [6, 7]);
    publish(&subscribers, 70..72);
    assert_eq!(states.missed(), 6, "there was room for two");
    publish(&subscribers, [72]);
    assert_eq!(states.missed(), 7);
    subscribers.end();
    assert_eq!(states.size_hint(), (64, Some(64)));
    let rest: Vec<_> = states.by_ref().collect().await;
    assert_eq!(reasons(&rest), (9..73).collect::<Vec<_>>());
    assert_eq!(states.missed(), 7);
}

/// Ten thousand transitions against one that never reads and one that does: the reader misses nothing, the other one
/// holds 64 and knows what it lost.
#[tokio::test]
async fn one_that_never_reads_hurts_nobody() {
    let set = ObserverSet::new(QueueLog::Off);
    let mut lazy = set.queue_states();
    let mut eager = set.queue_states();
    let mut read = Vec::new();
    for number in 0..10_000 {
        set.on_observation(&numbered(number));
        read.push(eager.next().await.unwrap());
    }
    assert_eq!(reasons(&read), (0..10_000).collect::<Vec<_>>());
    assert_eq!((eager.missed(), lazy.missed()), (0, 10_000 - 64));
    drop(set);
    let mut rest = Vec::new();
    while let Some(change) = lazy.next().await {
        rest.push(change);
    }
    assert_eq!(reasons(&rest), (10_000 - 64..10_000).collect::<Vec<_>>());
}

/// A reader that waits is woken by a transition and by the end, once each, and not before the publisher says so.
#[test]
fn waiting_readers_are_woken() {
    let (subscribers, alarm) = (Subscribers::default(), Arc::new(Alarm::default()));
    let mut states = subscribers.subscribe(None);
    assert!(poll(&mut states, &alarm).is_pending() && poll(&mut states, &alarm).is_pending());
    let wakeups = subscribers.publish(&numbered(0));
    assert_eq!(alarm.rung(), 0, "the publisher may hold a lock");
    drop(wakeups);
    assert_eq!(alarm.rung(), 1);
    publish(&subscribers, [1]);
    assert_eq!(alarm.rung(), 1, "nobody waits");
    assert_eq!(poll(&mut states, &alarm), Poll::Ready(Some(numbered(0))));
    assert_eq!(poll(&mut states, &alarm), Poll::Ready(Some(numbered(1))));
    assert!(poll(&mut states, &alarm).is_pending());
    drop(subscribers);
    assert_eq!(alarm.rung(), 2);
    assert_eq!(poll(&mut states, &alarm), Poll::Ready(None));
    assert_eq!(poll(&mut QueueStates::ended(), &alarm), Poll::Ready(None));
}

/// `next()` may be dropped while it waits: nothing is lost.
#[tokio::test]
async fn a_wait_may_be_given_up() {
    let subscribers = Subscribers::default();
    let mut states = subscribers.subscribe(None);
    for number in 0..3 {
        tokio::select! {
            biased;
            _ = states.next() => panic!("there is nothing yet"),
            () = std::future::ready(()) => {}
        }
        publish(&subscribers, [number]);
        assert_eq!(reasons(&[states.next().await.unwrap()]), [number]);
    }
}

/// After the end a stream has its beginning, and nothing else.
#[tokio::test]
async fn a_late_reader_gets_the_beginning_alone() {
    let subscribers = Subscribers::default();
    subscribers.end();
    publish(&subscribers, [1]);
    let late: Vec<_> = subscribers.subscribe(Some(numbered(0))).collect().await;
    assert_eq!(reasons(&late), [0]);
    assert_eq!(subscribers.subscribe(None).collect::<Vec<_>>().await, []);
}

/// Nobody pays where nobody reads: neither before the first reader, nor when the last one is gone. Readers that come
/// and go leave nothing behind.
#[test]
fn nobody_reading_costs_nothing() {
    let set = ObserverSet::new(QueueLog::Off).for_another_client();
    let change = numbered(0);
    // The first transition makes its counter.
    set.on_observation(&change);
    let publish = || set.on_observation(&change);
    let unread = allocation_counter::measure(publish);
    let states = set.queue_states();
    let read = allocation_counter::measure(publish);
    drop(states);
    // This one finds that the reader is gone.
    publish();
    let unread_again = allocation_counter::measure(publish);
    assert!(read.count_total > unread.count_total, "{read:?}, {unread:?}");
    assert_eq!(unread_again.count_total, unread.count_total);

    let come_and_go = || (0..1_000).for_each(|_| drop(set.queue_states()));
    come_and_go();
    let left = allocation_counter::measure(come_and_go);
    assert!(
        (0..1_024).contains(&left.bytes_current),
        "{} bytes are left of 1,000 readers",
        left.bytes_current
    );
}

/// Who is gone is forgotten with the next transition, and from then on publishing is as cheap as ever.
#[test]
fn the_gone_are_forgotten() {
    let subscribers = Subscribers::default();
    let count =
        |count| assert_eq!(format!("{subscribers:?}"), format!("Subscribers {{ count: {count}, .. }}"));
    count(0);
    let (gone, stays) = (subscribers.subscribe(None), subscribers.subscribe(None));
    count(2);
    drop(gone);
    publish(&subscribers, [0]);
    count(1);
    drop(stays);
    publish(&subscribers, [1]);
    count(0);
}

/// The streams of a set, and of all sets of a family, whichever was made first. Repeated observations are no transitions,
/// and none of them ends before the last set that feeds it.
#[tokio::test]
async fn a_family_has_one_stream_and_each_set_its_own() {
    let root = ObserverSet::new(QueueLog::Off);
    let before = root.for_another_client();
    let mut all = root.queue_states_of_all();
    let after = before.for_another_client();
    drop(root);
    let (mut of_before, of_after) = (before.queue_states(), after.queue_states());
    for number in 0..2 {
        before.on_observation(&numbered(number));
        before.on_observation(&numbered(number).with_previous(Some(QueueState::PausedCapacity), false));
        after.on_change(&numbered(10 + number));
    }
    drop(before);
    assert_eq!(reasons(&of_before.by_ref().collect::<Vec<_>>().await), [0, 1]);
    after.on_observation(&numbered(12));
    let alarm = Arc::new(Alarm::default());
    for expected in [0, 10, 1, 11, 12] {
        assert_eq!(poll(&mut all, &alarm), Poll::Ready(Some(numbered(expected))));
    }
    assert!(poll(&mut all, &alarm).is_pending(), "one of them is still there");
    drop(after);
    assert_eq!((alarm.rung(), poll(&mut all, &alarm)), (1, Poll::Ready(None)));
    assert_eq!(reasons(&of_after.collect::<Vec<_>>().await), [10, 11, 12]);
}

/// Two threads publish while others read: everybody reads the same order, and nothing twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_readers_see_one_order() {
    let subscribers = Arc::new(Subscribers::default());
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let mut states = subscribers.subscribe(None);
            tokio::spawn(async move {
                let mut read = Vec::new();
                while let Some(change) = states.next().await {
                    read.push(change);
                }
                (read, states.missed())
            })
        })
        .collect();
    let publishers = [0, 30].map(|first| {
        let subscribers = Arc::clone(&subscribers);
        tokio::spawn(async move { publish(&subscribers, first..first + 30) })
    });
    for publisher in publishers {
        publisher.await.unwrap();
    }
    drop(subscribers);
    let mut orders = Vec::new();
    for reader in readers {
        let (read, missed) = reader.await.unwrap();
        assert_eq!(missed, 0, "60 have room");
        orders.push(reasons(&read));
    }
    assert_eq!((&orders[0], &orders[0]), (&orders[1], &orders[2]));
    for half in [0..30, 30..60] {
        let of_one: Vec<_> = orders[0].iter().copied().filter(|number| half.contains(number)).collect();
        assert_eq!(of_one, half.collect::<Vec<_>>());
    }
}

/// A stream may be read anywhere.
#[test]
fn streams_go_anywhere() {
    fn anywhere<T: Stream<Item = QueueStateChange> + Send + Sync + Unpin + 'static>(_: &T) {}
    let states = QueueStates::ended();
    anywhere(&states);
    assert_eq!(format!("{states:?}"), "QueueStates { waiting: 0, missed: 0, over: true }");
}
