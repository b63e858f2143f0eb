//! Bursts: what a node needs for them goes back to the system when they are over.

use anyhow::Result;
use jackfield_tests::{Node, Raw, binary, upgrade_request, within};

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
