//! Deliveries and questions that this node sends to other nodes.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::ask::{AskError, Question};
use super::interest::Holder;
use super::peer::Peer;
use super::peer_event::Failed;
use super::questions::{AskKind, Asked};
use super::state::Mesh;
use super::unanswered::Unanswered;
use super::wire;
use super::wire::answer::Answer;
use super::wire::deliver::To;
use super::wire::trace_of;
use crate::delivery::{Delivery, Target};
use crate::id::{ClientId, Incarnation};
use crate::live_trace;
use crate::message::Frame;
use crate::registry::Kind;
use crate::tracer::{Span, SpanKind};

/// The outcome of the part of a delivery that goes to other nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// The number of clients at the nodes that the delivery was queued for, as those nodes have
    /// told.
    pub clients: u64,
    /// The nodes whose link did not take the delivery.
    pub missing: Vec<Incarnation>,
}

impl Mesh {
    /// Sends a delivery to the peers that hold its target.
    pub fn forward(&self, plugin: &str, delivery: &Delivery<'_>) -> Forwarded {
        let mut forwarded = Forwarded::default();
        let Some(space) = self.interest.space(plugin) else {
            return forwarded;
        };
        let mut holders: BTreeMap<Incarnation, u64> = BTreeMap::new();
        let mut hold = |held: &[Holder]| {
            for holder in held {
                *holders.entry(holder.node).or_default() += u64::from(holder.clients);
            }
        };
        let mut hold_names = |kind: Kind, names: &[String]| {
            for name in names.iter().collect::<BTreeSet<_>>() {
                hold(&space.holders(kind, name));
            }
        };
        match delivery.to {
            Target::All => hold(&space.nodes()),
            Target::Uids(names) => hold_names(Kind::Uid, names),
            Target::Groups(names) => hold_names(Kind::Group, names),
        }
        if holders.is_empty() {
            return forwarded;
        }
        let span = self.child_span("deliver", SpanKind::Producer);
        if let Some(span) = &span {
            span.set("jackfield.plugin", plugin.to_owned());
            span.set_number("jackfield.nodes", holders.len());
        }
        let frame = deliver_frame(
            plugin,
            delivery.to.into(),
            delivery.exclude,
            &delivery.frame,
            trace_of(span.as_ref()),
        );
        for (node, clients) in holders {
            match self
                .peer(node)
                .map(|peer| self.push_delivery(&peer, frame.clone()))
            {
                Some(true) => forwarded.clients += clients,
                Some(false) => forwarded.missing.push(node),
                // Gone between the look at its interest and now.
                None => {}
            }
        }
        forwarded
    }

    /// Sends a frame to one client of another node, `node`.
    ///
    /// # Errors
    ///
    /// The client's node is not known, or its link does not take the frame.
    pub fn forward_to_client(
        &self,
        node: Incarnation,
        plugin: &str,
        client: ClientId,
        frame: &Frame,
    ) -> Result<(), Unanswered> {
        let peer = self.peer(node).ok_or(Unanswered::NoNode(node))?;
        let to = To::Client(wire::client_bytes(client));
        let span = self.child_span("deliver", SpanKind::Producer);
        if let Some(span) = &span {
            span.set("jackfield.plugin", plugin.to_owned());
            span.set("jackfield.peer", peer.address().to_string());
        }
        let frame = deliver_frame(plugin, to, &[], frame, trace_of(span.as_ref()));
        match self.push_delivery(&peer, frame) {
            true => Ok(()),
            false => Err(Unanswered::Unreachable(node)),
        }
    }

    /// Asks a peer, and waits for the answer, `ask_timeout` at most.
    ///
    /// # Errors
    ///
    /// The peer is unknown or suspect, its link does not take the question, or the peer refuses or
    /// gives no answer in time.
    pub async fn ask<A>(
        &self,
        node: Incarnation,
        plugin: &str,
        question: Question<A>,
    ) -> Result<A, AskError> {
        let Question { question, read } = question;
        let span = self.child_span("ask", SpanKind::Client);
        let answered = self
            .ask_untyped(node, plugin, question, span.as_ref())
            .await;
        if let (Some(span), Err(error)) = (&span, &answered) {
            span.fail(&error.to_string());
        }
        match answered? {
            Answer::Refused(refused) => Err(AskError::Refused {
                reason: refused.reason(),
                message: refused.message,
            }),
            answer => read(answer).ok_or_else(AskError::unexpected_answer),
        }
    }

    async fn ask_untyped(
        &self,
        node: Incarnation,
        plugin: &str,
        question: wire::ask::Question,
        span: Option<&Span>,
    ) -> Result<Answer, Unanswered> {
        let peer = self.peer(node).ok_or(Unanswered::NoNode(node))?;
        if let Some(span) = span {
            span.set("jackfield.plugin", plugin.to_owned());
            span.set("jackfield.peer", peer.address().to_string());
        }
        if peer.phase().is_silent() {
            // Nobody waits for a node that may be dead.
            return Err(Unanswered::Unreachable(node));
        }
        let asked = peer.questions.begin(AskKind::Question);
        let ask = wire::Ask {
            id: asked.id(),
            plugin: plugin.to_owned(),
            question: Some(question),
            event: None,
            trace: trace_of(span),
            deployment: None,
        };
        self.put(&peer, &asked, ask)
            .map_err(|_| Unanswered::Unreachable(node))?;
        let ask_timeout = self.limits().ask_timeout;
        match tokio::time::timeout(ask_timeout, asked.answer()).await {
            Ok(answered) => answered.map_err(|_| Unanswered::Unreachable(node)),
            Err(_) => Err(Unanswered::TimedOut(node)),
        }
    }

    /// Begins a span for what this node sends to another one, within the one in which the caller
    /// runs.
    pub(super) fn child_span(&self, name: &'static str, kind: SpanKind) -> Option<Span> {
        self.registry.tracer().child(name, kind)
    }

    /// Puts a question or an event into the link to a peer.
    pub(super) fn put(&self, peer: &Peer, asked: &Asked<'_>, ask: wire::Ask) -> Result<(), Failed> {
        let frame = wire::encode(wire::frame::Frame::Ask(ask));
        if frame.len() > peer.outbound.largest_frame() {
            return Err(Failed::TooLarge);
        }
        match self.push_with(peer, || peer.outbound.push_question(asked.id(), frame)) {
            true => Ok(()),
            false => Err(Failed::Untold),
        }
    }

    fn push_delivery(&self, peer: &Peer, frame: Bytes) -> bool {
        if frame.len() > peer.outbound.largest_frame() {
            self.registry.counters().mesh_dropped.add_one();
            if peer.outbound.too_large.happened().is_some() {
                let (bytes, address) = (frame.len(), peer.address());
                let peer = peer.incarnation();
                tracing::warn!(%peer, address, bytes, "a message is larger than this node takes from others, and is dropped: its outbox_bytes is less than ours");
            }
            return false;
        }
        let told = self.push(peer, frame);
        if told {
            peer.outbound.count_delivery();
        }
        told
    }
}

/// Encodes a delivery into the frame that peers receive.
fn deliver_frame(
    plugin: &str,
    to: To,
    exclude: &[ClientId],
    frame: &Frame,
    trace: Option<wire::TraceContext>,
) -> Bytes {
    let deliver = wire::Deliver {
        plugin: plugin.to_owned(),
        to: Some(to),
        exclude: exclude.iter().copied().map(wire::client_bytes).collect(),
        frame: frame.to_bytes(),
        trace,
        by: live_trace::sender(),
    };
    wire::encode(wire::frame::Frame::Deliver(deliver))
}
