//! Bursts: what a node needs for them goes back to the system when they are over.

use anyhow::Result;
use jackfield_tests::{Frame, LogLine, Node, OpCode, Raw, binary, upgrade_request, within};

const MIB: u64 = 1 << 20;

#[tokio::test]
async fn what_a_burst_of_handshakes_and_messages_took_goes_back() -> Result<()> {
    let node = Node::builder().plugin("echo").start().await?;
    let mut ada = node.client("/echo").await?;
    let before = node.resident_bytes()?;

    let request = upgrade_request("/echo", &[]);
    let mut handshakes = Vec::new();
    for _ in 0..3_000 {
        let mut raw = Raw::connect(node.address()).await?;
        raw.write(&request.as_bytes()[..60]).await?;
        handshakes.push(raw);
    }
    let mut clients = Vec::new();
    for _ in 0..100 {
        let mut client = node.client("/echo").await?;
        client.feed(binary(&vec![7; 500_000])).await?;
        clients.push(client);
    }
    within("the node to need more memory", async {
        while node.resident_bytes()? < before + 50 * MIB {
            tokio::task::yield_now().await;
        }
        anyhow::Ok(())
    })
    .await?;
    // They need not be answered, nor read.
    drop((handshakes, clients));
    within("the node to give it back", async {
        while node.resident_bytes()? > before + 20 * MIB {
            tokio::task::yield_now().await;
        }
        anyhow::Ok(())
    })
    .await?;
    ada.say("still here").await?;
    assert_eq!(ada.next_text().await?, "still here");
    Ok(())
}

#[tokio::test]
async fn those_who_read_least_are_closed_when_too_much_waits_for_all() -> Result<()> {
    let node = Node::builder()
        .plugin("echo")
        .config("[limits]\noutboxes_bytes = 4_000_000\nsend_buffer_bytes = 16384")
        .start()
        .await?;
    let mut well = node.client("/echo").await?;
    let before = node.resident_bytes()?;
    let request = upgrade_request("/echo", &[]);
    let message = Frame::new(OpCode::Binary, vec![7; 60_000]).to_bytes();
    let mut deaf = Vec::new();
    for _ in 0..60 {
        let mut raw = node.raw().await?;
        raw.write(request.as_bytes()).await?;
        assert_eq!(raw.response().await?.status, 101);
        for _ in 0..10 {
            raw.write(&message).await?;
        }
        deaf.push(raw);
        well.say("here").await?;
        assert_eq!(well.next_text().await?, "here");
    }
    within("most of them to be closed", async {
        while node.counters().await?.get("outbox_closed")? < 40 {}
        anyhow::Ok(())
    })
    .await?;
    // What is left is within the limit.
    within("the rest to go back", async {
        while node.resident_bytes()? > before + 15 * MIB {
            tokio::task::yield_now().await;
        }
        anyhow::Ok(())
    })
    .await?;
    let line = |line: &LogLine| line.says("too much waits for all clients together");
    assert!(!node.log().so_far(line).is_empty());
    well.say("still here").await?;
    assert_eq!(well.next_text().await?, "still here");
    Ok(())
}
