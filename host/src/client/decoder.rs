//! The decoder of a client's frames (RFC 6455, section 5): bytes in, messages out.
//!
//! A whole message stays where it was read and is unmasked there. Only a message in several frames,
//! or one larger than the read buffer, is gathered in memory of its own. A decoder without a
//! message under way holds no memory.

use std::io;
use std::ops::Range;
use std::task::Poll;

use bytes::BufMut as _;
use bytes::buf::Limit;

use super::read_buffers;
use crate::deflate::{self, DeflateError};
use crate::message::{BINARY, CLOSE, Message, PING, PONG, TEXT};

/// The decoder of one client's frames.
#[derive(Debug)]
pub(super) struct Decoder {
    /// The largest message that the client may send, in bytes.
    message_bytes: usize,
    /// The bytes that were read.
    buffer: Vec<u8>,
    /// How many bytes of the buffer are decoded.
    decoded: usize,
    /// The payload of the frame that was decoded last.
    payload: Payload,
    /// The message that is gathered, if there is one.
    gathered: Option<Box<PartialMessage>>,
    /// Whether messages may be compressed.
    deflates: bool,
    /// The result of `decode` for a message whose size had to be known before.
    ahead: Option<Result<Option<Received>, DecodeError>>,
    /// The message that was decompressed last.
    decompressed: Vec<u8>,
}

/// The place of a payload.
#[derive(Clone, Debug)]
enum Payload {
    /// The payload is this part of the read buffer.
    Read(Range<usize>),
    /// The payload is the gathered message, which is complete.
    Partial,
    /// The payload is the decompressed message.
    Decompressed,
}

/// A message in several frames, or one that is larger than the read buffer.
#[derive(Debug)]
struct PartialMessage {
    is_text: bool,
    is_compressed: bool,
    payload: Vec<u8>,
    /// How many bytes of a text are known to be UTF-8.
    valid: usize,
    /// The number of bytes of the current frame that have not come yet.
    missing: usize,
    mask: [u8; 4],
    /// Whether the current frame is the message's last one.
    is_last: bool,
}

/// A frame that a client has sent, or a whole message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// A text message; `Decoder::message` returns it.
    Text,
    /// A binary message; `Decoder::message` returns it.
    Binary,
    /// A ping, which must be answered with its payload.
    Ping,
    /// A pong, which only shows that the client is there.
    Pong,
    /// A close frame; `Decoder::close` returns its code and reason.
    Close,
}

/// The reason why a client's frames can no longer be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DecodeError {
    /// A message has more than `message_bytes`.
    TooBig,
    /// A text, or the reason of a close frame, is not UTF-8.
    NotUtf8,
    /// A compressed message cannot be decompressed.
    Malformed,
    /// The client has broken this rule of the protocol.
    Protocol(&'static str),
}

/// The header of a frame.
#[derive(Debug)]
struct Header {
    is_final: bool,
    is_compressed: bool,
    has_reserved_bits: bool,
    opcode: u8,
    mask: Option<[u8; 4]>,
    payload_bytes: u64,
    header_bytes: usize,
}

/// The opcode of a frame that continues a message.
const CONTINUATION: u8 = 0x0;

/// The longest payload of a control frame, in bytes.
const CONTROL_BYTES: u64 = 125;

/// The most bytes of a large message that are read at once.
const READ_AT_ONCE: usize = 64 << 10;

impl Decoder {
    /// The largest message that may come, in bytes.
    pub(super) fn message_bytes(&self) -> usize {
        self.message_bytes
    }

    /// Creates a decoder for messages of at most `message_bytes`. The bytes `read` have been read
    /// already. With `deflates`, messages may be compressed (RFC 7692).
    pub(super) fn new(message_bytes: usize, read: &[u8], deflates: bool) -> Decoder {
        Decoder {
            message_bytes,
            buffer: read.to_vec(),
            decoded: 0,
            payload: Payload::Read(0..0),
            gathered: None,
            deflates,
            decompressed: Vec::new(),
            ahead: None,
        }
    }

    /// Decodes the next frame or message; nothing means that more bytes must be read.
    ///
    /// # Errors
    ///
    /// The client has broken the protocol. The decoder must not be used any more.
    pub(super) fn decode(&mut self) -> Result<Option<Received>, DecodeError> {
        if let Some(ahead) = self.ahead.take() {
            return ahead;
        }
        match self.payload {
            Payload::Partial => self.gathered = None,
            Payload::Decompressed => self.decompressed = Vec::new(),
            Payload::Read(_) => {}
        }
        self.payload = Payload::Read(0..0);
        loop {
            if self.gathered.as_ref().is_some_and(|g| g.missing > 0) {
                self.gather_read();
            }
            if let Some(gathered) = &mut self.gathered {
                gathered.check_text()?;
                if gathered.missing > 0 {
                    return Ok(None);
                }
                if gathered.is_last {
                    return self.gathered_whole().map(Some);
                }
            }
            let Some(header) = Header::parse(&self.buffer[self.decoded..]) else {
                return Ok(None);
            };
            let mask = self.check(&header)?;
            if header.is_control() {
                return Ok(self.control(&header, mask));
            }
            if header.is_final && self.gathered.is_none() {
                if self.take(&header, mask) {
                    if header.is_compressed {
                        self.decompress()?;
                    }
                    return Ok(Some(match header.opcode {
                        TEXT => Received::Text,
                        _ => Received::Binary,
                    }));
                }
                if header.fits_a_read_buffer() {
                    return Ok(None);
                }
            }
            self.begin_frame(&header, mask);
        }
    }

    /// Whether the next message was read already, in one frame.
    pub(super) fn has_next_message(&self) -> bool {
        self.next_header().is_some()
    }

    /// The size of the next message, in bytes, if it was read already and is in one frame. `decode`
    /// then returns it, or an error. The message before it is no longer there if the next one is
    /// compressed.
    pub(super) fn next_message(&mut self) -> Option<usize> {
        let header = self.next_header()?;
        if header.is_compressed {
            // It is larger than it looks.
            self.ahead = Some(self.decode());
            return Some(self.payload().len());
        }
        usize::try_from(header.payload_bytes).ok()
    }

    fn next_header(&self) -> Option<Header> {
        if self.gathered.is_some() && !matches!(self.payload, Payload::Partial) {
            return None;
        }
        let read = &self.buffer[self.decoded..];
        let header = Header::parse(read)?;
        let is_message = header.is_final && matches!(header.opcode, TEXT | BINARY);
        let bytes = usize::try_from(header.payload_bytes).ok()?;
        (is_message && bytes <= read.len() - header.header_bytes).then_some(header)
    }

    /// Returns the message that was decoded last.
    ///
    /// # Errors
    ///
    /// The message is a text that is not UTF-8.
    pub(super) fn message(&self, received: Received) -> Result<Message<'_>, DecodeError> {
        let payload = self.payload();
        match received {
            Received::Text => match simdutf8::basic::from_utf8(payload) {
                Ok(text) => Ok(Message::Text(text)),
                Err(_) => Err(DecodeError::NotUtf8),
            },
            _ => Ok(Message::Binary(payload)),
        }
    }

    /// Returns the payload of the frame that was decoded last.
    pub(super) fn payload(&self) -> &[u8] {
        match (&self.payload, &self.gathered) {
            (Payload::Partial, Some(gathered)) => &gathered.payload,
            (Payload::Partial, None) => &[],
            (Payload::Decompressed, _) => &self.decompressed,
            (Payload::Read(range), _) => &self.buffer[range.clone()],
        }
    }

    /// Returns the code and the reason of the close frame that was decoded last, if it has any.
    ///
    /// # Errors
    ///
    /// The payload is no code with a reason, or the reason is not UTF-8.
    pub(super) fn close(&self) -> Result<Option<(u16, &str)>, DecodeError> {
        match self.payload() {
            [] => Ok(None),
            [_] => Err(DecodeError::Protocol(
                "a close frame has a code of two bytes",
            )),
            [high, low, reason @ ..] => {
                let reason = std::str::from_utf8(reason).map_err(|_| DecodeError::NotUtf8)?;
                Ok(Some((u16::from_be_bytes([*high, *low]), reason)))
            }
        }
    }

    /// Reads more bytes by `read`, which appends them to the buffer that it is given, and returns
    /// their number. This and `rest` move the bytes, so they come only after `decode` has returned
    /// nothing.
    pub(super) fn fill(
        &mut self,
        read: impl FnOnce(&mut Limit<&mut Vec<u8>>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if self.decoded == self.buffer.len() {
            self.buffer.clear();
            self.decoded = 0;
            if let Some(gathered) = self.gathered.as_mut().filter(|g| g.missing > 0) {
                return gathered.fill(read);
            }
        }
        self.make_room();
        let room = self.buffer.capacity() - self.buffer.len();
        read(&mut (&mut self.buffer).limit(room))
    }

    /// Gives back the read buffer, while nothing more can be read. Bytes of a frame that is not
    /// complete are kept in as much memory as they need.
    pub(super) fn rest(&mut self) {
        if self.decoded == 0 && self.buffer.capacity() < read_buffers::BYTES {
            // It is as small as can be.
            return;
        }
        let left = self.buffer[self.decoded..].to_vec();
        read_buffers::give_back(std::mem::replace(&mut self.buffer, left));
        self.decoded = 0;
    }

    /// Makes room for bytes to read, with what is left of the last ones at the beginning.
    fn make_room(&mut self) {
        if self.buffer.capacity() < read_buffers::BYTES {
            let mut buffer = read_buffers::take();
            buffer.extend_from_slice(&self.buffer[self.decoded..]);
            self.buffer = buffer;
        } else {
            self.buffer.drain(..self.decoded);
        }
        self.decoded = 0;
    }

    /// Checks a header, and returns the mask.
    fn check(&self, header: &Header) -> Result<[u8; 4], DecodeError> {
        use DecodeError::Protocol;
        if !matches!(
            header.opcode,
            CONTINUATION | TEXT | BINARY | CLOSE | PING | PONG
        ) {
            return Err(Protocol("the frame has an unknown opcode"));
        }
        if header.payload_bytes > self.message_bytes as u64 {
            return Err(DecodeError::TooBig);
        }
        let Some(mask) = header.mask else {
            return Err(Protocol("a client must mask its frames"));
        };
        let may_be_compressed = self.deflates && matches!(header.opcode, TEXT | BINARY);
        if header.has_reserved_bits || (header.is_compressed && !may_be_compressed) {
            return Err(Protocol("a reserved bit is set, and no extension uses it"));
        }
        if header.is_control() {
            if !header.is_final {
                return Err(Protocol("a control frame must not be fragmented"));
            }
            if header.payload_bytes > CONTROL_BYTES {
                return Err(Protocol("a control frame has at most 125 bytes"));
            }
        }
        match (header.opcode, &self.gathered) {
            (CONTINUATION, Some(gathered)) => {
                let room = self.message_bytes - gathered.payload.len();
                match header.payload_bytes > room as u64 {
                    true => Err(DecodeError::TooBig),
                    false => Ok(mask),
                }
            }
            (CONTINUATION, None) => Err(Protocol("a continuation frame continues no message")),
            (TEXT | BINARY, Some(_)) => {
                Err(Protocol("a message begins before the last one has ended"))
            }
            _ => Ok(mask),
        }
    }

    /// Decompresses the payload that was decoded last.
    fn decompress(&mut self) -> Result<(), DecodeError> {
        let payload = deflate::decompress(self.payload(), self.message_bytes);
        self.decompressed = payload.map_err(|error| match error {
            DeflateError::TooBig => DecodeError::TooBig,
            DeflateError::Malformed => DecodeError::Malformed,
        })?;
        self.payload = Payload::Decompressed;
        Ok(())
    }

    fn control(&mut self, header: &Header, mask: [u8; 4]) -> Option<Received> {
        self.take(header, mask).then_some(match header.opcode {
            CLOSE => Received::Close,
            PING => Received::Ping,
            _ => Received::Pong,
        })
    }

    /// Takes a frame that has been read to its end, and unmasks it; false if it has not.
    fn take(&mut self, header: &Header, mask: [u8; 4]) -> bool {
        let from = self.decoded + header.header_bytes;
        let to = from.saturating_add(usize::try_from(header.payload_bytes).unwrap_or(usize::MAX));
        let Some(payload) = self.buffer.get_mut(from..to) else {
            return false;
        };
        unmask(payload, mask);
        self.payload = Payload::Read(from..to);
        self.decoded = to;
        true
    }

    /// Begins to gather a frame.
    fn begin_frame(&mut self, header: &Header, mask: [u8; 4]) {
        self.decoded += header.header_bytes;
        let gathered = self.gathered.get_or_insert_with(|| {
            Box::new(PartialMessage {
                is_text: header.opcode == TEXT,
                is_compressed: header.is_compressed,
                payload: Vec::new(),
                valid: 0,
                missing: 0,
                mask,
                is_last: false,
            })
        });
        // It is within `message_bytes`, so it fits.
        gathered.missing = usize::try_from(header.payload_bytes).unwrap_or(usize::MAX);
        gathered.mask = mask;
        gathered.is_last = header.is_final;
    }

    /// Moves what was read of the current frame to the gathered message.
    fn gather_read(&mut self) {
        let Some(gathered) = &mut self.gathered else {
            return;
        };
        let read = &self.buffer[self.decoded..];
        let part = &read[..read.len().min(gathered.missing)];
        let from = gathered.payload.len();
        gathered.payload.extend_from_slice(part);
        self.decoded += part.len();
        gathered.unmask_from(from);
    }

    fn gathered_whole(&mut self) -> Result<Received, DecodeError> {
        let Some(gathered) = &self.gathered else {
            return Ok(Received::Binary);
        };
        self.payload = Payload::Partial;
        let received = match gathered.is_text {
            true => Received::Text,
            false => Received::Binary,
        };
        if gathered.is_compressed {
            self.decompress()?;
            self.gathered = None;
        } else if gathered.is_text && gathered.valid < gathered.payload.len() {
            // The last character is cut off.
            return Err(DecodeError::NotUtf8);
        }
        Ok(received)
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        read_buffers::give_back(std::mem::take(&mut self.buffer));
    }
}

impl PartialMessage {
    /// Reads a part of the current frame straight into the message.
    fn fill(
        &mut self,
        read: impl FnOnce(&mut Limit<&mut Vec<u8>>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let from = self.payload.len();
        // No more than has come already, since what a client only announces takes no memory.
        let most = from
            .clamp(read_buffers::BYTES, READ_AT_ONCE)
            .min(self.missing);
        self.payload.reserve(most);
        let polled = read(&mut (&mut self.payload).limit(most));
        self.unmask_from(from);
        polled
    }

    /// Unmasks the part of the current frame that begins at `from`.
    fn unmask_from(&mut self, from: usize) {
        let part = &mut self.payload[from..];
        unmask(part, self.mask);
        self.missing -= part.len();
        self.mask.rotate_left(part.len() % 4);
    }

    /// Checks the new part of a text, so that a wrong one is refused before it has come to its end.
    fn check_text(&mut self) -> Result<(), DecodeError> {
        if !self.is_text || self.is_compressed {
            return Ok(());
        }
        match simdutf8::compat::from_utf8(&self.payload[self.valid..]) {
            Ok(_) => self.valid = self.payload.len(),
            Err(error) if error.error_len().is_some() => return Err(DecodeError::NotUtf8),
            Err(error) => self.valid += error.valid_up_to(),
        }
        Ok(())
    }
}

impl Header {
    /// Reads a header; nothing means that it has not come to its end.
    fn parse(bytes: &[u8]) -> Option<Header> {
        let (&[first, second], rest) = bytes.split_first_chunk()?;
        let (payload_bytes, length_bytes) = match second & 0x7f {
            126 => {
                let (length, _) = rest.split_first_chunk()?;
                (u64::from(u16::from_be_bytes(*length)), 2)
            }
            127 => {
                let (length, _) = rest.split_first_chunk()?;
                (u64::from_be_bytes(*length), 8)
            }
            length => (u64::from(length), 0),
        };
        let is_masked = second & 0x80 != 0;
        let mask = match is_masked {
            true => Some(*rest[length_bytes..].first_chunk::<4>()?),
            false => None,
        };
        Some(Header {
            is_final: first & 0x80 != 0,
            is_compressed: first & 0x40 != 0,
            has_reserved_bits: first & 0x30 != 0,
            opcode: first & 0x0f,
            mask,
            payload_bytes,
            header_bytes: 2 + length_bytes + if is_masked { 4 } else { 0 },
        })
    }

    /// Whether a read buffer has room for the whole frame.
    fn fits_a_read_buffer(&self) -> bool {
        self.payload_bytes <= (read_buffers::BYTES - self.header_bytes) as u64
    }

    fn is_control(&self) -> bool {
        self.opcode & 0x8 != 0
    }
}

/// Unmasks a payload (RFC 6455, section 5.3). The compiler makes vector instructions of the words.
fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests;
