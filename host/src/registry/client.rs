//! One client: its id, its outbox, and its state in the registry.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::client_status::{ClientStatus, Heard, address_text};
use super::gate::{Gate, MoveSide};
use super::held_state::{HeldState, Info};
use crate::close_code::CloseCode;
use crate::id::{ClientId, ClientIdText, Incarnation};
use crate::message::Frame;
use crate::outbox::{Outbox, OutboxBound, OutboxBudget};
use crate::rate_limiter::{Rates, TooFast};

/// One WebSocket connection, from `on-connect` to its departure.
#[derive(Debug)]
pub struct Client {
    id: ClientId,
    /// The number of the client on this node, under which the indexes have it.
    key: u64,
    moves: u64,
    /// The id as text, in the form that guests get with every event.
    id_text: ClientIdText,
    outbox: Outbox,
    /// The window of the client for compressed messages, if it takes them.
    window_bits: Option<u8>,
    /// Whether the client speaks `jackfield.v1`.
    is_tagged: bool,
    /// The address of the client's last connection; none for a Unix socket.
    address: Mutex<Option<SocketAddr>>,
    heard: Heard,
    wake: Notify,
    has_left: AtomicBool,
    /// Whether somebody may watch what happens to the client.
    is_traced: AtomicBool,
    /// Whether the client has a gate.
    is_moving: AtomicBool,
    gate: Mutex<Option<Box<Gate>>>,
    pub(super) held: Mutex<ClientState>,
}

/// The keys of clients that other nodes have given their ids. The keys of this node's own clients are
/// less: they are the counters of their ids.
pub(super) const ADOPTED_KEYS: u64 = 1 << 40;

/// The state of a client in the registry. The lock of this state is taken before those of the
/// indexes: a change of the client's uid or groups changes the state and the index under it.
#[derive(Debug, Default)]
pub(super) struct ClientState {
    pub(super) uid: Option<Arc<str>>,
    /// The rates of the uid, if they have limits.
    pub(super) uid_rates: Option<Arc<Rates>>,
    /// The time when the uid was bound, in milliseconds since 1970. Between nodes, this time
    /// decides which client keeps a uid that only one may have.
    pub(super) bound_at_ms: u64,
    pub(super) groups: BTreeSet<Arc<str>>,
    pub(super) info: Info,
    pub(super) departure: Option<Box<Departure>>,
    /// The close frame with which the client's connection is to end, while the client is waited for.
    pub(super) interruption: Option<Box<Close>>,
}

/// What is known of a client when it arrives.
#[derive(Clone, Copy, Debug, Default)]
pub struct Arrival {
    /// The window of the client for compressed messages, if it takes them.
    pub window_bits: Option<u8>,
    /// The address of the client; none for a Unix socket.
    pub address: Option<SocketAddr>,
    /// Whether the client speaks `jackfield.v1`.
    pub is_tagged: bool,
}

/// How the messages to a client are encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Encoding {
    pub(super) is_tagged: bool,
    pub(super) window_bits: Option<u8>,
}

impl Encoding {
    /// Encodes a message, without its compression.
    pub(super) fn tag(self, frame: &Frame) -> Frame {
        match self.is_tagged {
            true => frame.tagged(),
            false => frame.clone(),
        }
    }
}

/// The reason why a connection ends, and who ends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// The code of the close frame, or the code that says that there was none.
    pub code: CloseCode,
    /// The reason in the close frame.
    pub reason: String,
    /// The side that ended the connection.
    pub by: Closer,
}

impl Close {
    /// The close of a connection that ends without a close frame.
    pub fn without_frame(by: Closer) -> Close {
        Close {
            code: CloseCode::Abnormal,
            reason: String::new(),
            by,
        }
    }
}

/// The end of one connection or of several; its frames are encoded once.
#[derive(Clone, Debug)]
pub struct Ending {
    pub(super) close: Close,
    last_message: Option<Frame>,
    close_frame: Option<Frame>,
}

/// The side that ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closer {
    /// The client sent a close frame.
    Client,
    /// The plugin closed the connection, or one of its policies did.
    Plugin,
    /// The node closed the connection: a broken protocol or limit, no answer to a ping, or a drain.
    Node,
    /// Nobody closed the connection: it broke.
    Network,
}

impl Closer {
    /// The name of the side: `client`, `plugin`, `node` or `network`.
    pub fn as_str(self) -> &'static str {
        match self {
            Closer::Client => "client",
            Closer::Plugin => "plugin",
            Closer::Node => "node",
            Closer::Network => "network",
        }
    }
}

/// The last state of a client that has left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Departure {
    /// The reason for the end of the connection.
    pub close: Close,
    /// The uid that the client had.
    pub uid: Option<Arc<str>>,
    /// The groups that the client was in.
    pub groups: Vec<Arc<str>>,
    /// The info that the client had.
    pub info: Info,
}

impl Client {
    pub(super) fn new(
        (id, key, moves): (ClientId, u64, u64),
        bound: OutboxBound,
        budget: Arc<OutboxBudget>,
        arrival: Arrival,
    ) -> Client {
        Client {
            id,
            key,
            moves,
            id_text: id.text(),
            outbox: Outbox::new(bound, budget),
            window_bits: arrival.window_bits,
            is_tagged: arrival.is_tagged,
            address: Mutex::new(arrival.address),
            heard: Heard::nothing(),
            wake: Notify::new(),
            has_left: AtomicBool::new(false),
            is_traced: AtomicBool::new(false),
            is_moving: AtomicBool::new(false),
            gate: Mutex::default(),
            held: Mutex::default(),
        }
    }

    /// The id of the client.
    pub fn id(&self) -> ClientId {
        self.id
    }

    pub(super) fn key(&self) -> u64 {
        self.key
    }

    /// Whether another node has given the client its id.
    pub fn is_adopted(&self) -> bool {
        self.key >= ADOPTED_KEYS
    }

    /// Begins a move of the client from one node to another.
    pub fn begin_move(&self, side: MoveSide) {
        let number = match side {
            MoveSide::Leaving => self.moves + 1,
            MoveSide::Arriving => self.moves,
        };
        *self.gate.lock() = Some(Box::new(Gate::new(side, number)));
        self.is_moving.store(true, Ordering::Release);
    }

    /// How many times the client has moved from one node to another, with the move that has brought
    /// it here.
    pub fn moves(&self) -> u64 {
        self.moves
    }

    /// Ends a move of the client.
    pub fn end_move(&self) {
        self.is_moving.store(false, Ordering::Release);
        *self.gate.lock() = None;
    }

    /// Whether the client moves from one node to another.
    pub fn is_moving(&self) -> bool {
        self.is_moving.load(Ordering::Acquire)
    }

    /// Notes that a node sends to the new node of the client from now on, by the move with this
    /// number.
    pub fn switch(&self, node: Incarnation, number: u64) {
        if let Some(gate) = &mut *self.gate.lock() {
            gate.switch(node, number);
        }
        self.wake();
    }

    /// Whether any node sends to the new node of the client.
    pub fn has_any_switched(&self) -> bool {
        let gate = self.gate.lock();
        gate.as_ref().is_some_and(|gate| gate.has_any_switched())
    }

    /// Whether all these nodes send to the new node of the client.
    pub fn have_switched(&self, nodes: &[Incarnation]) -> bool {
        let gate = self.gate.lock();
        gate.as_ref().is_none_or(|gate| gate.have_switched(nodes))
    }

    /// Whether this node takes messages of `sender` for the client.
    pub(super) fn takes_from(&self, sender: Incarnation) -> bool {
        let gate = self.gate.lock();
        gate.as_ref().is_none_or(|gate| gate.takes_from(sender))
    }

    /// What the client has in the registry.
    pub fn held_state(&self) -> HeldState {
        let held = self.held.lock();
        HeldState {
            uid: held.uid.clone(),
            bound_at_ms: held.bound_at_ms,
            groups: held.groups.clone(),
            info: held.info.clone(),
        }
    }

    /// The id of the client, as text.
    pub fn id_text(&self) -> &str {
        &self.id_text
    }

    /// The queue of frames to the client's socket.
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// The base-two logarithm of the client's window for compressed messages, if it takes them.
    pub fn window_bits(&self) -> Option<u8> {
        self.window_bits
    }

    /// Whether the client speaks `jackfield.v1`.
    pub fn is_tagged(&self) -> bool {
        self.is_tagged
    }

    pub(super) fn encoding(&self) -> Encoding {
        Encoding {
            is_tagged: self.is_tagged,
            window_bits: self.window_bits(),
        }
    }

    /// Takes the close frame with which the connection is to end, if the client is to come back on
    /// another one.
    pub fn take_interruption(&self) -> Option<Close> {
        self.held.lock().interruption.take().map(|close| *close)
    }

    /// The address of the client; none for a Unix socket.
    pub fn address(&self) -> Option<SocketAddr> {
        *self.address.lock()
    }

    /// Notes the address of the client's next connection.
    pub fn set_address(&self, address: Option<SocketAddr>) {
        *self.address.lock() = address;
    }

    /// Records that something has come from the client. Only the client's own task may do so.
    pub fn heard(&self) {
        self.heard.something();
    }

    /// Counts a message of so many bytes from the client. Only the client's own task may do so.
    pub fn received_message(&self, bytes: usize) {
        self.heard.message(bytes);
    }

    /// The state of the client, from what it holds.
    pub(super) fn status(&self, held: &ClientState) -> ClientStatus {
        let sent = self.outbox.status();
        let mut status = ClientStatus {
            uid: held.uid.clone(),
            groups: held.groups.clone(),
            info: held.info.clone(),
            address: address_text(self.address()),
            sent_frames: sent.sent_frames,
            sent_bytes: sent.sent_bytes,
            queued_frames: sent.queued_frames,
            queued_bytes: sent.queued_bytes,
            ..ClientStatus::default()
        };
        self.heard.show(&mut status);
        status
    }

    /// Waits until the client's task is woken, and must look at the client's departure and outbox.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Wakes the client's task, so that it looks at the client's departure and outbox.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Whether somebody may watch what happens to the client.
    pub fn is_traced(&self) -> bool {
        self.is_traced.load(Ordering::Relaxed)
    }

    /// The flag of `is_traced`, which only the live traces change.
    pub(super) fn traced_flag(&self) -> &AtomicBool {
        &self.is_traced
    }

    /// Whether the client has left.
    pub fn has_left(&self) -> bool {
        self.has_left.load(Ordering::Acquire)
    }

    /// Counts a message of so many bytes for the client's uid, if it has one.
    ///
    /// # Errors
    ///
    /// The messages of the uid come too fast.
    pub(crate) fn take_message_of_uid(&self, bytes: usize, now: Instant) -> Result<(), TooFast> {
        let rates = self.held.lock().uid_rates.clone();
        rates.map_or(Ok(()), |rates| rates.take_message(bytes, now))
    }

    /// Marks the client as left. Its departure is in `held` by then.
    pub(super) fn set_left(&self) {
        self.has_left.store(true, Ordering::Release);
    }

    /// The departure that `on-close` gets, once the client has left.
    pub fn departure(&self) -> Option<Departure> {
        self.held.lock().departure.as_deref().cloned()
    }

    /// Queues the end of the connection, after the frames that wait already.
    pub(super) fn end(&self, ending: &Ending) {
        let encoding = self.encoding();
        let last_message = ending.last_message.as_ref();
        let last_message = last_message.map(|frame| encoding.tag(frame));
        self.outbox.close(last_message, ending.close_frame.clone());
        self.wake();
    }
}

impl Ending {
    /// The reason for the end, and who ends the connection.
    pub fn close(&self) -> &Close {
        &self.close
    }

    /// The message that the client gets before its close frame, if there is one.
    pub fn last_message(&self) -> Option<&Frame> {
        self.last_message.as_ref()
    }

    /// An ending with this close, and a message before it.
    pub fn new(close: Close, last_message: Option<Frame>) -> Ending {
        let close_frame = match close.code {
            CloseCode::NoStatus => Some(Frame::close_without_code()),
            CloseCode::Abnormal => None,
            code => Some(Frame::close(code, &close.reason)),
        };
        Ending {
            close,
            last_message,
            close_frame,
        }
    }
}
