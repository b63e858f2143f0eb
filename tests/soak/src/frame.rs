//! Frames of the node, as the soak's clients read them. A frame library would take most of the time
//! of a process that reads for thousands of clients.

use anyhow::{Result, bail, ensure};

pub(crate) const TEXT: u8 = 0x1;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;

const FINAL: u8 = 0x80;
/// The first frame of what a server sent: its opcode, its payload, and the frame's length with
/// its header. (None: it is not all there yet.)
pub(crate) fn first(bytes: &[u8]) -> Result<Option<(u8, &[u8], usize)>> {
    let [head, length, ..] = *bytes else {
        return Ok(None);
    };
    ensure!(head & FINAL != 0, "the node sent a fragment");
    let (header, length) = match length {
        0..=125 => (2, usize::from(length)),
        126 => match bytes.get(2..4) {
            Some(&[high, low]) => (4, usize::from(u16::from_be_bytes([high, low]))),
            _ => return Ok(None),
        },
        127 => match bytes.get(2..10).and_then(|bytes| bytes.try_into().ok()) {
            Some(length) => (10, usize::try_from(u64::from_be_bytes(length))?),
            None => return Ok(None),
        },
        _ => bail!("the node sent a masked frame"),
    };
    let end = header + length;
    let payload = bytes.get(header..end);
    Ok(payload.map(|payload| (head & !FINAL, payload, end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_taken_only_when_it_is_all_there() -> Result<()> {
        let bytes = b"\x81\x05helloxx";
        for end in 0..7 {
            assert_eq!(first(&bytes[..end])?, None, "{end}");
        }
        assert_eq!(first(bytes)?, Some((TEXT, &b"hello"[..], 7)));
        let long = [&[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0][..], &[7; 65536]].concat();
        assert_eq!(first(&long[..9])?, None);
        assert_eq!(first(&long)?, Some((TEXT, &[7; 65536][..], 65546)));
        assert!(first(b"\x81\x85").is_err(), "masked");
        assert!(first(b"\x01\x05").is_err(), "a fragment");
        Ok(())
    }
}
