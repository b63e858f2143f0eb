//! The memory of all guests together, and the shares that plugins have of it.
//!
//! A plugin's instances together have at most `total_memory_bytes`. They also have at most as much
//! as they leave free of `plugins_memory_bytes`: a plugin that takes all it can get has a half, two
//! of them a third each. So there is always some left for a plugin that has none yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

/// The memory that all guests of a node may have.
#[derive(Debug)]
pub(crate) struct MemoryBudget {
    limit_bytes: usize,
    /// What all instances have. It is read without the lock, and written under it.
    used_bytes: AtomicUsize,
    changing: Mutex<()>,
}

/// The memory that the instances of a plugin have, in bytes. It is written under the lock of the
/// budget.
#[derive(Debug, Default)]
pub(super) struct MemoryUsage(AtomicUsize);

/// The limit because of which memory is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MemoryLimit {
    /// The limit of one instance, `memory_bytes`.
    Instance,
    /// The limit of a plugin's instances together, `total_memory_bytes`.
    Plugin,
    /// The limit of all plugins together, `plugins_memory_bytes`.
    Node,
}

/// The error for an instance that cannot be made, since the memory of the plugin or of the node is
/// used up. It may work when other events have ended.
#[derive(Debug, thiserror::Error)]
#[error("there is no memory left for another instance ({})", .0.name())]
pub(super) struct MemoryUsedUp(pub(super) MemoryLimit);

impl MemoryUsage {
    pub(super) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl MemoryBudget {
    /// A budget of so many bytes, of which nothing is used.
    pub(crate) fn new(limit_bytes: usize) -> Arc<MemoryBudget> {
        Arc::new(MemoryBudget {
            limit_bytes,
            used_bytes: AtomicUsize::new(0),
            changing: Mutex::default(),
        })
    }

    /// Takes so many bytes for an instance of a plugin, whose limit is `plugin_limit`.
    ///
    /// # Errors
    ///
    /// A limit does not permit it.
    pub(super) fn take(
        &self,
        usage: &MemoryUsage,
        bytes: usize,
        plugin_limit: usize,
    ) -> Result<(), MemoryLimit> {
        let _changing = self.changing.lock();
        let of_plugin = usage.get().saturating_add(bytes);
        let of_all = self.used().saturating_add(bytes);
        if of_plugin > plugin_limit {
            return Err(MemoryLimit::Plugin);
        }
        if of_plugin > self.limit_bytes.saturating_sub(of_all) {
            return Err(MemoryLimit::Node);
        }
        self.used_bytes.store(of_all, Ordering::Relaxed);
        usage.0.store(of_plugin, Ordering::Relaxed);
        Ok(())
    }

    /// Gives back what an instance had.
    pub(super) fn give_back(&self, usage: &MemoryUsage, bytes: usize) {
        let _changing = self.changing.lock();
        let of_all = self.used().saturating_sub(bytes);
        self.used_bytes.store(of_all, Ordering::Relaxed);
        let of_plugin = usage.get().saturating_sub(bytes);
        usage.0.store(of_plugin, Ordering::Relaxed);
    }

    /// Whether the plugin uses nearly all that it can have (seven eighths), so that it should not
    /// keep what it does not need now.
    pub(super) fn is_short(&self, usage: &MemoryUsage, plugin_limit: usize) -> bool {
        let used = usage.get();
        let free = self.limit_bytes.saturating_sub(self.used());
        // It could have half of what it has and of what is free.
        let most = (used.saturating_add(free) / 2).min(plugin_limit);
        used > most / 8 * 7
    }

    fn used(&self) -> usize {
        self.used_bytes.load(Ordering::Relaxed)
    }
}

impl MemoryUsage {
    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl MemoryLimit {
    /// The name of the limit, as the configuration has it.
    pub(super) fn name(self) -> &'static str {
        match self {
            MemoryLimit::Instance => "memory_bytes",
            MemoryLimit::Plugin => "total_memory_bytes",
            MemoryLimit::Node => "plugins_memory_bytes",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_has_as_much_as_it_leaves_free() {
        let budget = MemoryBudget::new(600);
        let all = [
            MemoryUsage::default(),
            MemoryUsage::default(),
            MemoryUsage::default(),
        ];
        let take_all = |usage: &MemoryUsage| {
            let mut taken = 0;
            while budget.take(usage, 10, usize::MAX) == Ok(()) {
                taken += 10;
            }
            taken
        };
        assert_eq!(take_all(&all[0]), 300, "half of it");
        assert_eq!(take_all(&all[1]), 150, "half of what is left");
        assert_eq!(take_all(&all[2]), 70);
        assert_eq!(budget.take(&all[0], 1, usize::MAX), Err(MemoryLimit::Node));
        budget.give_back(&all[0], 300);
        budget.give_back(&all[1], 150);
        assert_eq!(take_all(&all[2]), 230, "300 with the 70 that it had");
    }

    #[test]
    fn a_plugin_has_no_more_than_its_own_limit() {
        let budget = MemoryBudget::new(1_000);
        let usage = MemoryUsage::default();
        assert_eq!(budget.take(&usage, 100, 100), Ok(()));
        assert_eq!(budget.take(&usage, 1, 100), Err(MemoryLimit::Plugin));
        assert!(budget.is_short(&usage, 100));
        assert!(!budget.is_short(&usage, 200));
        budget.give_back(&usage, 1);
        assert_eq!(budget.take(&usage, 1, 100), Ok(()));
    }
}
