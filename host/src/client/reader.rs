//! Reading: tungstenite's protocol over the read half of a socket.
//!
//! tungstenite reads only. What it wants written by itself (pongs) goes into the client's
//! outbox, so that it cannot fall into the middle of another frame.

use std::io::{self, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::tcp::OwnedReadHalf;
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};

use crate::limits::READ_BUFFER_BYTES;
use crate::message::Frame;
use crate::registry::{Client, Shared};

/// A client's incoming messages.
pub(super) struct Reader {
    context: WebSocketContext,
    socket: OwnedReadHalf,
    heard: bool,
}

/// How a client took its close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goodbye {
    /// It answered, or it has gone.
    Said,
    /// What it sends can't be made sense of any more.
    Unreadable,
}

impl Reader {
    /// Reads from `socket`; `read_already` came with the handshake.
    pub(super) fn new(socket: OwnedReadHalf, read_already: &[u8], message_bytes: usize) -> Reader {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .max_message_size(Some(message_bytes))
            .max_frame_size(Some(message_bytes));
        let context = match read_already {
            [] => WebSocketContext::new(Role::Server, Some(config)),
            bytes => {
                WebSocketContext::from_partially_read(bytes.to_vec(), Role::Server, Some(config))
            }
        };
        Reader {
            context,
            socket,
            heard: false,
        }
    }

    /// The next message, when it is all there.
    pub(super) fn poll_message(
        &mut self,
        context: &mut Context<'_>,
        client: &Arc<Client>,
        shared: &Shared,
    ) -> Poll<tungstenite::Result<tungstenite::Message>> {
        let mut wire = Wire {
            socket: &mut self.socket,
            heard: &mut self.heard,
            context,
            client,
            shared,
        };
        match self.context.read(&mut wire) {
            Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                Poll::Pending
            }
            read => Poll::Ready(read),
        }
    }

    /// Whether the socket takes bytes again.
    pub(super) fn poll_writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.as_ref().poll_write_ready(context)
    }

    /// Waits for the client's close frame, or its end of the stream.
    pub(super) fn poll_goodbye(
        &mut self,
        context: &mut Context<'_>,
        client: &Arc<Client>,
        shared: &Shared,
    ) -> Poll<Goodbye> {
        use tungstenite::Error;
        use tungstenite::error::ProtocolError::ResetWithoutClosingHandshake;
        loop {
            match std::task::ready!(self.poll_message(context, client, shared)) {
                Ok(tungstenite::Message::Close(_))
                | Err(
                    Error::Io(_)
                    | Error::ConnectionClosed
                    | Error::AlreadyClosed
                    | Error::Protocol(ResetWithoutClosingHandshake),
                ) => return Poll::Ready(Goodbye::Said),
                Err(_) => return Poll::Ready(Goodbye::Unreadable),
                Ok(_) => {}
            }
        }
    }

    /// Whether any bytes have come since the last call: a sign of life, even if they are not
    /// a whole message yet.
    pub(super) fn take_heard(&mut self) -> bool {
        std::mem::take(&mut self.heard)
    }

    /// Reads and drops what comes, to the end: bytes left unread at a close would make the
    /// kernel reset the connection, and the client would lose our close frame.
    pub(super) fn poll_discard(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut bytes = [0; 4096];
        loop {
            let mut buffer = ReadBuf::new(&mut bytes);
            match Pin::new(&mut self.socket).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// What tungstenite takes for the socket, for the time of one read.
struct Wire<'a, 'b> {
    socket: &'a mut OwnedReadHalf,
    heard: &'a mut bool,
    context: &'a mut Context<'b>,
    client: &'a Arc<Client>,
    shared: &'a Shared,
}

impl Read for Wire<'_, '_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(bytes);
        match Pin::new(&mut *self.socket).poll_read(self.context, &mut buffer) {
            Poll::Ready(Ok(())) => {
                *self.heard = true;
                Ok(buffer.filled().len())
            }
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Write for Wire<'_, '_> {
    /// Takes whole frames: tungstenite writes its buffer of them at once.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.client.outbox().push_control(Frame::encoded(bytes)) {
            self.shared.dirty().add(self.client.clone());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
