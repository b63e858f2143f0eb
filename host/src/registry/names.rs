//! Names in order, and something for each of them: what the indexes of this node are made of,
//! and what is known of the other nodes'.
//!
//! Sharded by name: whoever holds a lock holds up a sixteenth of the names. Ordered, so that a
//! page goes on where the last one ended, whatever came and went meanwhile.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::RwLock;

pub(super) const SHARDS: usize = 16;

/// Names, each with its `T`.
#[derive(Debug)]
pub struct Names<T> {
    shards: [RwLock<BTreeMap<Arc<str>, T>>; SHARDS],
    hasher: RandomState,
}

impl<T> Default for Names<T> {
    fn default() -> Names<T> {
        Names {
            shards: Default::default(),
            hasher: RandomState::new(),
        }
    }
}

impl<T> Names<T> {
    /// Where a name is, if it is there.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "which shard does not matter"
    )]
    pub fn shard(&self, name: &str) -> &RwLock<BTreeMap<Arc<str>, T>> {
        &self.shards[self.hasher.hash_one(name) as usize % SHARDS]
    }

    /// All parts.
    pub fn shards(&self) -> &[RwLock<BTreeMap<Arc<str>, T>>] {
        &self.shards
    }

    /// Up to `limit` names that come after `after`, in order.
    pub fn after(&self, after: Option<&str>, limit: usize) -> Vec<Arc<str>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut names = Vec::new();
        for shard in &self.shards {
            let shard = shard.read();
            let rest = shard.range::<str, _>((from, Bound::Unbounded));
            names.extend(rest.map(|(name, _)| name.clone()).take(limit));
        }
        names.sort_unstable();
        names.truncate(limit);
        names
    }

    /// How many names there are.
    pub fn count(&self) -> u64 {
        let shards = self.shards.iter();
        shards.map(|shard| shard.read().len() as u64).sum()
    }

    /// How many names are such that `counts`.
    pub fn count_where(&self, counts: impl Fn(&T) -> bool) -> u64 {
        let shards = self.shards.iter();
        shards
            .map(|shard| shard.read().values().filter(|value| counts(value)).count() as u64)
            .sum()
    }
}
