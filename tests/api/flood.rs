//! Strangers at the API's port, who have no token: what they can hold of the node.

use std::net::SocketAddr;

use anyhow::Result;
use jackfield_tests::{Node, within};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

const MIB: u64 = 1 << 20;

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
    const SETTINGS: u8 = 4;
    const HEADERS: u8 = 1;
    const END_STREAM_AND_HEADERS: u8 = 5;
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    // SETTINGS_INITIAL_WINDOW_SIZE is 0.
    bytes.extend(frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]));
    // HPACK (RFC 7541): two entries of the static table, and two with a name of it.
    let mut head = vec![0x82, 0x86];
    for (name, value) in [(4, "/openapi.json"), (1, "127.0.0.1")] {
        head.push(name);
        head.push(u8::try_from(value.len())?);
        head.extend(value.bytes());
    }
    for stream in 0..STREAMS {
        let stream = 2 * stream + 1;
        bytes.extend(frame(HEADERS, END_STREAM_AND_HEADERS, stream, &head));
    }
    let mut socket = TcpStream::connect(address).await?;
    socket.write_all(&bytes).await?;
    Ok(socket)
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut frame = length.to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}
