//! The only task that writes the file. After a failed write, the task opens the file again.
//!
//! redb stops working after an error of the file, so the file is opened again at once, for reads.
//! From then on, changes fail without an attempt, until the file has room for what could not be
//! written. The task checks this every second. The check asks the file system, and does not try a
//! plugin's change. A commit counts only if it is in the file that the path leads to. A file that
//! was moved, replaced or truncated by another program therefore acknowledges nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redb::Database;
use tokio::sync::{mpsc, oneshot};

use super::backup;
use super::file::{DatabaseFile, FileIdentity};
use super::tables::{DatabaseError, Opened, Write, write};
use crate::keyvalue::change::Change;
use crate::keyvalue::failure::StoreFailure;
use crate::keyvalue::health::Health;

/// The shortest time before the next check of a failing file. The time doubles for each commit in a
/// row that failed after a check had found nothing, at most `DOUBLED` times.
const LOOK: Duration = Duration::from_secs(1);
const DOUBLED: u32 = 5;

/// The ratio of the pause to the check before it, since opening a file reads all of it.
const PAUSE_TO_LOOK: u32 = 8;

/// The time without a failed commit after which the next failure counts as the first one.
const STEADY: Duration = Duration::from_secs(10);

/// The least room that the check asks for, in bytes. The check asks for twice what could not be
/// written, but for `ROOM_MOST` at most.
const ROOM_LEAST: u64 = 1 << 20;
const ROOM_MOST: u64 = 64 << 20;

/// The most changes that may wait for the writer. Each instance of a plugin waits for at most one
/// change. Further changes wait in their callers.
pub(super) const WRITES: usize = 64;

/// A job for the task that writes.
pub(super) enum WriterJob {
    Write(Write),
    /// The whole state is replaced by that of a copy, which is checked.
    Replace {
        by: Database,
        done: oneshot::Sender<Result<u64, StoreFailure>>,
    },
    /// A read has found that the file is broken, for this reason.
    Reopen(String),
}

pub(super) struct Writer {
    file: Arc<DatabaseFile>,
    opened: Arc<Opened>,
    health: Arc<Health>,
    /// The identity of the writable file, as the last commit has left it.
    identity: Option<FileIdentity>,
    outage: Option<Outage>,
    failed_commits: u32,
    last_failure: Option<Instant>,
}

/// An outage: from a failed commit on, changes fail until the file accepts them again.
struct Outage {
    why: String,
    room: u64,
    next_look: Instant,
}

/// The reason why a batch was not acknowledged.
struct NotWritten {
    why: String,
    /// Whether the database has stopped working.
    is_broken: bool,
    /// Whether nobody knows what has become of it.
    has_panicked: bool,
}

impl Writer {
    pub(super) fn new(file: Arc<DatabaseFile>, opened: Arc<Opened>, health: Arc<Health>) -> Writer {
        Writer {
            identity: file.identity().ok(),
            file,
            opened,
            health,
            outage: None,
            failed_commits: 0,
            last_failure: None,
        }
    }

    /// Runs all jobs until no sender is left.
    pub(super) async fn run(mut self, mut jobs: mpsc::Receiver<WriterJob>) {
        loop {
            let first = match &self.outage {
                None => jobs.recv().await,
                Some(outage) => {
                    // Also when there is always somebody who asks.
                    let look = tokio::time::sleep_until(outage.next_look.into());
                    tokio::select! {
                        biased;
                        () = look => {
                            self.look().await;
                            continue;
                        }
                        job = jobs.recv() => job,
                    }
                }
            };
            let Some(first) = first else { return };
            let mut batch = Vec::new();
            let (mut broken, mut replacing) = (None, None);
            let rest = std::iter::from_fn(|| jobs.try_recv().ok());
            for job in std::iter::once(first).chain(rest).take(WRITES) {
                match job {
                    WriterJob::Write(write) => batch.push(write),
                    WriterJob::Reopen(why) => broken = Some(why),
                    WriterJob::Replace { by, done } => {
                        replacing = Some((by, done));
                        // What comes after it changes the new state.
                        break;
                    }
                }
            }
            match broken {
                // What is open is no good: the next look opens it again.
                Some(_) if self.outage.is_some() => self.identity = None,
                Some(why) => {
                    self.fail(why, 0);
                    self.reopen().await;
                }
                None => {}
            }
            if !batch.is_empty() {
                self.write(batch).await;
            }
            if let Some((by, done)) = replacing {
                self.replace(by, done).await;
            }
        }
    }

    async fn write(&mut self, mut batch: Vec<Write>) {
        if let Some(outage) = &self.outage {
            return refuse(batch, &outage.why);
        }
        // Whoever waits no more has been told that the store failed: after a restore, that change
        // would be one of another state.
        batch.retain(|write| !write.done.is_closed());
        if batch.is_empty() {
            return;
        }
        let room = batch.iter().map(weight).sum();
        let batch = Arc::new(batch);
        let writing = batch.clone();
        let written = self.commit(move |database| write(database, &writing)).await;
        let batch = Arc::into_inner(batch).unwrap_or_default();
        match written {
            Ok(outcomes) => {
                for (write, outcome) in batch.into_iter().zip(outcomes) {
                    let _ = write.done.send(outcome);
                }
            }
            Err(not_written) => {
                match not_written.has_panicked {
                    // Who waits hears that nobody answers.
                    true => drop(batch),
                    false => refuse(batch, &not_written.why),
                }
                self.recover(not_written, room).await;
            }
        }
    }

    /// Replaces the whole state by that of a copy.
    async fn replace(&mut self, by: Database, done: oneshot::Sender<Result<u64, StoreFailure>>) {
        if let Some(outage) = &self.outage {
            let _ = done.send(Err(StoreFailure::Failed(outage.why.clone())));
            return;
        }
        let replaced = self.commit(move |database| backup::replace(database, &by));
        match replaced.await {
            Ok(entries) => {
                let _ = done.send(Ok(entries));
            }
            Err(not_written) => {
                let _ = done.send(Err(StoreFailure::Failed(not_written.why.clone())));
                self.recover(not_written, 0).await;
            }
        }
    }

    /// Commits what `work` writes, on a thread that may block.
    async fn commit<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&Database) -> Result<T, DatabaseError> + Send + 'static,
    ) -> Result<T, NotWritten> {
        let (opened, file, identity) = (
            self.opened.clone().read_owned().await,
            self.file.clone(),
            self.identity,
        );
        let committed =
            tokio::task::spawn_blocking(move || commit_all(&opened, &file, identity, work));
        match committed.await {
            Ok(Ok((outcome, identity))) => {
                self.identity = Some(identity);
                if self.last_failure.is_some_and(|at| at.elapsed() > STEADY) {
                    self.failed_commits = 0;
                }
                Ok(outcome)
            }
            Ok(Err(not_written)) => Err(not_written),
            // The file is not what the database has left there.
            Err(panic) => Err(NotWritten {
                why: panic.to_string(),
                is_broken: true,
                has_panicked: true,
            }),
        }
    }

    /// Begins an outage after a commit that failed, until the file has room for twice `room` bytes.
    async fn recover(&mut self, not_written: NotWritten, room: u64) {
        self.fail(not_written.why, room);
        if not_written.is_broken {
            self.reopen().await;
        }
    }

    /// Begins an outage, in which all changes fail.
    fn fail(&mut self, why: String, bytes: u64) {
        tracing::error!(
            file = %self.file,
            error = why,
            "the plugins' key-value state cannot be written, changes fail until it can"
        );
        self.health.fails(why.clone());
        let pause = LOOK * 2u32.pow(self.failed_commits.min(DOUBLED));
        self.failed_commits += 1;
        let now = Instant::now();
        self.last_failure = Some(now);
        self.outage = Some(Outage {
            why,
            room: (2 * bytes).clamp(ROOM_LEAST, ROOM_MOST),
            next_look: now + pause,
        });
    }

    /// Checks whether the file accepts changes again.
    async fn look(&mut self) {
        let Some(room) = self.outage.as_ref().map(|outage| outage.room) else {
            return;
        };
        let began = Instant::now();
        match self.find_outage(room).await {
            None => {
                self.outage = None;
                self.health.works();
                tracing::info!(
                    file = %self.file,
                    "the plugins' key-value state is written again"
                );
            }
            Some(why) => {
                self.health.fails(why.clone());
                let pause = LOOK.max(began.elapsed() * PAUSE_TO_LOOK);
                self.outage = Some(Outage {
                    why,
                    room,
                    next_look: Instant::now() + pause,
                });
            }
        }
    }

    async fn find_outage(&mut self, room: u64) -> Option<String> {
        let file = self.file.clone();
        let found = tokio::task::spawn_blocking(move || {
            let identity = file.identity()?;
            file.check_room(room)?;
            std::io::Result::Ok(identity)
        });
        let identity = match found.await {
            Ok(Ok(identity)) => identity,
            // What is open goes on being read.
            Ok(Err(error)) => return Some(error.to_string()),
            Err(panic) => return Some(panic.to_string()),
        };
        let is_open = self.opened.read().await.is_ok();
        match is_open && self.identity == Some(identity) {
            true => None,
            false => self.reopen().await,
        }
    }

    /// Opens the file again once its readers are done, and returns the reason if changes cannot be
    /// written. A file that cannot be written is opened for reads. If no file is there at all,
    /// reads go on with what redb has in memory.
    async fn reopen(&mut self) -> Option<String> {
        let mut opened = self.opened.clone().write_owned().await;
        let file = self.file.clone();
        let reopened = tokio::task::spawn_blocking(move || {
            let unwritable = file.check_room(0).err();
            if let Some(why) = &unwritable
                && file.identity().is_err()
            {
                return (None, Some(why.to_string()));
            }
            // The former one has to let go of the file.
            *opened = Err(DatabaseError("the file is opened again".to_owned()));
            let reopened = match &unwritable {
                None => file.open_again(),
                Some(_) => file.open_unwritable(),
            };
            *opened = reopened.map_err(|error| DatabaseError(error.to_string()));
            match (unwritable, &*opened) {
                (Some(why), _) => (None, Some(why.to_string())),
                (None, Err(error)) => (None, Some(error.to_string())),
                (None, Ok(_)) => (file.identity().ok(), None),
            }
        });
        let (identity, why) = match reopened.await {
            Ok(reopened) => reopened,
            Err(panic) => (None, Some(panic.to_string())),
        };
        self.identity = identity;
        why
    }
}

/// Commits all that `work` writes, or nothing of it. The result contains its outcome, and the
/// identity of the file after the commit.
fn commit_all<T>(
    opened: &Result<Database, DatabaseError>,
    file: &DatabaseFile,
    identity: Option<FileIdentity>,
    work: impl FnOnce(&Database) -> Result<T, DatabaseError>,
) -> Result<(T, FileIdentity), NotWritten> {
    let not_written = |why: String, is_broken| NotWritten {
        why,
        is_broken,
        has_panicked: false,
    };
    let moved = |why: String| not_written(why, false);
    let failed = |why: String| not_written(why, true);
    let database = opened.as_ref().map_err(|error| failed(error.to_string()))?;
    let now = file.identity().map_err(|error| moved(error.to_string()))?;
    match identity {
        Some(identity) if !identity.is_file(&now) => {
            return Err(moved(ANOTHER.to_owned()));
        }
        Some(identity) if identity != now => {
            return Err(failed("somebody else has written into the file".to_owned()));
        }
        _ => {}
    }
    let outcome = work(database).map_err(|error| failed(error.to_string()))?;
    // A commit into a file that has gone from its path is nothing to rely on.
    let left = file.identity().map_err(|error| moved(error.to_string()))?;
    match now.is_file(&left) {
        true => Ok((outcome, left)),
        false => Err(moved(ANOTHER.to_owned())),
    }
}

const ANOTHER: &str = "another file is there than the one that was opened";

fn refuse(batch: Vec<Write>, why: &str) {
    for write in batch {
        let _ = write.done.send(Err(StoreFailure::Failed(why.to_owned())));
    }
}

/// The number of bytes that a change adds.
fn weight(write: &Write) -> u64 {
    let bytes = match &write.change {
        Change::Set(values) => values
            .iter()
            .map(|(key, value)| key.len() + value.len())
            .sum(),
        Change::Swap { key, value, .. } => key.len() + value.len(),
        Change::Delete(_) | Change::Increment(..) => 0,
    };
    bytes as u64
}
