//! The socket of a client, in two halves: over TCP or a Unix socket, plain or with TLS.
//!
//! The read half belongs to the client's task. The write half is shared, since messages of others
//! are written from wherever they are sent. A write never waits: it takes what the kernel takes.
//! With TLS, a write may leave encrypted bytes behind that the kernel has not taken. `try_flush`
//! passes them on.

mod plain;
mod tls;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

pub use tokio_rustls::rustls::ServerConfig;
pub use tokio_rustls::rustls::pki_types::CertificateDer;

pub use self::plain::{PlainReadHalf, PlainWriteHalf};
pub use self::tls::CHALLENGE_PROTOCOL;
use self::tls::{TlsReadHalf, TlsWriteHalf};

/// The half of a client's socket that is read.
#[derive(Debug)]
pub enum ReadHalf {
    /// The half of a connection without TLS.
    Plain(PlainReadHalf),
    /// The half of an encrypted connection.
    Tls(Box<TlsReadHalf>),
}

/// The half of a client's socket that is written. Dropping it ends this side of the connection.
#[derive(Debug)]
pub enum WriteHalf {
    /// The half of a connection without TLS.
    Plain(PlainWriteHalf),
    /// The half of an encrypted connection.
    Tls(Box<TlsWriteHalf>),
}

/// Splits a TCP connection into its halves.
pub fn split_tcp(stream: TcpStream) -> (PlainReadHalf, PlainWriteHalf) {
    let (read, write) = stream.into_split();
    (PlainReadHalf::Tcp(read), PlainWriteHalf::Tcp(write))
}

/// Splits a connection to a Unix socket into its halves.
pub fn split_unix(stream: UnixStream) -> (PlainReadHalf, PlainWriteHalf) {
    let (read, write) = stream.into_split();
    (PlainReadHalf::Unix(read), PlainWriteHalf::Unix(write))
}

/// Shakes hands over TLS, and returns the encrypted halves with the client's certificate, if it has
/// shown one.
///
/// # Errors
///
/// Returns an error when the connection breaks, or when the client does not agree with the
/// configuration.
pub async fn accept_tls(
    read: PlainReadHalf,
    write: PlainWriteHalf,
    config: Arc<ServerConfig>,
) -> io::Result<(ReadHalf, WriteHalf, Option<CertificateDer<'static>>)> {
    let (read, write, certificate) = tls::accept(read, write, config).await?;
    let read = ReadHalf::Tls(Box::new(read));
    Ok((read, WriteHalf::Tls(Box::new(write)), certificate))
}

impl ReadHalf {
    /// Polls whether the kernel accepts bytes of the write half again.
    pub fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            ReadHalf::Plain(half) => half.poll_write_ready(context),
            ReadHalf::Tls(half) => half.plain().poll_write_ready(context),
        }
    }
}

impl AsyncRead for ReadHalf {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            ReadHalf::Plain(half) => Pin::new(half).poll_read(context, buffer),
            ReadHalf::Tls(half) => half.poll_read(context, buffer),
        }
    }
}

impl WriteHalf {
    /// Writes as many of these bytes as the kernel takes now.
    ///
    /// # Errors
    ///
    /// Returns `WouldBlock` if the kernel takes none now, and another error if the connection has
    /// broken.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            WriteHalf::Plain(half) => half.try_write(bytes),
            WriteHalf::Tls(half) => half.try_write(bytes),
        }
    }

    /// Passes on what TLS has kept back of earlier writes.
    ///
    /// # Errors
    ///
    /// Returns `WouldBlock` if the kernel does not take all of it now, and another error if the
    /// connection has broken.
    pub fn try_flush(&self) -> io::Result<()> {
        match self {
            WriteHalf::Plain(_) => Ok(()),
            WriteHalf::Tls(half) => half.try_flush(),
        }
    }

    /// Polls whether the kernel accepts bytes again.
    pub fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            WriteHalf::Plain(half) => half.poll_write_ready(context),
            WriteHalf::Tls(half) => half.plain().poll_write_ready(context),
        }
    }
}

/// A connection with TLS for tests: its halves, and the client's end.
#[cfg(test)]
pub(crate) async fn encrypted_pair() -> (
    ReadHalf,
    WriteHalf,
    impl AsyncRead + tokio::io::AsyncWrite + Unpin,
) {
    let (read, write, client) = tls::tests::pair().await;
    let read = ReadHalf::Tls(Box::new(read));
    (read, WriteHalf::Tls(Box::new(write)), client)
}
