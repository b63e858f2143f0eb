//! What an operator sees of one client: its state, and what it has sent and got.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::clock::{coarse_now_ms, now_ms};

/// The state of a client at one moment, as its node has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientStatus {
    /// The client's uid, if it has one.
    pub uid: Option<Arc<str>>,
    /// The groups that the client is in.
    pub groups: BTreeSet<Arc<str>>,
    /// The client's info, as its plugin has set it.
    pub info: BTreeMap<String, String>,
    /// The address of the client, or `unix`.
    pub address: String,
    /// The time of its handshake, in milliseconds since 1970.
    pub connected_at_ms: u64,
    /// The last time when something came from the client, in milliseconds since 1970.
    pub heard_at_ms: u64,
    /// The number of messages that came from the client.
    pub received_messages: u64,
    /// The bytes of these messages.
    pub received_bytes: u64,
    /// The number of frames that the client's socket has taken.
    pub sent_frames: u64,
    /// The bytes of these frames.
    pub sent_bytes: u64,
    /// The number of frames that wait for the client's socket.
    pub queued_frames: u64,
    /// The bytes that wait for the client's socket.
    pub queued_bytes: u64,
}

/// What has come from a client. Only the client's own task writes it, so nothing here is locked, and
/// no number needs an atomic addition.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) connected_at_ms: u64,
    at_ms: AtomicU64,
    messages: AtomicU64,
    bytes: AtomicU64,
}

impl Heard {
    /// Nothing has come from a client that connects now.
    pub(super) fn nothing() -> Heard {
        let now = now_ms();
        Heard {
            connected_at_ms: now,
            at_ms: AtomicU64::new(now),
            messages: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    /// Records that something has come.
    pub(super) fn something(&self) {
        self.at_ms.store(coarse_now_ms(), Ordering::Relaxed);
    }

    /// Counts a message of so many bytes.
    pub(super) fn message(&self, bytes: usize) {
        add(&self.messages, 1);
        add(&self.bytes, bytes as u64);
    }

    /// Writes what has come into the status of the client.
    pub(super) fn show(&self, status: &mut ClientStatus) {
        status.connected_at_ms = self.connected_at_ms;
        status.heard_at_ms = self.at_ms.load(Ordering::Relaxed);
        status.received_messages = self.messages.load(Ordering::Relaxed);
        status.received_bytes = self.bytes.load(Ordering::Relaxed);
    }
}

fn add(number: &AtomicU64, more: u64) {
    number.store(number.load(Ordering::Relaxed) + more, Ordering::Relaxed);
}

/// The address of a client as text, and `unix` where it has none. An address of IPv4 is one, also
/// where it has come over IPv6.
pub fn address_text(address: Option<SocketAddr>) -> String {
    let in_text = |address: SocketAddr| {
        SocketAddr::new(address.ip().to_canonical(), address.port()).to_string()
    };
    address.map_or_else(|| "unix".to_owned(), in_text)
}
