//! A client's connection: it reads for as long as there is something, and says what came.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use anyhow::{Context as _, Result, ensure};
use jackfield_tests::{Frame, OpCode, upgrade_request};
use tokio::net::TcpStream;

use crate::frame::{self, CLOSE, PING, TEXT};

/// What one look at a socket reads at most.
const READ_BYTES: usize = 64 << 10;

thread_local! {
    /// One for all clients: most have nothing to read most of the time.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SocketEnd {
    /// With a close frame of the node.
    Closed(u16),
    /// Without one.
    Cut,
}

/// Who is told what has come.
pub(crate) trait Listener {
    /// The handshake has been answered.
    fn opened(&self, stream: &Rc<TcpStream>);
    /// A text has come.
    fn heard(&self, text: &str) -> Result<()>;
    /// Whether a close frame was sent already, which the node's answers.
    fn is_leaving(&self) -> bool;
}

/// Connects, and reads until the connection ends.
pub(crate) async fn run(
    address: SocketAddr,
    path: &str,
    listener: &impl Listener,
) -> Result<SocketEnd> {
    let Ok(stream) = TcpStream::connect(address).await else {
        return Ok(SocketEnd::Cut);
    };
    stream.set_nodelay(true)?;
    let stream = Rc::new(stream);
    write(&stream, upgrade_request(path, &[]).as_bytes())?;
    let mut socket = Socket {
        stream,
        pending: Vec::new(),
        is_open: false,
        closed: None,
    };
    loop {
        // Of a reset, only that it was one.
        let is_readable = socket.stream.readable().await.is_ok();
        if !is_readable || !socket.read(listener)? {
            return Ok(socket.closed.map_or(SocketEnd::Cut, SocketEnd::Closed));
        }
    }
}

/// Sends bytes at once. Requests are short and few are under way: a socket that does not take
/// them is one that the node does not read.
pub(crate) fn write(stream: &TcpStream, bytes: &[u8]) -> Result<()> {
    match stream.try_write(bytes) {
        Ok(written) if written == bytes.len() => Ok(()),
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Ok(()),
        _ => anyhow::bail!("a socket takes no more: the node does not read it"),
    }
}

struct Socket {
    stream: Rc<TcpStream>,
    pending: Vec<u8>,
    is_open: bool,
    closed: Option<u16>,
}

impl Socket {
    /// Reads what is there; whether the connection goes on.
    fn read(&mut self, listener: &impl Listener) -> Result<bool> {
        BUFFER.with_borrow_mut(|buffer| {
            loop {
                match self.stream.try_read(buffer) {
                    Ok(0) => return Ok(false),
                    Ok(length) => self.pending.extend_from_slice(&buffer[..length]),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                    Err(_) => return Ok(false),
                }
                self.take_all(listener)?;
            }
        })
    }

    fn take_all(&mut self, listener: &impl Listener) -> Result<()> {
        let mut taken = 0;
        if !self.is_open {
            let end = self
                .pending
                .windows(4)
                .position(|bytes| bytes == b"\r\n\r\n");
            let Some(end) = end else {
                return Ok(());
            };
            taken = end + 4;
            let head = String::from_utf8_lossy(&self.pending[..taken]);
            ensure!(head.starts_with("HTTP/1.1 101"), "not let in: {head}");
            self.is_open = true;
            listener.opened(&self.stream);
        }
        while let Some((opcode, payload, length)) = frame::first(&self.pending[taken..])? {
            match opcode {
                TEXT => {
                    let text = std::str::from_utf8(payload).context("text that is not UTF-8")?;
                    ensure!(
                        self.closed.is_none(),
                        "a message after a close frame: {text}"
                    );
                    listener.heard(text)?;
                }
                PING => write(&self.stream, &Frame::new(OpCode::Pong, payload).to_bytes())?,
                CLOSE => {
                    let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
                    self.closed = Some(code.unwrap_or(1005));
                    if !listener.is_leaving() {
                        write(&self.stream, &Frame::new(OpCode::Close, payload).to_bytes())?;
                    }
                }
                other => anyhow::bail!("the node sent a frame of kind {other}"),
            }
            taken += length;
        }
        self.pending.drain(..taken);
        if self.pending.is_empty() {
            // An idle client keeps no memory.
            self.pending = Vec::new();
        }
        Ok(())
    }
}
