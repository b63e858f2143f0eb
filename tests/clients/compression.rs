//! permessage-deflate (RFC 7692), where the manifest has `[compression]`.

use anyhow::{Result, ensure};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use jackfield_tests::{Frame, Node, NodeBuilder, OpCode, Raw, Register, text, upgrade_request};
use serde_json::json;

const OFFER: (&str, &str) = (
    "sec-websocket-extensions",
    "permessage-deflate; client_max_window_bits",
);
const AGREED: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

/// What the last block of a message ends with, and is sent without.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

const TEXT: u8 = 0x81;
const COMPRESSED_TEXT: u8 = 0xc1;

#[tokio::test]
async fn it_is_agreed_on_only_where_both_sides_want_it() -> Result<()> {
    let plain = Node::builder().plugin("echo").start().await?;
    let (answer, _) = upgrade(&plain, "/echo", &[OFFER]).await?;
    assert_eq!(answer, None);
    let node = with_compression("").start().await?;
    let (answer, _) = upgrade(&node, "/echo", &[]).await?;
    assert_eq!(answer, None);
    let (answer, _) = upgrade(&node, "/echo", &[OFFER]).await?;
    assert_eq!(answer.as_deref(), Some(AGREED));
    let small = (OFFER.0, "permessage-deflate; server_max_window_bits=9");
    let (answer, _) = upgrade(&node, "/echo", &[small]).await?;
    assert_eq!(answer, Some(format!("{AGREED}; server_max_window_bits=9")));
    Ok(())
}

#[tokio::test]
async fn messages_go_both_ways_compressed_from_a_size_on() -> Result<()> {
    let node = with_compression("min_bytes = 100\nlevel = 9")
        .start()
        .await?;
    for bits in [9, 15] {
        let offer = format!("permessage-deflate; server_max_window_bits={bits}");
        let (_, mut ada) = upgrade(&node, "/echo", &[(OFFER.0, &offer)]).await?;
        for (bytes, first) in [
            (99, TEXT),
            (100, COMPRESSED_TEXT),
            (60_000, COMPRESSED_TEXT),
        ] {
            let said = "tea time, everybody! ".repeat(3_000)[..bytes].to_owned();
            let frame = Frame::new(OpCode::Text, compress(said.as_bytes()));
            ada.write(&frame.with_reserved_bit().to_bytes()).await?;
            let (head, payload) = frame_of(&mut ada).await?;
            assert_eq!(head, first, "{bytes}");
            let heard = match head {
                COMPRESSED_TEXT => {
                    assert!(payload.len() < bytes / 2, "{} of {bytes}", payload.len());
                    decompress(&payload, bytes, bits)?
                }
                _ => payload,
            };
            assert_eq!(heard, said.as_bytes());
        }
        // In several frames, of which the first one says that it is compressed, around a ping.
        let said = "m".repeat(10_000);
        let compressed = compress(said.as_bytes());
        let (one, other) = compressed.split_at(compressed.len() / 2);
        let first = Frame::new(OpCode::Text, one)
            .with_reserved_bit()
            .unfinished();
        let rest = Frame::new(OpCode::Continuation, other);
        let ping = Frame::new(OpCode::Ping, "p");
        ada.write(&[first.to_bytes(), ping.to_bytes(), rest.to_bytes()].concat())
            .await?;
        assert_eq!(frame_of(&mut ada).await?, (0x8a, b"p".to_vec()));
        let (_, payload) = frame_of(&mut ada).await?;
        assert_eq!(decompress(&payload, 10_000, bits)?, said.as_bytes());
        // And plain ones, which need not be compressed.
        ada.write(&Frame::new(OpCode::Text, "plain").to_bytes())
            .await?;
        assert_eq!(frame_of(&mut ada).await?, (TEXT, b"plain".to_vec()));
    }
    Ok(())
}

#[tokio::test]
async fn a_group_hears_the_same_whoever_takes_it_compressed() -> Result<()> {
    let node = Node::builder()
        .plugin("console")
        .manifest("console", "[compression]")
        .start()
        .await?;
    let path = "/console?group=g";
    let (_, mut wide) = upgrade(&node, path, &[OFFER]).await?;
    let small = (OFFER.0, "permessage-deflate; server_max_window_bits=9");
    let (_, mut narrow) = upgrade(&node, path, &[small]).await?;
    let mut plain = node.console(&[("group", "g")]).await?;
    // Each has heard that it is connected.
    for raw in [&mut wide, &mut narrow] {
        frame_of(raw).await?;
    }
    let said = "tea time, everybody! ".repeat(1_000);
    let mut asker = node.console(&[]).await?;
    let send = json!({ "do": "send-to-group", "group": "g", "text": said });
    assert_eq!(asker.ok(send).await?["clients"], 3);
    assert_eq!(plain.next().await?, text(&said));
    for (raw, bits) in [(&mut wide, 15), (&mut narrow, 9)] {
        let (first, payload) = frame_of(raw).await?;
        assert_eq!(first, COMPRESSED_TEXT);
        assert_eq!(decompress(&payload, said.len(), bits)?, said.as_bytes());
    }
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_decompressed_or_becomes_too_large_closes_its_client_only() -> Result<()> {
    let node = with_compression("").start().await?;
    let mut well = node.client("/echo").await?;
    let before = node.resident_bytes()?;
    // A hundred megabytes in a hundred thousand.
    let bomb = compress(&vec![0; 100 << 20]);
    ensure!(bomb.len() < 200_000, "it is small");
    for (payload, code) in [
        (bomb, 1009),
        (vec![0xff; 20], 1007),
        (compress(&[0xff, 0xfe]), 1007),
    ] {
        let (_, mut ada) = upgrade(&node, "/echo", &[OFFER]).await?;
        let frame = Frame::new(OpCode::Text, payload).with_reserved_bit();
        ada.write(&frame.to_bytes()).await?;
        assert_eq!(close_code(&mut ada).await?, code);
    }
    // Only the first frame of a message says so, and only where it was agreed on.
    let (_, mut ada) = upgrade(&node, "/echo", &[OFFER]).await?;
    let first = Frame::new(OpCode::Text, "a").unfinished();
    let second = Frame::new(OpCode::Continuation, "b").with_reserved_bit();
    ada.write(&[first.to_bytes(), second.to_bytes()].concat())
        .await?;
    assert_eq!(close_code(&mut ada).await?, 1002);
    let (_, mut ada) = upgrade(&node, "/echo", &[]).await?;
    ada.write(
        &Frame::new(OpCode::Text, compress(b"hi"))
            .with_reserved_bit()
            .to_bytes(),
    )
    .await?;
    assert_eq!(close_code(&mut ada).await?, 1002);

    let after = node.resident_bytes()?;
    assert!(after < before + (32 << 20), "{before} and {after}");
    well.say("still here").await?;
    assert_eq!(well.next_text().await?, "still here");
    Ok(())
}

#[tokio::test]
async fn the_bytes_of_a_message_count_after_it_was_decompressed() -> Result<()> {
    let node = with_compression("min_bytes = 1000000")
        .config("[limits]\nbytes_per_second = 1000\nmessage_bytes = 100000")
        .start()
        .await?;
    let (_, mut ada) = upgrade(&node, "/echo", &[OFFER]).await?;
    let compressed = compress(&[b'x'; 100_000]);
    ensure!(compressed.len() < 500, "it is small");
    let frame = Frame::new(OpCode::Text, compressed).with_reserved_bit();
    ada.write(&frame.to_bytes()).await?;
    let (_, echoed) = frame_of(&mut ada).await?;
    assert_eq!(echoed.len(), 100_000);
    // It counts for a minute and a half.
    ada.write(&frame.to_bytes()).await?;
    assert_eq!(close_code(&mut ada).await?, 1008);
    Ok(())
}

/// Chromium compresses each of its messages.
#[tokio::test]
async fn compressed_messages_go_in_turns() -> Result<()> {
    let node = with_compression("min_bytes = 100000").start().await?;
    let (_, mut ada) = upgrade(&node, "/echo", &[OFFER]).await?;
    let mut said: Vec<Vec<u8>> = (0..40).map(|n| format!("message {n}").into()).collect();
    // Small on the wire, and larger than what goes in a turn.
    said[20] = vec![b'm'; 50_000];
    let mut bytes = Vec::new();
    for (number, said) in said.iter().enumerate() {
        // Plain ones among them.
        let frame = match number % 5 {
            4 => Frame::new(OpCode::Text, said.as_slice()),
            _ => Frame::new(OpCode::Text, compress(said)).with_reserved_bit(),
        };
        bytes.extend(frame.to_bytes());
    }
    let malformed = Frame::new(OpCode::Text, [0xff; 20]).with_reserved_bit();
    bytes.extend(malformed.to_bytes());
    bytes.extend(Frame::new(OpCode::Text, "nobody hears this").to_bytes());
    ada.write(&bytes).await?;
    for said in said {
        assert_eq!(frame_of(&mut ada).await?, (TEXT, said));
    }
    assert_eq!(close_code(&mut ada).await?, 1007);
    let counters = node.counters().await?;
    assert_eq!(counters.get("messages_in")?, 40);
    assert!(counters.get("turns")? > 0);
    Ok(())
}

#[tokio::test]
async fn a_gateway_goes_by_the_manifest_of_its_workers() -> Result<()> {
    let register = Register::start().await?;
    let worker = with_compression("min_bytes = 100").registered_at(&[&register]);
    let worker = worker.start().await?;
    let gateway = Node::builder().gateway().registered_at(&[&register]);
    let gateway = gateway.start().await?;
    gateway.wait_for_plugins_of(&worker).await?;
    let (answer, mut ada) = upgrade(&gateway, "/echo", &[OFFER]).await?;
    assert_eq!(answer.as_deref(), Some(AGREED));
    for (bytes, first) in [(99, TEXT), (100, COMPRESSED_TEXT)] {
        let said = vec![b'm'; bytes];
        let frame = Frame::new(OpCode::Text, compress(&said)).with_reserved_bit();
        ada.write(&frame.to_bytes()).await?;
        let (head, payload) = frame_of(&mut ada).await?;
        assert_eq!(head, first, "{bytes}");
        let heard = match head {
            COMPRESSED_TEXT => decompress(&payload, bytes, 15)?,
            _ => payload,
        };
        assert_eq!(heard, said);
    }
    Ok(())
}

#[tokio::test]
async fn a_reload_changes_it_for_those_who_come() -> Result<()> {
    let node = with_compression("").start().await?;
    let (_, mut ada) = upgrade(&node, "/echo", &[OFFER]).await?;
    node.folder().put_manifest("echo", "# nothing")?;
    node.generation_loaded("echo", 2).await?;
    // Who has agreed may go on, and is no longer sent what is compressed.
    let said = "m".repeat(10_000);
    let frame = Frame::new(OpCode::Text, compress(said.as_bytes())).with_reserved_bit();
    ada.write(&frame.to_bytes()).await?;
    assert_eq!(frame_of(&mut ada).await?, (TEXT, said.into_bytes()));
    let (answer, _) = upgrade(&node, "/echo", &[OFFER]).await?;
    assert_eq!(answer, None);
    Ok(())
}

fn with_compression(keys: &str) -> NodeBuilder {
    Node::builder()
        .plugin("echo")
        .manifest("echo", &format!("[compression]\n{keys}"))
}

/// A client that was let in, and the extension that the node has agreed on.
async fn upgrade(
    node: &Node,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<(Option<String>, Raw)> {
    let mut raw = node.raw().await?;
    raw.write(upgrade_request(path, headers).as_bytes()).await?;
    let response = raw.response().await?;
    ensure!(response.status == 101, "{response:?}");
    Ok((
        response.headers.get("sec-websocket-extensions").cloned(),
        raw,
    ))
}

/// The first byte and the payload of the next frame.
async fn frame_of(raw: &mut Raw) -> Result<(u8, Vec<u8>)> {
    let head = raw.bytes(2).await?;
    let length = match head[1] {
        126 => usize::from(u16::from_be_bytes(
            raw.bytes(2).await?.as_slice().try_into()?,
        )),
        127 => usize::try_from(u64::from_be_bytes(
            raw.bytes(8).await?.as_slice().try_into()?,
        ))?,
        length => usize::from(length),
    };
    Ok((head[0], raw.bytes(length).await?))
}

async fn close_code(raw: &mut Raw) -> Result<u16> {
    let (first, payload) = frame_of(raw).await?;
    ensure!(first == 0x88, "a close frame was awaited: {first:x}");
    Ok(u16::from_be_bytes(payload[..2].try_into()?))
}

fn compress(payload: &[u8]) -> Vec<u8> {
    let mut state = Compress::new(Compression::new(9), false);
    let mut compressed = Vec::with_capacity(payload.len() + 100);
    state
        .compress_vec(payload, &mut compressed, FlushCompress::Sync)
        .expect("there is room");
    compressed.truncate(compressed.len() - TAIL.len());
    compressed
}

/// As a client with this window does.
fn decompress(compressed: &[u8], bytes: usize, window_bits: u8) -> Result<Vec<u8>> {
    let mut state = Decompress::new_with_window_bits(false, window_bits);
    let mut payload = Vec::with_capacity(bytes + 100);
    let whole = [compressed, &TAIL].concat();
    state.decompress_vec(&whole, &mut payload, FlushDecompress::Sync)?;
    Ok(payload)
}
