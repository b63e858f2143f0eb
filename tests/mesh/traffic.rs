//! Numbered messages at a pace, and their hearers.

use std::time::Duration;

use anyhow::{Context as _, Result};
use jackfield_tests::{Console, Node};
use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;

use crate::becomes;

/// How often a talker says some.
const TICK: Duration = Duration::from_millis(10);
const TICKS_A_SECOND: usize = 100;

/// Somebody who sends numbered messages.
pub(crate) struct Talker<'a> {
    console: &'a mut Console,
    request: Value,
    next: usize,
}

impl<'a> Talker<'a> {
    /// To a group.
    pub(crate) fn to_group(console: &'a mut Console, group: &str) -> Talker<'a> {
        Talker::new(console, json!({ "do": "send-to-group", "group": group }))
    }

    /// To a client.
    pub(crate) fn to_client(console: &'a mut Console, client: &str) -> Talker<'a> {
        Talker::new(console, json!({ "do": "send-to-client", "client": client }))
    }

    fn new(console: &'a mut Console, request: Value) -> Talker<'a> {
        Talker {
            console,
            request,
            next: 0,
        }
    }

    /// Sends messages for so long, so many a second.
    pub(crate) async fn talk(&mut self, seconds: usize, a_second: usize) -> Result<()> {
        let mut pace = tokio::time::interval(TICK);
        pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
        for _ in 0..seconds * TICKS_A_SECOND {
            pace.tick().await;
            self.say(a_second / TICKS_A_SECOND, "").await?;
        }
        Ok(())
    }

    /// Sends so many messages at once; what each answered.
    pub(crate) async fn say(&mut self, messages: usize, filler: &str) -> Result<Vec<Value>> {
        let mut asked = Vec::new();
        for _ in 0..messages {
            let mut request = self.request.clone();
            request["text"] = format!("{}:{filler}", self.next).into();
            asked.push(self.console.start(request).await?);
            self.next += 1;
        }
        let mut answers = Vec::new();
        for id in asked {
            let mut answer = self.console.answer(id).await?;
            let ok = answer.get_mut("ok").map(Value::take);
            answers.push(ok.with_context(|| format!("a send answered {answer}"))?);
        }
        Ok(answers)
    }

    /// How many it has sent.
    pub(crate) fn said(&self) -> usize {
        self.next
    }
}

/// Two thousand messages a second from here to a group there, and five hundred from there
/// to a client here, while the network is broken for a while: each comes once, in order.
pub(crate) async fn loses_nothing(
    here: &Node,
    there: &Node,
    seconds: usize,
    breaks: impl Fn(),
    heals: impl Fn(),
) -> Result<()> {
    let mut ada = here.console(&[]).await?;
    let mut home = here.console(&[]).await?;
    let mut bob = there.console(&[("group", "g")]).await?;
    let mut eve = there.console(&[("group", "g")]).await?;
    let mut zoe = there.console(&[]).await?;
    let count = json!({ "do": "get-client-count-by-group", "group": "g" });
    becomes(&mut ada, count, &json!({ "value": 2, "missing": [] })).await?;

    let all = 2 + seconds;
    let home_id = home.id().to_owned();
    let mut to_group = Talker::to_group(&mut ada, "g");
    let mut to_home = Talker::to_client(&mut zoe, &home_id);
    tokio::try_join!(
        async {
            to_group.talk(1, 2_000).await?;
            breaks();
            to_group.talk(seconds, 2_000).await?;
            heals();
            to_group.talk(1, 2_000).await
        },
        to_home.talk(all, 500),
        hears(&mut bob, all * 2_000),
        hears(&mut eve, all * 2_000),
        hears(&mut home, all * 500),
    )?;
    for node in [here, there] {
        has_lost_nothing(node).await?;
    }
    Ok(())
}

/// It took nobody for gone, and dropped nothing that waited for another node.
pub(crate) async fn has_lost_nothing(node: &Node) -> Result<()> {
    let counters = node.counters().await?;
    assert_eq!(counters.get("mesh_dropped")?, 0);
    assert_eq!(counters.get("mesh_not_understood")?, 0);
    let gone = node.log().so_far(|line| line.says("a node is gone"));
    assert!(gone.is_empty(), "{gone:?}");
    Ok(())
}

/// Hears the numbers from 0 on, each once and in order, and answers how many.
pub(crate) async fn hears(console: &mut Console, messages: usize) -> Result<()> {
    for expected in 0..messages {
        assert_eq!(next_number(console).await?, expected);
    }
    assert_eq!(console.heard().await?, [], "after the last");
    Ok(())
}

/// The number of the next message.
pub(crate) async fn next_number(console: &mut Console) -> Result<usize> {
    let message = console.next().await?;
    let text = message.to_text()?;
    let (number, _) = text.split_once(':').context("no number")?;
    Ok(number.parse()?)
}
