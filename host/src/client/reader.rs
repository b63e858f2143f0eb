//! Reading from a client: the frames of the read half of a socket. Pongs go into the client's
//! outbox, so that they cannot land inside another frame.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};
use tokio_util::io::poll_read_buf;

use super::decoder::{DecodeError, Decoder, Received};
use crate::message::{Frame, Message};
use crate::registry::{Client, NodeState};
use crate::socket::ReadHalf;

/// The reader of a client's messages.
pub(super) struct Reader {
    decoder: Decoder,
    socket: ReadHalf,
    heard: bool,
}

/// The reason why nothing more can be read from a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadError {
    /// The connection has ended, without a close frame.
    Disconnected,
    /// The bytes from the client cannot be understood.
    Unreadable(DecodeError),
}

impl From<DecodeError> for ReadError {
    fn from(error: DecodeError) -> ReadError {
        ReadError::Unreadable(error)
    }
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
    /// With `deflates`, messages may be compressed.
    pub(super) fn new(
        socket: ReadHalf,
        read_already: &[u8],
        message_bytes: usize,
        deflates: bool,
    ) -> Reader {
        Reader {
            decoder: Decoder::new(message_bytes, read_already, deflates),
            socket,
            heard: false,
        }
    }

    /// Polls for the next message or control frame. A ping is answered.
    pub(super) fn poll_message(
        &mut self,
        context: &mut Context<'_>,
        client: &Arc<Client>,
        shared: &NodeState,
    ) -> Poll<Result<Received, ReadError>> {
        loop {
            if let Some(received) = self.decoder.decode()? {
                if received == Received::Ping {
                    let pong = Frame::pong(self.decoder.payload());
                    if client.outbox().push_control(pong) {
                        shared.dirty().add(client.clone());
                    }
                }
                return Poll::Ready(Ok(received));
            }
            let socket = Pin::new(&mut self.socket);
            let filled = self
                .decoder
                .fill(|buffer| poll_read_buf(socket, context, buffer));
            match filled {
                Poll::Ready(Ok(bytes)) if bytes > 0 => {
                    self.heard = true;
                    client.heard();
                }
                Poll::Ready(_) => return Poll::Ready(Err(ReadError::Disconnected)),
                Poll::Pending => {
                    self.decoder.rest();
                    return Poll::Pending;
                }
            }
        }
    }

    /// The largest message that the client may send, in bytes.
    pub(super) fn message_bytes(&self) -> usize {
        self.decoder.message_bytes()
    }

    /// Whether the next message was read already.
    pub(super) fn has_next_message(&self) -> bool {
        self.decoder.has_next_message()
    }

    /// The size of the next message, in bytes, if it was read already. The message before it may no
    /// longer be there.
    pub(super) fn next_message(&mut self) -> Option<usize> {
        self.decoder.next_message()
    }

    /// Returns the message that was received last.
    ///
    /// # Errors
    ///
    /// The message is a text that is not UTF-8.
    pub(super) fn message(&self, received: Received) -> Result<Message<'_>, ReadError> {
        Ok(self.decoder.message(received)?)
    }

    /// Returns the code and the reason of the close frame that was received last, if it has any.
    ///
    /// # Errors
    ///
    /// The close frame breaks the protocol.
    pub(super) fn close(&self) -> Result<Option<(u16, &str)>, ReadError> {
        Ok(self.decoder.close()?)
    }

    /// Polls whether the socket accepts bytes again.
    pub(super) fn poll_writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_write_ready(context)
    }

    /// Waits for the client's close frame, or for the end of its stream.
    pub(super) fn poll_goodbye(
        &mut self,
        context: &mut Context<'_>,
        client: &Arc<Client>,
        shared: &NodeState,
    ) -> Poll<Goodbye> {
        loop {
            match ready!(self.poll_message(context, client, shared)) {
                Ok(Received::Close) if self.close().is_ok() => return Poll::Ready(Goodbye::Said),
                Err(ReadError::Disconnected) => return Poll::Ready(Goodbye::Said),
                Ok(Received::Close) | Err(ReadError::Unreadable(_)) => {
                    return Poll::Ready(Goodbye::Unreadable);
                }
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
