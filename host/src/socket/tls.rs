//! TLS over the halves of a socket. Both halves share one session, since what is read may have to be
//! answered, and what is written needs the keys that were read.

use std::io::{self, ErrorKind, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, ReadBuf};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::{ServerConfig, ServerConnection};

use super::plain::{PlainReadHalf, PlainWriteHalf};

/// The most bytes that a session encrypts before the kernel takes them. They do not count for the
/// client's outbox, so they are few.
const UNSENT_BYTES: usize = 16 << 10;

/// The protocol by which an authority checks a name (RFC 8737).
pub const CHALLENGE_PROTOCOL: &[u8] = b"acme-tls/1";

/// The session that both halves of a connection share.
type TlsSession = Arc<Mutex<ServerConnection>>;

/// The half of an encrypted connection that is read.
#[derive(Debug)]
pub struct TlsReadHalf {
    plain: PlainReadHalf,
    session: TlsSession,
}

/// The half of an encrypted connection that is written.
#[derive(Debug)]
pub struct TlsWriteHalf {
    plain: PlainWriteHalf,
    session: TlsSession,
}

/// Shakes hands over TLS, and returns the encrypted halves with the client's certificate, if it has
/// shown one.
///
/// # Errors
///
/// Returns an error when the connection breaks, or when the client does not agree with the
/// configuration.
pub(super) async fn accept(
    mut read: PlainReadHalf,
    write: PlainWriteHalf,
    config: Arc<ServerConfig>,
) -> io::Result<(TlsReadHalf, TlsWriteHalf, Option<CertificateDer<'static>>)> {
    let mut session = ServerConnection::new(config).map_err(io::Error::other)?;
    session.set_buffer_limit(Some(UNSENT_BYTES));
    std::future::poll_fn(|context| {
        loop {
            match flush(&mut session, |bytes| write.try_write(bytes)) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    ready!(write.poll_write_ready(context))?;
                    continue;
                }
                flushed => flushed?,
            }
            if !session.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            if ready!(poll_fill(&mut read, &mut session, context))? == 0 {
                return Poll::Ready(Err(io::Error::from(ErrorKind::UnexpectedEof)));
            }
        }
    })
    .await?;
    if session.alpn_protocol() == Some(CHALLENGE_PROTOCOL) {
        // The authority has seen what it came for, and nothing else may be said (RFC 8737).
        session.send_close_notify();
        let _ = flush(&mut session, |bytes| write.try_write(bytes));
        let why = "it was the check of a name";
        return Err(io::Error::new(ErrorKind::ConnectionAborted, why));
    }
    let shown = session.peer_certificates().unwrap_or_default().first();
    let shown = shown.map(|certificate| certificate.clone().into_owned());
    let session = Arc::new(Mutex::new(session));
    let read = TlsReadHalf {
        plain: read,
        session: session.clone(),
    };
    let write = TlsWriteHalf {
        plain: write,
        session,
    };
    Ok((read, write, shown))
}

impl TlsReadHalf {
    pub(super) fn plain(&self) -> &PlainReadHalf {
        &self.plain
    }

    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut session = self.session.lock();
        loop {
            match session.reader().read(buffer.initialize_unfilled()) {
                Ok(bytes) => {
                    buffer.advance(bytes);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // Without TLS, too, a stream that is cut off ends like any other.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                    return Poll::Ready(Ok(()));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
            ready!(poll_fill(&mut self.plain, &mut session, context))?;
        }
    }
}

impl TlsWriteHalf {
    pub(super) fn plain(&self) -> &PlainWriteHalf {
        &self.plain
    }

    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut session = self.session.lock();
        let flush = |session: &mut _| flush(session, |bytes| self.plain.try_write(bytes));
        flush(&mut *session)?;
        let taken = session.writer().write(bytes)?;
        match flush(&mut *session) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            // What was encrypted cannot be taken back: the rest goes with the next flush.
            _ => Ok(taken),
        }
    }

    pub(super) fn try_flush(&self) -> io::Result<()> {
        flush(&mut self.session.lock(), |bytes| {
            self.plain.try_write(bytes)
        })
    }
}

impl Drop for TlsWriteHalf {
    fn drop(&mut self) {
        let mut session = self.session.lock();
        session.send_close_notify();
        // A client that does not read misses nothing that it had read.
        let _ = flush(&mut session, |bytes| self.plain.try_write(bytes));
    }
}

/// Reads once from the kernel, decrypts, and sends what the session answers by itself. The result is
/// the number of encrypted bytes, 0 at the end of the stream.
fn poll_fill(
    plain: &mut PlainReadHalf,
    session: &mut ServerConnection,
    context: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let read = match session.read_tls(&mut PolledRead { plain, context }) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Poll::Pending,
        read => read?,
    };
    let processed = session.process_new_packets();
    match flush(session, |bytes| plain.try_write(bytes)) {
        Err(error) if error.kind() != ErrorKind::WouldBlock => return Poll::Ready(Err(error)),
        _ => {}
    }
    let invalid = |error| io::Error::new(ErrorKind::InvalidData, error);
    Poll::Ready(processed.map_err(invalid).map(|_| read))
}

fn flush(
    session: &mut ServerConnection,
    write: impl FnMut(&[u8]) -> io::Result<usize>,
) -> io::Result<()> {
    let mut write = TriedWrite(write);
    while session.wants_write() {
        session.write_tls(&mut write)?;
    }
    Ok(())
}

/// A read that does not wait and leaves the task's waker behind.
struct PolledRead<'a, 'b> {
    plain: &'a mut PlainReadHalf,
    context: &'a mut Context<'b>,
}

impl Read for PolledRead<'_, '_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(bytes);
        match Pin::new(&mut *self.plain).poll_read(self.context, &mut buffer) {
            Poll::Ready(read) => read.map(|()| buffer.filled().len()),
            Poll::Pending => Err(ErrorKind::WouldBlock.into()),
        }
    }
}

/// A write that does not wait.
struct TriedWrite<F>(F);

impl<F: FnMut(&[u8]) -> io::Result<usize>> Write for TriedWrite<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (self.0)(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use tokio::net::{TcpListener, TcpStream};
    use tokio_rustls::TlsConnector;
    use tokio_rustls::client::TlsStream;
    use tokio_rustls::rustls::crypto::ring::default_provider;
    use tokio_rustls::rustls::pki_types::{PrivateKeyDer, ServerName};
    use tokio_rustls::rustls::{ClientConfig, RootCertStore};

    use super::*;
    use crate::socket::split_tcp;

    /// The write half of a connection, and its client. The kernel takes little for it.
    pub(crate) async fn pair() -> (TlsReadHalf, TlsWriteHalf, TlsStream<TcpStream>) {
        let name = ServerName::try_from("node.test").expect("a name");
        let issued = generate_simple_self_signed(["node.test".to_owned()]).expect("a certificate");
        let CertifiedKey { cert, signing_key } = issued;
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone()).expect("a root");
        let provider = Arc::new(default_provider());
        let client = ClientConfig::builder_with_provider(provider.clone());
        let client = client
            .with_safe_default_protocol_versions()
            .expect("versions");
        let client = client.with_root_certificates(roots).with_no_client_auth();
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).expect("a key");
        let server = ServerConfig::builder_with_provider(provider);
        let server = server
            .with_safe_default_protocol_versions()
            .expect("versions");
        let server = server.with_no_client_auth();
        let server = server.with_single_cert(vec![cert.der().clone()], key);
        let server = Arc::new(server.expect("a certificate with its key"));

        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        rustix::net::sockopt::set_socket_send_buffer_size(&listener, 4096).expect("a size");
        let address = listener.local_addr().expect("an address");
        let connecting = async {
            let stream = TcpStream::connect(address).await?;
            TlsConnector::from(Arc::new(client))
                .connect(name, stream)
                .await
        };
        let accepting = async {
            let (read, write) = split_tcp(listener.accept().await?.0);
            accept(read, write, server).await
        };
        let (client, accepted) = tokio::join!(connecting, accepting);
        let (read, write, _) = accepted.expect("a client");
        (read, write, client.expect("a server"))
    }

    /// What is encrypted and not written counts for no outbox.
    #[tokio::test]
    async fn little_is_encrypted_that_the_kernel_does_not_take() {
        let (_read, write, _client) = pair().await;
        let bytes = vec![0; 1 << 20];
        loop {
            match write.try_write(&bytes) {
                Ok(taken) => assert!(taken <= UNSENT_BYTES, "{taken}"),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
}
