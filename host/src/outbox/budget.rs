//! The budget: the bytes that wait in all outboxes of a node together.
//!
//! An outbox takes its bytes from the budget in whole chunks, and keeps a chunk that it does not need
//! for the moment, until it is empty. So most messages do not touch the budget, which all threads
//! share.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// The bytes that an outbox takes at once.
pub(super) const CHUNK: usize = 16 << 10;

/// The bytes that wait in all outboxes of a node together.
#[derive(Debug)]
pub struct OutboxBudget {
    most: usize,
    used: AtomicUsize,
    exceeded: Notify,
}

impl OutboxBudget {
    /// Creates a budget of `most` bytes.
    pub fn new(most: usize) -> OutboxBudget {
        OutboxBudget {
            most,
            used: AtomicUsize::new(0),
            exceeded: Notify::new(),
        }
    }

    /// The bytes that may wait.
    pub fn most(&self) -> usize {
        self.most
    }

    /// The bytes that wait, in whole chunks of each outbox.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Waits until more bytes wait than may.
    pub async fn exceeded(&self) {
        self.exceeded.notified().await;
    }

    /// Changes what one outbox has taken. Returns what it has taken then.
    pub(super) fn settle(&self, taken: usize, bytes: usize) -> usize {
        let needed = bytes / CHUNK * CHUNK;
        if needed > taken {
            let more = needed - taken;
            if self.used.fetch_add(more, Ordering::Relaxed) + more > self.most {
                self.exceeded.notify_one();
            }
            needed
        } else if taken > needed && (bytes == 0 || taken - needed > CHUNK) {
            self.used.fetch_sub(taken - needed, Ordering::Relaxed);
            needed
        } else {
            taken
        }
    }

    /// Takes back what an outbox has taken.
    pub(super) fn give_back(&self, taken: usize) {
        self.used.fetch_sub(taken, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outbox_takes_and_gives_back_in_chunks() {
        let budget = OutboxBudget::new(10 * CHUNK);
        assert_eq!(budget.settle(0, CHUNK - 1), 0);
        assert_eq!(budget.settle(0, 3 * CHUNK + 5), 3 * CHUNK);
        assert_eq!(budget.used(), 3 * CHUNK);
        // Around the edge of a chunk, nothing changes.
        assert_eq!(budget.settle(3 * CHUNK, 3 * CHUNK - 1), 3 * CHUNK);
        assert_eq!(budget.settle(3 * CHUNK, CHUNK), CHUNK);
        assert_eq!(budget.used(), CHUNK);
        // An empty outbox keeps nothing.
        assert_eq!(budget.settle(CHUNK, 0), 0);
        assert_eq!(budget.used(), 0);
        assert_eq!(budget.settle(0, CHUNK), CHUNK);
        budget.give_back(CHUNK);
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn who_waits_hears_that_it_is_exceeded() {
        let budget = OutboxBudget::new(CHUNK);
        let taken = budget.settle(0, CHUNK);
        let mut exceeded = std::pin::pin!(budget.exceeded());
        assert!(futures_util::poll!(exceeded.as_mut()).is_pending());
        budget.settle(taken, 2 * CHUNK);
        exceeded.await;
    }
}
