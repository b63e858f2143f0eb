//! The holdings of a peer: how much of what it has told this node keeps, and how much it may be.
//!
//! A peer is trusted, but a mistake of its program must not take the memory of all others. What it
//! tells beyond the bounds is left out, and the peer counts as one that has not told everything:
//! answers list it as `missing`. Everything that is kept goes when the peer withdraws it, and when
//! the peer is gone.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// What a name counts in addition to its bytes. A name takes about as much in memory.
const NAME_COST: usize = 128;

/// The most plugins that a peer may name.
const PLUGINS: usize = 1000;

/// How much of what a peer has told this node keeps.
#[derive(Debug, Default)]
pub(super) struct PeerHoldings {
    // Changed only while the peer's frames are received, which one connection does at a time.
    plugins: AtomicUsize,
    bytes: AtomicUsize,
    is_incomplete: AtomicBool,
}

/// A part of what a peer holds: the number of plugins, and what the names count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct HoldingSize {
    pub(super) plugins: usize,
    pub(super) bytes: usize,
}

impl PeerHoldings {
    /// Whether something was left out since the last snapshot began.
    pub(super) fn is_incomplete(&self) -> bool {
        self.is_incomplete.load(Ordering::Relaxed)
    }

    /// Records that a snapshot begins.
    pub(super) fn begin_snapshot(&self) {
        self.is_incomplete.store(false, Ordering::Relaxed);
    }

    /// Records that something was left out. Returns whether it is the first time since the last
    /// snapshot began.
    pub(super) fn leave_out(&self) -> bool {
        !self.is_incomplete.swap(true, Ordering::Relaxed)
    }

    /// Whether there is room for this much more, where names may count `most` together. There is
    /// always room for nothing: what is withdrawn has to be taken, also above a bound that is lower
    /// now.
    pub(super) fn has_room(&self, more: HoldingSize, most: usize) -> bool {
        let fits = |held: &AtomicUsize, more: usize, most: usize| {
            more == 0 || held.load(Ordering::Relaxed) + more <= most
        };
        fits(&self.plugins, more.plugins, PLUGINS) && fits(&self.bytes, more.bytes, most)
    }

    /// Adds what the peer holds in addition.
    pub(super) fn add(&self, more: HoldingSize) {
        self.plugins.fetch_add(more.plugins, Ordering::Relaxed);
        self.bytes.fetch_add(more.bytes, Ordering::Relaxed);
    }

    /// Takes away what the peer does not hold any more.
    pub(super) fn remove(&self, less: HoldingSize) {
        let take = |from: &AtomicUsize, less: usize| {
            let left = from.load(Ordering::Relaxed).saturating_sub(less);
            from.store(left, Ordering::Relaxed);
        };
        take(&self.plugins, less.plugins);
        take(&self.bytes, less.bytes);
    }
}

impl HoldingSize {
    /// A plugin without any routes or names.
    pub(super) const PLUGIN: HoldingSize = HoldingSize {
        plugins: 1,
        bytes: 0,
    };

    /// What a client counts that has moved to the peer.
    pub(super) const MOVED_CLIENT: HoldingSize = HoldingSize {
        plugins: 0,
        bytes: NAME_COST,
    };

    /// What one name counts.
    pub(super) fn name(name: &str) -> HoldingSize {
        HoldingSize {
            plugins: 0,
            bytes: name_cost(name),
        }
    }
}

/// What one name counts, in bytes.
pub(super) fn name_cost(name: &str) -> usize {
    name.len() + NAME_COST
}

/// What the texts of a plugin count together: its routes, the uids of its canary, and the failure of
/// its last load.
pub(super) fn cost_of<'a>(texts: impl Iterator<Item = &'a str>) -> usize {
    texts.map(name_cost).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_makes_room() {
        let holdings = PeerHoldings::default();
        let name = HoldingSize::name("lobby");
        let most = 2 * name.bytes;
        let plugin = HoldingSize::PLUGIN;
        holdings.add(name);
        assert!(holdings.has_room(name, most));
        holdings.add(name);
        assert!(!holdings.has_room(name, most) && holdings.has_room(plugin, most));
        assert!(holdings.has_room(HoldingSize::default(), most - 1));
        holdings.remove(name);
        assert!(holdings.has_room(name, most));

        holdings.add(HoldingSize {
            plugins: PLUGINS,
            bytes: 0,
        });
        assert!(!holdings.has_room(plugin, most) && holdings.has_room(name, most));
        holdings.remove(plugin);
        assert!(holdings.has_room(plugin, most));
    }

    #[test]
    fn the_first_that_is_left_out_is_news_until_the_next_snapshot() {
        let holdings = PeerHoldings::default();
        assert!(holdings.leave_out() && !holdings.leave_out());
        assert!(holdings.is_incomplete());
        holdings.begin_snapshot();
        assert!(!holdings.is_incomplete() && holdings.leave_out());
    }
}
