//! The rates of a plugin, for whose sake its clients wait and none is closed.
//!
//! Messages that come too fast wait in a queue, the oldest first. Only the first one has a timer, so
//! a client that waits costs no processor. A client has one message in the queue at most, since it
//! is not read meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::rates::{RateLimits, Rates};

/// The longest time until the first message of the queue looks whether the limits have changed.
const LOOK: Duration = Duration::from_secs(1);

/// Rates, and the messages that wait for them.
#[derive(Debug)]
pub(crate) struct RateQueue {
    rates: Rates,
    /// The place of the first message. The semaphore is fair: the oldest of those that wait gets it.
    first: Semaphore,
    waiting: AtomicUsize,
}

impl RateQueue {
    /// Creates rates of which nothing is used up.
    pub(crate) fn new(limits: RateLimits) -> RateQueue {
        RateQueue {
            rates: Rates::new(limits, Instant::now().into_std()),
            first: Semaphore::new(1),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Changes the limits, also for those that wait.
    pub(crate) fn set(&self, limits: RateLimits) {
        self.rates.set(limits);
    }

    /// Whether no message can come too fast.
    pub(crate) fn is_off(&self) -> bool {
        self.rates.let_all_messages()
    }

    /// Counts a message of so many bytes. Returns false if it must wait.
    pub(crate) fn take(&self, bytes: usize) -> bool {
        // Who comes now does not go before those that wait.
        let is_free = self.waiting.load(Ordering::Relaxed) == 0;
        let now = || Instant::now().into_std();
        is_free && self.rates.take_message(bytes, now()).is_ok()
    }

    /// Waits until a message of so many bytes may come, and counts it. Whoever drops the future
    /// leaves the queue. Whoever keeps it must poll it, since others wait for it.
    pub(crate) async fn wait(self: Arc<Self>, bytes: usize) {
        let _place = QueuePlace::take(&self.waiting);
        // It is never closed.
        let _first = self.first.acquire().await;
        while let Err(too_fast) = self.rates.take_message(bytes, Instant::now().into_std()) {
            tokio::time::sleep(too_fast.wait.min(LOOK)).await;
        }
    }
}

/// The place of a message in the queue, until it is dropped.
struct QueuePlace<'a>(&'a AtomicUsize);

impl QueuePlace<'_> {
    fn take(waiting: &AtomicUsize) -> QueuePlace<'_> {
        waiting.fetch_add(1, Ordering::Relaxed);
        QueuePlace(waiting)
    }
}

impl Drop for QueuePlace<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(messages: u32) -> RateLimits {
        RateLimits {
            messages,
            ..RateLimits::default()
        }
    }

    /// Lets one message after another wait, and returns when each came through.
    fn enter(queue: &Arc<RateQueue>, count: usize) -> Vec<tokio::task::JoinHandle<Duration>> {
        let start = Instant::now();
        let wait = |_| {
            let waiting = queue.clone().wait(0);
            tokio::spawn(async move {
                waiting.await;
                start.elapsed()
            })
        };
        (0..count).map(wait).collect()
    }

    async fn times(waiting: Vec<tokio::task::JoinHandle<Duration>>) -> Vec<u128> {
        let mut times = Vec::new();
        for waiting in waiting {
            times.push(waiting.await.expect("it waits").as_millis() / 10 * 10);
        }
        times
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_wait_come_in_their_order_and_at_the_rate() {
        let queue = Arc::new(RateQueue::new(limits(2)));
        assert!(queue.take(0) && queue.take(0) && !queue.take(0));
        let waiting = enter(&queue, 4);
        assert_eq!(times(waiting).await, [500, 1_000, 1_500, 2_000]);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(queue.take(0), "nobody waits any more");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_goes_before_those_that_wait_and_who_leaves_is_not_waited_for() {
        let queue = Arc::new(RateQueue::new(limits(1)));
        assert!(queue.take(0));
        let mut waiting = enter(&queue, 3);
        tokio::time::sleep(Duration::from_millis(999)).await;
        assert!(!queue.take(0));
        let first = waiting.remove(0);
        first.abort();
        assert_eq!(times(waiting).await, [1_000, 2_000]);
    }

    #[tokio::test(start_paused = true)]
    async fn other_limits_hold_for_those_that_wait() {
        let queue = Arc::new(RateQueue::new(RateLimits {
            bytes: 1,
            ..RateLimits::default()
        }));
        assert!(queue.take(1_000_000), "a bucket gives more than it has");
        let waiting = enter(&queue, 100);
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        queue.set(RateLimits::default());
        assert!(queue.is_off());
        assert_eq!(times(waiting).await, [2_000; 100]);
    }
}
