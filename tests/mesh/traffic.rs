//! Numbered messages at a pace, and their hearers.

use std::time::Duration;

use anyhow::{Context as _, Result};
use jackfield_tests::Console;
use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;

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
