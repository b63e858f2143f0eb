//! A connection that was accepted, and what comes before its request: the header of a proxy, and
//! then TLS.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use super::acceptor::Acceptor;
use super::handshakes::HandshakePermit;
use super::proxy_protocol::read_proxy_header;
use crate::address_share::share_of;
use crate::certificates::Certificates;
use crate::socket::{
    CertificateDer, PlainReadHalf, PlainWriteHalf, ReadHalf, WriteHalf, accept_tls,
};

/// A connection that was accepted.
pub(super) struct NewConnection {
    pub(super) read: PlainReadHalf,
    pub(super) write: PlainWriteHalf,
    /// The address of the other end. A Unix socket has none.
    pub(super) peer: Option<SocketAddr>,
    /// Whether clients of the port connect with TLS. Then there are certificates.
    pub(super) is_encrypted: bool,
    /// The certificates of the node, if any of its ports uses TLS.
    pub(super) certificates: Option<Arc<Certificates>>,
}

/// Where a connection comes from.
pub(super) struct ConnectionSource {
    /// The address of the client, or of the nearest proxy that does not name the client here.
    pub(super) address: Option<SocketAddr>,
    /// Whether the node has ended TLS on the connection.
    pub(super) is_encrypted: bool,
    pub(super) certificate: Option<CertificateDer<'static>>,
    /// The certificates of the node, if any of its ports uses TLS.
    pub(super) certificates: Option<Arc<Certificates>>,
}

impl NewConnection {
    /// The address that counts for this connection until more is known.
    pub(super) fn address(&self) -> IpAddr {
        ip_or_unspecified(self.peer)
    }

    /// Reads what comes before the request: the header of a proxy, and then TLS.
    pub(super) async fn prepare(
        self,
        door: &Acceptor,
        permit: &mut HandshakePermit,
    ) -> io::Result<(ReadHalf, WriteHalf, ConnectionSource)> {
        let NewConnection {
            mut read,
            write,
            peer,
            is_encrypted,
            certificates,
        } = self;
        let proxies = door.proxies.load_full();
        let mut source = ConnectionSource {
            address: peer,
            is_encrypted,
            certificate: None,
            certificates,
        };
        if proxies.protocol && proxies.trusts(peer.map(|peer| peer.ip())) {
            let header = read_proxy_header(&mut read).await;
            if let Some(client) = header.inspect_err(|error| door.say_headerless(peer, error))? {
                permit.set_address(client.ip());
                source.address = Some(client);
            }
        }
        let certificates = source.certificates.as_ref().filter(|_| is_encrypted);
        let Some(certificates) = certificates else {
            return Ok((ReadHalf::Plain(read), WriteHalf::Plain(write), source));
        };
        door.count_tls(source.address)?;
        let config = certificates.for_clients();
        let (read, write, certificate) = accept_tls(read, write, config).await?;
        source.certificate = certificate;
        Ok((read, write, source))
    }
}

impl Acceptor {
    /// Counts a TLS handshake that an address begins. A Unix socket has no address.
    fn count_tls(&self, address: Option<SocketAddr>) -> io::Result<()> {
        let now = Instant::now();
        let rates = address.and_then(|address| self.tls_rates.of(share_of(address.ip()), now));
        if rates.is_none_or(|rates| rates.take_connect(now)) {
            return Ok(());
        }
        self.registry.counters().handshakes_limited.add_one();
        Err(io::Error::other("its address begins with TLS too often"))
    }

    /// Logs that a trusted proxy has not begun with a header of the PROXY protocol.
    fn say_headerless(&self, peer: Option<SocketAddr>, error: &io::Error) {
        // Probes of a proxy may connect and say nothing.
        if error.kind() == io::ErrorKind::InvalidData
            && let Some(unsaid) = self.headerless.happened()
        {
            tracing::warn!(
                ?peer,
                %error,
                unsaid,
                "a trusted proxy is refused: let it send the PROXY protocol, or set \
                 proxy.protocol = false"
            );
        }
    }
}

/// The address that counts for a connection. All clients of Unix sockets together count as one.
pub(super) fn ip_or_unspecified(address: Option<SocketAddr>) -> IpAddr {
    address.map_or(Ipv4Addr::UNSPECIFIED.into(), |address| address.ip())
}
