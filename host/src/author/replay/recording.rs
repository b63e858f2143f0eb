//! A recording: what has come in from some clients, in order, and what was sent to them.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use tungstenite::Message;

use super::recorded_step::{
    Recorded, RecordedClose, RecordedHandshake, RecordedState, RecordedStep,
};
use super::replay_run::{Delivery, Replayed};
use crate::author::shown_message::{shown_after_arrow, shown_message};
use crate::file;

/// The largest recording, in bytes.
const RECORDING_BYTES: u64 = 1 << 30;

/// The version of the format that is read.
const VERSION: u32 = 1;

/// Who has ended a connection, as a step says it.
const BY_CLIENT: &str = "client";
const BY_PLUGIN: &str = "plugin";

/// A recording, with its steps in the order of their times.
pub(super) struct Recording {
    plugin: String,
    steps: Vec<ReplayStep>,
    clients: BTreeSet<String>,
    /// What was recorded of each client.
    sent: Replayed,
    /// What is missing, as lines for the reader.
    gaps: Vec<String>,
}

/// What somebody does from outside.
pub(super) struct ReplayStep {
    pub(super) at: SystemTime,
    pub(super) client: String,
    pub(super) action: ReplayAction,
}

/// What a client does.
pub(super) enum ReplayAction {
    /// It asks to come in.
    Connect(RecordedHandshake),
    /// It was there before the recording, and has this.
    Find(RecordedState),
    Send(Message),
    /// It closes its connection, with this code and reason.
    Close(Option<u16>, String),
    /// Its connection breaks, or its node closes it.
    Break,
}

/// The first line of a recording.
#[derive(Deserialize)]
struct Header {
    jackfield_recording: u32,
    plugin: String,
}

impl Recording {
    /// Reads a recording.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is no recording.
    pub(super) fn read(path: &Path) -> anyhow::Result<Recording> {
        let wrong = || format!("the recording {}", path.display());
        let text = file::read_text(path, RECORDING_BYTES).with_context(wrong)?;
        Recording::parse(&text).with_context(wrong)
    }

    fn parse(text: &str) -> anyhow::Result<Recording> {
        let mut lines = text.split_inclusive('\n').enumerate();
        let header = lines.next().and_then(|(_, line)| {
            let header: Header = serde_json::from_str(line).ok()?;
            Some(header)
        });
        let header = header.context(
            "its first line is not that of a recording: `jackfield record` writes recordings",
        )?;
        ensure!(
            header.jackfield_recording == VERSION,
            "its format has the version {}, and this program reads {VERSION}",
            header.jackfield_recording
        );
        let mut gaps = Vec::new();
        let mut recorded = Vec::new();
        for (index, line) in lines {
            // The end of a file whose writer was killed, or whose disk is full.
            if !line.ends_with('\n') {
                gaps.push("the last line of the recording is not whole, and is left out".to_owned());
                break;
            }
            let step = serde_json::from_str::<RecordedStep>(line);
            recorded.push(step.with_context(|| format!("line {}", index + 1))?);
        }
        // Nodes have clocks of their own, and tell of steps when they are asked.
        recorded.sort_by_key(|step| step.at_us);
        let mut recording = Recording {
            plugin: header.plugin,
            steps: Vec::new(),
            clients: BTreeSet::new(),
            sent: Replayed::default(),
            gaps,
        };
        let mut unknown = 0_u64;
        let mut elsewhere = 0_u64;
        for step in recorded {
            recording.add(step, &mut unknown, &mut elsewhere)?;
        }
        if unknown > 0 {
            recording.gaps.push(format!(
                "{unknown} steps are of clients whose beginning was not recorded, and are left out"
            ));
        }
        if elsewhere > 0 {
            recording.sent.notes.push(format!(
                "{elsewhere} messages came from other nodes, backends or clients that were not recorded, and \
                 are not compared"
            ));
        }
        Ok(recording)
    }

    fn add(
        &mut self,
        step: RecordedStep,
        unknown: &mut u64,
        elsewhere: &mut u64,
    ) -> anyhow::Result<()> {
        let RecordedStep { at_us, client, what } = step;
        let at = UNIX_EPOCH + Duration::from_micros(at_us);
        let begins = matches!(what, Recorded::Connecting(_) | Recorded::Found(_));
        match (&what, client.is_empty()) {
            (Recorded::Missed(0), _) => {
                self.gaps.push("steps are missing, nobody knows how many".to_owned());
                return Ok(());
            }
            (Recorded::Missed(steps), _) => {
                self.gaps.push(format!("{steps} steps are missing: they came too fast"));
                return Ok(());
            }
            (Recorded::Unanswered(why), _) => {
                self.gaps.push(format!("the steps of a node are missing: {why}"));
                return Ok(());
            }
            (_, true) => return Ok(()),
            _ if begins => {
                self.clients.insert(client.clone());
            }
            _ if !self.clients.contains(&client) => {
                *unknown += 1;
                return Ok(());
            }
            _ => {}
        }
        let action = match what {
            Recorded::Connecting(handshake) => ReplayAction::Connect(handshake),
            Recorded::Found(state) => ReplayAction::Find(state),
            Recorded::Received(message) => ReplayAction::Send(message.message()?),
            Recorded::Closed(RecordedClose { code, reason, by }) => match &*by {
                // A frame cannot have the codes that say that there was none.
                BY_CLIENT if code == 1005 => ReplayAction::Close(None, reason),
                BY_CLIENT if code != 1006 => ReplayAction::Close(Some(code), reason),
                BY_PLUGIN => {
                    self.deliver(&client, closed(code, &reason));
                    return Ok(());
                }
                _ => ReplayAction::Break,
            },
            Recorded::Event(event) => {
                if let Some(status) = event.refused {
                    self.deliver(&client, refused(status));
                }
                if event.failure.is_some() {
                    self.deliver(&client, FAILED.to_owned());
                }
                return Ok(());
            }
            Recorded::Sent(sent) => {
                let is_compared = self.is_from_here(&sent.by);
                if sent.outcome == "queued" && is_compared {
                    let message = sent.message()?;
                    self.deliver(&client, shown_message(&message));
                } else if !is_compared {
                    *elsewhere += 1;
                }
                return Ok(());
            }
            Recorded::Missed(_)
            | Recorded::Unanswered(_)
            | Recorded::Uid(_) => return Ok(()),
        };
        self.steps.push(ReplayStep { at, client, action });
        Ok(())
    }

    /// Whether a replay can send what this sender has sent: an event of a recorded client, or a timer.
    fn is_from_here(&self, by: &str) -> bool {
        match by.split_once(' ') {
            Some((function, client)) => {
                function.starts_with("on-") && self.clients.contains(client)
            }
            None => by == "on-timer",
        }
    }

    fn deliver(&mut self, client: &str, text: String) {
        let cause = self.steps.len().checked_sub(1);
        let delivered = self.sent.delivered.entry(client.to_owned()).or_default();
        delivered.push(Delivery { text, cause });
    }

    /// The name of the plugin.
    pub(super) fn plugin(&self) -> &str {
        &self.plugin
    }

    /// What the clients do, in order.
    pub(super) fn steps(&self) -> &[ReplayStep] {
        &self.steps
    }

    /// The number of clients.
    pub(super) fn clients(&self) -> usize {
        self.clients.len()
    }

    /// What is missing, for whoever reads the result.
    pub(super) fn gaps(&self) -> &[String] {
        &self.gaps
    }

    /// What was sent when it was recorded.
    pub(super) fn replayed(&self) -> Replayed {
        self.sent.clone()
    }
}

impl ReplayStep {
    /// The step on one line, as a scenario has it.
    pub(super) fn shown(&self) -> String {
        let client = &self.client;
        match &self.action {
            ReplayAction::Connect(handshake) => format!("connect {client} {}", handshake.path),
            ReplayAction::Find(_) => format!("connect {client} (it was there before)"),
            ReplayAction::Send(message) => format!("{client}>{}", shown_after_arrow(message)),
            ReplayAction::Close(code, reason) => {
                let code = code.map(|code| format!(" {code}")).unwrap_or_default();
                format!("close {client}{code} {reason}").trim_end().to_owned()
            }
            ReplayAction::Break => format!("drop {client}"),
        }
    }
}

/// How it is shown that an event of a client has failed.
pub(super) const FAILED: &str = "(its event failed)";

/// How it is shown that a client was closed by its plugin, or refused.
pub(super) fn closed(code: u16, reason: &str) -> String {
    format!("closed {code} {reason}").trim_end().to_owned()
}

pub(super) fn refused(status: u16) -> String {
    format!("refused {status}")
}
