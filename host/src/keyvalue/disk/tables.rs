//! The tables of the database file, and the transaction that changes them.

use redb::{Database, ReadableTable as _, Table, TableDefinition, WriteTransaction};
use tokio::sync::{RwLock, oneshot};

use crate::keyvalue::bucket_id::BucketId;
use crate::keyvalue::change::{Change, ChangeOutcome, Entries, apply};
use crate::keyvalue::failure::StoreFailure;

/// The entries of all buckets, by plugin, bucket and key.
pub(super) const ENTRIES: TableDefinition<&[u8], &[u8]> = TableDefinition::new("entries");

/// The bytes that each plugin uses.
pub(super) const USED: TableDefinition<&str, u64> = TableDefinition::new("used");

/// The byte between the parts of a key in the file. No plugin's and no bucket's name contains it.
const BETWEEN: u8 = 0;

/// The database, or the reason why there is none. Opening it again waits until its readers are
/// done.
pub(super) type Opened = RwLock<Result<Database, DatabaseError>>;

/// Why the database cannot be used, in words for operators and guests.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct DatabaseError(pub(super) String);

/// A change that waits for its transaction.
pub(super) struct Write {
    pub(super) bucket_id: BucketId,
    pub(super) change: Change,
    pub(super) bytes: u64,
    pub(super) done: oneshot::Sender<Result<ChangeOutcome, StoreFailure>>,
}

/// Writes all changes of a batch, or none of them. The error is the first one of the file, since
/// redb's later errors only say that there was one.
pub(super) fn write(
    database: &Database,
    batch: &[Write],
) -> Result<Vec<Result<ChangeOutcome, StoreFailure>>, DatabaseError> {
    let transaction = database.begin_write().map_err(unusable)?;
    let mut outcomes = Vec::with_capacity(batch.len());
    for write in batch {
        match write_one(&transaction, write) {
            Err(StoreFailure::Failed(why)) => return Err(DatabaseError(why)),
            outcome => outcomes.push(outcome),
        }
    }
    transaction.commit().map_err(unusable)?;
    Ok(outcomes)
}

fn write_one(transaction: &WriteTransaction, write: &Write) -> Result<ChangeOutcome, StoreFailure> {
    let mut used_by = transaction.open_table(USED).map_err(failed)?;
    let before = used_by.get(&*write.bucket_id.plugin).map_err(failed)?;
    let before = before.map_or(0, |used| used.value());
    let mut used = before;
    let mut bucket = FileBucket {
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

struct FileBucket<'a> {
    bucket_id: &'a BucketId,
    entries: Table<'a, &'static [u8], &'static [u8]>,
}

impl Entries for FileBucket<'_> {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreFailure> {
        let found = self.entries.get(full(self.bucket_id, key).as_slice());
        Ok(found.map_err(failed)?.map(|value| value.value().to_vec()))
    }

    fn insert(&mut self, key: &str, value: &[u8]) -> Result<(), StoreFailure> {
        let key = full(self.bucket_id, key);
        self.entries.insert(key.as_slice(), value).map_err(failed)?;
        Ok(())
    }

    fn remove(&mut self, key: &str) -> Result<(), StoreFailure> {
        self.entries
            .remove(full(self.bucket_id, key).as_slice())
            .map_err(failed)?;
        Ok(())
    }
}

fn failed(error: impl Into<redb::Error>) -> StoreFailure {
    StoreFailure::Failed(unusable(error).0)
}

pub(super) fn unusable(error: impl Into<redb::Error>) -> DatabaseError {
    DatabaseError(error.into().to_string())
}

/// The complete key of an entry in the file.
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
