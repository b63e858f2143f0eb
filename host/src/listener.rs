//! The listener: the way in which all ports of a node are opened.
//!
//! Clients connect over TCP, over a Unix socket, or over a socket that systemd has opened before
//! the node has started. The other ports of a node are TCP ports. A node may get its sockets from the
//! process that it replaces.

mod address;
mod handover;
mod systemd;
mod unix_socket;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use anyhow::Context as _;
use rustix::net::sockopt::set_socket_send_buffer_size;
use tokio::net::{TcpListener, TcpSocket, UnixListener};

pub use self::address::ListenAddress;
pub(crate) use self::address::one_or_many;
pub use self::handover::{HandedSocket, HandoverPort, InheritedSockets, PreparedHandover};
use self::systemd::SystemdSocket;
pub use self::unix_socket::UnixSocketConfig;
use self::unix_socket::UnixSocketFile;
use crate::socket::{PlainReadHalf, PlainWriteHalf, split_tcp, split_unix};

/// A port where clients connect.
#[derive(Debug)]
pub struct ClientListener {
    listener: AnyListener,
    /// The size of the kernel's buffer for what is sent to one client, in bytes. With 0, the kernel
    /// chooses.
    send_buffer: usize,
}

#[derive(Debug)]
enum AnyListener {
    Tcp(TcpListener),
    Unix(UnixListener, Option<Arc<UnixSocketFile>>),
}

/// An accepted connection: its halves, and the address of its peer. A peer at a Unix socket has no
/// address.
pub type AcceptedConnection = (PlainReadHalf, PlainWriteHalf, Option<SocketAddr>);

impl ClientListener {
    /// Opens the ports at an address, where the kernel holds at most `backlog` connections that were
    /// not accepted yet. systemd may have several sockets of one name. A socket that was inherited
    /// for this address is used as it is.
    ///
    /// # Errors
    ///
    /// Returns an error when the address cannot be listened on.
    pub async fn open(
        address: &ListenAddress,
        backlog: u32,
        unix_sockets: &UnixSocketConfig,
        send_buffer: usize,
        inherited: Option<OwnedFd>,
    ) -> anyhow::Result<Vec<ClientListener>> {
        let listeners = match (address, inherited) {
            (ListenAddress::Tcp(_), Some(socket)) => {
                vec![AnyListener::Tcp(TcpListener::from_std(socket.into())?)]
            }
            (ListenAddress::Unix(path), Some(socket)) => {
                let named = || format!("{address}, which the other node has");
                let file = UnixSocketFile::at(path, true).with_context(named)?;
                let listener = UnixListener::from_std(socket.into())?;
                vec![AnyListener::Unix(listener, Some(Arc::new(file)))]
            }
            (ListenAddress::Tcp(address), None) => {
                let listener = listen(address, backlog).await;
                vec![AnyListener::Tcp(listener.with_context(|| {
                    format!(
                        "cannot listen on {address}: name a free address with --listen (port 0 \
                         takes one)"
                    )
                })?)]
            }
            (ListenAddress::Unix(path), None) => {
                let (listener, file) = unix_socket::listen(path, backlog, unix_sockets)
                    .with_context(|| format!("cannot listen on {address}"))?;
                vec![AnyListener::Unix(listener, Some(Arc::new(file)))]
            }
            (ListenAddress::Systemd(name), _) => {
                let sockets = systemd::sockets(name)?.into_iter();
                let opened = sockets.map(|socket| match socket {
                    SystemdSocket::Tcp(listener) => {
                        TcpListener::from_std(listener).map(AnyListener::Tcp)
                    }
                    SystemdSocket::Unix(listener) => UnixListener::from_std(listener)
                        .map(|listener| AnyListener::Unix(listener, None)),
                });
                opened.collect::<io::Result<_>>()?
            }
        };
        let listeners = listeners.into_iter().map(|listener| {
            let listener = ClientListener {
                listener,
                send_buffer,
            };
            listener.prepare();
            listener
        });
        Ok(listeners.collect())
    }

    /// The socket, for the process that replaces this one and asks for this name.
    ///
    /// # Errors
    ///
    /// Returns an error when the process has no file left.
    pub fn handed_as(&self, name: String) -> io::Result<HandedSocket> {
        match &self.listener {
            AnyListener::Tcp(listener) => HandedSocket::new(name, listener.as_fd(), None),
            AnyListener::Unix(listener, file) => {
                HandedSocket::new(name, listener.as_fd(), file.clone())
            }
        }
    }

    fn prepare(&self) {
        // Accepted sockets have it from their listener. Those of a Unix socket do not.
        if let AnyListener::Tcp(listener) = &self.listener
            && self.send_buffer > 0
            && let Err(error) = set_socket_send_buffer_size(listener, self.send_buffer)
        {
            let bytes = self.send_buffer;
            tracing::warn!(%error, bytes, "the size of send buffers cannot be set");
        }
    }

    /// Accepts the next connection.
    ///
    /// # Errors
    ///
    /// Returns an error when the connection has gone already, or when the process has no file left.
    pub async fn accept(&self) -> io::Result<AcceptedConnection> {
        match &self.listener {
            AnyListener::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                // Batching is done by the outbox, and never by waiting.
                let _ = stream.set_nodelay(true);
                let (read, write) = split_tcp(stream);
                Ok((read, write, Some(address)))
            }
            AnyListener::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                if self.send_buffer > 0 {
                    let _ = set_socket_send_buffer_size(&stream, self.send_buffer);
                }
                let (read, write) = split_unix(stream);
                Ok((read, write, None))
            }
        }
    }

    /// The address where this listens. Port 0 is replaced by the port that the kernel chose.
    ///
    /// # Errors
    ///
    /// Returns an error when the kernel does not know the address.
    pub fn address(&self) -> io::Result<ListenAddress> {
        match &self.listener {
            AnyListener::Tcp(listener) => {
                Ok(ListenAddress::Tcp(listener.local_addr()?.to_string()))
            }
            AnyListener::Unix(_, Some(file)) => Ok(ListenAddress::Unix(file.path().to_owned())),
            AnyListener::Unix(listener, None) => {
                let address = listener.local_addr()?;
                let path = address.as_pathname().unwrap_or("".as_ref());
                Ok(ListenAddress::Unix(path.to_owned()))
            }
        }
    }
}

/// The socket of another port, for the process that replaces this one and asks for this name.
///
/// # Errors
///
/// Returns an error when the process has no file left.
pub(crate) fn handed_as(name: String, listener: &TcpListener) -> io::Result<HandedSocket> {
    HandedSocket::new(name, listener.as_fd(), None)
}

/// Listens at `address`, which is `HOST:PORT`, at the first of the host's addresses that is free.
/// The kernel holds at most `backlog` connections that were not accepted yet.
///
/// # Errors
///
/// The host is not known, or none of its addresses can be listened on.
pub(crate) async fn listen(address: &str, backlog: u32) -> io::Result<TcpListener> {
    let mut failed = io::ErrorKind::AddrNotAvailable.into();
    for address in tokio::net::lookup_host(address).await? {
        match listen_at(address, backlog) {
            Ok(listener) => return Ok(listener),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn listen_at(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A restarted process must not wait for the last connections of the one before.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(backlog)
}
