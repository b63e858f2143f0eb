//! A node's log, line by line, as it comes.

use std::fmt;
use std::sync::Arc;

use anyhow::Context as _;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::sync::watch;

use crate::within;

/// One line of a node's log.
#[derive(Clone, Debug)]
pub struct LogLine(Value);

impl LogLine {
    fn parse(line: &str) -> LogLine {
        // What is no JSON (a panic of the node) stands as the message of a line of its own.
        let bare = || serde_json::json!({ "level": "BARE", "fields": { "message": line } });
        LogLine(serde_json::from_str(line).unwrap_or_else(|_| bare()))
    }

    /// `ERROR`, `WARN`, `INFO` …
    pub fn level(&self) -> &str {
        self.0["level"].as_str().unwrap_or_default()
    }

    /// Which part of the node wrote it.
    pub fn target(&self) -> &str {
        self.0["target"].as_str().unwrap_or_default()
    }

    /// The sentence.
    pub fn message(&self) -> &str {
        self.text("message")
    }

    /// Whether the sentence has these words in it.
    pub fn says(&self, words: &str) -> bool {
        self.message().contains(words)
    }

    /// A field that is text.
    pub fn text(&self, field: &str) -> &str {
        self.fields()[field].as_str().unwrap_or_default()
    }

    /// A field that is a number.
    pub fn number(&self, field: &str) -> Option<u64> {
        self.fields()[field].as_u64()
    }

    /// All fields.
    pub fn fields(&self) -> &Value {
        &self.0["fields"]
    }
}

impl fmt::Display for LogLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// All lines so far. A clone is the same log.
#[derive(Clone, Debug)]
pub struct Log(Arc<watch::Sender<State>>);

#[derive(Debug, Default)]
struct State {
    lines: Vec<LogLine>,
    has_ended: bool,
}

impl Log {
    /// Reads a node's stderr from here on.
    pub(crate) fn read(stderr: impl AsyncRead + Unpin + Send + 'static) -> Log {
        let log = Log(Arc::new(watch::Sender::default()));
        let reading = log.clone();
        tokio::spawn(async move {
            let mut lines = BufReader::new(stderr).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                reading
                    .0
                    .send_modify(|state| state.lines.push(LogLine::parse(&line)));
            }
            reading.0.send_modify(|state| state.has_ended = true);
        });
        log
    }

    /// All lines so far for which this holds.
    pub fn so_far(&self, wanted: impl Fn(&LogLine) -> bool) -> Vec<LogLine> {
        self.0
            .borrow()
            .lines
            .iter()
            .filter(|line| wanted(line))
            .cloned()
            .collect()
    }

    /// Waits until `count` lines are there for which this holds, and answers the last of them.
    pub async fn nth(
        &self,
        count: usize,
        wanted: impl Fn(&LogLine) -> bool,
    ) -> anyhow::Result<LogLine> {
        let mut changes = self.0.subscribe();
        let (mut seen, mut found) = (0, 0);
        let mut look = |state: &State| {
            let new = state.lines[seen..].iter().filter(|line| wanted(line));
            let hit = new.clone().nth(count - 1 - found).cloned();
            found += new.count().min(count - 1 - found);
            seen = state.lines.len();
            hit
        };
        let waited = within("a line in the log", async {
            loop {
                let (hit, has_ended) = {
                    let state = changes.borrow_and_update();
                    (look(&state), state.has_ended)
                };
                match hit {
                    Some(line) => return Ok(line),
                    None if has_ended => anyhow::bail!("the log ended without a line"),
                    None => changes.changed().await?,
                }
            }
        });
        waited
            .await
            .with_context(|| format!("the log has:\n{}", self.tail()))
    }

    /// Waits for the end of the log: the node's process has ended.
    pub(crate) async fn end(&self) -> anyhow::Result<()> {
        let mut changes = self.0.subscribe();
        within(
            "the end of the log",
            changes.wait_for(|state| state.has_ended),
        )
        .await
        .map(drop)
    }

    /// The last lines, for a person; of the counters only the newest.
    pub(crate) fn tail(&self) -> String {
        let state = self.0.borrow();
        let is_counters = |line: &LogLine| line.message() == "counters";
        let newest = state.lines.iter().rev().find(|line| is_counters(line));
        let others = state
            .lines
            .iter()
            .filter(|line| !is_counters(line))
            .rev()
            .take(40);
        let mut shown: Vec<_> = others.chain(newest).collect();
        shown.reverse();
        shown
            .iter()
            .map(|LogLine(line)| format!("  {line}\n"))
            .collect()
    }
}
