//! Reload under load: 200 clients talk steadily while their plugin is replaced fifty times,
//! and none of them loses anything.
//!
//! The two builds mark their answers with `a` and `b`, their generation and the number of the
//! message: from that alone each client sees that every message was answered exactly once and
//! in order, and that it was never served by an older generation after a newer one. How long
//! they waited is printed (`-- --nocapture`), and nothing is asserted about it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use jackfield_tests::{Client, End, Node, within};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

const CLIENTS: u32 = 200;
const MESSAGES_PER_SECOND: u32 = 5000;
const RELOADS: u64 = 50;

/// Of each client, before the first reload: some six seconds' worth.
const MESSAGES_WITHOUT: u64 = 150;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_reloads_under_load_lose_nothing() -> Result<()> {
    let node = Node::builder()
        .plugin_from("marker", "marker-a")
        .start()
        .await?;
    let phase = watch::Sender::new(Phase::Without);
    let mut talks = start_to_talk(&node, &phase).await?;

    phase.send_replace(Phase::Reloading);
    let started = Instant::now();
    for reload in 1..=RELOADS {
        let build = ["marker-a", "marker-b"][usize::from(reload % 2 == 1)];
        node.folder().put("marker", build)?;
        node.generation_loaded("marker", reload + 1).await?;
    }
    let took = started.elapsed();
    phase.send_replace(Phase::Over);

    let (mut without, mut reloading, mut newest) = (Waits::default(), Waits::default(), 0);
    while let Some(talk) = talks.join_next().await {
        let talk = talk??;
        without.add(talk.without);
        reloading.add(talk.reloading);
        newest = newest.max(talk.generation);
    }
    eprintln!(
        "{RELOADS} reloads in {took:.1?}, {CLIENTS} clients, {MESSAGES_PER_SECOND} messages/s"
    );
    eprintln!("             messages       p50       p99   longest  longest gap of a client");
    eprintln!("without     {}", without.shown());
    eprintln!("reloading   {}", reloading.shown());

    assert_eq!(
        newest,
        RELOADS + 1,
        "somebody was answered by the last build"
    );
    let stopped = node.stop().await?;
    assert_eq!(stopped.counters.get("generations_loaded")?, RELOADS + 1);
    assert_eq!(
        stopped.counters.get("clients_accepted")?,
        u64::from(CLIENTS)
    );
    assert_eq!(
        stopped.counters.get("messages_in")?,
        (without.all.len() + reloading.all.len()) as u64
    );
    Ok(())
}

/// Connects the clients, and waits until each of them has talked for a while.
async fn start_to_talk(node: &Node, phase: &watch::Sender<Phase>) -> Result<JoinSet<Result<Talk>>> {
    let (under_way, mut talking) = mpsc::channel(CLIENTS as usize);
    let mut talks = JoinSet::new();
    for number in 0..CLIENTS {
        let client = node.client("/marker").await?;
        talks.spawn(talk(client, number, phase.subscribe(), under_way.clone()));
    }
    let all = async {
        for _ in 0..CLIENTS {
            talking.recv().await.context("the clients talk")?;
        }
        anyhow::Ok(())
    };
    within("the load", all).await?;
    Ok(talks)
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Without,
    Reloading,
    Over,
}

/// What one client has seen.
struct Talk {
    without: Waits,
    reloading: Waits,
    generation: u64,
}

/// How long a client's messages took to be answered.
#[derive(Default)]
struct Waits {
    all: Vec<Duration>,
    longest_gap: Duration,
}

impl Waits {
    fn add(&mut self, other: Waits) {
        self.all.extend(other.all);
        self.longest_gap = self.longest_gap.max(other.longest_gap);
    }

    fn shown(&mut self) -> String {
        self.all.sort_unstable();
        let at = |share: usize| {
            self.all
                .get(self.all.len() * share / 1000)
                .copied()
                .unwrap_or_default()
        };
        let longest = self.all.last().copied().unwrap_or_default();
        format!(
            "{:>9} {:>9.1?} {:>9.1?} {:>9.1?} {:>9.1?}",
            self.all.len(),
            at(500),
            at(990),
            longest,
            self.longest_gap
        )
    }
}

/// One client: sends a number every so often, whether the one before has been answered or
/// not, until it is over and everything has been.
async fn talk(
    mut client: Client,
    number: u32,
    mut phase: watch::Receiver<Phase>,
    under_way: mpsc::Sender<()>,
) -> Result<Talk> {
    let pace = Duration::from_secs(1) * CLIENTS / MESSAGES_PER_SECOND;
    let mut ticks =
        tokio::time::interval_at((Instant::now() + pace * number / CLIENTS).into(), pace);
    let mut talk = Talk {
        without: Waits::default(),
        reloading: Waits::default(),
        generation: 1,
    };
    let mut unanswered = VecDeque::new();
    let (mut sent, mut answered) = (0_u64, 0);
    let mut last_answer = Instant::now();
    loop {
        let now = *phase.borrow_and_update();
        if now == Phase::Over && unanswered.is_empty() {
            break;
        }
        tokio::select! {
            _ = ticks.tick(), if now != Phase::Over => {
                client.say(sent.to_string()).await?;
                unanswered.push_back((Instant::now(), now));
                sent += 1;
            }
            answer = client.next_text(), if !unanswered.is_empty() => {
                let generation = check(&answer?, answered, talk.generation)?;
                talk.generation = generation;
                answered += 1;
                if answered == MESSAGES_WITHOUT {
                    under_way.send(()).await?;
                }
                let (asked, during) = unanswered.pop_front().context("one answer each")?;
                let waits = match during {
                    Phase::Without => &mut talk.without,
                    Phase::Reloading | Phase::Over => &mut talk.reloading,
                };
                waits.all.push(asked.elapsed());
                waits.longest_gap = waits.longest_gap.max(last_answer.elapsed());
                last_answer = Instant::now();
            }
        }
    }
    // Its socket is still the same one, and no second answer to anything has come.
    client.say_goodbye(1000, "").await?;
    let (more, end) = client.until_end().await?;
    ensure!(
        more.is_empty() && end == End::closed(1000, ""),
        "{more:?}, {end:?}"
    );
    Ok(talk)
}

/// The generation that gave this answer, if it is the right one to message `number`.
fn check(answer: &str, number: u64, before: u64) -> Result<u64> {
    let parts: Vec<_> = answer.split(':').collect();
    let [mark, generation, echoed] = parts[..] else {
        anyhow::bail!("{answer:?}")
    };
    let generation: u64 = generation.parse()?;
    let right_mark = if generation % 2 == 1 { "a" } else { "b" };
    ensure!(
        mark == right_mark,
        "build {mark} as generation {generation}"
    );
    ensure!(
        echoed == number.to_string(),
        "the answer to {number} is {answer:?}"
    );
    ensure!(
        generation >= before,
        "generation {generation} after {before}"
    );
    Ok(generation)
}
