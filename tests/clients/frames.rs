//! Frames that no client should send.

use anyhow::Result;
use jackfield_tests::{Console, End, Frame, Node, OpCode, binary, text};
use serde_json::json;

#[tokio::test]
async fn a_message_may_have_as_many_bytes_as_the_limit_and_not_one_more() -> Result<()> {
    let node = Node::builder()
        .plugin("echo")
        .config("[limits]\nmessage_bytes = 1000")
        .start();
    let node = node.await?;
    let longest = "m".repeat(1000);
    let mut client = node.client("/echo").await?;
    client.say(longest.clone()).await?;
    assert_eq!(client.next_text().await?, longest);

    client.say(format!("{longest}m")).await?;
    assert_eq!(client.end().await?.code(), 1009);
    assert_eq!(node.counters().await?.get("messages_too_big")?, 1);
    Ok(())
}

/// The limit is the one number that an operator sets: nothing behind it is smaller.
#[tokio::test]
async fn sixteen_mebibytes_come_back() -> Result<()> {
    let node = Node::builder()
        .plugin("echo")
        .config("[limits]\nmessage_bytes = 16777216\noutbox_bytes = 16777226")
        .start();
    let node = node.await?;
    let mut client = node.client("/echo").await?;
    let longest = "m".repeat(16 << 20);
    client.say(longest.clone()).await?;
    assert!(client.next_text().await? == longest);
    let longest = vec![0xff; 16 << 20];
    client.say(binary(&longest)).await?;
    assert!(client.next().await? == binary(&longest));
    Ok(())
}

#[tokio::test]
async fn fragments_count_together() -> Result<()> {
    let node = Node::builder()
        .plugin("echo")
        .config("[limits]\nmessage_bytes = 1000")
        .start();
    let node = node.await?;
    let mut client = node.client("/echo").await?;
    let fragment = vec![b'm'; 400];
    client
        .say_frame(&Frame::new(OpCode::Text, fragment.clone()).unfinished())
        .await?;
    client
        .say_frame(&Frame::new(OpCode::Continuation, fragment.clone()).unfinished())
        .await?;
    client
        .say_frame(&Frame::new(OpCode::Continuation, fragment).unfinished())
        .await?;
    assert_eq!(client.end().await?.code(), 1009);
    Ok(())
}

#[tokio::test]
async fn a_frame_is_refused_by_its_announced_length() -> Result<()> {
    let node = Node::start("console").await?;
    let resident = node.resident_bytes()?;
    for length in [65_537_u64, 1 << 40, (1 << 63) - 1] {
        let mut ada = node.console(&[]).await?;
        let header = [&[0x82, 0xff][..], &length.to_be_bytes(), &[0; 4]].concat();
        ada.client().say_bytes(&header).await?;
        assert_eq!(ada.end().await?.code(), 1009, "{length} bytes");
    }
    assert!(node.resident_bytes()? < resident + (64 << 20));
    Ok(())
}

#[tokio::test]
async fn fragments_make_one_message_and_pings_may_come_between() -> Result<()> {
    let node = Node::start("echo").await?;
    let mut client = node.client("/echo").await?;
    // The parts of a letter may be fragments apart.
    let (first, rest) = "\u{1f44b} hello".as_bytes().split_at(2);
    client
        .say_frame(&Frame::new(OpCode::Text, first).unfinished())
        .await?;
    client
        .say_frame(&Frame::new(OpCode::Ping, "still there?"))
        .await?;
    client
        .say_frame(&Frame::new(OpCode::Continuation, "").unfinished())
        .await?;
    client
        .say_frame(&Frame::new(OpCode::Continuation, rest))
        .await?;
    assert_eq!(client.next().await?, text("\u{1f44b} hello"));

    client
        .say_frame(&Frame::new(OpCode::Binary, [1]).unfinished())
        .await?;
    client
        .say_frame(&Frame::new(OpCode::Continuation, [0xff]))
        .await?;
    assert_eq!(client.next().await?, binary(&[1, 0xff]));
    Ok(())
}

#[tokio::test]
async fn text_that_is_not_utf8_is_1007() -> Result<()> {
    let letter = "ü".as_bytes();
    for frames in [
        vec![Frame::new(OpCode::Text, [b'a', 0xff])],
        // A surrogate, a letter in too many bytes, half a letter.
        vec![Frame::new(OpCode::Text, [0xed, 0xa0, 0x80])],
        vec![Frame::new(OpCode::Text, [0xc0, 0xaf])],
        vec![Frame::new(OpCode::Text, &letter[..1])],
        vec![
            Frame::new(OpCode::Text, letter).unfinished(),
            Frame::new(OpCode::Continuation, &letter[..1]),
        ],
    ] {
        ends_with(1007, &frames).await?;
    }
    Ok(())
}

#[tokio::test]
async fn binary_need_not_be_utf8() -> Result<()> {
    let node = Node::start("echo").await?;
    let mut client = node.client("/echo").await?;
    client.say(vec![0xff, 0xfe]).await?;
    assert_eq!(client.next().await?, binary(&[0xff, 0xfe]));
    Ok(())
}

#[tokio::test]
async fn an_unmasked_frame_is_1002() -> Result<()> {
    ends_with(1002, &[Frame::new(OpCode::Text, "hello").unmasked()]).await
}

#[tokio::test]
async fn a_reserved_bit_is_1002() -> Result<()> {
    ends_with(
        1002,
        &[Frame::new(OpCode::Text, "hello").with_reserved_bit()],
    )
    .await
}

#[tokio::test]
async fn a_reserved_opcode_is_1002() -> Result<()> {
    ends_with(1002, &[Frame::new(OpCode::Reserved, "hello")]).await
}

#[tokio::test]
async fn a_continuation_of_nothing_is_1002() -> Result<()> {
    ends_with(1002, &[Frame::new(OpCode::Continuation, "hello")]).await
}

#[tokio::test]
async fn a_message_within_another_is_1002() -> Result<()> {
    let first = Frame::new(OpCode::Text, "hello").unfinished();
    ends_with(1002, &[first, Frame::new(OpCode::Text, "hello")]).await
}

#[tokio::test]
async fn a_ping_in_fragments_or_too_long_is_1002() -> Result<()> {
    ends_with(1002, &[Frame::new(OpCode::Ping, "hello").unfinished()]).await?;
    ends_with(1002, &[Frame::new(OpCode::Ping, vec![0; 126])]).await
}

#[tokio::test]
async fn a_close_frame_that_none_may_send_is_1002() -> Result<()> {
    let of_code = |code: u16| Frame::new(OpCode::Close, code.to_be_bytes());
    ends_with(1002, &[Frame::new(OpCode::Close, [3])]).await?;
    for code in [0, 999, 1004, 1005, 1006, 1015, 2999] {
        ends_with(1002, &[of_code(code)]).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_close_frames_code_comes_back() -> Result<()> {
    let node = Node::start("console").await?;
    for code in [1000, 1001, 1003, 1011, 3000, 4999] {
        let mut ada = node.console(&[]).await?;
        assert_eq!(ada.leave_with(code, "so long").await?.code(), code);
    }
    let mut ada = node.console(&[]).await?;
    assert_eq!(ada.leave().await?.code(), 1005);
    Ok(())
}

#[tokio::test]
async fn what_comes_after_a_close_frame_is_not_read() -> Result<()> {
    let node = Node::start("console").await?;
    let mut ada = node.console(&[]).await?;
    let mut bob = node.console(&[]).await?;
    let request = json!({ "do": "send-to-client", "client": bob.id(), "text": "m" }).to_string();
    let close = Frame::new(OpCode::Close, 1000_u16.to_be_bytes()).to_bytes();
    let after = Frame::new(OpCode::Text, request).to_bytes();
    ada.client().say_bytes(&[close, after].concat()).await?;
    assert_eq!(ada.end().await?.code(), 1000);
    assert_eq!(bob.heard().await?, []);
    Ok(())
}

#[tokio::test]
async fn messages_before_a_bad_frame_are_answered() -> Result<()> {
    let node = Node::start("echo").await?;
    let mut client = node.client("/echo").await?;
    let good = Frame::new(OpCode::Text, "hello").to_bytes();
    let bad = Frame::new(OpCode::Reserved, "").to_bytes();
    client
        .say_bytes(&[good.clone(), good, bad].concat())
        .await?;
    let (heard, end) = client.until_end().await?;
    assert_eq!(heard, [text("hello"), text("hello")]);
    assert_eq!(end.code(), 1002);
    Ok(())
}

/// That these frames end the connection with this code, for the client, for the plugin and in
/// the counters; and that others do not notice.
async fn ends_with(code: u16, frames: &[Frame]) -> Result<()> {
    let node = Node::start("console").await?;
    let mut watcher: Console = node.watcher().await?;
    let mut ada = node.console(&[]).await?;
    for frame in frames {
        ada.client().say_frame(frame).await?;
    }
    let end = ada.end().await?;
    assert_eq!(end.code(), code, "{frames:?}");
    assert!(
        matches!(end, End::Closed { reason, .. } if !reason.is_empty()),
        "it says why"
    );

    let departure = watcher.departure(ada.id()).await?;
    assert_eq!(
        (&departure["code"], &departure["by"]),
        (&json!(code), &json!("node"))
    );
    assert_eq!(node.counters().await?.get("clients_broke_protocol")?, 1);
    Ok(())
}
