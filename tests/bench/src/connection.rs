//! One client's connection: as little as a WebSocket client can be.
//!
//! Frames go out as they were appended, with one write; what arrives is read into a buffer
//! that all connections share, so that an idle one keeps nothing.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use mio::net::TcpStream;

use crate::frame::{self, Frame, PING, PONG};

/// A WebSocket connection, open and non-blocking.
pub(crate) struct Connection {
    pub(crate) socket: TcpStream,
    /// Frames that the socket has not taken yet.
    output: Vec<u8>,
    /// The beginning of a frame whose rest has not arrived.
    input: Vec<u8>,
}

/// The buffer that connections read into, one after another.
pub(crate) struct Scratch(Vec<u8>);

impl Scratch {
    pub(crate) fn new() -> Scratch {
        Scratch(vec![0; 256 << 10])
    }
}

impl Connection {
    /// Appends a frame; `send` is what writes it.
    pub(crate) fn append(&mut self, payload: &[u8]) {
        frame::append_masked(&mut self.output, frame::TEXT, payload);
    }

    /// Writes what the socket takes now. What is left goes out when it is writable again.
    pub(crate) fn send(&mut self) -> Result<()> {
        let mut written = 0;
        while written < self.output.len() {
            match self.socket.write(&self.output[written..]) {
                Ok(bytes) => written += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("cannot write to the server"),
            }
        }
        self.output.drain(..written);
        Ok(())
    }

    /// Reads what has arrived, and hands over each frame that is whole. Pings are answered.
    pub(crate) fn receive(
        &mut self,
        scratch: &mut Scratch,
        mut each: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let buffer = &mut scratch.0;
        loop {
            let kept = self.input.len();
            let read = match self.socket.read(&mut buffer[kept..]) {
                Ok(0) => bail!("the server closed the connection"),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context("cannot read from the server"),
            };
            buffer[..kept].copy_from_slice(&self.input);
            self.input.clear();
            let end = kept + read;
            let taken = self.take_frames(&buffer[..end], &mut each)?;
            self.input.extend_from_slice(&buffer[taken..end]);
            // A read that leaves room has emptied the socket (epoll(7)): the next event says
            // when there is more.
            if end < buffer.len() {
                return Ok(());
            }
        }
    }

    /// Hands over what came with the answer to the handshake.
    pub(crate) fn receive_early(&mut self, each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let early = std::mem::take(&mut self.input);
        let taken = self.take_frames(&early, each)?;
        self.input.extend_from_slice(&early[taken..]);
        Ok(())
    }

    fn take_frames(
        &mut self,
        bytes: &[u8],
        mut each: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<usize> {
        let mut taken = 0;
        while let Some((Frame { opcode, payload }, length)) = frame::first(&bytes[taken..])? {
            taken += length;
            match opcode {
                frame::TEXT | frame::COMPRESSED_TEXT => each(payload)?,
                PING => {
                    frame::append_masked(&mut self.output, PONG, payload);
                    self.send()?;
                }
                PONG => {}
                opcode => bail!("the server sent a frame with the opcode {opcode}"),
            }
        }
        Ok(taken)
    }
}

/// A connection whose handshake is under way.
pub(crate) struct Connecting(std::net::TcpStream);

/// How long the server may take for a handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of an answer's head, at most.
const HEAD_BYTES: usize = 4 << 10;

/// The key of RFC 6455, section 1.3, and what it must be answered with.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

impl Connecting {
    /// Asks for `path`.
    pub(crate) fn start(address: SocketAddr, path: &str) -> Result<Connecting> {
        Connecting::start_with(address, path, "")
    }

    /// Asks for `path` with more lines in the head, each with its end.
    pub(crate) fn start_with(address: SocketAddr, path: &str, lines: &str) -> Result<Connecting> {
        let mut socket = std::net::TcpStream::connect(address)
            .with_context(|| format!("cannot connect to {address}"))?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(HANDSHAKE_TIMEOUT))?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\
             {lines}\r\n"
        );
        socket.write_all(request.as_bytes())?;
        Ok(Connecting(socket))
    }

    /// Waits for the answer; the socket, and what came right behind it.
    pub(crate) fn open(mut self) -> Result<(std::net::TcpStream, Vec<u8>)> {
        let mut answer = vec![0; HEAD_BYTES];
        let mut length = 0;
        let end = loop {
            let read = self.0.read(&mut answer[length..]).map_err(in_time)?;
            ensure!(read > 0, "the server closed during the handshake");
            length += read;
            if let Some(end) = end_of_head(&answer[..length]) {
                break end;
            }
            ensure!(length < HEAD_BYTES, "the server's answer does not end");
        };
        let head = String::from_utf8_lossy(&answer[..end]);
        ensure!(
            head.starts_with("HTTP/1.1 101 ") && head.contains(ACCEPT),
            "the server refused the handshake: {}",
            head.lines().next().unwrap_or_default()
        );
        Ok((self.0, answer[end..length].to_vec()))
    }

    /// Waits for the answer; the connection does not block.
    pub(crate) fn finish(self) -> Result<Connection> {
        let (socket, input) = self.open()?;
        socket.set_nonblocking(true)?;
        Ok(Connection {
            socket: TcpStream::from_std(socket),
            output: Vec::new(),
            input,
        })
    }
}

fn end_of_head(bytes: &[u8]) -> Option<usize> {
    const END: &[u8] = b"\r\n\r\n";
    let at = bytes.windows(END.len()).position(|window| window == END)?;
    Some(at + END.len())
}

fn in_time(error: io::Error) -> anyhow::Error {
    let said = match error.kind() {
        ErrorKind::WouldBlock => "the server did not answer the handshake in time",
        _ => "cannot read the answer to the handshake",
    };
    anyhow::Error::new(error).context(said)
}
