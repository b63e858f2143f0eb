//! The benchmark's messages, and the little of RFC 6455 that they need.
//!
//! A payload says whose it is and the how-manieth of his it is, so that each answer can be
//! checked: the right client, nothing lost, nothing twice, nothing out of order.

use anyhow::{Result, bail, ensure};

/// Bytes of every measured message.
pub(crate) const PAYLOAD_BYTES: usize = 64;

/// One measured message.
pub(crate) type Payload = [u8; PAYLOAD_BYTES];

/// The message number `sequence` of `client`: two hexadecimal numbers, and filler. Text,
/// since most clients speak text, and checking that it is UTF-8 is part of what it costs.
pub(crate) fn payload(client: u32, sequence: u32) -> Payload {
    let mut payload = *b"................ the quick brown fox jumps over the lazy dog 012";
    write_hex(&mut payload[..8], client);
    write_hex(&mut payload[8..16], sequence);
    payload
}

/// A frame that a server sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    /// With the reserved bits.
    pub(crate) opcode: u8,
    pub(crate) payload: &'a [u8],
}

pub(crate) const TEXT: u8 = 0x1;
/// A text whose payload is compressed (RFC 7692).
pub(crate) const COMPRESSED_TEXT: u8 = 0x41;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xa;

const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;

/// Any key but zero: a server has to unmask.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// Appends a whole frame, masked as a client's has to be.
pub(crate) fn append_masked(output: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    output.push(FINAL | opcode);
    match u8::try_from(payload.len()) {
        Ok(length @ 0..=125) => output.push(MASKED | length),
        _ => {
            // The benchmark sends no message that would need the third form of a length.
            let length = u16::try_from(payload.len()).unwrap_or(u16::MAX);
            output.push(MASKED | 126);
            output.extend_from_slice(&length.to_be_bytes());
        }
    }
    output.extend_from_slice(&MASK);
    let start = output.len();
    output.extend_from_slice(payload);
    for chunk in output[start..].chunks_mut(MASK.len()) {
        for (byte, mask) in chunk.iter_mut().zip(MASK) {
            *byte ^= mask;
        }
    }
}

/// The first frame of what a server sent, and its length with its header; none: it is not
/// all there yet.
pub(crate) fn first(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>> {
    let [head, length, ..] = *bytes else {
        return Ok(None);
    };
    ensure!(head & FINAL != 0, "the server sent a fragment");
    let (header, length) = match length {
        0..=125 => (2, usize::from(length)),
        126 => match bytes.get(2..4) {
            Some(&[high, low]) => (4, usize::from(u16::from_be_bytes([high, low]))),
            _ => return Ok(None),
        },
        127 => bail!("the server sent a frame of more than 64 KiB"),
        _ => bail!("the server sent a masked frame"),
    };
    let end = header + length;
    Ok(bytes.get(header..end).map(|payload| {
        let frame = Frame {
            opcode: head & !FINAL,
            payload,
        };
        (frame, end)
    }))
}

fn write_hex(digits: &mut [u8], number: u32) {
    for (position, digit) in digits.iter_mut().rev().enumerate() {
        *digit = b"0123456789abcdef"[(number >> (4 * position)) as usize & 0xf];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_names_its_client_and_its_place() {
        let payload = payload(0x1f, 0xdead_beef);
        assert_eq!(&payload[..17], b"0000001fdeadbeef ");
        assert_eq!(payload.len(), PAYLOAD_BYTES);
    }

    #[test]
    fn a_frame_of_a_client_is_masked() {
        let mut output = Vec::new();
        append_masked(&mut output, TEXT, b"hello");
        let unmasked: Vec<u8> = output[6..]
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, mask)| byte ^ mask)
            .collect();
        assert_eq!((output[0], output[1]), (0x81, 0x85));
        assert_eq!(unmasked, b"hello");
        output.clear();
        append_masked(&mut output, TEXT, &[b'a'; 300]);
        assert_eq!(output[1..4], [0xfe, 1, 44]);
    }

    #[test]
    fn a_frame_is_taken_only_when_it_is_all_there() -> Result<()> {
        let bytes = b"\x81\x05helloxx";
        for end in 0..7 {
            assert_eq!(first(&bytes[..end])?, None, "{end}");
        }
        let hello = Frame {
            opcode: TEXT,
            payload: b"hello",
        };
        assert_eq!(first(bytes)?, Some((hello, 7)));
        assert!(first(b"\x81\x85").is_err(), "masked");
        assert!(first(b"\x01\x05").is_err(), "a fragment");
        Ok(())
    }
}
