//! The conversation of a client with its plugin on one connection: its messages in order.
//!
//! While more than half of the outbox waits for the socket, the client is not read. A client that
//! floods a plugin with requests must therefore also read the answers. While a message waits for the
//! plugin's rates, the client is not read either.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use super::admission::AdmissionPermit;
use super::connection::Connection;
use super::decoder::{DecodeError, Received};
use super::delayed_message::DelayedMessage;
use super::keepalive::{Heartbeat, Keepalive};
use super::read_buffers;
use super::reader::{ReadError, Reader};
use super::resumable::{Resumable, SessionRequest};
use super::sending_rates::SendingRates;
use super::session_end::{SessionEnd, broken};
use super::subprotocol::{self, ClientText};
use crate::close_code::CloseCode;
use crate::limits::MESSAGES_PER_TURN;
use crate::message::{Frame, Message};
use crate::message_queue::MessageQueue;
use crate::outbox::Condition;
use crate::plugin::{self, Failure, Turn};
use crate::registry::{Client, Close, Closer, NodeState};

/// The numbers of the messages of a client that speaks `jackfield.v1`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Numbers {
    /// The number of the last message that the plugin has handled.
    pub(super) handled: u64,
    /// The number that the client was told last.
    pub(super) told: u64,
}

impl Numbers {
    /// What tells a client that speaks `jackfield.v1` which of its messages were handled, if it was not
    /// told yet.
    pub(super) fn take_ack(&mut self, client: &Client) -> Option<Frame> {
        if !client.is_tagged() || self.told == self.handled {
            return None;
        }
        self.told = self.handled;
        Some(subprotocol::ack(self.handled))
    }
}

/// The conversation between a client and its plugin.
pub(super) struct Conversation<'a> {
    session: &'a plugin::Session,
    client: &'a Arc<Client>,
    shared: &'a NodeState,
    reader: Reader,
    keepalive: Keepalive,
    rates: Option<Box<SendingRates>>,
    place: AdmissionPermit,
    /// The way in which the client may come back on another connection, if it may.
    resumable: Option<&'a mut Resumable>,
    numbers: &'a mut Numbers,
    /// The message that was received last, if it comes too fast for the plugin.
    delayed: Option<DelayedMessage>,
    /// What was read and could not be handled, since the client does not read what it is sent.
    backlog: Option<Box<Backlog>>,
}

/// Messages that were read, and what follows them.
struct Backlog {
    queue: MessageQueue,
    /// What ends the conversation after the messages.
    end: Option<SessionEnd>,
}

impl Backlog {
    fn new() -> Backlog {
        Backlog {
            queue: MessageQueue::new(read_buffers::take()),
            end: None,
        }
    }
}

/// The reason why the client's task has woken up.
enum Next {
    Received(Result<Received, ReadError>),
    Backlog(Box<Backlog>),
    Woken,
    Writable,
    Keepalive,
    TakenOver(Box<SessionRequest>),
}

impl<'a> Conversation<'a> {
    /// Begins the conversation of a client on a connection.
    pub(super) fn new(
        session: &'a plugin::Session,
        client: &'a Arc<Client>,
        shared: &'a NodeState,
        connection: Connection,
        (resumable, numbers): (Option<&'a mut Resumable>, &'a mut Numbers),
    ) -> Conversation<'a> {
        // The outbox has the half for writing: whoever else held it would keep the connection open.
        let Connection {
            reader,
            place,
            until,
            ..
        } = connection;
        Conversation {
            session,
            client,
            shared,
            reader,
            keepalive: Keepalive::new(&shared.limits(), until),
            rates: place.sending_rates(&shared.limits()),
            place,
            resumable,
            numbers,
            delayed: None,
            backlog: None,
        }
    }

    /// Ends the conversation. Nobody waits for a message of a connection that has ended.
    pub(super) fn into_parts(self) -> (Reader, AdmissionPermit) {
        (self.reader, self.place)
    }
}

impl Conversation<'_> {
    /// Serves the client until its connection ends.
    pub(super) async fn run(&mut self) -> SessionEnd {
        let client = self.client;
        let mut condition = client.outbox().flush();
        // Armed for as long as the client stays: arming it for each wait would take a lock
        // twice a message.
        let mut woken = pin!(client.woken());
        loop {
            if let Some(ended) = self.look(condition) {
                return ended;
            }
            match self.next(condition, woken.as_mut()).await {
                // Boxed by the hold, so that what a turn needs is not set aside for each idle client.
                Next::Received(received) => {
                    let shared = self.shared;
                    if let Err(ended) = shared.dirty().hold(self.turn(received)).await {
                        return ended;
                    }
                    condition = self.acknowledge();
                }
                Next::Backlog(backlog) => {
                    let shared = self.shared;
                    if let Err(ended) = shared.dirty().hold(self.resume(*backlog)).await {
                        return ended;
                    }
                    condition = self.acknowledge();
                }
                Next::TakenOver(request) => {
                    let received = request.received();
                    // One that comes late, or is of another one's: this client has a connection.
                    if request.is_awaited()
                        && received.is_some_and(|received| client.outbox().follows(received))
                    {
                        return SessionEnd::TakenOver(request);
                    }
                }
                Next::Woken => {
                    woken.set(client.woken());
                    condition = client.outbox().condition();
                }
                Next::Writable => {
                    // The other side has taken bytes: slow, perhaps, and alive.
                    self.keepalive.heard = true;
                    condition = self.client.outbox().resume();
                }
                Next::Keepalive => match self.heartbeat() {
                    Heartbeat::Fine => {}
                    Heartbeat::Ping => {
                        self.client.outbox().push_control(Frame::ping());
                        condition = self.client.outbox().flush();
                    }
                    Heartbeat::Dead => {
                        self.shared.counters().clients_silent.add_one();
                        return SessionEnd::Now(Close::without_frame(Closer::Node));
                    }
                },
            }
        }
    }

    /// The reason to end the conversation, if there is one.
    fn look(&self, condition: Condition) -> Option<SessionEnd> {
        if self.client.has_left() {
            return Some(SessionEnd::Already);
        }
        // Here and not as a heartbeat: a client that never pauses has none.
        if self.keepalive.is_over() {
            return Some(SessionEnd::token_expired());
        }
        if self.resumable.is_some()
            && let Some(close) = self.client.take_interruption()
        {
            return Some(SessionEnd::Interrupted(close));
        }
        match condition {
            Condition::Broken => Some(SessionEnd::Now(broken())),
            Condition::Overflowed => Some(SessionEnd::too_slow()),
            Condition::Clear | Condition::Blocked { .. } => None,
        }
    }

    fn heartbeat(&mut self) -> Heartbeat {
        // A client that is not read cannot be heard.
        self.keepalive.heard |= self.reader.take_heard() || self.delayed.is_some();
        self.keepalive.heartbeat(&self.shared.limits())
    }

    async fn next(
        &mut self,
        condition: Condition,
        mut woken: Pin<&mut impl Future<Output = ()>>,
    ) -> Next {
        let blocked = matches!(condition, Condition::Blocked { .. });
        let may_read = condition != Condition::Blocked { above_half: true };
        let Conversation {
            reader,
            client,
            shared,
            keepalive,
            resumable,
            delayed,
            backlog,
            ..
        } = self;
        if may_read && let Some(backlog) = backlog.take() {
            return Next::Backlog(backlog);
        }
        poll_fn(|context| {
            if let Some(delayed) = delayed {
                // Even if it may not be handled yet, since others wait for it.
                if delayed.poll(context).is_ready() && may_read {
                    return Poll::Ready(Next::Received(Ok(delayed.received())));
                }
            } else if may_read
                && let Poll::Ready(received) = reader.poll_message(context, client, shared)
            {
                return Poll::Ready(Next::Received(received));
            }
            if woken.as_mut().poll(context).is_ready() {
                return Poll::Ready(Next::Woken);
            }
            if blocked && reader.poll_writable(context).is_ready() {
                return Poll::Ready(Next::Writable);
            }
            if let Some(resumable) = resumable
                && let Poll::Ready(request) = resumable.poll_request(context)
            {
                return Poll::Ready(Next::TakenOver(Box::new(request)));
            }
            keepalive.poll(context).map(|()| Next::Keepalive)
        })
        .await
    }

    /// Handles the messages that have arrived, one after another through one instance.
    async fn turn(&mut self, first: Result<Received, ReadError>) -> Result<(), SessionEnd> {
        self.client.outbox().take_in_hand();
        let mut turn = Turn::new(self.session);
        let mut received = Some(first);
        let mut left = MESSAGES_PER_TURN;
        loop {
            let Some(message) = received else {
                return Ok(());
            };
            let message = message.map_err(|error| self.unreadable(error))?;
            left -= self.handle(&mut turn, message, left).await?;
            if self.client.has_left() {
                return Err(SessionEnd::Already);
            }
            let waits = self.backlog.is_some() || self.delayed.is_some();
            if waits || self.client.outbox().wants_attention() {
                return Ok(());
            }
            if left == 0 {
                break;
            }
            received = self.received_already().await;
        }
        drop(turn);
        self.client.outbox().flush();
        tokio::task::yield_now().await;
        Ok(())
    }

    /// Goes on with what was read already.
    async fn resume(&mut self, backlog: Backlog) -> Result<(), SessionEnd> {
        self.client.outbox().take_in_hand();
        let mut turn = Turn::new(self.session);
        self.work_off(&mut turn, backlog).await
    }

    /// Handles a message, together with at most `most` messages in all that were read already.
    /// Returns how many they were.
    async fn handle(
        &mut self,
        turn: &mut Turn<'_>,
        received: Received,
        most: usize,
    ) -> Result<usize, SessionEnd> {
        let was_delayed = self.delayed.take().is_some();
        let message = match received {
            Received::Text | Received::Binary => self.reader.message(received),
            Received::Ping | Received::Pong => return Ok(1),
            Received::Close => return Err(self.closed_by_client()),
        };
        let message = message.map_err(|error| self.unreadable(error))?;
        let Some(message) = self.plugin_message(message)? else {
            return Ok(1);
        };
        // What was delayed was counted then.
        if !was_delayed {
            let bytes = message.payload().len();
            self.check_rates(message)?;
            let plugin = self.session.plugin();
            if !plugin.takes_message(bytes) {
                self.delayed = Some(DelayedMessage::new(received, plugin.delay(bytes)));
                return Ok(1);
            }
        }
        if self.reader.has_next_message() {
            let most = most.min(turn.messages_at_once(self.client));
            if most > 1 && message.payload().len() <= MessageQueue::BYTES {
                let mut backlog = Backlog::new();
                backlog.queue.push(message);
                self.read_ahead(&mut backlog, most).await;
                let read = backlog.queue.len();
                self.work_off(turn, backlog).await?;
                return Ok(read);
            }
        }
        let event = turn.on_message(self.client, message);
        let handled = while_writing(event, self.client, &self.reader);
        after(handled.await)?;
        self.numbers.handled += 1;
        Ok(1)
    }

    /// Returns the message for the plugin. A client that speaks `jackfield.v1` also sends messages to
    /// the node, which are handled here.
    fn plugin_message<'m>(&self, message: Message<'m>) -> Result<Option<Message<'m>>, SessionEnd> {
        let Message::Text(text) = message else {
            return Ok(Some(message));
        };
        if !self.client.is_tagged() {
            return Ok(Some(message));
        }
        let breaks = |rule| self.unreadable(DecodeError::Protocol(rule).into());
        let read = subprotocol::read(text).map_err(breaks)?;
        if let ClientText::Message(text) = read {
            return Ok(Some(Message::Text(text)));
        }
        self.take_rates(text.len())?;
        match read {
            ClientText::Message(_) => {}
            ClientText::Ack(received) if !self.client.outbox().acknowledge(received) => {
                return Err(breaks("an ack is for a message that was not sent"));
            }
            ClientText::Ping => {
                self.client.outbox().push_control(subprotocol::pong());
            }
            ClientText::Ack(_) | ClientText::Unknown => {}
        }
        Ok(None)
    }

    /// Tells a client that speaks `jackfield.v1` which of its messages the plugin has handled, and
    /// writes what waits for the client.
    fn acknowledge(&mut self) -> Condition {
        let outbox = self.client.outbox();
        if let Some(ack) = self.numbers.take_ack(self.client) {
            outbox.push_control(ack);
        }
        outbox.flush()
    }

    /// Takes messages that were read already, up to `most` in all.
    async fn read_ahead(&mut self, backlog: &mut Backlog, most: usize) {
        while backlog.end.is_none()
            && backlog.queue.len() < most
            && let Some(bytes) = self.reader.next_message()
            && backlog.queue.has_room_for(bytes)
            && self.session.plugin().takes_message(bytes)
            && let Some(received) = self.received_already().await
        {
            let message = received.and_then(|received| self.reader.message(received));
            let message = message.map_err(|error| self.unreadable(error));
            let message = message.and_then(|message| self.plugin_message(message));
            backlog.end = match message {
                Ok(Some(message)) => {
                    let allowed = self.check_rates(message);
                    if allowed.is_ok() {
                        backlog.queue.push(message);
                    }
                    allowed.err()
                }
                Ok(None) => None,
                Err(end) => Some(end),
            };
        }
    }

    /// Handles messages that were read. If the client does not read what it is sent, the rest is
    /// kept for later.
    async fn work_off(
        &mut self,
        turn: &mut Turn<'_>,
        mut backlog: Backlog,
    ) -> Result<(), SessionEnd> {
        while !backlog.queue.is_empty() {
            let waiting = backlog.queue.len();
            let event = turn.on_messages(self.client, &mut backlog.queue);
            let handled = while_writing(event, self.client, &self.reader);
            let handled = handled.await;
            self.numbers.handled += (waiting - backlog.queue.len()) as u64;
            after(handled)?;
            if self.client.has_left() {
                return Err(SessionEnd::Already);
            }
            if self.client.outbox().wants_attention() && !backlog.queue.is_empty() {
                self.backlog = Some(Box::new(backlog));
                return Ok(());
            }
        }
        read_buffers::give_back(backlog.queue.into_buffer());
        match backlog.end {
            Some(end) => Err(end),
            None => Ok(()),
        }
    }

    /// Counts a message that the client has sent, and shows it to whoever watches the client.
    fn check_rates(&self, message: Message<'_>) -> Result<(), SessionEnd> {
        self.shared.received(self.client, message);
        self.take_rates(message.payload().len())
    }

    /// Counts what the client has sent for its rates.
    fn take_rates(&self, bytes: usize) -> Result<(), SessionEnd> {
        let Some(rates) = &self.rates else {
            return Ok(());
        };
        let taken = rates.take_message(self.client, self.shared, bytes);
        taken.map_err(|reason| {
            SessionEnd::Now(Close {
                code: CloseCode::PolicyViolation,
                reason: reason.to_owned(),
                by: Closer::Node,
            })
        })
    }

    async fn received_already(&mut self) -> Option<Result<Received, ReadError>> {
        poll_fn(|context| {
            Poll::Ready(
                match self.reader.poll_message(context, self.client, self.shared) {
                    Poll::Ready(received) => Some(received),
                    Poll::Pending => None,
                },
            )
        })
        .await
    }

    fn closed_by_client(&self) -> SessionEnd {
        let (code, reason) = match self.reader.close() {
            Ok(None) => (CloseCode::NoStatus, String::new()),
            Ok(Some((code, reason))) => match CloseCode::from(code) {
                code if code.may_be_sent() => (code, reason.to_owned()),
                _ => {
                    let rule = "a close frame has a code that may not be sent";
                    return self.unreadable(DecodeError::Protocol(rule).into());
                }
            },
            Err(error) => return self.unreadable(error),
        };
        let by = Closer::Client;
        SessionEnd::Now(Close { code, reason, by })
    }

    /// The end of a conversation with a client whose bytes can no longer be read.
    fn unreadable(&self, error: ReadError) -> SessionEnd {
        let counters = self.shared.counters();
        let (code, reason) = match error {
            ReadError::Disconnected => return SessionEnd::Now(broken()),
            ReadError::Unreadable(DecodeError::TooBig) => {
                counters.messages_too_big.add_one();
                let limit = self.reader.message_bytes();
                let reason = format!("a message may have {limit} bytes");
                (CloseCode::MessageTooBig, reason)
            }
            ReadError::Unreadable(DecodeError::NotUtf8) => {
                counters.clients_broke_protocol.add_one();
                let reason = "a text message must be UTF-8".to_owned();
                (CloseCode::InvalidPayload, reason)
            }
            ReadError::Unreadable(DecodeError::Malformed) => {
                counters.clients_broke_protocol.add_one();
                let reason = "a compressed message cannot be decompressed".to_owned();
                (CloseCode::InvalidPayload, reason)
            }
            ReadError::Unreadable(DecodeError::Protocol(rule)) => {
                counters.clients_broke_protocol.add_one();
                (CloseCode::ProtocolError, rule.to_owned())
            }
        };
        SessionEnd::Unreadable(Close {
            code,
            reason,
            by: Closer::Node,
        })
    }
}

/// What an event leaves of the conversation.
fn after(handled: Result<(), Failure>) -> Result<(), SessionEnd> {
    match handled.err().and_then(Failure::close) {
        Some(close) => Err(SessionEnd::Now(close)),
        None => Ok(()),
    }
}

/// Runs an event. If the event does not finish at its first poll, messages from others to this
/// client are written meanwhile, since only the client's own task waits for the socket.
async fn while_writing<T>(event: impl Future<Output = T>, client: &Client, reader: &Reader) -> T {
    let mut event = pin!(event);
    let mut condition = None;
    poll_fn(|context| {
        let polled = event.as_mut().poll(context);
        if polled.is_pending() {
            let outbox = client.outbox();
            let mut now = match condition {
                None => outbox.flush(),
                Some(_) => outbox.condition(),
            };
            // Whoever finds the socket full wakes this task, and it comes by here.
            while matches!(now, Condition::Blocked { .. })
                && reader.poll_writable(context).is_ready()
            {
                now = outbox.resume();
            }
            condition = Some(now);
        }
        polled
    })
    .await
}
