//! What the limit of open files allows: each connection is an open file.

use crate::CallClass;

/// Idle connections kept for each class of calls: at least, at most.
const IDLE: (u64, u64) = (64, 512);

/// The limit of the process (`ulimit -n`); none where the system has no such limit.
pub(super) fn limit() -> Option<u64> {
    #[cfg(unix)]
    return rlimit::Resource::NOFILE.get_soft().ok();
    #[cfg(not(unix))]
    return None;
}

/// How many idle connections are kept for each class of calls. As many as samples are sent at a time
/// (PROTOCOL 15.4), where they may: with fewer kept than a burst needs, each burst makes most of its connections anew,
/// which costs more than its requests.
pub(super) fn idle_per_class(limit: Option<u64>) -> usize {
    let (least, most) = IDLE;
    let idle = limit.map_or(most, |files| (files / 32).clamp(least, most));
    usize::try_from(idle).unwrap_or(usize::MAX)
}

/// Calls at once that leave room for idle connections, heartbeats and the rest of the program; at least half of the
/// limit. None where it is as good as unlimited.
pub(super) fn room_for_calls(limit: u64) -> Option<usize> {
    let reserved = idle_per_class(Some(limit)).saturating_mul(CallClass::ALL.len()) as u64;
    let room = limit.saturating_sub(reserved).max(limit / 2).max(1);
    usize::try_from(room).ok().filter(|room| *room < usize::MAX >> 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_leave_room_for_other_files() {
        for (limit, idle, room) in [
            (1, 64, Some(1)),
            (256, 64, Some(128)),
            (1024, 64, Some(768)),
            (4096, 128, Some(3584)),
            (65_536, 512, Some(63_488)),
            (u64::MAX, 512, None),
        ] {
            assert_eq!(idle_per_class(Some(limit)), idle, "{limit}");
            assert_eq!(room_for_calls(limit), room, "{limit}");
        }
        assert_eq!(idle_per_class(None), 512);
    }
}
