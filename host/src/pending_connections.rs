//! Pending connections: those that have not proved yet who is there.
//!
//! A port has a bounded number of them. Beyond it the oldest is cut, and not the newest
//! refused: a node proves itself within some round trips, so whoever has been here longest is
//! the least likely to be one, and a flood of connections that say nothing keeps no node out.
//! Where nodes connect, one is also cut after `PROOF_TIMEOUT`, and once it has sent
//! `PROOF_BYTES`, whatever else it does with its connection.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
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
use tonic::transport::server::{Connected, TlsConnectInfo};
use tonic::{Request, Status};

use crate::limits::NODE_BACKLOG;
use crate::log_throttle::LogThrottle;

/// How long a node that has connected may take to prove itself.
pub(crate) const PROOF_TIMEOUT: Duration = Duration::from_secs(5);

/// What it may send until then; it needs some kilobytes.
const PROOF_BYTES: usize = 64 << 10;

/// Pending connections where nodes connect: as many as the kernel holds (`NODE_BACKLOG`), so that
/// few are cut when all nodes come back to a register at once.
const NODES: usize = NODE_BACKLOG as usize;

/// The pending connections of one port.
#[derive(Debug)]
pub struct PendingConnections {
    port: &'static str,
    most: usize,
    must_prove: bool,
    here: Mutex<VecDeque<Weak<Unauthenticated>>>,
    cut: LogThrottle,
    /// So many more may prove themselves, and then count no more.
    proved: Arc<Semaphore>,
}

/// A connection that counts until it has proved itself.
#[derive(Debug)]
pub struct Unauthenticated {
    pub(crate) from: Option<SocketAddr>,
    has_proved: AtomicBool,
    proved: Arc<Semaphore>,
    cut: CancellationToken,
}

/// A connection that may be cut while it is a stranger's.
pub struct Connection {
    stream: TcpStream,
    stranger: Arc<Unauthenticated>,
    /// What it may still send; no number: as much as it likes.
    allowance: Option<usize>,
    cut: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl PendingConnections {
    /// At most so many, at a port where who proves nothing may stay for as long as there is
    /// room. Beyond so many that have proved themselves, one more still counts.
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

    /// At a port where nodes connect, with so many files for their connections.
    pub(crate) fn nodes(port: &'static str, files: usize) -> PendingConnections {
        PendingConnections {
            must_prove: true,
            ..PendingConnections::unproved(port, NODES.min(files / 2), Semaphore::MAX_PERMITS)
        }
    }

    /// Takes one more.
    pub fn accept(&self, stream: TcpStream) -> Connection {
        // An answer in two writes would wait 40 ms for the other side to acknowledge the first.
        let _ = stream.set_nodelay(true);
        let cut = CancellationToken::new();
        let stranger = Arc::new(Unauthenticated {
            from: stream.peer_addr().ok(),
            has_proved: AtomicBool::new(false),
            proved: self.proved.clone(),
            cut: cut.clone(),
        });
        self.make_room();
        self.here.lock().push_back(Arc::downgrade(&stranger));
        let timeout = self.must_prove.then_some(PROOF_TIMEOUT);
        Connection {
            stream,
            stranger,
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
        here.retain(|stranger| stranger.upgrade().is_some_and(|s| !s.has_proved()));
        if here.len() < self.most {
            return;
        }
        if let Some(oldest) = here.pop_front().and_then(|oldest| oldest.upgrade()) {
            oldest.cut.cancel();
        }
        if let Some(unsaid) = self.cut.happened() {
            let (port, most) = (self.port, self.most);
            tracing::warn!(
                port,
                most,
                unsaid,
                "too many connections: the oldest is cut"
            );
        }
    }
}

impl Unauthenticated {
    /// Who has made a request.
    pub(crate) fn of<T>(request: &Request<T>) -> Result<Arc<Unauthenticated>, Status> {
        let all = request.extensions();
        let by_tls = || Some(all.get::<TlsConnectInfo<Arc<Unauthenticated>>>()?.get_ref());
        let stranger = all.get::<Arc<Unauthenticated>>().or_else(by_tls).cloned();
        stranger.ok_or_else(|| Status::internal("nobody knows whose connection this is"))
    }

    /// It is none any more, where there is room for one that is none.
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

impl Connection {
    /// Whose it is.
    pub fn stranger(&self) -> &Arc<Unauthenticated> {
        &self.stranger
    }

    /// Ends a connection that is to be cut.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let Connection { stranger, cut, .. } = self;
        if stranger.has_proved() {
            return Ok(());
        }
        // Polled once more after its end, it would panic.
        if stranger.cut.is_cancelled() || cut.as_mut().poll(context).is_ready() {
            stranger.cut.cancel();
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }
}

impl AsyncRead for Connection {
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
            && !self.stranger.has_proved()
        {
            self.allowance = Some(allowance.saturating_sub(read));
            if read > allowance {
                self.stranger.cut.cancel();
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
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

impl Connected for Connection {
    type ConnectInfo = Arc<Unauthenticated>;

    fn connect_info(&self) -> Arc<Unauthenticated> {
        self.stranger.clone()
    }
}
