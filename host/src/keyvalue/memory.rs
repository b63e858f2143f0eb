//! State in the node's memory. The state belongs to one node, and ends with it.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::Mutex;

use super::bucket_id::BucketId;
use super::change::{Change, ChangeOutcome};
use super::change::{Entries, apply};
use super::failure::StoreFailure;
use crate::limits::KEYVALUE_KEYS_A_PAGE;

/// The state of each plugin, with a separate lock. No lock is held while a task waits.
#[derive(Default)]
pub(super) struct Memory(Mutex<HashMap<String, Arc<Mutex<PluginBuckets>>>>);

#[derive(Default)]
struct PluginBuckets {
    buckets: HashMap<String, MemoryBucket>,
    used: u64,
}

#[derive(Default)]
struct MemoryBucket(BTreeMap<String, Vec<u8>>);

impl Memory {
    pub(super) fn get(&self, bucket_id: &BucketId, keys: &[String]) -> Vec<Option<Vec<u8>>> {
        self.read(bucket_id, |bucket| {
            keys.iter().map(|key| bucket.0.get(key).cloned()).collect()
        })
    }

    pub(super) fn exists(&self, bucket_id: &BucketId, key: &str) -> bool {
        self.read(bucket_id, |bucket| bucket.0.contains_key(key))
    }

    pub(super) fn keys(
        &self,
        bucket_id: &BucketId,
        cursor: Option<&str>,
    ) -> (Vec<String>, Option<String>) {
        self.read(bucket_id, |bucket| {
            let from = cursor.map_or(Bound::Unbounded, Bound::Excluded);
            let mut rest = bucket.0.range::<str, _>((from, Bound::Unbounded));
            let page = rest.by_ref().take(KEYVALUE_KEYS_A_PAGE);
            let keys: Vec<_> = page.map(|(key, _)| key.clone()).collect();
            let cursor = rest.next().and_then(|_| keys.last().cloned());
            (keys, cursor)
        })
    }

    pub(super) fn change(
        &self,
        bucket_id: &BucketId,
        change: Change,
        bytes: u64,
    ) -> Result<ChangeOutcome, StoreFailure> {
        let plugin = self.plugin(bucket_id);
        let mut plugin = plugin.lock();
        let PluginBuckets { buckets, used } = &mut *plugin;
        let bucket = buckets.entry(bucket_id.bucket.clone()).or_default();
        apply(bucket, used, bytes, &change)
    }

    fn read<T>(&self, bucket_id: &BucketId, work: impl FnOnce(&MemoryBucket) -> T) -> T {
        let plugin = self.plugin(bucket_id);
        let mut plugin = plugin.lock();
        work(plugin.buckets.entry(bucket_id.bucket.clone()).or_default())
    }

    fn plugin(&self, bucket_id: &BucketId) -> Arc<Mutex<PluginBuckets>> {
        let mut plugins = self.0.lock();
        plugins.entry(bucket_id.plugin.clone()).or_default().clone()
    }
}

impl Entries for MemoryBucket {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreFailure> {
        Ok(self.0.get(key).cloned())
    }

    fn insert(&mut self, key: &str, value: &[u8]) -> Result<(), StoreFailure> {
        self.0.insert(key.to_owned(), value.to_owned());
        Ok(())
    }

    fn remove(&mut self, key: &str) -> Result<(), StoreFailure> {
        self.0.remove(key);
        Ok(())
    }
}
