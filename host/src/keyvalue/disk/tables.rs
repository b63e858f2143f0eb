//! The tables of the file, and a transaction that changes them.

use redb::{Database, ReadableTable as _, Table, TableDefinition, WriteTransaction};
use tokio::sync::{RwLock, oneshot};

use crate::keyvalue::bucket_id::BucketId;
use crate::keyvalue::change::{Change, ChangeOutcome, Entries, apply};
use crate::keyvalue::failure::Failure;

/// By plugin, bucket and key.
pub(super) const ENTRIES: TableDefinition<&[u8], &[u8]> = TableDefinition::new("entries");

/// What each plugin has, in bytes.
pub(super) const USED: TableDefinition<&str, u64> = TableDefinition::new("used");

/// Between the parts of a key in the file; in no plugin's and no bucket's name.
const BETWEEN: u8 = 0;

/// The database, or why there is none. Whoever opens it again waits for its readers.
pub(super) type Opened = RwLock<Result<Database, String>>;

/// A change that waits for its transaction.
pub(super) struct Write {
    pub(super) bucket_id: BucketId,
    pub(super) change: Change,
    pub(super) bytes: u64,
    pub(super) done: oneshot::Sender<Result<ChangeOutcome, Failure>>,
}

/// All of them, or none: then the file's error is why, the first one. What redb says after it is
/// only that there was one.
pub(super) fn write(
    database: &Database,
    batch: &[Write],
) -> Result<Vec<Result<ChangeOutcome, Failure>>, String> {
    let transaction = database.begin_write().map_err(said)?;
    let mut outcomes = Vec::with_capacity(batch.len());
    for write in batch {
        match write_one(&transaction, write) {
            Err(Failure::Failed(why)) => return Err(why),
            outcome => outcomes.push(outcome),
        }
    }
    transaction.commit().map_err(said)?;
    Ok(outcomes)
}

fn write_one(transaction: &WriteTransaction, write: &Write) -> Result<ChangeOutcome, Failure> {
    let mut used_by = transaction.open_table(USED).map_err(failed)?;
    let before = used_by.get(&*write.bucket_id.plugin).map_err(failed)?;
    let before = before.map_or(0, |used| used.value());
    let mut used = before;
    let mut bucket = Bucket {
        bucket_id: &write.bucket_id,
        entries: transaction.open_table(ENTRIES).map_err(failed)?,
    };
    let changed = apply(&mut bucket, &mut used, write.bytes, &write.change);
    if used != before {
        used_by
            .insert(&*write.bucket_id.plugin, used)
            .map_err(failed)?;
    }
    changed
}

struct Bucket<'a> {
    bucket_id: &'a BucketId,
    entries: Table<'a, &'static [u8], &'static [u8]>,
}

impl Entries for Bucket<'_> {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Failure> {
        let found = self.entries.get(full(self.bucket_id, key).as_slice());
        Ok(found.map_err(failed)?.map(|value| value.value().to_vec()))
    }

    fn insert(&mut self, key: &str, value: &[u8]) -> Result<(), Failure> {
        let key = full(self.bucket_id, key);
        self.entries.insert(key.as_slice(), value).map_err(failed)?;
        Ok(())
    }

    fn remove(&mut self, key: &str) -> Result<(), Failure> {
        self.entries
            .remove(full(self.bucket_id, key).as_slice())
            .map_err(failed)?;
        Ok(())
    }
}

fn failed(error: impl Into<redb::Error>) -> Failure {
    Failure::Failed(said(error))
}

fn said(error: impl Into<redb::Error>) -> String {
    error.into().to_string()
}

/// A key in the file.
pub(super) fn full(bucket_id: &BucketId, key: &str) -> Vec<u8> {
    let mut full =
        Vec::with_capacity(bucket_id.plugin.len() + bucket_id.bucket.len() + key.len() + 2);
    for part in [&bucket_id.plugin, &bucket_id.bucket] {
        full.extend(part.as_bytes());
        full.push(BETWEEN);
    }
    full.extend(key.as_bytes());
    full
}
