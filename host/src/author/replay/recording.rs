//! A recording: what has come in from some clients, in order, and what was sent to them.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use tungstenite::Message;

use super::client_ids::ClientIds;
use super::deliveries::{Deliveries, is_of_timer, whole_message};
use crate::admin::trace_step;
use crate::author::shown_message::shown_after_arrow;
use crate::live_trace::{
    Step, TraceClosed, TraceConnecting, TraceFound, TraceReceived, TraceSent, TraceStep,
};
use crate::registry::Closer;
use crate::remote::{RECORDING_VERSION, RecordingHeader};

/// The longest line of a recording, in bytes.
const LINE_BYTES: u64 = 32 << 20;

/// The largest recording, in bytes.
const RECORDING_BYTES: u64 = 1 << 30;

/// The latest time of a step, in microseconds since 1970: the year 9999.
const LATEST_US: u64 = 253_000_000_000_000_000;

/// The close codes that stand for a frame without a code, and for no frame.
const NO_STATUS: u32 = 1005;
const ABNORMAL: u32 = 1006;

/// A recording, with its steps in the order of their times.
pub(super) struct Recording {
    plugin: String,
    /// Whether all clients were recorded that connected.
    is_of_all: bool,
    steps: Vec<ReplayStep>,
    clients: BTreeSet<String>,
    /// What was sent when it was recorded.
    sent: Deliveries,
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
    Connect(TraceConnecting),
    /// It was there before, and has this.
    Find(TraceFound),
    /// It sends a message.
    Send(Message),
    /// It closes its connection, with this code and reason.
    Close(Option<u16>, String),
    /// Its connection breaks, or its node closes it.
    Break,
}

/// What was recorded and is not compared.
#[derive(Default)]
struct LeftOut {
    /// The steps of clients whose beginning is missing.
    unknown: u64,
    /// The messages that somebody has sent who was not recorded.
    elsewhere: u64,
}

impl Recording {
    /// Reads a recording.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is no recording.
    pub(super) fn read(path: &Path) -> anyhow::Result<Recording> {
        let wrong = || format!("the recording {}", path.display());
        let file = File::open(path).with_context(wrong)?;
        let metadata = file.metadata().with_context(wrong)?;
        ensure!(
            metadata.is_file() && metadata.len() <= RECORDING_BYTES,
            "{} is no file, or has more than {} MiB",
            path.display(),
            RECORDING_BYTES >> 20
        );
        Recording::parse(BufReader::new(file)).with_context(wrong)
    }

    fn parse(mut file: BufReader<File>) -> anyhow::Result<Recording> {
        let mut gaps = Vec::new();
        let mut next = || -> anyhow::Result<Option<Vec<u8>>> {
            let mut line = Vec::new();
            let mut limited = (&mut file).take(LINE_BYTES);
            limited.read_until(b'\n', &mut line)?;
            match line.last() {
                None => Ok(None),
                Some(b'\n') => Ok(Some(line)),
                // The end of a file whose writer was killed, or whose disk was full.
                Some(_) => {
                    gaps.push("the last line of the recording is not whole, and is left out");
                    Ok(None)
                }
            }
        };
        let header = next()?.and_then(|line| serde_json::from_slice::<RecordingHeader>(&line).ok());
        let header = header.context(
            "its first line is not that of a recording: `jackfield record` writes recordings",
        )?;
        ensure!(
            header.jackfield_recording == RECORDING_VERSION,
            "its format has the version {}, and this program reads {RECORDING_VERSION}",
            header.jackfield_recording
        );
        let is_of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        ensure!(
            header.plugin.starts_with(|c: char| c != '.') && header.plugin.chars().all(is_of_name),
            "{:?} is no name of a plugin",
            header.plugin
        );
        let mut recorded = Vec::new();
        let mut number = 1_u64;
        while let Some(line) = next()? {
            number += 1;
            let step = serde_json::from_slice(&line)
                .map_err(anyhow::Error::from)
                .and_then(trace_step)
                .with_context(|| format!("line {number}"))?;
            ensure!(
                step.at_us <= LATEST_US,
                "line {number}: its time is too late"
            );
            recorded.push(step);
        }
        // Nodes have clocks of their own, and tell of steps when they are asked.
        recorded.sort_by_key(|step| step.at_us);
        let mut recording = Recording {
            plugin: header.plugin,
            is_of_all: header.share.is_some_and(|share| share >= 100.0),
            steps: Vec::new(),
            clients: BTreeSet::new(),
            sent: Deliveries::default(),
            gaps: gaps.into_iter().map(str::to_owned).collect(),
        };
        let mut left_out = LeftOut::default();
        for step in recorded {
            recording.add(step, &mut left_out)?;
        }
        recording.note(&left_out);
        Ok(recording)
    }

    fn note(&mut self, LeftOut { unknown, elsewhere }: &LeftOut) {
        if *unknown > 0 {
            self.gaps.push(format!(
                "{unknown} steps are of clients whose beginning was not recorded, and are left out"
            ));
        }
        if *elsewhere > 0 {
            self.sent.notes.push(format!(
                "{elsewhere} messages came from backends, timers or clients that were not recorded, and are \
                 not compared"
            ));
        }
    }

    fn add(&mut self, step: TraceStep, left_out: &mut LeftOut) -> anyhow::Result<()> {
        let TraceStep {
            at_us,
            client,
            step,
            ..
        } = step;
        let Some(step) = step else { return Ok(()) };
        let gap = match &step {
            Step::Missed(0) => "steps are missing, nobody knows how many".to_owned(),
            Step::Missed(steps) => {
                format!("{steps} steps are missing: they came too fast, or were too large")
            }
            Step::Unanswered(why) => format!("the steps of a node are missing: {why}"),
            _ => String::new(),
        };
        if !gap.is_empty() {
            self.gaps.push(gap);
            return Ok(());
        }
        if matches!(step, Step::Connecting(_) | Step::Found(_)) {
            self.clients.insert(client.clone());
        } else if !self.clients.contains(&client) {
            left_out.unknown += 1;
            return Ok(());
        }
        let action = match step {
            Step::Connecting(handshake) => ReplayAction::Connect(handshake),
            Step::Found(state) => ReplayAction::Find(state),
            Step::Received(TraceReceived {
                is_text,
                bytes,
                payload,
            }) => ReplayAction::Send(whole_message(is_text, bytes, payload)?),
            Step::Closed(TraceClosed { code, reason, by }) if by == Closer::Client.as_str() => {
                match code {
                    // A frame cannot have these codes.
                    NO_STATUS => ReplayAction::Close(None, reason),
                    ABNORMAL => ReplayAction::Break,
                    code => ReplayAction::Close(u16::try_from(code).ok(), reason),
                }
            }
            Step::Closed(closed) if closed.by != Closer::Plugin.as_str() => ReplayAction::Break,
            Step::Sent(sent) if !self.is_from_here(&sent) => {
                left_out.elsewhere += 1;
                return Ok(());
            }
            told => {
                let cause = self.steps.len().checked_sub(1);
                return self.sent.add(&client, told, cause, &ClientIds::default());
            }
        };
        self.steps.push(ReplayStep {
            at: UNIX_EPOCH + Duration::from_micros(at_us),
            client,
            action,
        });
        Ok(())
    }

    /// Whether a replay can send this: what an event of a recorded client has sent, or the node itself, and
    /// a timer if all clients were recorded.
    fn is_from_here(&self, sent: &TraceSent) -> bool {
        match sent.by.split_once(' ') {
            Some((function, client)) => {
                function.starts_with("on-") && self.clients.contains(client)
            }
            // The node itself: the last message of a client that its plugin closes.
            None => sent.by.is_empty() || (self.is_of_all && is_of_timer(sent)),
        }
    }

    /// The name of the plugin.
    pub(super) fn plugin(&self) -> &str {
        &self.plugin
    }

    /// Whether all clients were recorded that connected, so that timers have what they had.
    pub(super) fn is_of_all(&self) -> bool {
        self.is_of_all
    }

    /// What the clients do, in order.
    pub(super) fn steps(&self) -> &[ReplayStep] {
        &self.steps
    }

    /// The number of clients.
    pub(super) fn clients(&self) -> usize {
        self.clients.len()
    }

    /// The size of the largest message of a client, in bytes.
    pub(super) fn largest_message(&self) -> usize {
        let sizes = self.steps.iter().map(|step| match &step.action {
            ReplayAction::Send(message) => message.len(),
            _ => 0,
        });
        sizes.max().unwrap_or(0)
    }

    /// What was sent when it was recorded.
    pub(super) fn sent(&self) -> &Deliveries {
        &self.sent
    }

    /// What is missing, for whoever reads the result.
    pub(super) fn gaps(&self) -> &[String] {
        &self.gaps
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
                format!("close {client}{code} {reason}")
                    .trim_end()
                    .to_owned()
            }
            ReplayAction::Break => format!("drop {client}"),
        }
    }
}
