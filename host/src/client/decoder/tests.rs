//! The decoder beside tungstenite: random frames, right and wrong, cut into random pieces.

use std::io::{self, Read, Write};
use std::task::Poll;

use bytes::BufMut as _;
use tungstenite::error::Error;
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};

use super::*;
use crate::close_code::CloseCode;
use crate::fuzzing::fuzz;

/// The largest message of these clients, in bytes: a few read buffers.
const MESSAGE_BYTES: usize = 20_000;

/// What a decoder makes of some bytes: the messages, and the end.
type Decoded = (Vec<DecodedEvent>, DecodeEnd);

#[derive(Clone, Debug, PartialEq, Eq)]
enum DecodedEvent {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum DecodeEnd {
    /// More bytes are needed.
    Pending,
    Closed(Option<(u16, String)>),
    TooBig,
    NotUtf8,
    Malformed,
    Protocol,
}

impl From<DecodeError> for DecodeEnd {
    fn from(error: DecodeError) -> DecodeEnd {
        match error {
            DecodeError::TooBig => DecodeEnd::TooBig,
            DecodeError::NotUtf8 => DecodeEnd::NotUtf8,
            DecodeError::Protocol(_) => DecodeEnd::Protocol,
            DecodeError::Malformed => DecodeEnd::Malformed,
        }
    }
}

fn ours(bytes: &[u8], deflates: bool, random: &mut fastrand::Rng) -> Decoded {
    let already = random.usize(..=bytes.len().min(50));
    let (already, mut bytes) = bytes.split_at(already);
    let mut decoder = Decoder::new(MESSAGE_BYTES, already, deflates);
    let mut events = Vec::new();
    // In some runs all comes at once, in others byte by byte.
    let most = [1, 10, 100, 100_000][random.usize(..4)];
    // The size of the next message, where it was asked for.
    let mut next = None;
    loop {
        let received = match decoder.decode() {
            Ok(received) => received,
            Err(error) => return (events, error.into()),
        };
        if let Some(bytes) = next.take() {
            assert!(matches!(received, Some(Received::Text | Received::Binary)));
            assert_eq!(decoder.payload().len(), bytes);
        }
        let payload = decoder.payload().to_vec();
        match received {
            Some(received @ (Received::Text | Received::Binary)) => {
                events.push(match decoder.message(received) {
                    Ok(Message::Text(text)) => DecodedEvent::Text(text.to_owned()),
                    Ok(Message::Binary(bytes)) => DecodedEvent::Binary(bytes.to_vec()),
                    Err(error) => return (events, error.into()),
                });
                if random.bool() {
                    next = decoder.next_message();
                }
                continue;
            }
            Some(Received::Ping) => {
                events.push(DecodedEvent::Ping(payload));
                continue;
            }
            Some(Received::Pong) => {
                events.push(DecodedEvent::Pong(payload));
                continue;
            }
            Some(Received::Close) => {
                let end = match decoder.close() {
                    Ok(Some((code, _))) if !CloseCode::from(code).may_be_sent() => {
                        DecodeEnd::Protocol
                    }
                    Ok(close) => {
                        DecodeEnd::Closed(close.map(|(code, reason)| (code, reason.to_owned())))
                    }
                    Err(error) => error.into(),
                };
                return (events, end);
            }
            None => {}
        }
        if bytes.is_empty() {
            return (events, DecodeEnd::Pending);
        }
        if random.bool() {
            // Nothing can be read just now.
            assert!(decoder.fill(|_| Poll::Pending).is_pending());
            decoder.rest();
            assert!(decoder.buffer.capacity() < read_buffers::BYTES);
        }
        let filled = decoder.fill(|buffer| {
            let part = bytes
                .len()
                .min(random.usize(1..=most))
                .min(buffer.remaining_mut());
            assert!(part > 0, "there is room");
            buffer.put_slice(&bytes[..part]);
            bytes = &bytes[part..];
            Poll::Ready(Ok(part))
        });
        assert!(matches!(filled, Poll::Ready(Ok(1..))));
    }
}

/// A socket with some bytes, on which nothing more can be read after them.
struct Socket<'a>(&'a [u8]);

impl Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            read => Ok(read),
        }
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn theirs(bytes: &[u8]) -> Decoded {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES))
        .max_frame_size(Some(MESSAGE_BYTES));
    let mut context = WebSocketContext::new(Role::Server, Some(config));
    let mut socket = Socket(bytes);
    let mut events = Vec::new();
    loop {
        use tungstenite::Message;
        events.push(match context.read(&mut socket) {
            Ok(Message::Text(text)) => DecodedEvent::Text(text.to_string()),
            Ok(Message::Binary(bytes)) => DecodedEvent::Binary(bytes.to_vec()),
            Ok(Message::Ping(bytes)) => DecodedEvent::Ping(bytes.to_vec()),
            Ok(Message::Pong(bytes)) => DecodedEvent::Pong(bytes.to_vec()),
            Ok(Message::Close(Some(frame))) if frame.reason == "Protocol violation" => {
                return (events, DecodeEnd::Protocol);
            }
            Ok(Message::Close(frame)) => {
                let close = frame.map(|frame| (frame.code.into(), frame.reason.to_string()));
                return (events, DecodeEnd::Closed(close));
            }
            Ok(Message::Frame(_)) => unreachable!("it is never read"),
            Err(Error::Io(_)) => return (events, DecodeEnd::Pending),
            Err(Error::Capacity(_)) => return (events, DecodeEnd::TooBig),
            Err(Error::Utf8(_)) => return (events, DecodeEnd::NotUtf8),
            Err(_) => return (events, DecodeEnd::Protocol),
        });
    }
}

/// A frame that is right for the most part.
fn frame(random: &mut fastrand::Rng, bytes: &mut Vec<u8>) {
    let opcode = match random.u8(..100) {
        0..25 => TEXT,
        25..45 => BINARY,
        45..75 => CONTINUATION,
        75..85 => PING,
        85..92 => PONG,
        92..98 => CLOSE,
        _ => random.u8(..16),
    };
    let is_control = opcode & 8 != 0;
    let is_final = random.u8(..100) < if is_control { 98 } else { 60 };
    let reserved = if random.u8(..100) == 0 {
        random.u8(..8) << 4
    } else {
        0
    };
    bytes.push(u8::from(is_final) << 7 | reserved | opcode);
    let length = match random.u8(..10) {
        0 => 0,
        1..6 => random.usize(..120),
        _ if is_control => random.usize(..128),
        6 => random.usize(120..70_000),
        7 => read_buffers::BYTES - random.usize(..30),
        _ => random.usize(..6_000),
    };
    let mut payload = match (opcode, random.u8(..10)) {
        (CLOSE, _) => {
            let code: u16 =
                [1000, 1001, 1003, 1005, 1006, 1012, 3000, 4999, 5000, 7][random.usize(..10)];
            let mut payload = code.to_be_bytes().to_vec();
            payload.resize(length, b'x');
            payload
        }
        (_, 0) => (0..length).map(|_| random.u8(..)).collect(),
        // Characters of one to four bytes, which may be cut anywhere.
        _ => "aß中😀"
            .bytes()
            .cycle()
            .skip(random.usize(..10))
            .take(length)
            .collect(),
    };
    let mask: [u8; 4] = random.u32(..).to_ne_bytes();
    let is_masked = random.u8(..100) != 0;
    let masked = u8::from(is_masked) << 7;
    match length {
        0..126 => bytes.push(masked | u8::try_from(length).expect("small")),
        126..65_536 if random.u8(..20) != 0 => {
            bytes.push(masked | 126);
            bytes.extend(u16::try_from(length).expect("small").to_be_bytes());
        }
        _ => {
            bytes.push(masked | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    if is_masked {
        bytes.extend(mask);
        payload
            .iter_mut()
            .zip(mask.iter().cycle())
            .for_each(|(byte, mask)| *byte ^= mask);
    }
    bytes.extend(payload);
}

/// Decodes bytes with both, which must agree. Returns the number of messages, and the end.
fn agreed(bytes: &[u8], random: &mut fastrand::Rng, what: &str) -> (usize, DecodeEnd) {
    let theirs = theirs(bytes);
    let ours = ours(bytes, false, random);
    assert_eq!(ours.0, theirs.0, "{what}: {:?}, {:?}", ours.1, theirs.1);
    // Ours refuses a frame at its header, or a text at its first wrong byte.
    let is_earlier = theirs.1 == DecodeEnd::Pending && !matches!(ours.1, DecodeEnd::Closed(_));
    assert!(
        ours.1 == theirs.1 || is_earlier,
        "{what}: {ours:?}, {theirs:?}"
    );
    (ours.0.len(), theirs.1)
}

#[test]
fn it_agrees_with_tungstenite_about_what_becomes_of_a_corpus() {
    let mut random = fastrand::Rng::with_seed(1);
    fuzz("frames", 10_000, |bytes| {
        agreed(bytes, &mut random, "the corpus");
    });
}

#[test]
fn compressed_or_not_the_pieces_do_not_matter() {
    let mut random = fastrand::Rng::with_seed(2);
    let mut messages = 0;
    for corpus in ["frames", "compressed-frames"] {
        fuzz(corpus, 5_000, |bytes| {
            let first = ours(bytes, true, &mut random);
            assert_eq!(first, ours(bytes, true, &mut random));
            for event in &first.0 {
                let payload = match event {
                    DecodedEvent::Text(text) => text.as_bytes(),
                    DecodedEvent::Binary(bytes)
                    | DecodedEvent::Ping(bytes)
                    | DecodedEvent::Pong(bytes) => bytes,
                };
                assert!(payload.len() <= MESSAGE_BYTES);
            }
            messages += first.0.len();
        });
    }
    assert!(messages > 1_000, "{messages}");
}

#[test]
fn it_agrees_with_tungstenite() {
    let (mut messages, mut ends) = (0, std::collections::BTreeMap::<_, u32>::new());
    for seed in 0..20_000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bytes = Vec::new();
        for _ in 0..random.usize(1..12) {
            frame(&mut random, &mut bytes);
        }
        if random.u8(..10) == 0 {
            let at = random.usize(..bytes.len());
            bytes[at] ^= 1 << random.u8(..8);
        }
        if random.u8(..4) == 0 {
            bytes.truncate(random.usize(..bytes.len()));
        }
        let (events, end) = agreed(&bytes, &mut random, &format!("seed {seed}"));
        messages += events;
        *ends
            .entry(format!("{end:?}").split('(').next().map(str::to_owned))
            .or_default() += 1;
    }
    // The frames lead everywhere.
    assert!(messages > 5_000, "{messages}");
    assert!(
        ends.len() == 5 && ends.values().all(|times| *times > 100),
        "{ends:?}"
    );
}

#[test]
fn what_is_only_announced_takes_no_memory() {
    let mut decoder = Decoder::new(1 << 30, &[], false);
    let mut header = vec![0x80 | BINARY, 0x80 | 127];
    header.extend((1_u64 << 30).to_be_bytes());
    header.extend([1, 2, 3, 4]);
    let mut bytes = [&header[..], &[0; 10]].concat();
    let filled = decoder.fill(|buffer| {
        buffer.put_slice(&bytes);
        Poll::Ready(Ok(bytes.len()))
    });
    assert!(filled.is_ready());
    assert_eq!(decoder.decode(), Ok(None));
    for part in [1_000, 10_000, 50_000] {
        bytes.resize(part, 0);
        let mut read = 0;
        while read < part {
            assert!(decoder.fill(|_| Poll::Pending).is_pending());
            decoder.rest();
            let _ = decoder.fill(|buffer| {
                let piece = buffer.remaining_mut().min(part - read);
                buffer.put_slice(&bytes[..piece]);
                read += piece;
                Poll::Ready(Ok(piece))
            });
            assert_eq!(decoder.decode(), Ok(None));
        }
        let gathered = decoder.gathered.as_ref().expect("a message under way");
        let held = gathered.payload.capacity();
        assert!(
            held <= 3 * gathered.payload.len() + 2 * read_buffers::BYTES,
            "{held}"
        );
        assert_eq!(decoder.buffer.capacity(), 0, "no read buffer is held");
    }
}
