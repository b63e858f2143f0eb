//! One client: its id, its outbox, and what is held of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::id::{ClientId, ClientIdText};
use crate::message::Frame;
use crate::outbox::{Bound, Outbox};

/// A small map that lives exactly as long as its client.
pub type Info = BTreeMap<String, String>;

/// One WebSocket connection, from `on-connect` to its departure.
#[derive(Debug)]
pub struct Client {
    id: ClientId,
    /// The id as guests have it: every event takes it along.
    id_text: ClientIdText,
    outbox: Outbox,
    wake: Notify,
    has_left: AtomicBool,
    pub(super) held: Mutex<ClientState>,
}

/// What the registry holds of a client. Its lock comes before those of the indexes: whoever
/// changes a client's uid or groups changes both under it.
#[derive(Debug, Default)]
pub(super) struct ClientState {
    pub(super) uid: Option<Arc<str>>,
    /// When it was bound, in milliseconds since 1970: between nodes, the time decides who
    /// keeps a uid that only one may have.
    pub(super) bound_at_ms: u64,
    pub(super) groups: BTreeSet<Arc<str>>,
    pub(super) info: Info,
    pub(super) departure: Option<Box<Departure>>,
}

/// Why and how a connection ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// The close frame's code; 1005 and 1006 stand for none and are never sent.
    pub code: u16,
    /// The close frame's reason.
    pub reason: String,
    /// Who ended it.
    pub by: Closer,
}

/// The end of one connection or of many: its frames are encoded once.
#[derive(Clone, Debug)]
pub struct Ending {
    pub(super) close: Close,
    last_message: Option<Frame>,
    close_frame: Option<Frame>,
}

/// Who ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closer {
    /// The client sent a close frame.
    Client,
    /// The plugin closed it, or one of its policies did.
    Plugin,
    /// The node: a broken protocol or limit, no answer to a ping, a drain.
    Node,
    /// Nobody: the connection broke.
    Network,
}

/// A client that has left, as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Departure {
    /// Why and how.
    pub close: Close,
    /// The uid it had.
    pub uid: Option<Arc<str>>,
    /// The groups it was in.
    pub groups: Vec<Arc<str>>,
    /// The info it had.
    pub info: Info,
}

impl Client {
    pub(super) fn new(id: ClientId, bound: Bound) -> Client {
        Client {
            id,
            id_text: id.text(),
            outbox: Outbox::new(bound),
            wake: Notify::new(),
            has_left: AtomicBool::new(false),
            held: Mutex::default(),
        }
    }

    /// Its id.
    pub fn id(&self) -> ClientId {
        self.id
    }

    /// Its id, written out.
    pub fn id_text(&self) -> &str {
        &self.id_text
    }

    /// The queue to its socket.
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Waits until somebody has something to tell the client's task: look at its departure
    /// and at its outbox.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Tells the client's task to look.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Whether it has left.
    pub fn has_left(&self) -> bool {
        self.has_left.load(Ordering::Acquire)
    }

    /// It has, and `held` says how.
    pub(super) fn set_left(&self) {
        self.has_left.store(true, Ordering::Release);
    }

    /// What `on-close` is told, once the client has left.
    pub fn departure(&self) -> Option<Departure> {
        self.held.lock().departure.as_deref().cloned()
    }

    /// Queues the end: what waits goes out first, then this.
    pub(super) fn end(&self, ending: &Ending) {
        self.outbox
            .close(ending.last_message.clone(), ending.close_frame.clone());
        self.wake();
    }
}

impl Ending {
    /// Why and how.
    pub fn close(&self) -> &Close {
        &self.close
    }

    /// What the client gets before its close.
    pub fn last_message(&self) -> Option<&Frame> {
        self.last_message.as_ref()
    }

    /// As `close` says, with a message before it.
    pub fn new(close: Close, last_message: Option<Frame>) -> Ending {
        let close_frame = match close.code {
            1005 => Some(Frame::close_without_code()),
            1006 => None,
            code => Some(Frame::close(code, &close.reason)),
        };
        Ending {
            close,
            last_message,
            close_frame,
        }
    }
}
