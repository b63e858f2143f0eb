//! The trace of one client: its span, and those of its events within.

use parking_lot::Mutex;

use super::span::Span;

/// How many messages of a client are in one trace. Tracing backends refuse a trace that is too large,
/// and a client may stay for days.
const MESSAGES: u32 = 1_000;

/// The trace of one client, from its handshake to the end of its `on-close`.
#[derive(Debug)]
pub struct ClientTrace {
    client: Span,
    is_recorded: bool,
    messages: Mutex<Messages>,
}

/// The messages of the present trace.
#[derive(Debug, Default)]
struct Messages {
    count: u32,
    /// The span that the messages are in, once the client's own span has enough of them.
    within: Option<Span>,
}

impl ClientTrace {
    pub(super) fn new(client: Span) -> ClientTrace {
        ClientTrace {
            is_recorded: client.is_recorded(),
            client,
            messages: Mutex::default(),
        }
    }

    /// Whether the trace is recorded. If it is not, its context is only passed on.
    pub fn is_recorded(&self) -> bool {
        self.is_recorded
    }

    /// The span of the client itself.
    pub fn client(&self) -> &Span {
        &self.client
    }

    /// Begins the span of an event that a client has once.
    pub fn event(&self, function: &'static str) -> Span {
        self.client.child(function)
    }

    /// Begins the span of a message of so many bytes. After each thousand of them, the next ones are in
    /// another trace, which is linked to that of the client.
    pub fn message(&self, function: &'static str, bytes: usize) -> Span {
        let mut messages = self.messages.lock();
        if messages.count == MESSAGES {
            messages.count = 0;
            messages.within = Some(self.client.next_trace("client continued"));
        }
        messages.count += 1;
        let span = messages
            .within
            .as_ref()
            .unwrap_or(&self.client)
            .child(function);
        span.set_number("jackfield.message_bytes", bytes);
        span
    }
}
