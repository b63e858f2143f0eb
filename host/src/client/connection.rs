//! One connection of a client. A client that comes back has several, one after another.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::time::Instant;

use super::admission::AdmissionPermit;
use super::reader::Reader;
use crate::socket::WriteHalf;

/// A connection after its upgrade.
pub(super) struct Connection {
    pub(super) reader: Reader,
    /// The half for writing, until the outbox has it.
    pub(super) write: Arc<WriteHalf>,
    /// The permit on the node.
    pub(super) place: AdmissionPermit,
    /// The time when the client's token expires, if it does.
    pub(super) until: Option<Instant>,
    /// The address of the client; none for a Unix socket.
    pub(super) address: Option<SocketAddr>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}
