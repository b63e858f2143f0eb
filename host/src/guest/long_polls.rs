//! Whether a poll of an event was long. It is measured with the cheapest clock that will do.
//!
//! A clock on the wall also goes on while the system runs another thread on the same processor, as
//! it does beside a busy neighbour. So a poll that seems long is a reason to look at the time of the
//! thread itself for a while, which is exact and costs twenty times as much to read (600 ns). Polls
//! are measured in a part of the ticks only: a plugin that has long ones has them in those, too.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A poll is long that takes so much time. Tokio looks at its sockets after 61 polls, at the latest.
const LONG: Duration = Duration::from_micros(125);

/// Polls are measured in one tick of so many.
const MEASURED: u64 = 16;

/// For how many ticks after a poll that seems long the time of the thread is measured.
const DOUBT: u64 = 16 * MEASURED;

/// What is known of the polls of one plugin's events.
#[derive(Debug, Default)]
pub(super) struct LongPolls {
    /// The tick until which polls are measured by the time of their thread.
    doubt_until: AtomicU64,
}

/// The beginning of a poll.
#[derive(Clone, Copy, Debug)]
pub(super) enum PollStart {
    Wall(Instant),
    Thread(Duration),
}

impl LongPolls {
    /// Begins a poll in the tick `now`, if it is to be measured.
    pub(super) fn start(&self, now: u64) -> Option<PollStart> {
        if !now.is_multiple_of(MEASURED) {
            return None;
        }
        Some(match now < self.doubt_until.load(Ordering::Relaxed) {
            true => PollStart::Thread(thread_time()),
            false => PollStart::Wall(Instant::now()),
        })
    }

    /// Returns whether a poll that ends in the tick `now` was long. A poll that only seems so is a
    /// reason to measure the next ones better.
    pub(super) fn was_long(&self, started: PollStart, now: u64) -> bool {
        match started {
            PollStart::Thread(started) => thread_time().saturating_sub(started) >= LONG,
            PollStart::Wall(started) => {
                if started.elapsed() >= LONG {
                    self.doubt_until.store(now + DOUBT, Ordering::Relaxed);
                }
                false
            }
        }
    }
}

/// For how long this thread has run on processors.
fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait_on_the_wall() {
        let (_sender, receiver) = std::sync::mpsc::sync_channel::<()>(0);
        let _ = receiver.recv_timeout(10 * LONG);
    }

    fn run() {
        let started = thread_time();
        while thread_time() - started < 2 * LONG {}
    }

    #[test]
    fn a_poll_is_long_that_runs_for_long_and_not_one_that_the_system_interrupts() {
        let polls = LongPolls::default();
        let was_long = |tick, poll: fn()| {
            let now = tick * MEASURED;
            let started = polls.start(now).expect("a measured tick");
            poll();
            polls.was_long(started, now)
        };
        assert!(!was_long(1, run), "the first one is only a reason to doubt");
        assert!(!was_long(2, wait_on_the_wall));
        assert!(was_long(3, run));
        // The doubt has an end.
        let later = 1 + DOUBT / MEASURED;
        assert!(!was_long(later, wait_on_the_wall));
        assert!(was_long(later + 1, run));
        assert!(polls.start(later * MEASURED + 1).is_none());
    }
}
