//! State in a file: of this node, and there again after its next start.
//!
//! One thread writes. What waits for it is changed in one transaction, and nobody is told that
//! it is done before it is on the disk: one `fsync` for as many as wait, and not one for each.
//! Reads see what has been committed, on threads that may block, `READERS` at once.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use redb::{
    Database, ReadTransaction, ReadableDatabase as _, ReadableTable, Table, TableDefinition,
    TableError, WriteTransaction,
};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::change::{Entries, apply};
use super::{Change, Changed, Failure, Place};
use crate::limits::KEYVALUE_KEYS_A_PAGE;

/// Reads under way at once.
const READERS: usize = 4;

/// Changes that may wait for the writer; each of a plugin's instances waits for one at most.
/// Beyond: they wait in their callers.
const WRITES: usize = 64;

/// What redb may keep of the file in memory.
const CACHE_BYTES: usize = 32 << 20;

/// By plugin, bucket and key.
const ENTRIES: TableDefinition<&[u8], &[u8]> = TableDefinition::new("entries");

/// What each plugin has, in bytes.
const USED: TableDefinition<&str, u64> = TableDefinition::new("used");

/// Between the parts of a key in the file; in no plugin's and no bucket's name.
const BETWEEN: u8 = 0;

pub(super) struct Disk {
    database: Arc<Database>,
    readers: Arc<Semaphore>,
    writes: mpsc::Sender<Write>,
}

struct Write {
    place: Place,
    change: Change,
    bytes: u64,
    done: oneshot::Sender<Result<Changed, Failure>>,
}

impl Disk {
    pub(super) async fn open(path: PathBuf) -> anyhow::Result<Disk> {
        let opening = path.clone();
        let database = tokio::task::spawn_blocking(move || open(&opening)).await;
        let database = database
            .map_err(anyhow::Error::from)
            .flatten()
            .with_context(|| {
                format!(
                    "the plugins' key-value state in {} cannot be opened (keyvalue.store). If the \
                 file is damaged, put a copy of it back, or move it away: then the plugins begin \
                 with nothing",
                    path.display()
                )
            })?;
        let database = Arc::new(database);
        let (writes, queue) = mpsc::channel(WRITES);
        let writing = database.clone();
        std::thread::Builder::new()
            .name("keyvalue".to_owned())
            .spawn(move || keep_writing(&writing, queue))?;
        Ok(Disk {
            database,
            readers: Arc::new(Semaphore::new(READERS)),
            writes,
        })
    }

    pub(super) async fn get(
        &self,
        place: &Place,
        keys: &[String],
    ) -> Result<Vec<Option<Vec<u8>>>, Failure> {
        let keys: Vec<_> = keys.iter().map(|key| full(place, key)).collect();
        self.read(move |entries| {
            let value = |key: &Vec<u8>| {
                let found = entries.get(key.as_slice())?;
                Ok(found.map(|value| value.value().to_vec()))
            };
            keys.iter().map(value).collect()
        })
        .await
    }

    pub(super) async fn exists(&self, place: &Place, key: &str) -> Result<bool, Failure> {
        let key = full(place, key);
        self.read(move |entries| Ok(entries.get(key.as_slice())?.is_some()))
            .await
    }

    pub(super) async fn keys(
        &self,
        place: &Place,
        cursor: Option<String>,
    ) -> Result<(Vec<String>, Option<String>), Failure> {
        let prefix = full(place, "");
        let mut from = prefix.clone();
        if let Some(cursor) = cursor {
            from.extend(cursor.as_bytes());
            // What comes next after a key is that key and a zero.
            from.push(0);
        }
        self.read(move |entries| {
            let mut keys: Vec<String> = Vec::new();
            for entry in entries.range(from.as_slice()..)? {
                let (key, _) = entry?;
                let Some(key) = key.value().strip_prefix(prefix.as_slice()) else {
                    break;
                };
                if keys.len() == KEYVALUE_KEYS_A_PAGE {
                    let cursor = keys.last().cloned();
                    return Ok((keys, cursor));
                }
                keys.push(String::from_utf8_lossy(key).into_owned());
            }
            Ok((keys, None))
        })
        .await
    }

    pub(super) async fn change(
        &self,
        place: &Place,
        change: Change,
        bytes: u64,
    ) -> Result<Changed, Failure> {
        let gone = || Failure::Failed("the thread that writes has ended".to_owned());
        let (done, changed) = oneshot::channel();
        let write = Write {
            place: place.clone(),
            change,
            bytes,
            done,
        };
        self.writes.send(write).await.map_err(|_| gone())?;
        changed.await.map_err(|_| gone())?
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&redb::ReadOnlyTable<&[u8], &[u8]>) -> Result<T, redb::StorageError>
        + Send
        + 'static,
    ) -> Result<T, Failure> {
        let failed = |error: redb::Error| Failure::Failed(error.to_string());
        let permit = self.readers.clone().acquire_owned().await;
        let database = self.database.clone();
        let read = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let transaction: ReadTransaction = database.begin_read()?;
            let entries = transaction.open_table(ENTRIES)?;
            Ok(work(&entries)?)
        });
        match read.await {
            Ok(read) => read.map_err(failed),
            Err(error) => Err(Failure::Failed(error.to_string())),
        }
    }
}

fn open(path: &Path) -> anyhow::Result<Database> {
    let database = Database::builder()
        .set_cache_size(CACHE_BYTES)
        // A file that was damaged is found now, and not by some reader.
        .set_check_integrity_on_open(true)
        .create(path)?;
    // Readers find the tables from the beginning.
    let transaction = database.begin_write()?;
    transaction.open_table(ENTRIES)?;
    transaction.open_table(USED)?;
    transaction.commit()?;
    Ok(database)
}

fn keep_writing(database: &Database, mut queue: mpsc::Receiver<Write>) {
    let mut has_told = false;
    while let Some(first) = queue.blocking_recv() {
        let mut batch = vec![first];
        while batch.len() < WRITES
            && let Ok(next) = queue.try_recv()
        {
            batch.push(next);
        }
        match write(database, &batch) {
            Ok(outcomes) => {
                has_told = false;
                for (write, outcome) in batch.into_iter().zip(outcomes) {
                    let _ = write.done.send(outcome);
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut has_told, true) {
                    tracing::error!(%error, "the plugins' key-value state cannot be written");
                }
                for write in batch {
                    let _ = write.done.send(Err(Failure::Failed(error.to_string())));
                }
            }
        }
    }
}

/// All of them, or none.
fn write(
    database: &Database,
    batch: &[Write],
) -> Result<Vec<Result<Changed, Failure>>, redb::Error> {
    let transaction = database.begin_write()?;
    let outcomes = batch
        .iter()
        .map(|write| write_one(&transaction, write))
        .collect::<Result<_, _>>()?;
    transaction.commit()?;
    Ok(outcomes)
}

fn write_one(
    transaction: &WriteTransaction,
    write: &Write,
) -> Result<Result<Changed, Failure>, TableError> {
    let mut used_by = transaction.open_table(USED)?;
    let before = used_by.get(&*write.place.plugin)?;
    let before = before.map_or(0, |used| used.value());
    let mut used = before;
    let mut bucket = Bucket {
        place: &write.place,
        entries: transaction.open_table(ENTRIES)?,
    };
    let changed = apply(&mut bucket, &mut used, write.bytes, &write.change);
    if used != before {
        used_by.insert(&*write.place.plugin, used)?;
    }
    Ok(changed)
}

struct Bucket<'a> {
    place: &'a Place,
    entries: Table<'a, &'static [u8], &'static [u8]>,
}

impl Entries for Bucket<'_> {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Failure> {
        let found = self.entries.get(full(self.place, key).as_slice());
        Ok(found.map_err(failed)?.map(|value| value.value().to_vec()))
    }

    fn insert(&mut self, key: &str, value: &[u8]) -> Result<(), Failure> {
        let key = full(self.place, key);
        self.entries.insert(key.as_slice(), value).map_err(failed)?;
        Ok(())
    }

    fn remove(&mut self, key: &str) -> Result<(), Failure> {
        self.entries
            .remove(full(self.place, key).as_slice())
            .map_err(failed)?;
        Ok(())
    }
}

fn failed(error: redb::StorageError) -> Failure {
    Failure::Failed(error.to_string())
}

/// A key in the file.
fn full(place: &Place, key: &str) -> Vec<u8> {
    let mut full = Vec::with_capacity(place.plugin.len() + place.bucket.len() + key.len() + 2);
    for part in [&place.plugin, &place.bucket] {
        full.extend(part.as_bytes());
        full.push(BETWEEN);
    }
    full.extend(key.as_bytes());
    full
}
