//! The inbound direction of a link: the frames of a peer, received by one connection at a time.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::watch;

use super::link::IncomingFrames;

/// The state of receiving a peer's frames.
#[derive(Debug)]
pub(super) struct Inbound {
    /// The frames that were received, locked by the connection that receives. Another connection
    /// waits until that one has stopped.
    pub(super) frames: tokio::sync::Mutex<IncomingFrames>,
    /// The number of connections that have wanted to receive. The last one of them may.
    connections: watch::Sender<u64>,
    /// The number of the snapshot that the peer sends, or sent last; 0 if there is none yet.
    snapshot: AtomicU32,
}

/// The number of a connection, which identifies its turn to receive.
#[derive(Clone, Copy, Debug)]
pub(super) struct Receiving(u64);

impl Inbound {
    /// The state of a peer of which nothing has been received.
    pub(super) fn new() -> Inbound {
        Inbound {
            // No session has this number; see `draw_session`.
            frames: tokio::sync::Mutex::new(IncomingFrames::new(0)),
            connections: watch::Sender::new(0),
            snapshot: AtomicU32::new(0),
        }
    }

    /// Registers a new connection that wants to receive. The connection before it stops.
    pub(super) fn supersede(&self) -> Receiving {
        let mut number = 0;
        self.connections.send_modify(|connections| {
            *connections += 1;
            number = *connections;
        });
        Receiving(number)
    }

    /// Waits until another connection wants to receive.
    pub(super) async fn superseded(&self, receiving: Receiving) {
        let mut connections = self.connections.subscribe();
        // An error is not possible: the sender is in `self`.
        let _ = connections.wait_for(|last| *last != receiving.0).await;
    }

    /// Returns the number of the snapshot that the peer sends, or sent last.
    pub(super) fn snapshot(&self) -> u32 {
        self.snapshot.load(Ordering::Relaxed)
    }

    /// Records that the peer begins to send the snapshot of this number.
    pub(super) fn begin_snapshot(&self, number: u32) {
        self.snapshot.store(number, Ordering::Relaxed);
    }
}
