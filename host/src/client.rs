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
use tokio::sync::{Semaphore, watch};

use self::admission::Admission;
use crate::plugin::Plugins;
use crate::registry::Registry;

/// What every client's task needs.
struct Door {
    plugins: Arc<Plugins>,
    registry: Arc<Registry>,
    admission: Arc<Admission>,
}

/// Accepts clients until `closed` says so, and writes what they are sent.
pub async fn serve(
    listener: TcpListener,
    plugins: Arc<Plugins>,
    registry: Arc<Registry>,
    mut closed: watch::Receiver<bool>,
) {
    for list in registry.dirty().lists() {
        tokio::spawn(sweep::sweep(list.clone()));
    }
    let admission = Arc::new(Admission::new(registry.limits()));
    let handshakes = Arc::new(Semaphore::new(registry.limits().handshakes));
    let door = Arc::new(Door {
        plugins,
        registry,
        admission,
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
                door.clone().welcome(socket, &handshakes);
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
    fn welcome(self: Arc<Self>, socket: TcpStream, handshakes: &Arc<Semaphore>) {
        let Ok(permit) = handshakes.clone().try_acquire_owned() else {
            self.registry.counters().handshakes_limited.add_one();
            return;
        };
        tokio::spawn(async move {
            handshake::shake_hands(self, socket).await;
            drop(permit);
        });
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
