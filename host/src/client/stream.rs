//! A client's socket, as hyper receives it and gives it back.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::socket::{ReadHalf, WriteHalf};

/// A socket in two halves. The write half is shared, to answer 408 after hyper has given up, and to
/// become the socket of the outbox.
pub(super) struct ClientSocket {
    pub(super) read: ReadHalf,
    pub(super) write: Arc<WriteHalf>,
}

impl AsyncRead for ClientSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.read).poll_read(context, buffer)
    }
}

impl AsyncWrite for ClientSocket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            match self.write.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    std::task::ready!(self.write.poll_write_ready(context))?;
                }
                written => return Poll::Ready(written),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.write.try_flush() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    std::task::ready!(self.write.poll_write_ready(context))?;
                }
                flushed => return Poll::Ready(flushed),
            }
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Dropping the last half shuts down.
        Poll::Ready(Ok(()))
    }
}

/// The connection after its upgrade, and the bytes that were already read from it.
pub(super) async fn upgraded(upgrade: OnUpgrade) -> Option<(ClientSocket, bytes::Bytes)> {
    let parts = upgrade
        .await
        .ok()?
        .downcast::<TokioIo<ClientSocket>>()
        .ok()?;
    Some((parts.io.into_inner(), parts.read_buf))
}
