//! WebSocket frames by hand, for those that no client library would send.

/// A frame from a client, good or bad.
#[derive(Clone, Debug)]
pub struct Frame {
    first: u8,
    is_masked: bool,
    payload: Vec<u8>,
}

/// What a frame is (RFC 6455, section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the standard's own words")]
pub enum OpCode {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Reserved = 3,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

impl Frame {
    /// A whole message, or the only frame of a control message.
    pub fn new(opcode: OpCode, payload: impl Into<Vec<u8>>) -> Frame {
        Frame {
            first: 0x80 | opcode as u8,
            is_masked: true,
            payload: payload.into(),
        }
    }

    /// With more to follow.
    pub fn unfinished(mut self) -> Frame {
        self.first &= 0x7f;
        self
    }

    /// With a bit set that no extension was negotiated for.
    pub fn with_reserved_bit(mut self) -> Frame {
        self.first |= 0x40;
        self
    }

    /// As only servers may send it.
    pub fn unmasked(mut self) -> Frame {
        self.is_masked = false;
        self
    }

    /// On the wire.
    pub fn to_bytes(&self) -> Vec<u8> {
        const MASK: [u8; 4] = [1, 2, 3, 4];
        let mut bytes = vec![self.first];
        bytes.extend(self.length());
        if !self.is_masked {
            bytes.extend(&self.payload);
            return bytes;
        }
        bytes[1] |= 0x80;
        bytes.extend(MASK);
        bytes.extend(
            self.payload
                .iter()
                .zip(MASK.iter().cycle())
                .map(|(byte, mask)| byte ^ mask),
        );
        bytes
    }

    fn length(&self) -> Vec<u8> {
        let length = self.payload.len();
        match (u8::try_from(length), u16::try_from(length)) {
            (Ok(length @ ..=125), _) => vec![length],
            (_, Ok(length)) => [&[126][..], &length.to_be_bytes()].concat(),
            _ => [&[127][..], &(length as u64).to_be_bytes()].concat(),
        }
    }
}
