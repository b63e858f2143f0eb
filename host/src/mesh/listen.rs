//! Ports for connections of nodes: those of the mesh and of registers.

use std::io;
use std::net::SocketAddr;

use anyhow::Context as _;
use tokio::net::{TcpListener, TcpSocket};

use super::trust::Trust;
use crate::limits::NODE_BACKLOG;

/// Listens for nodes at `address`, which is `HOST:PORT`. Without a secret and certificates
/// everybody who can connect is trusted, so the address must then be a loopback address.
///
/// # Errors
///
/// The address cannot be listened on, or other machines could reach it without a secret or
/// certificates.
pub async fn bind(address: &str, trust: &Trust, flag: &str) -> anyhow::Result<TcpListener> {
    let listener = listen(address).await.with_context(|| {
        format!("cannot listen on {address}: name a free address with {flag} (port 0 takes one)")
    })?;
    anyhow::ensure!(
        trust.is_set() || listener.local_addr()?.ip().is_loopback(),
        "{flag} {address} can be reached from other machines, and anybody there would be trusted: \
         give all nodes and registers a secret with --secret-file, or certificates with \
         --tls-certificate, or listen on 127.0.0.1"
    );
    Ok(listener)
}

async fn listen(address: &str) -> io::Result<TcpListener> {
    let mut failed = io::ErrorKind::AddrNotAvailable.into();
    for address in tokio::net::lookup_host(address).await? {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        // A restarted process must not wait for the last connections of the one before.
        socket.set_reuseaddr(true)?;
        match socket
            .bind(address)
            .and_then(|()| socket.listen(NODE_BACKLOG))
        {
            Ok(listener) => return Ok(listener),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}
