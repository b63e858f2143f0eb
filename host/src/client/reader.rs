//! Reading from a client: tungstenite's protocol over the read half of a socket.
//!
//! tungstenite only reads from the socket. The frames that tungstenite writes by itself (pongs) go
//! into the client's outbox, so that they cannot land inside another frame.

use std::io::{self, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::tcp::OwnedReadHalf;
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};

use crate::limits::READ_BUFFER_BYTES;
use crate::message::Frame;
use crate::registry::{Client, NodeState};

/// The reader of a client's messages.
pub(super) struct Reader {
    context: WebSocketContext,
    socket: OwnedReadHalf,
    heard: bool,
}

/// The reaction of a client to a close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goodbye {
    /// The client has answered with a close frame, or the client has disconnected.
    Said,
    /// The bytes from the client can no longer be understood.
    Unreadable,
}

impl Reader {
    /// Creates a reader for `socket`. The bytes `read_already` arrived together with the handshake.
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

    /// Polls for the next complete message.
    pub(super) fn poll_message(
        &mut self,
        context: &mut Context<'_>,
        client: &Arc<Client>,
        shared: &NodeState,
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

    /// Polls whether the socket accepts bytes again.
    pub(super) fn poll_writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.as_ref().poll_write_ready(context)
    }

    /// Waits for the client's close frame, or for the end of its stream.
    pub(super) fn poll_goodbye(
        &mut self,
        context: &mut Context<'_>,
        client: &Arc<Client>,
        shared: &NodeState,
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

    /// Whether any bytes have arrived since the last call. Even a part of a message is a sign of
    /// life.
    pub(super) fn take_heard(&mut self) -> bool {
        std::mem::take(&mut self.heard)
    }

    /// Reads and discards everything up to the end of the stream. If bytes were unread at the
    /// close, the kernel would reset the connection, and the client would lose our close frame.
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

/// The socket as tungstenite sees it during one read.
struct Wire<'a, 'b> {
    socket: &'a mut OwnedReadHalf,
    heard: &'a mut bool,
    context: &'a mut Context<'b>,
    client: &'a Arc<Client>,
    shared: &'a NodeState,
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
    /// Accepts whole frames, since tungstenite writes all frames in its buffer at once.
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
