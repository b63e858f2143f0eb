//! A WebSocket message, and the frame that carries it to clients.
//!
//! A message is encoded once, however many clients receive it, and the outboxes of all these
//! clients share its frame. The frames follow RFC 6455, section 5.2, and are unmasked, as a server
//! must send them.

use bytes::{BufMut, Bytes};

use crate::close_code::CloseCode;
use crate::deflate;

/// One message, which stays text or binary from end to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A text message, which is always UTF-8.
    Text(&'a str),
    /// A binary message with any bytes.
    Binary(&'a [u8]),
}

impl<'a> Message<'a> {
    /// The bytes of the message.
    pub fn payload(self) -> &'a [u8] {
        match self {
            Message::Text(text) => text.as_bytes(),
            Message::Binary(bytes) => bytes,
        }
    }
}

/// An encoded frame. A clone of the frame shares its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame(Bytes);

const FINAL: u8 = 0x80;

/// The bit of the first frame of a compressed message (RFC 7692, section 6).
const COMPRESSED: u8 = 0x40;

/// What the text messages of clients that speak `jackfield.v1` begin with.
pub(crate) const MESSAGE_TAG: u8 = b'm';

// The opcodes of RFC 6455, section 5.2.
pub(crate) const TEXT: u8 = 0x1;
pub(crate) const BINARY: u8 = 0x2;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xa;

impl Frame {
    /// Encodes a whole message as one frame.
    pub fn message(message: Message<'_>) -> Frame {
        let opcode = match message {
            Message::Text(_) => TEXT,
            Message::Binary(_) => BINARY,
        };
        Frame::encode(opcode, message.payload())
    }

    /// A ping frame without a payload.
    pub fn ping() -> Frame {
        Frame(Bytes::from_static(&[FINAL | PING, 0]))
    }

    /// A close frame. `reason` has at most 123 bytes.
    pub fn close(code: CloseCode, reason: &str) -> Frame {
        debug_assert!(reason.len() <= CLOSE_REASON_BYTES);
        let mut payload = Vec::with_capacity(2 + reason.len());
        payload.put_u16(code.into());
        payload.extend_from_slice(reason.as_bytes());
        Frame::encode(CLOSE, &payload)
    }

    /// The close frame that answers a close frame without a code.
    pub fn close_without_code() -> Frame {
        Frame(Bytes::from_static(&[FINAL | CLOSE, 0]))
    }

    /// A pong frame, with the payload of the ping that it answers.
    pub fn pong(payload: &[u8]) -> Frame {
        Frame::encode(PONG, payload)
    }

    /// Checks a whole message that another node has encoded: text or binary, final, unmasked, with
    /// the shortest length field; a text is UTF-8. `None` means that the bytes are no such message,
    /// and would break the connections of clients.
    pub fn from_wire(bytes: Bytes) -> Option<Frame> {
        let first = *bytes.first()?;
        if first != FINAL | TEXT && first != FINAL | BINARY {
            return None;
        }
        let payload = match bytes.get(1)? {
            length @ 0..=125 => usize::from(*length),
            126 => usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)),
            127 => usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?,
            _ => return None,
        };
        let frame =
            (bytes.len() == payload.checked_add(header_bytes(payload))?).then_some(Frame(bytes))?;
        let is_good = first != FINAL | TEXT || simdutf8::basic::from_utf8(frame.payload()).is_ok();
        is_good.then_some(frame)
    }

    /// The same message, compressed for clients with this window. Nothing is returned if that would
    /// not make it smaller.
    pub fn deflated(&self, level: u32, window_bits: u8) -> Option<Frame> {
        let compressed = deflate::compress(self.payload(), level, window_bits)?;
        Some(Frame::encode(self.0[0] | COMPRESSED, &compressed))
    }

    /// The same message, as clients that speak `jackfield.v1` get it: a text begins with `m`, since
    /// other texts are control messages (docs/protocol.md).
    pub fn tagged(&self) -> Frame {
        if !self.is_text() {
            return self.clone();
        }
        let mut tagged = Vec::with_capacity(1 + self.payload().len());
        tagged.push(MESSAGE_TAG);
        tagged.extend_from_slice(self.payload());
        Frame::encode(TEXT, &tagged)
    }

    /// Whether the frame is a text message.
    pub fn is_text(&self) -> bool {
        self.0.first().is_some_and(|first| first & 0xf == TEXT)
    }

    /// The bytes of the frame after its header.
    pub fn payload(&self) -> &[u8] {
        let header = match self.0.get(1) {
            Some(127) => 10,
            Some(126) => 4,
            _ => 2,
        };
        self.0.get(header..).unwrap_or_default()
    }

    /// The bytes of the frame, shared, for another node.
    pub fn to_bytes(&self) -> Bytes {
        self.0.clone()
    }

    /// The bytes of the frame, for the socket.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "each cast stands behind its bound"
    )]
    fn encode(opcode: u8, payload: &[u8]) -> Frame {
        // Exactly as large as it gets: `Bytes` then takes it over as it is.
        let mut frame = Vec::with_capacity(header_bytes(payload.len()) + payload.len());
        frame.push(FINAL | opcode);
        match payload.len() {
            len @ 0..=125 => frame.push(len as u8),
            len @ 126..=0xffff => {
                frame.push(126);
                frame.put_u16(len as u16);
            }
            len => {
                frame.push(127);
                frame.put_u64(len as u64);
            }
        }
        frame.extend_from_slice(payload);
        Frame(frame.into())
    }
}

/// The number of header bytes before a payload of this length.
fn header_bytes(payload: usize) -> usize {
    match payload {
        0..=125 => 2,
        126..=0xffff => 4,
        _ => 10,
    }
}

/// The longest reason in a close frame, in bytes: a payload of 125 bytes without the two bytes of
/// the code.
pub const CLOSE_REASON_BYTES: usize = 123;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_whole_message_is_not_taken_from_the_wire() {
        for bytes in [
            &[][..],
            &[0x81],
            &[0x81, 2, b'a'],
            &[0x81, 1, b'a', b'b'],
            &[0x01, 1, b'a'],
            &[0x88, 2, 3, 0xe8],
            &[0x81, 0x81, 0, 0, 0, 0, b'a'],
            &[0x82, 126, 0, 1, b'a'],
            // A text that is not UTF-8.
            &[0x81, 2, 0xc3, 0x28],
            &[0x82, 127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        ] {
            assert_eq!(
                Frame::from_wire(Bytes::from_static(bytes)),
                None,
                "{bytes:?}"
            );
        }
    }

    #[test]
    fn frames_have_the_shortest_length_field() {
        for (length, header) in [
            (0, vec![0x82, 0]),
            (125, vec![0x82, 125]),
            (126, vec![0x82, 126, 0, 126]),
            (0xffff, vec![0x82, 126, 0xff, 0xff]),
            (0x10000, vec![0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let frame = Frame::message(Message::Binary(&vec![7; length]));
            assert_eq!(frame.as_bytes()[..header.len()], header, "{length}");
            assert_eq!(frame.as_bytes().len(), header.len() + length);
            assert_eq!(Frame::from_wire(frame.to_bytes()), Some(frame));
        }
        assert_eq!(
            Frame::message(Message::Text("é")).as_bytes(),
            [0x81, 2, 0xc3, 0xa9]
        );
        assert_eq!(
            Frame::close(CloseCode::Normal, "ok").as_bytes(),
            [0x88, 4, 3, 0xe8, b'o', b'k']
        );
    }
}
