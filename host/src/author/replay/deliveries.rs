//! What comes to the clients of a recording or of a replay, as the steps of its live trace say it.

use std::collections::BTreeMap;

use anyhow::ensure;
use bytes::Bytes;
use tungstenite::Message;

use super::client_ids::ClientIds;
use crate::author::shown_message::shown_message;
use crate::live_trace::{Step, TraceSent};
use crate::registry::Closer;

/// Who has sent something in the event of a timer, as a step says it.
const BY_TIMER: &str = "on-timer";

/// The client of what belongs to none.
const NOBODY: &str = "(timers)";

/// What comes to clients.
#[derive(Default)]
pub(super) struct Deliveries {
    /// What comes to each client, by the client's id in the recording.
    pub(super) of_clients: BTreeMap<String, Vec<ClientDelivery>>,
    /// What else the reader must know.
    pub(super) notes: Vec<String>,
}

/// A message that comes to a client, or what else becomes of the client.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ClientDelivery {
    pub(super) text: String,
    /// The step of the recording that came before it, by its number.
    pub(super) cause: Option<usize>,
}

impl Deliveries {
    /// Adds what a step says, if it says something of this kind. `ids` translates client ids into those
    /// of the recording.
    ///
    /// # Errors
    ///
    /// A message is not whole.
    pub(super) fn add(
        &mut self,
        client: &str,
        step: Step,
        cause: Option<usize>,
        ids: &ClientIds,
    ) -> anyhow::Result<()> {
        match step {
            Step::Sent(sent) if sent.outcome == "queued" => {
                let TraceSent {
                    is_text,
                    bytes,
                    payload,
                    ..
                } = sent;
                let message = whole_message(is_text, bytes, payload)?;
                self.deliver(client, cause, shown_message(&translated(message, ids)));
            }
            Step::Event(event) => {
                if let Some(status) = event.refused {
                    self.add_refusal(client, cause, status);
                }
                if let Some(failure) = event.failure {
                    self.deliver(
                        client,
                        cause,
                        format!("({} failed: {failure})", event.function),
                    );
                }
            }
            Step::Closed(closed) if closed.by == Closer::Plugin.as_str() => {
                let text = format!("(closed with {} {})", closed.code, closed.reason);
                self.deliver(client, cause, text.replace(" )", ")"));
            }
            _ => {}
        }
        Ok(())
    }

    /// Adds that a client was refused with this HTTP status.
    pub(super) fn add_refusal(&mut self, client: &str, cause: Option<usize>, status: u32) {
        self.deliver(client, cause, format!("(refused with {status})"));
    }

    /// Adds that an event of a timer has failed.
    pub(super) fn add_failed_timer(&mut self, cause: Option<usize>) {
        self.deliver(NOBODY, cause, format!("({BY_TIMER} failed)"));
    }

    fn deliver(&mut self, client: &str, cause: Option<usize>, text: String) {
        let delivered = self.of_clients.entry(client.to_owned());
        delivered.or_default().push(ClientDelivery { text, cause });
    }
}

/// Whether the event of a timer has sent something.
pub(super) fn is_of_timer(sent: &TraceSent) -> bool {
    sent.by == BY_TIMER
}

/// A message with other client ids.
pub(super) fn translated(message: Message, ids: &ClientIds) -> Message {
    match message {
        Message::Text(text) => Message::text(ids.translate(&text)),
        other => Message::binary(ids.translate_bytes(&other.into_data())),
    }
}

/// The message of a step.
///
/// # Errors
///
/// The step has only a part of it, or none, as in what `jackfield trace` prints.
pub(super) fn whole_message(
    is_text: bool,
    bytes: u64,
    payload: Option<Bytes>,
) -> anyhow::Result<Message> {
    let payload = payload.unwrap_or_default();
    ensure!(
        payload.len() as u64 == bytes,
        "of a message with {bytes} bytes, {} are there: only what `jackfield record` has written can be \
         replayed, from nodes that can record",
        payload.len()
    );
    Ok(match is_text {
        true => Message::text(String::from_utf8(payload.to_vec())?),
        false => Message::binary(payload),
    })
}
