//! The extension permessage-deflate (RFC 7692): a message's payload, compressed and back.
//!
//! Neither side keeps its context from one message to the next. So a message is compressed once for
//! all clients with the same window, and a client takes no memory for it: each thread has the state
//! of a compressor and of a decompressor.

use std::cell::RefCell;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// What a compressed payload ends with, and is sent without (RFC 7692, section 7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// The room that a payload to be decompressed gets at first, in bytes.
const FIRST_ROOM: usize = 4 << 10;

/// The reason why a payload cannot be decompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeflateError {
    /// The payload would have more bytes than it may.
    TooBig,
    /// The bytes are no compressed payload.
    Malformed,
}

thread_local! {
    static COMPRESSORS: RefCell<Vec<Compressor>> = const { RefCell::new(Vec::new()) };
    static DECOMPRESSOR: RefCell<Option<Decompress>> = const { RefCell::new(None) };
}

/// The state of a compressor. A thread has one for each level and window that are in use.
struct Compressor {
    level: u32,
    window_bits: u8,
    state: Compress,
}

/// Compresses a payload. Nothing is returned if it would not become smaller.
pub fn compress(payload: &[u8], level: u32, window_bits: u8) -> Option<Vec<u8>> {
    COMPRESSORS.with_borrow_mut(|compressors| {
        let is_it = |other: &Compressor| other.level == level && other.window_bits == window_bits;
        let at = compressors.iter().position(is_it).unwrap_or_else(|| {
            compressors.push(Compressor {
                level,
                window_bits,
                state: Compress::new_with_window_bits(Compression::new(level), false, window_bits),
            });
            compressors.len() - 1
        });
        let state = &mut compressors[at].state;
        state.reset();
        // More room would be for a payload that grows.
        let mut compressed = Vec::with_capacity(payload.len() + TAIL.len());
        let ended = state.compress_vec(payload, &mut compressed, FlushCompress::Sync);
        let is_whole = ended.is_ok() && state.total_in() == payload.len() as u64;
        if !is_whole || !compressed.ends_with(&TAIL) {
            return None;
        }
        compressed.truncate(compressed.len() - TAIL.len());
        (compressed.len() < payload.len()).then_some(compressed)
    })
}

/// Decompresses a payload that has at most `most` bytes.
///
/// # Errors
///
/// The payload is larger, or the bytes are malformed. No more memory is taken than `most` bytes and
/// a small rest.
pub fn decompress(compressed: &[u8], most: usize) -> Result<Vec<u8>, DeflateError> {
    DECOMPRESSOR.with_borrow_mut(|state| {
        let state = state.get_or_insert_with(|| Decompress::new(false));
        state.reset(false);
        let mut payload = Vec::with_capacity(FIRST_ROOM.min(most + 1));
        for part in [compressed, &TAIL] {
            decompress_part(state, part, most, &mut payload)?;
        }
        Ok(payload)
    })
}

fn decompress_part(
    state: &mut Decompress,
    mut part: &[u8],
    most: usize,
    payload: &mut Vec<u8>,
) -> Result<(), DeflateError> {
    loop {
        if payload.len() == payload.capacity() {
            // One byte more than it may have shows that it has more.
            let room = payload.len().min(most + 1 - payload.len());
            payload.reserve_exact(room);
        }
        let before = (state.total_in(), payload.len());
        let ended = state.decompress_vec(part, payload, FlushDecompress::None);
        let ended = ended.map_err(|_| DeflateError::Malformed)?;
        if payload.len() > most {
            return Err(DeflateError::TooBig);
        }
        let taken = usize::try_from(state.total_in() - before.0).unwrap_or(usize::MAX);
        part = part.get(taken..).unwrap_or_default();
        match ended {
            // A sender may end its stream, and begin another one (RFC 7692, section 7.2.3.4).
            Status::StreamEnd => state.reset(false),
            _ if part.is_empty() && payload.len() < payload.capacity() => return Ok(()),
            _ if taken == 0 && payload.len() == before.1 && payload.len() < payload.capacity() => {
                return Err(DeflateError::Malformed);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: usize) -> Vec<u8> {
        let mut random = fastrand::Rng::with_seed(7);
        let words = ["tea ", "time ", "for ", "everybody ", "{\"id\":7} "];
        let mut text = Vec::new();
        while text.len() < bytes {
            text.extend_from_slice(random.choice(words).unwrap_or_default().as_bytes());
        }
        text.truncate(bytes);
        text
    }

    #[test]
    fn what_is_compressed_comes_back_with_each_window_and_level() {
        for bytes in [100, 1_000, 4_096, 65_536, 1_000_000] {
            let payload = text(bytes);
            for window_bits in 9..=15 {
                for level in [1, 6, 9] {
                    let small = compress(&payload, level, window_bits).expect("it is smaller");
                    assert!(small.len() < bytes);
                    assert_eq!(decompress(&small, bytes), Ok(payload.clone()));
                    assert_eq!(decompress(&small, bytes - 1), Err(DeflateError::TooBig));
                }
            }
        }
    }

    /// Payloads of every kind between order and noise, since a compressor has a path for each.
    #[test]
    fn whatever_is_compressed_comes_back() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..4_000 {
            let last = [0, 1, 15, 63, 255][random.usize(..5)];
            let bytes = 1 << random.usize(..18);
            let bytes = random.usize(..bytes);
            let payload: Vec<u8> = (0..bytes).map(|_| random.u8(..=last)).collect();
            let (level, window_bits) = (random.u32(1..=9), random.u8(9..=15));
            if let Some(small) = compress(&payload, level, window_bits) {
                assert!(
                    decompress(&small, bytes) == Ok(payload),
                    "{level} {window_bits}"
                );
            }
        }
    }

    #[test]
    fn what_does_not_become_smaller_stays_as_it_is() {
        let mut random = fastrand::Rng::with_seed(7);
        let noise: Vec<u8> = (0..10_000).map(|_| random.u8(..)).collect();
        assert_eq!(compress(&noise, 9, 15), None);
        assert_eq!(compress(b"", 9, 15), None);
    }

    /// The examples of RFC 7692, sections 7.2.3.1 to 7.2.3.5.
    #[test]
    fn the_examples_of_the_standard_are_understood() {
        let hello: [&[u8]; 4] = [
            &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00],
            // Without compression.
            &[
                0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00,
            ],
            // A block that ends the stream.
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
            // Two blocks.
            &[
                0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00,
            ],
        ];
        for bytes in hello {
            assert_eq!(decompress(bytes, 5), Ok(b"Hello".to_vec()), "{bytes:x?}");
        }
        assert_eq!(decompress(&[0x00], 5), Ok(Vec::new()));
    }

    #[test]
    fn a_bomb_takes_no_more_memory_than_a_payload_may() {
        let bomb = compress(&vec![0; 100 << 20], 9, 15).expect("it is smaller");
        assert!(bomb.len() < 200_000);
        assert_eq!(decompress(&bomb, 1 << 20), Err(DeflateError::TooBig));
    }

    #[test]
    fn noise_is_an_error_or_a_payload_and_nothing_worse() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..random.usize(..60)).map(|_| random.u8(..)).collect();
            if let Ok(payload) = decompress(&bytes, 1_000) {
                assert!(payload.len() <= 1_000);
            }
        }
        // And what came before does no harm.
        let small = compress(&text(500), 6, 15).expect("it is smaller");
        assert_eq!(decompress(&small, 500), Ok(text(500)));
    }
}
