//! A client that never reads, on another node than its senders: it alone pays for that.

use anyhow::Result;
use jackfield_tests::Node;
use serde_json::json;

use crate::traffic::{Talker, next_number};
use crate::{becomes, nodes};

/// Large, so that the system's own buffers are full soon.
const MESSAGE_BYTES: usize = 48 << 10;

/// More than the system and the outbox hold together.
const MESSAGES: usize = 600;

#[tokio::test]
async fn it_is_closed_and_the_others_and_the_link_go_on() -> Result<()> {
    let cluster = nodes(2, "").await?;
    let mut sender = cluster[0].console(&[]).await?;
    let mut near = cluster[0].console(&[("group", "g")]).await?;
    let mut fast = cluster[1].console(&[("group", "g")]).await?;
    let mut slow = cluster[1].console(&[("group", "g")]).await?;
    let mut watcher = cluster[0].watcher().await?;
    let count = json!({ "do": "get-client-count-by-group", "group": "g" });
    becomes(
        &mut sender,
        count.clone(),
        &json!({ "value": 3, "missing": [] }),
    )
    .await?;
    let watch = json!({ "do": "get-client-count-by-group", "group": "watch-close" });
    becomes(&mut fast, watch, &json!({ "value": 1, "missing": [] })).await?;
    let resident = resident_bytes(cluster.nodes())?;

    let filler = "m".repeat(MESSAGE_BYTES);
    let mut talker = Talker::to_group(&mut sender, "g");
    for number in 0..MESSAGES {
        talker.say(1, &filler).await?;
        assert_eq!(next_number(&mut near).await?, number);
        assert_eq!(next_number(&mut fast).await?, number);
    }
    // The plugin heard of it, and told those who watch, on the other node.
    let departure = watcher.departure(slow.id()).await?;
    assert_eq!(
        (&departure["code"], &departure["by"]),
        (&json!(1013), &json!("plugin"))
    );
    becomes(&mut sender, count, &json!({ "value": 2, "missing": [] })).await?;
    for (before, now) in resident.iter().zip(resident_bytes(cluster.nodes())?) {
        assert!(now < before + (32 << 20), "{before} bytes became {now}");
    }

    // What it was sent until then is in order, and the close frame comes behind it, or its
    // time for that was over.
    let (messages, end) = slow.until_end().await?;
    for (number, message) in messages.iter().enumerate() {
        assert!(message.to_text()?.starts_with(&format!("{number}:")));
    }
    assert!(matches!(end.code(), 1013 | 1006), "{end:?}");

    let counters = cluster[1].counters().await?;
    assert_eq!(counters.get("outbox_closed")?, 1);
    assert_eq!(cluster[0].counters().await?.get("mesh_dropped")?, 0);
    let lines = cluster[0].log().so_far(|line| {
        ["not linked to a node", "a node is silent", "link is full"]
            .iter()
            .any(|words| line.says(words))
    });
    assert!(lines.is_empty(), "{lines:?}");
    Ok(())
}

fn resident_bytes(nodes: &[Node]) -> Result<Vec<u64>> {
    nodes.iter().map(Node::resident_bytes).collect()
}
