//! The session of one client after the upgrade: its messages in order, and its end.
//!
//! Limits bound each part of a session: `message_bytes` a message, `MESSAGES_PER_TURN` a turn,
//! `ping_every` and `ping_timeout` a silence, and `close_timeout` the end. While more than half of
//! the outbox waits for the socket, the client is not read. A client that floods a plugin with
//! requests must therefore also read the answers. While a message waits for the plugin's rates, the
//! client is not read either.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use tokio::time::Instant;

use super::admission::AdmissionPermit;
use super::decoder::{DecodeError, Received};
use super::delayed_message::DelayedMessage;
use super::keepalive::{Heartbeat, Keepalive};
use super::read_buffers;
use super::reader::{Goodbye, ReadError, Reader};
use super::sending_rates::SendingRates;
use crate::close_code::CloseCode;
use crate::limits::MESSAGES_PER_TURN;
use crate::message::{Frame, Message};
use crate::message_queue::MessageQueue;
use crate::outbox::Condition;
use crate::plugin::{self, Failure, Turn};
use crate::registry::{Client, Close, Closer, Departure, Ending, EventKind, Namespace, NodeState};

/// The session of an accepted client. Dropping the session removes the client, whatever its task
/// was doing.
pub(super) struct ClientTask {
    client: Arc<Client>,
    session: plugin::Session,
    place: AdmissionPermit,
}

impl ClientTask {
    /// Creates a session from a client, its session with the plugin, and its permit on the node.
    pub(super) fn new(
        client: Arc<Client>,
        session: plugin::Session,
        place: AdmissionPermit,
    ) -> ClientTask {
        ClientTask {
            client,
            session,
            place,
        }
    }

    fn namespace(&self) -> &Arc<Namespace> {
        self.session.plugin().namespace()
    }

    /// The client of this session.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Serves the client until it has left and its plugin knows that. The session ends no later
    /// than `until`, when the client's token expires.
    pub(super) async fn run(self, reader: Reader, until: Option<Instant>) {
        let shared = self.namespace().shared().clone();
        let mut conversation = Conversation {
            session: &self.session,
            client: &self.client,
            shared: &shared,
            reader,
            keepalive: Keepalive::new(&shared.limits(), until),
            rates: self.place.sending_rates(&shared.limits()),
            delayed: None,
            backlog: None,
        };
        let ended = conversation.run().await;
        let Conversation {
            reader, delayed, ..
        } = conversation;
        // Nobody waits for a message of a client that leaves.
        drop(delayed);
        // Boxed, as a turn is: no idle client carries what its end needs.
        Box::pin(self.part(ended, reader)).await;
    }

    /// Ends the session of an accepted client whose upgrade failed.
    pub(super) async fn vanished(self) {
        self.namespace().leave(&self.client, &broken());
        self.on_close(self.client.departure()).await;
    }

    async fn part(&self, ended: SessionEnd, mut reader: Reader) {
        let namespace = self.namespace();
        if let SessionEnd::Now(close) | SessionEnd::Unreadable(close) = &ended {
            namespace.end(&self.client, &Ending::new(close.clone(), None));
        }
        self.client.outbox().flush();
        let departure = self.client.departure();
        let close = departure.as_ref();
        let close = close.map_or_else(broken, |departure| departure.close.clone());
        let shared = namespace.shared();
        // Neither waits for the other: the plugin may be slow, and so may the client.
        let socket = async {
            if close.code != CloseCode::Abnormal {
                let goodbye = goodbye(&self.client, shared, &mut reader, &ended, &close);
                let timeout = shared.limits().close_timeout;
                if tokio::time::timeout(timeout, goodbye).await.is_err() {
                    shared.counters().close_timed_out.add_one();
                }
            }
            self.client.outbox().detach();
            drop(reader);
        };
        tokio::join!(self.on_close(departure), socket);
    }

    async fn on_close(&self, departure: Option<Departure>) {
        let Some(departure) = departure else { return };
        self.session.on_close(&self.client, &departure).await;
        let namespace = self.namespace();
        namespace.shared().counters().clients_left.add_one();
        namespace.emit(|| EventKind::Closed {
            client: self.client.id(),
            close: departure.close.clone(),
            uid: departure.uid.clone(),
        });
    }
}

impl Drop for ClientTask {
    fn drop(&mut self) {
        self.namespace().leave(&self.client, &broken());
        self.client.outbox().detach();
    }
}

/// The close reason for a client whose token has expired.
const TOKEN_EXPIRED: &str = "token expired";

/// The reason why a conversation has ended.
#[derive(Debug)]
enum SessionEnd {
    /// Something else has made the client leave, and its last frames are queued.
    Already,
    /// The end of this conversation makes the client leave.
    Now(Close),
    /// The end of this conversation makes the client leave, and the client's bytes can no longer be
    /// understood.
    Unreadable(Close),
}

/// The conversation between a client and its plugin.
struct Conversation<'a> {
    session: &'a plugin::Session,
    client: &'a Arc<Client>,
    shared: &'a NodeState,
    reader: Reader,
    keepalive: Keepalive,
    rates: Option<Box<SendingRates>>,
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
}

impl Conversation<'_> {
    async fn run(&mut self) -> SessionEnd {
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
                    condition = self.client.outbox().flush();
                }
                Next::Backlog(backlog) => {
                    let shared = self.shared;
                    if let Err(ended) = shared.dirty().hold(self.resume(*backlog)).await {
                        return ended;
                    }
                    condition = self.client.outbox().flush();
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
                        return SessionEnd::Now(Close {
                            by: Closer::Node,
                            ..broken()
                        });
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
            return Some(SessionEnd::Now(Close {
                code: CloseCode::TokenExpired,
                reason: TOKEN_EXPIRED.to_owned(),
                by: Closer::Node,
            }));
        }
        match condition {
            Condition::Broken => Some(SessionEnd::Now(broken())),
            Condition::Overflowed => Some(SessionEnd::Now(Close {
                code: CloseCode::TryAgainLater,
                reason: "too slow: messages wait and are not read".to_owned(),
                by: Closer::Plugin,
            })),
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
        Ok(1)
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
            backlog.end = match received.and_then(|received| self.reader.message(received)) {
                Ok(message) => {
                    let allowed = self.check_rates(message);
                    if allowed.is_ok() {
                        backlog.queue.push(message);
                    }
                    allowed.err()
                }
                Err(error) => Some(self.unreadable(error)),
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
            let event = turn.on_messages(self.client, &mut backlog.queue);
            let handled = while_writing(event, self.client, &self.reader);
            after(handled.await)?;
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
        let bytes = message.payload().len();
        self.shared.received(self.client, message);
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

/// Lets a client that has left receive its queued frames, and waits for its close frame.
async fn goodbye(
    client: &Arc<Client>,
    shared: &NodeState,
    reader: &mut Reader,
    ended: &SessionEnd,
    close: &Close,
) {
    let mut condition = client.outbox().flush();
    while let Condition::Blocked { .. } = condition {
        let writable = poll_fn(|context| reader.poll_writable(context)).await;
        condition = if writable.is_ok() {
            client.outbox().resume()
        } else {
            Condition::Broken
        };
    }
    // Its close frame may have been read when the node had just closed it for a reason of its own.
    let has_said = matches!(ended, SessionEnd::Now(said) if said.by == Closer::Client);
    if condition == Condition::Broken || has_said || close.by == Closer::Client {
        return;
    }
    let unreadable = matches!(ended, SessionEnd::Unreadable(_));
    let goodbye = poll_fn(|context| reader.poll_goodbye(context, client, shared));
    if unreadable || goodbye.await == Goodbye::Unreadable {
        // Its answer can't be told from the rest; the end of the stream tells it to go.
        client.outbox().detach();
        poll_fn(|context| reader.poll_discard(context)).await;
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

fn broken() -> Close {
    Close {
        code: CloseCode::Abnormal,
        reason: String::new(),
        by: Closer::Network,
    }
}
