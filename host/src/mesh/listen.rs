//! Ports for connections of nodes: those of the mesh and of registers.

use anyhow::Context as _;
use tokio::net::TcpListener;

use super::trust::Trust;
use crate::limits::NODE_BACKLOG;
use crate::listener::listen;

/// Listens for nodes at `address`, which is `HOST:PORT`. Without a secret and certificates
/// everybody who can connect is trusted, so the address must then be a loopback address.
///
/// # Errors
///
/// The address cannot be listened on, or other machines could reach it without a secret or
/// certificates.
pub async fn bind(address: &str, trust: &Trust, flag: &str) -> anyhow::Result<TcpListener> {
    let listener = listen(address, NODE_BACKLOG).await.with_context(|| {
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
