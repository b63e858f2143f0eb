//! Files that are read again and again, since new tokens and new certificates must not need a
//! restart.
//!
//! The content of a file is compared and not its times, because another file can have the same
//! length and times. Files that cannot be read, or whose content is wrong, change nothing, and the
//! log says so once.

use std::io;
use std::path::PathBuf;
use std::sync::Weak;
use std::time::Duration;

/// The interval at which the files are read.
const LOOK: Duration = Duration::from_secs(1);

/// The time that the content must stay the same to count as complete.
const SETTLED: Duration = Duration::from_millis(200);

/// The largest of the files, in bytes, since they are read every second.
const FILE_BYTES: u64 = 1 << 20;

/// Files that belong together.
#[derive(Clone, Debug)]
pub(crate) struct WatchedFiles {
    /// What the files are, for the log: `the API's tokens`.
    pub(crate) what: &'static str,
    pub(crate) paths: Vec<PathBuf>,
}

impl WatchedFiles {
    /// Reads all files now.
    ///
    /// # Errors
    ///
    /// Returns an error that names the file that cannot be read.
    pub(crate) fn read(&self) -> io::Result<Vec<Vec<u8>>> {
        let read = |path: &PathBuf| {
            crate::file::read(path, FILE_BYTES).map_err(|error| {
                let why = format!("{} cannot be read: {error}", path.display());
                io::Error::new(error.kind(), why)
            })
        };
        self.paths.iter().map(read).collect()
    }

    /// Reads the files for as long as the owner lives, and gives it their content when it is not
    /// what was `taken` before. An error of `take` leaves the owner as it was.
    pub(crate) async fn keep_reading<T>(
        self,
        owner: Weak<T>,
        mut taken: Vec<Vec<u8>>,
        take: impl Fn(&T, &[Vec<u8>]) -> anyhow::Result<()>,
    ) {
        let mut complaint = None;
        loop {
            tokio::time::sleep(LOOK).await;
            let Some(owner) = owner.upgrade() else {
                return;
            };
            let first = self.read_again().await.ok();
            if first.as_ref() == Some(&taken) {
                if complaint.is_none() {
                    continue;
                }
            } else {
                tokio::time::sleep(SETTLED).await;
            }
            let second = self.read_again().await;
            if second.as_ref().ok() != first.as_ref() {
                continue;
            }
            let read = second.map_err(anyhow::Error::new).and_then(|contents| {
                take(&owner, &contents)?;
                Ok(contents)
            });
            match read {
                Ok(contents) => {
                    tracing::info!("{} were read again", self.what);
                    (taken, complaint) = (contents, None);
                }
                Err(error) => {
                    let error = format!("{error:#}");
                    if complaint.as_ref() != Some(&error) {
                        tracing::error!(error, "{} stay as they were", self.what);
                        complaint = Some(error);
                    }
                }
            }
        }
    }

    async fn read_again(&self) -> io::Result<Vec<Vec<u8>>> {
        let files = self.clone();
        let reading = tokio::task::spawn_blocking(move || files.read());
        reading.await.map_err(io::Error::other)?
    }
}
