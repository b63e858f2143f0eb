//! Shares: a plugin that takes all it can get of the processors or the memory, and one beside it
//! whose clients are answered in time.
//!
//! The latencies are those of a debug build on a machine that does other things, too. The bounds are
//! therefore generous. `-- --nocapture` prints what was measured.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use jackfield_tests::{Client, Console, Node, NodeBuilder, query, text, within};
use serde_json::{Value, json};
use tokio::task::JoinSet;

const MIB: u64 = 1 << 20;

/// The longest time to an answer that 99 of 100 messages may have.
const IN_TIME: Duration = Duration::from_millis(150);

#[tokio::test]
async fn clients_are_answered_in_time_beside_clients_of_another_plugin_that_spin() -> Result<()> {
    let node = echo_beside(ENDLESS).start().await?;
    let mut ada = node.client("/echo").await?;
    latency("alone", &mut ada).await?;
    let mut spinning = Vec::new();
    for _ in 0..64 {
        let mut eve = node.console(&[]).await?;
        eve.start(json!({ "do": "spin" })).await?;
        spinning.push(eve);
    }
    counted(&node, "processor_wait_ms", 1_000).await?;
    let beside = latency("beside 64 clients that spin", &mut ada).await?;
    assert!(beside < IN_TIME, "{beside:?}");
    Ok(())
}

#[tokio::test]
async fn clients_are_answered_in_time_beside_timers_of_another_plugin_that_spin() -> Result<()> {
    let node = echo_beside(ENDLESS).start().await?;
    let mut ada = node.client("/echo").await?;
    let mut eve = node.console(&[]).await?;
    for number in 0..250 {
        set_timer(&mut eve, &json!({ "do": "spin", "id": number })).await?;
    }
    counted(&node, "processor_wait_ms", 1_000).await?;
    let beside = latency("beside 250 timers that spin", &mut ada).await?;
    assert!(beside < IN_TIME, "{beside:?}");
    let line = node
        .wait_for_log(|line| line.says("events of a plugin wait for a processor"))
        .await?;
    assert_eq!(
        (line.text("plugin"), line.number("weight")),
        ("console", Some(100))
    );
    Ok(())
}

#[tokio::test]
async fn clients_are_answered_in_time_beside_many_short_events_of_another_plugin() -> Result<()> {
    let node = echo_beside("").start().await?;
    let mut ada = node.client("/echo").await?;
    let mut eve = node.console(&[]).await?;
    for number in 0..900 {
        set_timer(&mut eve, &json!({ "do": "spin", "ms": 1, "id": number })).await?;
    }
    counted(&node, "processor_wait_ms", 1_000).await?;
    let beside = latency("beside 900 timers of a millisecond", &mut ada).await?;
    assert!(beside < IN_TIME, "{beside:?}");
    Ok(())
}

#[tokio::test]
async fn the_processors_are_shared_by_weight() -> Result<()> {
    let node = Node::builder()
        .alone()
        .plugin_from("heavy", "console")
        .plugin_from("light", "console")
        .manifest("heavy", "[limits]\ncpu_weight = 300")
        .arguments(&["--workers", "2"])
        .start()
        .await?;
    let (heavy, light) = tokio::try_join!(work(&node, "heavy"), work(&node, "light"))?;
    eprintln!("answers with the weight 300: {heavy}, with 100: {light}");
    assert!(
        heavy * 4 > light * 9 && heavy * 4 < light * 15,
        "three times as many: {heavy} and {light}"
    );
    Ok(())
}

#[tokio::test]
async fn a_plugin_that_eats_memory_has_its_share_and_others_are_served() -> Result<()> {
    let node = echo_beside("[policies]\non_trap = 'keep'")
        .config("[limits]\nplugins_memory_bytes = 268_435_456")
        .start()
        .await?;
    let mut ada = node.client("/echo").await?;
    let before = node.resident_bytes()?;
    let mut eating = JoinSet::new();
    for _ in 0..64 {
        eating.spawn(eat(node.console(&[]).await?));
    }
    counted(&node, "traps_memory", 20).await?;
    let beside = latency("beside 64 clients that eat memory", &mut ada).await?;
    let grown = node.resident_bytes()?.saturating_sub(before);
    eprintln!("the node has grown by {} MiB", grown / MIB);
    node.wait_for_log(|line| line.says("plugins_memory_bytes"))
        .await?;
    // The plugin has half of it, and 64 MiB are for what instances are beside their memory.
    assert!(grown < (128 + 64) * MIB, "{grown}");
    assert!(beside < 2 * IN_TIME, "{beside:?}");
    assert!(eating.try_join_next().is_none(), "all of them go on");
    Ok(())
}

#[tokio::test]
async fn the_instances_of_a_plugin_have_a_limit_together() -> Result<()> {
    let limits = "[limits]\nmemory_bytes = 40_000_000\ntotal_memory_bytes = 40_000_000";
    let node = echo_beside(limits).start().await?;
    let grow = json!({ "id": 1, "do": "grow-memory", "bytes": 17_000_000 }).to_string();
    let mut asleep = JoinSet::new();
    for number in 1..=2 {
        let sleep = json!({ "do": "sleep", "ms": 2_000, "log": "good night" }).to_string();
        let path = format!("/console{}", query(&[("do", &grow), ("do", &sleep)]));
        let address = node.address();
        asleep.spawn(async move { Client::connect(address, &path, &[]).await });
        node.log()
            .nth(number, |line| line.message() == "good night")
            .await?;
    }
    let mut ada = node.console(&[]).await?;
    let grow = json!({ "do": "grow-memory", "bytes": 17_000_000 });
    assert_eq!(ada.ok(grow.clone()).await?, false, "others have it");
    while let Some(connected) = asleep.join_next().await {
        let mut client = connected??;
        assert_eq!(client.next_text().await?, r#"{"id":1,"ok":true}"#);
    }
    // What they had goes back with their instances, which are not kept.
    assert_eq!(ada.ok(grow).await?, true);
    Ok(())
}

/// Eats as much memory as there is, again and again.
async fn eat(mut client: Console) -> Result<Infallible> {
    loop {
        let eat = json!({ "do": "eat-memory" });
        client.say(eat.to_string()).await?;
        // That event has no answer: the next one has.
        client.ok(json!({ "do": "is-online" })).await?;
    }
}

/// How a plugin is not ended while others are measured beside it.
const ENDLESS: &str = "[limits]\nevent_timeout = '5m'\nwait_timeout = '5m'";

/// A node with `echo`, and `console` with this manifest.
fn echo_beside(manifest: &str) -> NodeBuilder {
    Node::builder()
        .alone()
        .plugin("echo")
        .plugin("console")
        .manifest("console", manifest)
        .arguments(&["--workers", "2"])
}

/// Sets a timer that carries out a request again and again. The first time comes when all others are
/// set, too.
async fn set_timer(console: &mut Console, request: &Value) -> Result<()> {
    let name = format!("do:{request}");
    let set = json!({ "do": "set-timer", "name": name, "after_ms": 2_000, "every_ms": 10 });
    console.ok(set).await?;
    Ok(())
}

/// Waits until a counter has reached this value or passed it.
async fn counted(node: &Node, counter: &str, value: u64) -> Result<()> {
    within(&format!("the counter {counter} to reach {value}"), async {
        while node.counters().await?.get(counter)? < value {}
        anyhow::Ok(())
    })
    .await
}

/// The time from a message to its answer that 99 of 100 messages have at most.
async fn latency(what: &str, client: &mut Client) -> Result<Duration> {
    let mut all = Vec::new();
    for number in 0..500 {
        let began = Instant::now();
        client.say(text(&number.to_string())).await?;
        assert_eq!(client.next_text().await?, number.to_string());
        all.push(began.elapsed());
    }
    all.sort_unstable();
    let (p50, p99) = (all[all.len() / 2], all[all.len() * 99 / 100]);
    let longest = all.last().context("some")?;
    eprintln!("{what}: p50 {p50:?}, p99 {p99:?}, at most {longest:?}");
    Ok(p99)
}

/// How many requests of one size a plugin answers in a while, when all its clients ask at once.
async fn work(node: &Node, plugin: &str) -> Result<u64> {
    const WHILE: Duration = Duration::from_secs(3);
    let mut clients = JoinSet::new();
    let began = Instant::now();
    for _ in 0..8 {
        let mut client = node.console_named(plugin, &[]).await?;
        clients.spawn(async move {
            let mut answered = 0;
            let request = json!({ "do": "is-online" });
            let request = json!({ "do": "repeat", "times": 2_000, "request": request });
            while began.elapsed() < WHILE {
                client.ok(request.clone()).await?;
                answered += 1;
            }
            anyhow::Ok(answered)
        });
    }
    let mut answered = 0;
    while let Some(of_one) = clients.join_next().await {
        answered += of_one??;
    }
    Ok(answered)
}
