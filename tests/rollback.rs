//! A build of which too many events fail is taken back: the one before is put back by the node
//! itself, and no socket is closed for it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use jackfield_tests::{
    Client, End, LogLine, Node, NodeBuilder, component, refusal_status, text, within,
};
use serde_json::json;
use tokio::sync::watch;

/// The manifest of `flaky`. What is not about traps makes another build of it.
fn manifest(traps: &str) -> String {
    format!("[policies]\non_trap = 'keep'\n[config]\ntraps = '{traps}'\n")
}

fn node(traps: &str) -> NodeBuilder {
    let node = Node::builder().alone();
    node.plugin_from("flaky", "flaky")
        .manifest("flaky", &manifest(traps))
}

/// Lets a build with this manifest take over, as the generation of this number.
async fn take_over(node: &Node, manifest: &str, generation: u64) -> Result<()> {
    node.folder().put_manifest("flaky", manifest)?;
    node.generation_loaded("flaky", generation).await
}

fn was_taken_back(line: &LogLine) -> bool {
    line.message()
        .starts_with("too many events failed: the build is taken back")
}

fn is_paused(line: &LogLine) -> bool {
    line.message().starts_with("all events failed")
}

/// Sends messages until one is answered.
async fn until_answered(client: &mut Client) -> Result<()> {
    client.say(text("1")).await?;
    let answer = client.next_text().await?;
    ensure!(answer == "1", "{answer}");
    Ok(())
}

/// The clients of the test below.
const CLIENTS: usize = 50;
/// The pause between two messages of a client: 5,000 messages a second in all.
const EVERY: Duration = Duration::from_millis(10);

/// Numbers its messages, and sends them until it is told to stop. Returns how many it has sent, and
/// the numbers of those that were answered.
async fn send_until(
    mut client: Client,
    mut stop: watch::Receiver<bool>,
) -> Result<(u64, Vec<u64>)> {
    let (mut sent, mut answered) = (0, Vec::new());
    let mut every = tokio::time::interval(EVERY);
    loop {
        tokio::select! {
            _ = every.tick() => {
                sent += 1;
                client.say(text(&sent.to_string())).await?;
            }
            answer = client.next_text() => answered.push(answer?.parse()?),
            _ = stop.changed() => break,
        }
    }
    // The answer to the last one comes after all others, and does not end with 0.
    client.say(text("last")).await?;
    loop {
        match &*client.next_text().await? {
            "last" => return Ok((sent, answered)),
            answer => answered.push(answer.parse()?),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_5_000_messages_a_second_only_what_traps_is_lost() -> Result<()> {
    let node = node("none").start().await?;
    let (stop, stopped) = watch::channel(false);
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let client = node.client("/flaky").await?;
        clients.push(tokio::spawn(send_until(client, stopped.clone())));
    }
    let messages = |least| {
        let node = &node;
        async move {
            let counted = async {
                while node.counters().await?.get("messages_in")? < least {}
                anyhow::Ok(())
            };
            within("messages", counted).await
        }
    };
    messages(5_000).await?;
    let put = Instant::now();
    take_over(&node, &manifest("tenth"), 2).await?;
    let bad = Instant::now();
    node.wait_for_log(was_taken_back).await?;
    let noticed = bad.elapsed();
    node.generation_loaded("flaky", 3).await?;
    let back = bad.elapsed();
    let loaded = node.counters().await?.get("messages_in")?;
    messages(loaded + 5_000).await?;
    let left = node.counters().await?.get("clients_left")?;
    assert_eq!(left, 0, "no socket was closed");
    stop.send_replace(true);
    let (mut sent, mut lost) = (0, 0);
    for client in clients {
        let (messages, answered) = client.await??;
        assert!(answered.is_sorted(), "in their order, and none twice");
        sent += messages;
        lost += messages - answered.len() as u64;
        let mut missing = (1..=messages).filter(|number| answered.binary_search(number).is_err());
        assert!(missing.all(|number| number % 10 == 0));
    }
    let counters = node.counters().await?;
    assert_eq!(
        lost,
        counters.get("traps_panic")?,
        "what trapped is lost, and nothing else"
    );
    assert!(lost >= 5);
    assert_eq!(counters.get("builds_taken_back")?, 1);
    eprintln!(
        "{sent} messages, {lost} lost, which trapped; loaded {:?} after it was copied, noticed \
         {noticed:?} after that, and the build before was back after {back:?}",
        bad - put
    );
    Ok(())
}

#[tokio::test]
async fn a_component_that_refuses_its_clients_by_trapping_is_taken_back() -> Result<()> {
    let node = node("none").start().await?;
    let mut ada = node.client("/flaky").await?;
    take_over(&node, &manifest("all"), 2).await?;
    for _ in 0..5 {
        let refused = node.client("/flaky").await.expect_err("it traps");
        assert_eq!(refusal_status(&refused), Some(500));
    }
    node.generation_loaded("flaky", 3).await?;
    node.client("/flaky").await?;
    until_answered(&mut ada).await
}

/// Also another component, and not only another manifest.
#[tokio::test]
async fn the_build_that_was_taken_back_is_not_loaded_again_until_it_changes() -> Result<()> {
    let node = Node::builder()
        .alone()
        .plugin_from("chat", "echo")
        .start()
        .await?;
    let mut ada = node.client("/chat").await?;
    until_answered(&mut ada).await?;
    node.folder().put_manifest("chat", &manifest("messages"))?;
    node.folder().put("chat", "flaky")?;
    node.wait_for_log(|line| {
        line.message() == "plugin loaded" && line.number("generation") > Some(1)
    })
    .await?;
    for _ in 0..5 {
        ada.say(text("1")).await?;
    }
    node.wait_for_log(was_taken_back).await?;
    node.wait_for_log(|line| {
        line.message() == "plugin loaded" && line.number("generation") > Some(2)
    })
    .await?;
    until_answered(&mut ada).await?;
    // The same bytes once more.
    let bytes = std::fs::read(component("flaky")?)?;
    node.folder()
        .put_bytes("chat", &[&bytes[..], b"\0"].concat())?;
    node.wait_for_log(|line| line.message().contains("is not loaded"))
        .await?;
    node.folder().put_bytes("chat", &bytes)?;
    node.wait_for_log(|line| line.message().contains("this build was taken back before"))
        .await?;
    until_answered(&mut ada).await?;
    node.folder().put_manifest("chat", &manifest("none"))?;
    node.wait_for_log(|line| {
        line.message() == "plugin loaded" && line.number("generation") > Some(3)
    })
    .await?;
    until_answered(&mut ada).await
}

#[tokio::test]
async fn after_a_restart_the_build_before_is_loaded_again() -> Result<()> {
    let builds = tempfile::tempdir()?;
    let path = builds.path().to_string_lossy().into_owned();
    let node_with = |traps: &str| node(traps).environment("JACKFIELD_BUILDS", &path);
    let first = node_with("none").start().await?;
    let mut ada = first.client("/flaky").await?;
    first
        .folder()
        .put_manifest("flaky", &manifest("messages"))?;
    first.generation_loaded("flaky", 2).await?;
    for _ in 0..5 {
        ada.say(text("1")).await?;
    }
    first.generation_loaded("flaky", 3).await?;
    until_answered(&mut ada).await?;
    first.stop().await?;

    let second = node_with("messages").start().await?;
    let is_loaded = |line: &LogLine| line.message() == "the build before it is loaded";
    second.wait_for_log(is_loaded).await?;
    until_answered(&mut second.client("/flaky").await?).await
}

/// A build that demands more of clients than the one before, so that this one is not put back.
fn stricter(traps: &str) -> String {
    format!("require_uid = {{ query = 'name' }}\n{}", manifest(traps))
}

#[tokio::test]
async fn where_nothing_works_clients_are_told_when_to_come_back() -> Result<()> {
    let node = node("none").start().await?;
    let mut bob = node.client("/flaky").await?;
    take_over(&node, &stricter("all"), 2).await?;
    let refusal = async || {
        let refused = node.client("/flaky?name=ada").await;
        refusal_status(&refused.err().context("a client came in")?).context("a status")
    };
    for _ in 0..5 {
        assert_eq!(refusal().await?, 500);
    }
    node.wait_for_log(is_paused).await?;
    bob.say(text("1")).await?;
    let End::Closed { code, reason } = bob.end().await? else {
        anyhow::bail!("no close frame");
    };
    assert_eq!(code, 1013);
    let after = reason.strip_prefix("the service fails, retry-after-ms=");
    assert!(after.context("a hint")?.parse::<u64>()? <= 1_000);
    assert_eq!(refusal().await?, 503);
    // After the pause it is tried again, and the next pause is longer.
    let again = async {
        while refusal().await? == 503 {}
        anyhow::Ok(())
    };
    within("the end of the pause", again).await?;
    for _ in 0..4 {
        assert_eq!(refusal().await?, 500);
    }
    let paused = |line: &LogLine| is_paused(line) && line.text("pause") == "2s";
    node.wait_for_log(paused).await?;
    let counters = node.counters().await?;
    assert_eq!(counters.get("plugins_paused")?, 2);
    assert_eq!(counters.get("builds_taken_back")?, 0);
    // A new file ends it at once.
    take_over(&node, &stricter("none"), 3).await?;
    until_answered(&mut node.client("/flaky?name=ada").await?).await
}

/// One client must not be able to have the others sent away.
#[tokio::test]
async fn where_something_works_nobody_is_sent_away() -> Result<()> {
    let node = node("none").start().await?;
    take_over(&node, &stricter("tenth"), 2).await?;
    let mut ada = node.client("/flaky?name=ada").await?;
    let mut mallory = node.client("/flaky?name=mallory").await?;
    for _ in 0..5 {
        mallory.say(text("0")).await?;
    }
    let goes_on = |line: &LogLine| line.message().ends_with("it goes on");
    let line = node.wait_for_log(goes_on).await?;
    assert!(line.message().contains("require_uid"), "{}", line.message());
    until_answered(&mut ada).await?;
    let counters = node.counters().await?;
    assert_eq!(counters.get("plugins_paused")?, 0);
    assert_eq!(counters.get("builds_taken_back")?, 0);
    Ok(())
}

#[tokio::test]
async fn whoever_watches_hears_of_it_and_probation_can_be_turned_off() -> Result<()> {
    for is_on in [true, false] {
        let probation = if is_on { "1m" } else { "0s" };
        let limits = format!(
            "{}[limits]\nprobation = '{probation}'\n",
            manifest("messages")
        );
        let node = node("none").start().await?;
        let mut events = node
            .calls(jackfield_tests::Protocol::Http)?
            .watch(&["flaky"])
            .await?;
        let mut ada = node.client("/flaky").await?;
        take_over(&node, &limits, 2).await?;
        for _ in 0..20 {
            ada.say(text("1")).await?;
        }
        if !is_on {
            node.wait_for_counter("traps_panic", 20).await?;
            assert_eq!(node.counters().await?.get("builds_taken_back")?, 0);
            continue;
        }
        let taken_back = json!({ "plugin": "flaky", "plugin_taken_back": { "generation": 2 } });
        let heard = async {
            while events.next().await?.context("the stream has ended")? != taken_back {}
            anyhow::Ok(())
        };
        within("the event", heard).await?;
    }
    Ok(())
}
