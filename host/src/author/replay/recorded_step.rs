//! A step of a recording, as a line of its file has it: a `TraceStep` of `proto/jackfield/trace/v1` in
//! JSON. Fields that a replay does not need are not read.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde::de::IgnoredAny;
use tungstenite::Message;

/// A line of a recording.
#[derive(Debug, Deserialize)]
pub(super) struct RecordedStep {
    #[serde(default)]
    pub(super) at_us: u64,
    #[serde(default)]
    pub(super) client: String,
    #[serde(flatten)]
    pub(super) what: Recorded,
}

/// What has happened. The plugin's own changes to a client are made again by the plugin.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Recorded {
    Connecting(RecordedHandshake),
    Found(RecordedState),
    Received(RecordedMessage),
    Event(RecordedEvent),
    Sent(RecordedMessage),
    Closed(RecordedClose),
    Missed(u64),
    Unanswered(String),
    #[serde(alias = "joined", alias = "left")]
    Uid(IgnoredAny),
}

/// The handshake of a client.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RecordedHandshake {
    pub(super) path: String,
    pub(super) query: Vec<RecordedPair>,
    pub(super) headers: Vec<RecordedPair>,
    pub(super) subprotocols: Vec<String>,
}

/// A parameter of a query, or a header.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RecordedPair {
    pub(super) name: String,
    pub(super) value: String,
}

/// What a client had that was there before the recording.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RecordedState {
    pub(super) uid: Option<String>,
    pub(super) groups: Vec<String>,
    pub(super) info: BTreeMap<String, String>,
}

/// A message of a client, or one to it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RecordedMessage {
    is_text: bool,
    bytes: u64,
    payload: Option<String>,
    pub(super) outcome: String,
    pub(super) by: String,
}

/// An event that has ended.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RecordedEvent {
    pub(super) failure: Option<String>,
    pub(super) refused: Option<u16>,
}

/// The end of a client.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RecordedClose {
    pub(super) code: u16,
    pub(super) reason: String,
    pub(super) by: String,
}

impl RecordedMessage {
    /// The message itself.
    ///
    /// # Errors
    ///
    /// The whole of it is not there, as in what `jackfield trace` prints.
    pub(super) fn message(&self) -> anyhow::Result<Message> {
        let payload = self.payload.as_deref().unwrap_or_default();
        let payload = BASE64_STANDARD.decode(payload)?;
        anyhow::ensure!(
            payload.len() as u64 == self.bytes,
            "of a message with {} bytes, {} are there: only what `jackfield record` has written can be \
             replayed",
            self.bytes,
            payload.len()
        );
        Ok(match self.is_text {
            true => Message::text(String::from_utf8(payload)?),
            false => Message::binary(payload),
        })
    }
}
