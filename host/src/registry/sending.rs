//! A delivery while it goes to the clients of a namespace.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use super::client::{Client, Encoding};
use super::dirty::Dirtied;
use super::shared::NodeState;
use crate::delivery::{Delivery, Reach};
use crate::id::ClientId;
use crate::live_trace::{self, Step, TraceSent};
use crate::message::Frame;
use crate::outbox::{Outcome, Pushed};
use crate::policy::{CompressionPolicy, OverflowPolicy, Policies};

/// A delivery while it goes to the clients of a namespace, each of which gets it once.
pub(super) struct Sending<'a> {
    shared: &'a NodeState,
    delivery: &'a Delivery<'a>,
    excluded: Vec<ClientId>,
    overflow: OverflowPolicy,
    /// The clients that have got it, if several names may lead to the same client.
    reached: Option<HashSet<ClientId>>,
    /// The message in the other encodings that its clients have.
    encoded: Vec<(Encoding, Frame)>,
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
        let mut excluded = delivery.exclude.to_vec();
        excluded.sort_unstable();
        Sending {
            shared,
            delivery,
            excluded,
            overflow: policies.overflow,
            reached: (!delivery.to.is_one_list()).then(HashSet::new),
            encoded: Vec::new(),
            key: conflate.then(|| delivery.to.conflation_key()),
            dirtied: shared.dirty().gather(),
            reach: Reach::default(),
        }
    }

    /// Compresses the message once for each of these encodings. No lock of an index may be held
    /// meanwhile.
    pub(super) fn compress(&mut self, policy: CompressionPolicy, encodings: BTreeSet<Encoding>) {
        let frame = &self.delivery.frame;
        let compress = |encoding: Encoding| {
            let deflated = policy.deflate(&encoding.tag(frame), encoding.window_bits?)?;
            Some((encoding, deflated))
        };
        self.encoded = encodings.into_iter().filter_map(compress).collect();
    }

    /// The message in the encoding of a client.
    fn frame(&mut self, encoding: Encoding) -> &Frame {
        if encoding == Encoding::default() {
            return &self.delivery.frame;
        }
        let is_it = |(it, _): &(Encoding, Frame)| *it == encoding;
        let at = self.encoded.iter().position(is_it).unwrap_or_else(|| {
            let frame = encoding.tag(&self.delivery.frame);
            self.encoded.push((encoding, frame));
            self.encoded.len() - 1
        });
        &self.encoded[at].1
    }

    /// Sends the message to one client.
    pub(super) fn push(&mut self, client: &Arc<Client>) {
        if let Some(reached) = &mut self.reached
            && !reached.insert(client.id())
        {
            return;
        }
        if !self.excluded.is_empty() && self.excluded.binary_search(&client.id()).is_ok() {
            return;
        }
        if client.is_moving() {
            let sender = self.delivery.from.unwrap_or(self.shared.incarnation());
            if !client.takes_from(sender) {
                return;
            }
        }
        let frame = self.frame(client.encoding()).clone();
        let key = self.key.clone();
        let pushed = push(self.shared, client, frame, key, self.overflow);
        trace_sent(self.shared, client, &self.delivery.frame, &pushed);
        if pushed.dirtied {
            self.dirtied.add(client);
        }
        match pushed.outcome {
            Outcome::Queued => self.reach.clients += 1,
            Outcome::Dropped | Outcome::Overflowed => self.reach.dropped += 1,
            Outcome::Closing => {}
        }
    }

    /// Ends the delivery, and says whom it has reached.
    pub(super) fn finish(self) -> Reach {
        self.reach
    }
}

/// Shows to whoever watches the client what was sent to it, before its compression.
pub(super) fn trace_sent(shared: &NodeState, client: &Client, frame: &Frame, pushed: &Pushed) {
    shared.trace(client, |wanted| {
        let payload = frame.payload();
        Step::Sent(TraceSent {
            is_text: frame.is_text(),
            bytes: payload.len() as u64,
            outcome: match pushed.outcome {
                Outcome::Queued => "queued",
                Outcome::Dropped => "dropped",
                Outcome::Overflowed => "overflowed",
                Outcome::Closing => "closing",
            }
            .to_owned(),
            displaced: pushed.displaced as u64,
            by: live_trace::sender(),
            payload: live_trace::payload_of(payload, wanted),
        })
    });
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
