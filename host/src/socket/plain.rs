//! The halves of a connection as the kernel has them: over TCP or a Unix socket.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::{tcp, unix};

/// The half of a connection that is read.
#[derive(Debug)]
pub enum PlainReadHalf {
    /// The half of a TCP connection.
    Tcp(tcp::OwnedReadHalf),
    /// The half of a connection to a Unix socket.
    Unix(unix::OwnedReadHalf),
}

/// The half of a connection that is written. Dropping it ends this side of the connection.
#[derive(Debug)]
pub enum PlainWriteHalf {
    /// The half of a TCP connection.
    Tcp(tcp::OwnedWriteHalf),
    /// The half of a connection to a Unix socket.
    Unix(unix::OwnedWriteHalf),
}

impl PlainReadHalf {
    pub(super) fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            PlainReadHalf::Tcp(half) => half.as_ref().poll_write_ready(context),
            PlainReadHalf::Unix(half) => half.as_ref().poll_write_ready(context),
        }
    }

    /// Writes without waiting: what is read may have to be answered.
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            PlainReadHalf::Tcp(half) => half.as_ref().try_write(bytes),
            PlainReadHalf::Unix(half) => half.as_ref().try_write(bytes),
        }
    }
}

impl AsyncRead for PlainReadHalf {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            PlainReadHalf::Tcp(half) => Pin::new(half).poll_read(context, buffer),
            PlainReadHalf::Unix(half) => Pin::new(half).poll_read(context, buffer),
        }
    }
}

impl PlainWriteHalf {
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            PlainWriteHalf::Tcp(half) => half.try_write(bytes),
            PlainWriteHalf::Unix(half) => half.try_write(bytes),
        }
    }

    pub(super) fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            PlainWriteHalf::Tcp(half) => half.as_ref().poll_write_ready(context),
            PlainWriteHalf::Unix(half) => half.as_ref().poll_write_ready(context),
        }
    }
}
