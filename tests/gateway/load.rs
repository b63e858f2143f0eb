//! A thousand clients at a gateway talk steadily; of its two workers one is reloaded and the
//! other killed under them.
//!
//! Each message is a number and each answer says it, with the generation that gave it: a number
//! that is missing was lost, and only those may be that the gateway says it has lost.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jackfield_tests::{Client, End, within};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Split;

const CLIENTS: u32 = 1_000;
const MESSAGES_PER_SECOND: u32 = 2_000;
const RELOADS: u64 = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_worker_reloaded_and_one_killed_close_nobody() -> Result<()> {
    let config = "[limits]\nsuspect_after = '1500ms'\ngone_after = '3s'\n";
    let mut split =
        Split::with_config(2, config, |node| node.plugin_from("marker", "marker-a")).await?;
    let phase = watch::Sender::new(Phase::Before);
    let (under_way, mut talking) = mpsc::channel(CLIENTS as usize);
    let mut talks = JoinSet::new();
    for number in 0..CLIENTS {
        let client = split.gateway.client("/marker").await?;
        talks.spawn(talk(client, number, phase.subscribe(), under_way.clone()));
    }
    all_talk(&mut talking).await?;

    let kept = &split.workers[0];
    for reload in 1..=RELOADS {
        let build = ["marker-a", "marker-b"][usize::from(reload % 2 == 1)];
        kept.folder().put("marker", build)?;
        kept.generation_loaded("marker", reload + 1).await?;
    }
    let counters = split.gateway.counters().await?;
    assert_eq!(counters.get("events_lost")?, 0, "a reload loses nothing");

    split.workers.remove(1).kill().await?;
    phase.send_replace(Phase::After);
    all_talk(&mut talking).await?;
    phase.send_replace(Phase::Over);
    let (mut missing, mut newest) = (0, 0);
    while let Some(talk) = talks.join_next().await {
        let talk = talk??;
        missing += talk.missing;
        newest = newest.max(talk.generation);
    }
    assert_eq!(newest, RELOADS + 1);

    // An event may have been answered and its worker killed before it said that it was done.
    let counters = split.gateway.counters().await?;
    let lost = counters.get("events_lost")?;
    eprintln!("{missing} messages were not answered, {lost} events were said to be lost");
    assert!(missing <= lost, "{missing} missing, {lost} said to be lost");
    // Of each client of the killed one, one event.
    assert!(lost <= u64::from(CLIENTS), "{lost} said to be lost");
    assert_eq!(counters.get("clients_accepted")?, u64::from(CLIENTS));
    assert_eq!(counters.get("on_close_lost")?, 0);
    let said = split
        .gateway
        .wait_for_log(|line| line.says("a node is gone"))
        .await?;
    assert_eq!(said.number("events"), Some(lost), "{:?}", said.fields());
    Ok(())
}

/// Waits until each client has been answered a message of the phase.
async fn all_talk(talking: &mut mpsc::Receiver<()>) -> Result<()> {
    let all = async {
        for _ in 0..CLIENTS {
            talking.recv().await.context("the clients talk")?;
        }
        anyhow::Ok(())
    };
    within("the load", all).await
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Before,
    After,
    Over,
}

/// What one client has seen.
struct Talk {
    missing: u64,
    generation: u64,
}

/// One client: sends a number every so often, whether the one before was answered or not. Says
/// so, once in each phase, when a message that it sent in it was.
async fn talk(
    mut client: Client,
    number: u32,
    mut phase: watch::Receiver<Phase>,
    under_way: mpsc::Sender<()>,
) -> Result<Talk> {
    let pace = Duration::from_secs(1) * CLIENTS / MESSAGES_PER_SECOND;
    let mut ticks = tokio::time::interval_at(Instant::now() + pace * number / CLIENTS, pace);
    let mut talk = Talk {
        missing: 0,
        generation: 1,
    };
    let (mut sent, mut next) = (0_u64, 0_u64);
    let mut awaited = Some(0);
    phase.mark_unchanged();
    loop {
        if *phase.borrow() == Phase::Over && next == sent {
            break;
        }
        tokio::select! {
            changed = phase.changed() => {
                changed?;
                awaited = Some(sent).filter(|_| *phase.borrow() != Phase::Over);
            }
            _ = ticks.tick(), if *phase.borrow() != Phase::Over => {
                client.say(sent.to_string()).await?;
                sent += 1;
            }
            answer = client.next_text(), if next < sent => {
                let answer = answer?;
                let parts: Vec<_> = answer.split(':').collect();
                let [_, generation, answered] = parts[..] else {
                    anyhow::bail!("{answer:?}")
                };
                let (generation, answered): (u64, u64) = (generation.parse()?, answered.parse()?);
                ensure!(answered >= next, "{answered} was answered again, or late");
                ensure!(generation >= talk.generation, "generation {generation} came back");
                talk.missing += answered - next;
                talk.generation = generation;
                next = answered + 1;
                if awaited.is_some_and(|first| answered >= first) {
                    awaited = None;
                    under_way.send(()).await?;
                }
            }
        }
    }
    client.say_goodbye(1000, "").await?;
    let (more, end) = client.until_end().await?;
    ensure!(
        more.is_empty() && end == End::closed(1000, ""),
        "{more:?}, {end:?}"
    );
    Ok(talk)
}
