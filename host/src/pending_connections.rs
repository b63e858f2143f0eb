//! Pending connections: those whose peer is not authenticated yet.
//!
//! A port has a limited number of pending connections. Beyond that number, the oldest one is
//! closed, of the address that has the most, and the newest one is not refused. A node authenticates within a few round trips, so the
//! oldest pending connection is the least likely to be a node. A flood of silent connections
//! therefore keeps no node out. On a port where nodes connect, a pending connection is also closed
//! after `PROOF_TIMEOUT`, and when it has sent more than `PROOF_BYTES`, whatever else the peer
//! does.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status};

use crate::address_share::share_of;
use crate::limits::NODE_BACKLOG;
use crate::log_throttle::LogThrottle;

/// The time that a connected node has for its authentication.
pub(crate) const PROOF_TIMEOUT: Duration = Duration::from_secs(5);

/// The most bytes that a node may send before it is authenticated. An authentication needs a few
/// kilobytes.
const PROOF_BYTES: usize = 64 << 10;

/// The most pending connections on a port where nodes connect. The kernel holds the same number
/// (`NODE_BACKLOG`), so few of them are closed when all nodes return to a register at once.
const NODES: usize = NODE_BACKLOG as usize;

/// The pending connections of one port.
#[derive(Debug)]
pub struct PendingConnections {
    port: &'static str,
    most: usize,
    must_prove: bool,
    here: Mutex<VecDeque<Weak<Unauthenticated>>>,
    cut: LogThrottle,
    /// The permits for authenticated connections. A connection with a permit no longer counts as
    /// pending.
    proved: Arc<Semaphore>,
}

/// A connection that counts as pending until its peer is authenticated.
#[derive(Debug)]
pub struct Unauthenticated {
    pub(crate) from: Option<SocketAddr>,
    has_proved: AtomicBool,
    proved: Arc<Semaphore>,
    cut: CancellationToken,
}

/// A connection that can be closed by the node while it is pending.
pub struct GuardedConnection {
    stream: TcpStream,
    authentication: Arc<Unauthenticated>,
    /// The bytes that the peer may still send while the connection is pending. `None` means no
    /// limit.
    allowance: Option<usize>,
    cut: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl PendingConnections {
    /// Creates the limit of a port where unauthenticated connections may stay open for as long as
    /// there is room. At most `most` connections are pending, and at most `proved` connections are
    /// authenticated. Beyond `proved`, an authenticated connection still counts as pending.
    pub fn unproved(port: &'static str, most: usize, proved: usize) -> PendingConnections {
        PendingConnections {
            port,
            most,
            must_prove: false,
            here: Mutex::default(),
            cut: LogThrottle::default(),
            proved: Arc::new(Semaphore::new(proved)),
        }
    }

    /// Creates the limit of a port where nodes connect, with `files` open files for their
    /// connections.
    pub(crate) fn nodes(port: &'static str, files: usize) -> PendingConnections {
        PendingConnections {
            must_prove: true,
            ..PendingConnections::unproved(port, NODES.min(files / 2), Semaphore::MAX_PERMITS)
        }
    }

    /// Accepts one more connection, and closes the oldest pending one if there are too many.
    pub fn accept(&self, stream: TcpStream) -> GuardedConnection {
        // An answer in two writes would wait 40 ms for the other side to acknowledge the first.
        let _ = stream.set_nodelay(true);
        let cut = CancellationToken::new();
        let authentication = Arc::new(Unauthenticated {
            from: stream.peer_addr().ok(),
            has_proved: AtomicBool::new(false),
            proved: self.proved.clone(),
            cut: cut.clone(),
        });
        self.make_room();
        self.here.lock().push_back(Arc::downgrade(&authentication));
        let timeout = self.must_prove.then_some(PROOF_TIMEOUT);
        GuardedConnection {
            stream,
            authentication,
            allowance: self.must_prove.then_some(PROOF_BYTES),
            cut: Box::pin(async move {
                match timeout {
                    Some(timeout) => drop(tokio::time::timeout(timeout, cut.cancelled()).await),
                    None => cut.cancelled().await,
                }
            }),
        }
    }

    fn make_room(&self) {
        let mut here = self.here.lock();
        here.retain(|authentication| authentication.upgrade().is_some_and(|s| !s.has_proved()));
        if here.len() < self.most {
            return;
        }
        let oldest = position_to_cut(&here).and_then(|position| here.remove(position));
        if let Some(oldest) = oldest.and_then(|oldest| oldest.upgrade()) {
            oldest.cut.cancel();
        }
        if let Some(unsaid) = self.cut.happened() {
            let (port, most) = (self.port, self.most);
            tracing::warn!(
                port,
                most,
                unsaid,
                "too many connections: the oldest is cut, of the address that has the most"
            );
        }
    }
}

/// The position of the oldest connection of the address that has the most. Of several addresses
/// with as many, the one with the oldest connection counts.
fn position_to_cut(here: &VecDeque<Weak<Unauthenticated>>) -> Option<usize> {
    let mut addresses: HashMap<Option<IpAddr>, (usize, Reverse<usize>)> = HashMap::new();
    for (position, connection) in here.iter().enumerate() {
        let from = connection.upgrade().and_then(|connection| connection.from);
        let address = from.map(|from| share_of(from.ip()));
        addresses.entry(address).or_insert((0, Reverse(position))).0 += 1;
    }
    let (_, Reverse(oldest)) = addresses.into_values().max()?;
    Some(oldest)
}

impl Unauthenticated {
    /// The authentication state of the connection that a request came from.
    ///
    /// # Errors
    ///
    /// Returns a status when the request does not say which connection it came from.
    pub(crate) fn of<T>(request: &Request<T>) -> Result<Arc<Unauthenticated>, Status> {
        let authentication = request.extensions().get::<Arc<Unauthenticated>>().cloned();
        authentication.ok_or_else(|| Status::internal("nobody knows whose connection this is"))
    }

    /// The state of a connection inside this process, which no port has accepted.
    #[cfg(test)]
    pub(crate) fn in_process() -> Arc<Unauthenticated> {
        Arc::new(Unauthenticated {
            from: None,
            has_proved: AtomicBool::new(false),
            proved: Arc::new(Semaphore::new(1)),
            cut: CancellationToken::new(),
        })
    }

    /// Marks the connection as authenticated. Without a free permit, the connection still counts as
    /// pending.
    pub fn proved(&self) {
        if self.has_proved() {
            return;
        }
        if let Ok(permit) = self.proved.try_acquire() {
            // Given back with the connection.
            permit.forget();
            if self.has_proved.swap(true, Ordering::AcqRel) {
                self.proved.add_permits(1);
            }
        }
    }

    fn has_proved(&self) -> bool {
        self.has_proved.load(Ordering::Acquire)
    }
}

impl Drop for Unauthenticated {
    fn drop(&mut self) {
        if self.has_proved() {
            self.proved.add_permits(1);
        }
    }
}

impl GuardedConnection {
    /// The authentication state of this connection.
    pub fn authentication(&self) -> &Arc<Unauthenticated> {
        &self.authentication
    }

    /// Returns an error if the pending connection must be closed.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let GuardedConnection {
            authentication,
            cut,
            ..
        } = self;
        if authentication.has_proved() {
            return Ok(());
        }
        // Polled once more after its end, it would panic.
        if authentication.cut.is_cancelled() || cut.as_mut().poll(context).is_ready() {
            authentication.cut.cancel();
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }
}

impl AsyncRead for GuardedConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let read = buffer.filled().len() - before;
        if let Some(allowance) = self.allowance
            && !self.authentication.has_proved()
        {
            self.allowance = Some(allowance.saturating_sub(read));
            if read > allowance {
                self.authentication.cut.cancel();
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for GuardedConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_of_the_address_with_the_most_is_cut() {
        let connections = ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.2:2", "10.0.0.3:1"].map(|from| {
            let from = Some(from.parse().expect("an address"));
            let connection = Unauthenticated::in_process();
            Arc::new(Unauthenticated {
                from,
                has_proved: AtomicBool::new(false),
                proved: connection.proved.clone(),
                cut: CancellationToken::new(),
            })
        });
        let here: VecDeque<_> = connections.iter().map(Arc::downgrade).collect();
        assert_eq!(position_to_cut(&here), Some(1));
        let alone: VecDeque<_> = [0, 3].map(|at| Arc::downgrade(&connections[at])).into();
        assert_eq!(position_to_cut(&alone), Some(0), "the oldest of as many");
        assert_eq!(position_to_cut(&VecDeque::new()), None);
    }
}
