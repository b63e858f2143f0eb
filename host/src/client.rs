//! Clients: the door they come in by, and their life.
//!
//! One task for each: its events enter the plugin one at a time and in order. The next frame
//! is read only after the one before has been handled, so a client that sends faster than its
//! plugin handles waits in its own socket.

mod admission;
mod handshake;
mod pace;
mod pages;
mod reader;
mod refusal;
mod session;
mod sweep;
mod upgrade;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use self::admission::Admission;
use crate::limits::REFUSALS;
use crate::mesh::Seldom;
use crate::plugin::Plugins;
use crate::registry::Registry;

/// What every client's task needs.
struct Door {
    plugins: Arc<Plugins>,
    registry: Arc<Registry>,
    admission: Arc<Admission>,
    handshakes: Arc<Semaphore>,
    /// Clients may have so many files open.
    files: Arc<Semaphore>,
    /// So many connections more are let in, to be told that there is no room.
    refusals: Arc<Semaphore>,
    refused: Seldom,
}

/// Accepts clients until `closed` says so, and writes what they are sent. They have so many
/// `files` open at most.
pub async fn serve(
    listener: TcpListener,
    plugins: Arc<Plugins>,
    registry: Arc<Registry>,
    files: usize,
    mut closed: watch::Receiver<bool>,
) {
    for list in registry.dirty().lists() {
        tokio::spawn(sweep::sweep(list.clone()));
    }
    let admission = Arc::new(Admission::new(registry.limits()));
    let semaphore = |permits| Arc::new(Semaphore::new(permits));
    let door = Arc::new(Door {
        handshakes: semaphore(registry.limits().handshakes),
        plugins,
        registry,
        admission,
        files: semaphore(files),
        refusals: semaphore(REFUSALS),
        refused: Seldom::default(),
    });
    let mut out_of_files = false;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = closed.wait_for(|closed| *closed) => return,
        };
        match accepted {
            Ok((socket, _)) => {
                out_of_files = false;
                door.clone().welcome(socket);
            }
            // A client that has gone already is none of our business.
            Err(error) if is_the_client_s(&error) => {}
            Err(error) => {
                door.registry.counters().accepts_failed.add_one();
                if !std::mem::replace(&mut out_of_files, true) {
                    tracing::error!(%error, "clients cannot be accepted; is `ulimit -n` high enough?");
                }
                tokio::time::sleep(REST).await;
            }
        }
    }
}

impl Door {
    fn welcome(self: Arc<Self>, socket: TcpStream) {
        let Ok(permit) = self.handshakes.clone().try_acquire_owned() else {
            self.registry.counters().handshakes_limited.add_one();
            return;
        };
        let files = Files::take(&self.files);
        if files.is_none() {
            self.registry.counters().files_limited.add_one();
            if let Some(unsaid) = self.refused.happened() {
                tracing::warn!(
                    unsaid,
                    "clients are refused, since they have all the open files that they may have: \
                     raise LimitNOFILE= or `ulimit -n`"
                );
            }
        }
        let refusal = match files {
            Some(_) => None,
            None => match self.refusals.clone().try_acquire_owned() {
                Ok(refusal) => Some(refusal),
                Err(_) => return,
            },
        };
        tokio::spawn(async move {
            handshake::shake_hands(self, socket, files).await;
            drop((permit, refusal));
        });
    }
}

/// The open files of a connection that is accepted.
struct Files {
    /// The connection itself is one, which its client keeps.
    connection: Arc<OwnedSemaphorePermit>,
    /// It may turn out to ask for a page, which is another one.
    _page: OwnedSemaphorePermit,
}

impl Files {
    fn take(files: &Arc<Semaphore>) -> Option<Files> {
        let mut both = files.clone().try_acquire_many_owned(2).ok()?;
        Some(Files {
            _page: both.split(1)?,
            connection: Arc::new(both),
        })
    }
}

/// How long accepting rests when the process has no file descriptor left: each attempt would
/// fail at once, in a loop.
const REST: Duration = Duration::from_millis(100);

fn is_the_client_s(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}
