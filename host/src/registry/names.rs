//! Names in order, each with a value: the base of this node's indexes and of the interest of the
//! other nodes.
//!
//! The names are spread over shards, so that a lock blocks only a sixteenth of them. The names are
//! ordered, so that a page continues where the last one ended, even if names came or went
//! meanwhile.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::RwLock;

pub(super) const SHARDS: usize = 16;

/// A map of names in order, each with its `T`.
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
    /// The shard that the name belongs to.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "which shard does not matter"
    )]
    pub fn shard(&self, name: &str) -> &RwLock<BTreeMap<Arc<str>, T>> {
        &self.shards[self.hasher.hash_one(name) as usize % SHARDS]
    }

    /// All shards of the map.
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

    /// The number of names in the map.
    pub fn count(&self) -> u64 {
        let shards = self.shards.iter();
        shards.map(|shard| shard.read().len() as u64).sum()
    }

    /// How many names have a value for which `counts` is true.
    pub fn count_where(&self, counts: impl Fn(&T) -> bool) -> u64 {
        let shards = self.shards.iter();
        shards
            .map(|shard| shard.read().values().filter(|value| counts(value)).count() as u64)
            .sum()
    }
}
