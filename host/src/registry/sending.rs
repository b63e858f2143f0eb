//! A delivery while it goes to the clients of a namespace.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use super::client::Client;
use super::dirty::Dirtied;
use super::index::Index;
use super::shared::NodeState;
use crate::delivery::{Delivery, Reach};
use crate::id::ClientId;
use crate::message::Frame;
use crate::outbox::{Outcome, Pushed};
use crate::policy::{CompressionPolicy, OverflowPolicy, Policies};

/// A delivery while it goes to the clients of a namespace, each of which gets it once.
pub(super) struct Sending<'a> {
    shared: &'a NodeState,
    delivery: &'a Delivery<'a>,
    excluded: Vec<ClientId>,
    overflow: OverflowPolicy,
    compression: Option<CompressionPolicy>,
    /// The clients whose message must be compressed first.
    waiting: Vec<Arc<Client>>,
    key: Option<Arc<str>>,
    dirtied: Dirtied<'a>,
    reach: Reach,
}

impl<'a> Sending<'a> {
    /// Begins a delivery in a namespace with these policies.
    pub(super) fn new(
        shared: &'a NodeState,
        policies: Policies,
        delivery: &'a Delivery<'a>,
    ) -> Sending<'a> {
        let conflate = policies.overflow == OverflowPolicy::Conflate;
        let bytes = delivery.frame.payload().len();
        let mut excluded = delivery.exclude.to_vec();
        excluded.sort_unstable();
        Sending {
            shared,
            delivery,
            excluded,
            overflow: policies.overflow,
            compression: policies.compression.filter(|c| bytes >= c.min_bytes),
            waiting: Vec::new(),
            key: conflate.then(|| delivery.to.conflation_key()),
            dirtied: shared.dirty().gather(),
            reach: Reach::default(),
        }
    }

    /// Sends to the members of all these names.
    pub(super) fn through(&mut self, index: &Index, names: &[String]) {
        if let [name] = names {
            return index.for_each(name, |client| self.push(client));
        }
        let names: BTreeSet<&String> = names.iter().collect();
        let mut reached = HashSet::new();
        for name in names {
            index.for_each(name, |client| {
                if reached.insert(client.id()) {
                    self.push(client);
                }
            });
        }
    }

    /// Sends to one client. The caller may hold the lock of an index, so nothing is compressed here.
    pub(super) fn push(&mut self, client: &Arc<Client>) {
        if !self.excluded.is_empty() && self.excluded.binary_search(&client.id()).is_ok() {
            return;
        }
        if self.compression.is_some() && client.window_bits().is_some() {
            self.waiting.push(client.clone());
        } else {
            self.queue(client, self.delivery.frame.clone());
        }
    }

    /// Sends to the clients that take a compressed message, and ends the delivery. The message is
    /// compressed once for all clients with the same window.
    pub(super) fn finish(mut self) -> Reach {
        let mut deflated: Vec<(u8, Frame)> = Vec::new();
        for client in std::mem::take(&mut self.waiting) {
            let plain = &self.delivery.frame;
            let frame = match self.compression.zip(client.window_bits()) {
                None => plain.clone(),
                Some((policy, bits)) => match deflated.iter().find(|(window, _)| *window == bits) {
                    Some((_, known)) => known.clone(),
                    None => {
                        let frame = policy.deflate(plain, bits).unwrap_or_else(|| plain.clone());
                        deflated.push((bits, frame.clone()));
                        frame
                    }
                },
            };
            self.queue(&client, frame);
        }
        self.reach
    }

    fn queue(&mut self, client: &Arc<Client>, frame: Frame) {
        let key = self.key.clone();
        let pushed = push(self.shared, client, frame, key, self.overflow);
        if pushed.dirtied {
            self.dirtied.add(client);
        }
        match pushed.outcome {
            Outcome::Queued => self.reach.clients += 1,
            Outcome::Dropped | Outcome::Overflowed => self.reach.dropped += 1,
            Outcome::Closing => {}
        }
    }
}

/// Puts a frame into a client's outbox, and counts what becomes of it.
pub(super) fn push(
    shared: &NodeState,
    client: &Client,
    frame: Frame,
    key: Option<Arc<str>>,
    overflow: OverflowPolicy,
) -> Pushed {
    let pushed = client.outbox().push(frame, key, overflow);
    let counters = shared.counters();
    match pushed.outcome {
        Outcome::Overflowed => {
            counters.outbox_closed.add_one();
            client.wake();
        }
        Outcome::Dropped => counters.outbox_dropped.add_one(),
        Outcome::Queued | Outcome::Closing => {}
    }
    if pushed.displaced > 0 {
        counters.outbox_dropped.add(pushed.displaced as u64);
    }
    pushed
}
