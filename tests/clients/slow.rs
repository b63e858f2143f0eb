//! Clients that are sent to and never read: memory is bounded, the plugin's policy decides
//! what is lost, and the others get everything.
//!
//! `slow` reads nothing until the end. `fast` reads after each message, so what is lost is
//! never for the test's own slowness.

use anyhow::Result;
use jackfield_tests::{Console, End, Node};
use serde_json::{Value, json};

/// Large, so that the system's own buffers are full soon.
const MESSAGE_BYTES: usize = 48 << 10;

/// More than the system and the outbox hold together.
const MESSAGES: usize = 600;

#[tokio::test]
async fn by_default_it_is_closed_with_1013() -> Result<()> {
    let mut scene = Scene::new("close").await?;
    let mut number = 0;
    while scene.send("g", number).await?["clients"] == 2 {
        number += 1;
        assert!(number < MESSAGES, "it was never too much");
    }
    let departure = scene.watcher.departure(scene.slow.id()).await?;
    assert_eq!(
        (&departure["code"], &departure["by"]),
        (&json!(1013), &json!("plugin"))
    );

    // What it was sent until then is in order, and the close frame comes behind it.
    let (numbers, end) = scene.slow_reads().await?;
    assert_eq!(end.code(), 1013);
    assert!(numbers.iter().copied().eq(0..numbers.len()), "{numbers:?}");

    assert_eq!(scene.fast_heard, (0..=number).collect::<Vec<_>>());
    scene.memory_is_bounded()?;
    let counters = scene.node.counters().await?;
    assert_eq!(counters.get("outbox_closed")?, 1);
    assert_eq!(counters.get("close_timed_out")?, 0);
    Ok(())
}

#[tokio::test]
async fn a_closed_client_that_does_not_read_is_cut() -> Result<()> {
    let mut scene = Scene::with("close", "[limits]\nclose_timeout = '200ms'").await?;
    let mut number = 0;
    while scene.send("g", number).await?["clients"] == 2 {
        number += 1;
        assert!(number < MESSAGES, "it was never too much");
    }
    scene.node.wait_for_counter("close_timed_out", 1).await?;
    assert_eq!(
        scene.watcher.departure(scene.slow.id()).await?["code"],
        1013
    );
    Ok(())
}

#[tokio::test]
async fn drop_newest_loses_what_comes_too_late() -> Result<()> {
    let mut scene = Scene::new("drop-newest").await?;
    let (mut taken, mut dropped) = (Vec::new(), 0);
    for number in 0..MESSAGES {
        match scene.send("g", number).await?["dropped"].as_u64() {
            Some(0) => taken.push(number),
            _ => dropped += 1,
        }
    }
    assert!(dropped > 0, "it was never too much");
    // Sent to it alone, it is the sender who is told.
    let filler = "m".repeat(MESSAGE_BYTES);
    let slow = scene.slow.id().to_owned();
    let to_slow = json!({ "do": "send-to-client", "client": slow, "text": filler });
    assert_eq!(scene.watcher.error(to_slow).await?, "overloaded");
    scene.memory_is_bounded()?;

    for number in &taken {
        assert_eq!(number_of(&scene.slow.next().await?)?, *number);
    }
    scene.slow_is_well().await?;
    assert_eq!(scene.fast_heard, (0..MESSAGES).collect::<Vec<_>>());
    assert_eq!(
        scene.node.counters().await?.get("outbox_dropped")?,
        dropped + 1
    );
    Ok(())
}

#[tokio::test]
async fn drop_oldest_keeps_the_newest() -> Result<()> {
    let mut scene = Scene::new("drop-oldest").await?;
    for number in 0..MESSAGES {
        assert_eq!(scene.send("g", number).await?["clients"], 2);
    }
    let dropped = scene.node.counters().await?.get("outbox_dropped")?;
    assert!(dropped > 0, "it was never too much");
    scene.memory_is_bounded()?;

    let mut heard = Vec::new();
    while heard.last() != Some(&(MESSAGES - 1)) {
        heard.push(number_of(&scene.slow.next().await?)?);
    }
    assert!(heard.is_sorted(), "{heard:?}");
    assert_eq!(heard.len() as u64 + dropped, MESSAGES as u64);
    // A mebibyte of the newest is all there.
    let newest = &heard[heard.len() - 20..];
    assert_eq!(newest, (MESSAGES - 20..MESSAGES).collect::<Vec<_>>());
    scene.slow_is_well().await?;
    assert_eq!(scene.fast_heard, (0..MESSAGES).collect::<Vec<_>>());
    Ok(())
}

#[tokio::test]
async fn conflate_keeps_the_newest_of_each_target() -> Result<()> {
    let mut scene = Scene::new("conflate").await?;
    let dropped = async |scene: &Scene| scene.node.counters().await?.get("outbox_dropped");
    let mut number = 0;
    while dropped(&scene).await? == 0 {
        assert_eq!(scene.send("g", number).await?["clients"], 2);
        number += 1;
        assert!(number < MESSAGES, "it was never too much");
    }
    // The price of tea, once, and then much about something else.
    let tea = number;
    scene.send("tea", tea).await?;
    for _ in 0..100 {
        number += 1;
        scene.send("g", number).await?;
    }
    scene.memory_is_bounded()?;

    let mut heard = Vec::new();
    while heard.last() != Some(&number) {
        heard.push(number_of(&scene.slow.next().await?)?);
    }
    assert!(
        heard.contains(&tea),
        "the newest of the group tea: {heard:?}"
    );
    assert!(heard.is_sorted(), "{heard:?}");
    let all = number as u64 + 1;
    assert_eq!(heard.len() as u64 + dropped(&scene).await?, all);
    scene.slow_is_well().await
}

#[tokio::test]
async fn a_client_that_does_not_take_its_answers_is_not_read() -> Result<()> {
    let node = Node::start("echo").await?;
    let resident = node.resident_bytes()?;
    let mut client = node.client("/echo").await?;
    let mut other = node.client("/echo").await?;
    let message = "m".repeat(MESSAGE_BYTES);

    // The node stops reading it at last, and what it sends stays with itself.
    let mut sent = 0;
    let flooding = async {
        while sent < 10 * MESSAGES {
            client.say(message.clone()).await?;
            sent += 1;
        }
        anyhow::Ok(())
    };
    tokio::select! {
        flooded = flooding => anyhow::bail!("it was read all the time: {flooded:?}"),
        echoed = async {
            for number in 0..3000 {
                other.say(number.to_string()).await?;
                assert_eq!(other.next_text().await?, number.to_string());
            }
            anyhow::Ok(())
        } => echoed?,
    }
    assert!(node.resident_bytes()? < resident + (64 << 20));

    // It reads, and nothing was lost.
    for _ in 0..sent {
        assert_eq!(client.next_text().await?.len(), MESSAGE_BYTES);
    }
    Ok(())
}

/// A node where one client does not read.
struct Scene {
    node: Node,
    watcher: Console,
    slow: Console,
    fast: Console,
    fast_heard: Vec<usize>,
    resident_bytes: u64,
}

impl Scene {
    async fn new(overflow: &str) -> Result<Scene> {
        Scene::with(overflow, "").await
    }

    async fn with(overflow: &str, config: &str) -> Result<Scene> {
        let node = Node::builder()
            .plugin("console")
            .manifest("console", &format!("[policies]\noverflow = '{overflow}'"))
            .config(config)
            .start()
            .await?;
        let both = [("group", "g"), ("group", "tea")];
        Ok(Scene {
            watcher: node.watcher().await?,
            slow: node.console(&both).await?,
            fast: node.console(&both).await?,
            fast_heard: Vec::new(),
            resident_bytes: node.resident_bytes()?,
            node,
        })
    }

    /// Sends a numbered message to a group of both, and answers whom it reached.
    async fn send(&mut self, group: &str, number: usize) -> Result<Value> {
        let text = format!("{number}:{}", "m".repeat(MESSAGE_BYTES));
        let request = json!({ "do": "send-to-group", "group": group, "text": text });
        let reach = self.watcher.ok(request).await?;
        self.fast_heard.push(number_of(&self.fast.next().await?)?);
        Ok(reach)
    }

    /// What the slow one has been sent, now that it reads, and how it ended.
    async fn slow_reads(&mut self) -> Result<(Vec<usize>, End)> {
        let (messages, end) = self.slow.until_end().await?;
        Ok((messages.iter().map(number_of).collect::<Result<_>>()?, end))
    }

    /// It is a client like any other, now that it reads.
    async fn slow_is_well(&mut self) -> Result<()> {
        assert_eq!(self.slow.heard().await?, []);
        assert_eq!(self.send("g", MESSAGES).await?["clients"], 2);
        self.fast_heard.pop();
        assert_eq!(number_of(&self.slow.next().await?)?, MESSAGES);
        Ok(())
    }

    fn memory_is_bounded(&self) -> Result<()> {
        let growth = self
            .node
            .resident_bytes()?
            .saturating_sub(self.resident_bytes);
        // Its outbox holds one mebibyte; the rest are instances and the allocator's ways.
        assert!(growth < 32 << 20, "{growth} bytes more than before");
        Ok(())
    }
}

fn number_of(message: &tokio_tungstenite::tungstenite::Message) -> Result<usize> {
    let (number, _) = message.to_text()?.split_once(':').unwrap_or_default();
    Ok(number.parse()?)
}
