//! State in a file. The state belongs to one node, and is still there after a restart.
//!
//! One task writes the file (`writer`). All waiting changes go into one transaction, and a change
//! is reported as done only when it is on the disk. One `fsync` is therefore enough for all waiting
//! changes. Reads see the committed state and run on threads that may block, at most `READERS` at
//! once.
//!
//! After a failed write, the file is opened again (`file`), reads go on, and changes fail until the
//! file accepts them.

mod backup;
mod file;
mod tables;
mod writer;

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use redb::{Database, ReadTransaction, ReadableDatabase as _, StorageError};
use tokio::sync::{mpsc, oneshot};

use self::file::DatabaseFile;
use self::tables::{ENTRIES, Opened, Write, full};
use self::writer::{WRITES, Writer, WriterJob};
use super::bucket_id::BucketId;
use super::change::{Change, ChangeOutcome};
use super::failure::StoreFailure;
use super::health::Health;
use crate::limits::KEYVALUE_KEYS_A_PAGE;

/// The most reads in progress, with the writer's own.
const READERS: u32 = 5;

pub(super) struct Disk {
    file: Arc<DatabaseFile>,
    opened: Arc<Opened>,
    jobs: mpsc::Sender<WriterJob>,
}

impl Disk {
    /// Opens the file, or creates it.
    ///
    /// # Errors
    ///
    /// Returns an error when the file cannot be created, is not a database, is damaged, or is open
    /// in another process.
    pub(super) async fn open(path: PathBuf, health: Arc<Health>) -> anyhow::Result<Disk> {
        let file = Arc::new(DatabaseFile::new(path));
        let opening = file.clone();
        let database = tokio::task::spawn_blocking(move || opening.open_or_make()).await??;
        let opened = Arc::new(Opened::with_max_readers(Ok(database), READERS));
        let (jobs, queue) = mpsc::channel(WRITES);
        let writer = Writer::new(file.clone(), opened.clone(), health);
        tokio::spawn(writer.run(queue));
        Ok(Disk { file, opened, jobs })
    }

    pub(super) async fn get(
        &self,
        bucket_id: &BucketId,
        keys: &[String],
    ) -> Result<Vec<Option<Vec<u8>>>, StoreFailure> {
        let keys: Vec<_> = keys.iter().map(|key| full(bucket_id, key)).collect();
        self.read(move |entries| {
            let value = |key: &Vec<u8>| {
                let found = entries.get(key.as_slice())?;
                Ok(found.map(|value| value.value().to_vec()))
            };
            keys.iter().map(value).collect()
        })
        .await
    }

    pub(super) async fn exists(
        &self,
        bucket_id: &BucketId,
        key: &str,
    ) -> Result<bool, StoreFailure> {
        let key = full(bucket_id, key);
        self.read(move |entries| Ok(entries.get(key.as_slice())?.is_some()))
            .await
    }

    pub(super) async fn keys(
        &self,
        bucket_id: &BucketId,
        cursor: Option<String>,
    ) -> Result<(Vec<String>, Option<String>), StoreFailure> {
        let prefix = full(bucket_id, "");
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
        bucket_id: &BucketId,
        change: Change,
        bytes: u64,
    ) -> Result<ChangeOutcome, StoreFailure> {
        let gone = || StoreFailure::Failed("the task that writes has ended".to_owned());
        let (done, changed) = oneshot::channel();
        let write = Write {
            bucket_id: bucket_id.clone(),
            change,
            bytes,
            done,
        };
        let job = WriterJob::Write(write);
        self.jobs.send(job).await.map_err(|_| gone())?;
        changed.await.map_err(|_| gone())?
    }

    /// Copies the state, as it is committed now, into a file. Changes go on meanwhile. If the file of
    /// the state is opened again meanwhile, the copy fails.
    pub(super) async fn backup(&self) -> Result<File, StoreFailure> {
        // Not kept for the time of the copy: whoever opens the file again waits for it.
        let transaction = self
            .with_database(|database| Ok(database.begin_read()?))
            .await?;
        let folder = self.file.folder();
        let copied = tokio::task::spawn_blocking(move || backup::copy(&transaction, &folder));
        let copied = copied.await.map_err(|panic| failed(&panic))?;
        copied.map_err(|error| failed(&error))
    }

    /// An empty file beside that of the state, for a copy that comes.
    pub(super) async fn new_file(&self) -> Result<File, StoreFailure> {
        let folder = self.file.folder();
        let made = tokio::task::spawn_blocking(move || backup::new_file(&folder)).await;
        made.map_err(|panic| failed(&panic))?
            .map_err(|error| failed(&error))
    }

    /// Replaces the state by that of a copy, all at once. Returns the number of its entries.
    pub(super) async fn restore(&self, copy: File) -> Result<u64, StoreFailure> {
        let file = self.file.clone();
        let opened = tokio::task::spawn_blocking(move || {
            // What is replaced is given back after the replacement only.
            let bytes = copy.metadata().and_then(|copy| file.check_room(copy.len()));
            bytes.map_err(|error| failed(&error))?;
            backup::open(copy).map_err(|error| {
                StoreFailure::Refused(format!("the copy cannot be read: {error:#}"))
            })
        });
        let by = opened.await.map_err(|panic| {
            // The file is not what a database has left there.
            StoreFailure::Refused(format!("the copy cannot be read: {panic}"))
        })??;
        let gone = || StoreFailure::Failed("the task that writes has ended".to_owned());
        let (done, replaced) = oneshot::channel();
        let job = WriterJob::Replace { by, done };
        self.jobs.send(job).await.map_err(|_| gone())?;
        replaced.await.map_err(|_| gone())?
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&redb::ReadOnlyTable<&[u8], &[u8]>) -> Result<T, StorageError>
        + Send
        + 'static,
    ) -> Result<T, StoreFailure> {
        self.with_database(|database| {
            let transaction: ReadTransaction = database.begin_read()?;
            Ok(work(&transaction.open_table(ENTRIES)?)?)
        })
        .await
    }

    /// Does something with the database, on a thread that may block. After an error of the file, it is
    /// opened again.
    async fn with_database<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, StoreFailure> {
        let opened = self.opened.clone().read_owned().await;
        let read = tokio::task::spawn_blocking(move || {
            let database = opened
                .as_ref()
                .map_err(|error| (error.to_string(), false))?;
            work(database).map_err(|error| (error.to_string(), is_of_the_file(&error)))
        });
        let (why, is_broken) = match read.await {
            Ok(Ok(read)) => return Ok(read),
            Ok(Err(failed)) => failed,
            // The file is not what the database has left there.
            Err(panic) => (panic.to_string(), true),
        };
        if is_broken {
            // A queue that is full has changes in it, which find the same.
            let _ = self.jobs.try_send(WriterJob::Reopen(why.clone()));
        }
        Err(StoreFailure::Failed(why))
    }
}

fn failed(error: &dyn std::fmt::Display) -> StoreFailure {
    StoreFailure::Failed(error.to_string())
}

/// Whether the database stops working after this error until it is opened again.
fn is_of_the_file(error: &redb::Error) -> bool {
    use redb::Error;
    matches!(
        error,
        Error::Io(_) | Error::PreviousIo | Error::DatabaseClosed
    )
}
