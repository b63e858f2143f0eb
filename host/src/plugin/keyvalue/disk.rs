//! State in a file: of this node, and there again after its next start.
//!
//! One task writes (`writer`). What waits for it is changed in one transaction, and nobody is told
//! that it is done before it is on the disk: one `fsync` for as many as wait, and not one for
//! each. Reads see what has been committed, on threads that may block, `READERS` at once.
//!
//! A write that fails is not the end: the file is opened again (`file`), reads go on, and changes
//! fail until the file takes them.

mod file;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;

use redb::{
    Database, ReadTransaction, ReadableDatabase as _, ReadableTable, StorageError, Table,
    TableDefinition, WriteTransaction,
};
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{RwLock, mpsc, oneshot};

use self::file::File;
use self::writer::{Job, Write, Writer};
use super::change::{Entries, apply};
use super::health::Health;
use super::{Change, Changed, Failure, Place};
use crate::limits::KEYVALUE_KEYS_A_PAGE;

/// Reads under way at once, with the writer's own.
const READERS: u32 = 5;

/// Changes that may wait for the writer; each of a plugin's instances waits for one at most.
/// Beyond: they wait in their callers.
const WRITES: usize = 64;

/// By plugin, bucket and key.
const ENTRIES: TableDefinition<&[u8], &[u8]> = TableDefinition::new("entries");

/// What each plugin has, in bytes.
const USED: TableDefinition<&str, u64> = TableDefinition::new("used");

/// Between the parts of a key in the file; in no plugin's and no bucket's name.
const BETWEEN: u8 = 0;

/// The database, or why there is none. Whoever opens it again waits for its readers.
type Opened = RwLock<Result<Database, String>>;

pub(super) struct Disk {
    opened: Arc<Opened>,
    jobs: mpsc::Sender<Job>,
}

impl Disk {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    ///
    /// When the file cannot be made, is no database, is damaged, or is another process's.
    pub(super) async fn open(path: PathBuf, health: Arc<Health>) -> anyhow::Result<Disk> {
        // Beyond the process's limit a write is an error then, and not the end of the process.
        let _ = signal(SignalKind::from_raw(Signal::XFSZ.as_raw()))?;
        let file = Arc::new(File::new(path));
        let opening = file.clone();
        let database = tokio::task::spawn_blocking(move || opening.open_or_make()).await??;
        let opened = Arc::new(Opened::with_max_readers(Ok(database), READERS));
        let (jobs, queue) = mpsc::channel(WRITES);
        let writer = Writer::new(file, opened.clone(), health);
        tokio::spawn(writer.run(queue));
        Ok(Disk { opened, jobs })
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
        let gone = || Failure::Failed("the task that writes has ended".to_owned());
        let (done, changed) = oneshot::channel();
        let write = Write {
            place: place.clone(),
            change,
            bytes,
            done,
        };
        let job = Job::Write(write);
        self.jobs.send(job).await.map_err(|_| gone())?;
        changed.await.map_err(|_| gone())?
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&redb::ReadOnlyTable<&[u8], &[u8]>) -> Result<T, StorageError>
        + Send
        + 'static,
    ) -> Result<T, Failure> {
        let opened = self.opened.clone().read_owned().await;
        let read = tokio::task::spawn_blocking(move || {
            let database = opened.as_ref().map_err(|why| (why.clone(), false))?;
            let failed = |error: redb::Error| (error.to_string(), is_of_the_file(&error));
            let transaction: ReadTransaction = database
                .begin_read()
                .map_err(|error| failed(error.into()))?;
            let entries = transaction.open_table(ENTRIES);
            let entries = entries.map_err(|error| failed(error.into()))?;
            work(&entries).map_err(|error| failed(error.into()))
        });
        let (why, is_broken) = match read.await {
            Ok(Ok(read)) => return Ok(read),
            Ok(Err(failed)) => failed,
            // The file is not what the database has left there.
            Err(panic) => (panic.to_string(), true),
        };
        if is_broken {
            // A queue that is full has changes in it, which find the same.
            let _ = self.jobs.try_send(Job::Reopen(why.clone()));
        }
        Err(Failure::Failed(why))
    }
}

/// Whether the database does nothing any more until it is opened again.
fn is_of_the_file(error: &redb::Error) -> bool {
    use redb::Error;
    matches!(
        error,
        Error::Io(_) | Error::PreviousIo | Error::DatabaseClosed
    )
}

/// All of them, or none: then the file's error is why, the first one. What redb says after it is
/// only that there was one.
fn write(database: &Database, batch: &[Write]) -> Result<Vec<Result<Changed, Failure>>, String> {
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

fn write_one(transaction: &WriteTransaction, write: &Write) -> Result<Changed, Failure> {
    let mut used_by = transaction.open_table(USED).map_err(failed)?;
    let before = used_by.get(&*write.place.plugin).map_err(failed)?;
    let before = before.map_or(0, |used| used.value());
    let mut used = before;
    let mut bucket = Bucket {
        place: &write.place,
        entries: transaction.open_table(ENTRIES).map_err(failed)?,
    };
    let changed = apply(&mut bucket, &mut used, write.bytes, &write.change);
    if used != before {
        used_by.insert(&*write.place.plugin, used).map_err(failed)?;
    }
    changed
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

fn failed(error: impl Into<redb::Error>) -> Failure {
    Failure::Failed(said(error))
}

fn said(error: impl Into<redb::Error>) -> String {
    error.into().to_string()
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
