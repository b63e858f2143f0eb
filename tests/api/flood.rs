//! Strangers at the API's port, who have no token: what they can hold of the node.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Result;
use jackfield_tests::{Node, Raw, within};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

const MIB: u64 = 1 << 20;

// RFC 9113: what a connection begins with, kinds of frames, and flags.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const END_STREAM_AND_HEADERS: u8 = 5;

const CONNECTIONS: usize = 200;
const STREAMS: u32 = 200;

/// Answers that nobody takes: the peer's windows have no byte of room.
#[tokio::test]
async fn answers_that_are_not_taken_hold_little_memory() -> Result<()> {
    let node = Node::builder().plugin("echo").start().await?;
    let mut well = node.client("/echo").await?;
    // The document is made, and buffers that all share are there.
    assert_eq!(node.api("/openapi.json").await?.status, 200);
    let before = node.resident_bytes()?;
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(ask_without_a_window(node.api_address()).await?);
        well.say("still here").await?;
        assert_eq!(well.next_text().await?, "still here");
    }
    // All that was sent has been read: later requests are answered.
    assert_eq!(node.api("/live").await?.status, 200);
    let grown = node.resident_bytes()?.saturating_sub(before);
    assert!(grown < 100 * MIB, "the node has grown by {grown} bytes");
    drop(connections);
    within("the memory to go back", async {
        while node.resident_bytes()? > before + 20 * MIB {
            tokio::task::yield_now().await;
        }
        anyhow::Ok(())
    })
    .await
}

/// A connection of HTTP/2 (RFC 9113) that has asked for a large document many times, and takes no
/// byte of an answer.
async fn ask_without_a_window(address: SocketAddr) -> Result<TcpStream> {
    let mut bytes = PREFACE.to_vec();
    // SETTINGS_INITIAL_WINDOW_SIZE is 0.
    bytes.extend(frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]));
    let head = head("/openapi.json")?;
    for stream in 0..STREAMS {
        let stream = 2 * stream + 1;
        bytes.extend(frame(HEADERS, END_STREAM_AND_HEADERS, stream, &head));
    }
    let mut socket = TcpStream::connect(address).await?;
    socket.write_all(&bytes).await?;
    Ok(socket)
}

/// The head of a request, in HPACK (RFC 7541): two entries of the static table, and two with a name
/// of it.
fn head(path: &str) -> Result<Vec<u8>> {
    let mut head = vec![0x82, 0x86];
    for (name, value) in [(4, path), (1, "127.0.0.1")] {
        head.push(name);
        head.push(u8::try_from(value.len())?);
        head.extend(value.bytes());
    }
    Ok(head)
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut frame = length.to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// How long a flood lasts.
const FLOOD: Duration = Duration::from_secs(3);

/// What an echo may take meanwhile, on a machine that does much else.
const SERVED: Duration = Duration::from_secs(5);

/// Connections that flood the node at a time.
const AT_ONCE: usize = 8;

/// Heads of a few bytes that unpack to sixty megabytes.
#[tokio::test]
async fn heads_that_unpack_to_much_more_hold_little_and_slow_down_nobody() -> Result<()> {
    let head = head("/live")?;
    // Literal with indexing: `x` with a long value becomes entry 62 of the table.
    let mut entry = vec![0x40, 1, b'x', 0x7f];
    // 3,900 in seven bits and then seven at a time (RFC 7541, section 5.1).
    let more = 3_900 - 127;
    entry.extend([0x80 | u8::try_from(more % 128)?, u8::try_from(more / 128)?]);
    entry.extend([b'a'; 3_900]);
    let first = [head.clone(), entry].concat();
    let bomb = [head, vec![0x80 | 62; 16_000]].concat();
    let mut bytes = frame(HEADERS, END_STREAM_AND_HEADERS, 1, &first);
    for stream in 1..STREAMS {
        bytes.extend(frame(
            HEADERS,
            END_STREAM_AND_HEADERS,
            2 * stream + 1,
            &bomb,
        ));
    }
    flooded("heads that unpack to 60 MB", &bytes).await
}

#[tokio::test]
async fn priorities_hold_little_and_slow_down_nobody() -> Result<()> {
    let mut bytes = Vec::new();
    for number in 0..50_000 {
        bytes.extend(frame(PRIORITY, 0, 2 * number + 1, &[0, 0, 0, 0, 16]));
    }
    flooded("priorities", &bytes).await
}

#[tokio::test]
async fn requests_that_are_reset_at_once_hold_little_and_slow_down_nobody() -> Result<()> {
    let head = head("/openapi.json")?;
    let mut bytes = Vec::new();
    for number in 0..20_000 {
        let stream = 2 * number + 1;
        bytes.extend(frame(HEADERS, END_STREAM_AND_HEADERS, stream, &head));
        bytes.extend(frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]));
    }
    flooded("requests that are reset", &bytes).await
}

/// Sends these frames on new connections again and again. Meanwhile the node's clients and callers
/// are served, and its log and its memory do not grow with the flood.
async fn flooded(what: &str, frames: &[u8]) -> Result<()> {
    let node = Node::builder().plugin("echo").start().await?;
    let mut well = node.client("/echo").await?;
    assert_eq!(node.api("/openapi.json").await?.status, 200);
    let before = node.resident_bytes()?;
    let bytes = [PREFACE, &frame(SETTINGS, 0, 0, &[]), frames].concat();
    let flood = async {
        let flooders = (0..AT_ONCE).map(|_| async {
            let mut connections = 0_usize;
            loop {
                let mut socket = TcpStream::connect(node.api_address()).await?;
                // The node may end it before all is sent.
                let _ = socket.write_all(&bytes).await;
                connections += 1;
                if connections > 100_000 {
                    return anyhow::Ok(());
                }
            }
        });
        futures_util::future::try_join_all(flooders).await
    };
    let mut took = Vec::new();
    let mut most = 0;
    let served = async {
        let end = Instant::now() + FLOOD;
        while Instant::now() < end {
            let start = Instant::now();
            well.say("still here").await?;
            assert_eq!(well.next_text().await?, "still here");
            took.push(start.elapsed());
            most = most.max(node.resident_bytes()?);
        }
        // A probe from another address finds a place among as many connections as there may be.
        let mut probe = Raw::connect_from("127.0.0.2".parse()?, node.api_address()).await?;
        probe
            .write(b"GET /live HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
            .await?;
        assert_eq!(probe.response().await?.status, 200);
        anyhow::Ok(())
    };
    tokio::select! {
        flooded = flood => flooded.map(drop)?,
        served = served => served?,
    }
    took.sort_unstable();
    let (p99, max) = (took[took.len() * 99 / 100], took[took.len() - 1]);
    let grown = most.saturating_sub(before);
    let warnings = node.log().so_far(|line| line.level() == "WARN").len();
    eprintln!(
        "measured: {what}: p99 {p99:?} and at most {max:?} of {}, {grown} bytes, {warnings} warnings",
        took.len()
    );
    assert!(grown < 64 * MIB, "the node has grown by {grown} bytes");
    assert!(warnings <= 2, "{warnings} warnings");
    // The flood and the tests beside it have the same processors.
    assert!(p99 < SERVED, "{p99:?} for an echo");
    within("the memory to go back", async {
        while node.resident_bytes()? > before + 20 * MIB {
            tokio::task::yield_now().await;
        }
        anyhow::Ok(())
    })
    .await
}
