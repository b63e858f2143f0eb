//! Events on their way to the node that handles them, and their answers.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::peer::Peer;
use super::peer_event::{Event, EventRequest, Failed, NotHandled, PeerEvent, not_handled};
use super::questions::AskKind;
use super::state::Mesh;
use super::wire::{self, answer::Answer, trace_of};
use crate::id::Incarnation;
use crate::tracer::{RemoteContext, SpanKind};

impl Mesh {
    /// Returns the receiver of peers' events, for the code that handles them. Only the first call
    /// returns the receiver.
    pub fn peer_events(&self) -> Option<mpsc::Receiver<PeerEvent>> {
        self.events.take_receiver()
    }

    /// Lets another node handle an event, and waits for the answer, `patience` at most.
    ///
    /// # Errors
    ///
    /// The event could not be sent to the node, or the node has not handled it, or has not answered
    /// as expected and in time.
    pub async fn dispatch<A>(
        &self,
        worker: Incarnation,
        plugin: &str,
        request: EventRequest<A>,
        patience: Duration,
    ) -> Result<A, Failed> {
        let peer = self.peer(worker).ok_or(Failed::Untold)?;
        let span = self.child_span("dispatch", SpanKind::Client);
        if let Some(span) = &span {
            span.set("jackfield.peer", peer.address().to_string());
        }
        let asked = peer.questions.begin(AskKind::Event);
        let ask = wire::Ask {
            id: asked.id(),
            plugin: plugin.to_owned(),
            question: None,
            event: Some(request.event),
            trace: trace_of(span.as_ref()),
            deployment: None,
        };
        self.put(&peer, &asked, ask)?;
        let answered = tokio::time::timeout(patience, asked.answer()).await;
        let answer = match answered.unwrap_or(Err(Failed::Late)) {
            Ok(Answer::NotHandled(why)) => Err(Failed::NotHandled(why.why())),
            Ok(answer) => (request.read)(answer).ok_or(Failed::UnexpectedAnswer),
            Err(failed) => Err(failed),
        };
        if let (Some(span), Err(failed)) = (&span, &answer) {
            span.fail(&format!("{failed:?}"));
        }
        answer
    }

    /// Takes an event that a peer has sent into the queue. If the queue is full, the event is
    /// refused.
    pub(super) fn take_event(
        self: &Arc<Self>,
        peer: &Arc<Peer>,
        id: u64,
        plugin: String,
        event: Event,
        trace: Option<wire::TraceContext>,
    ) {
        self.registry.counters().peer_events.add_one();
        let (mesh, peer) = (self.clone(), peer.clone());
        let event = PeerEvent {
            plugin,
            event,
            trace: trace.map(RemoteContext::from),
            counters: self.registry.counters().clone(),
            reply: Box::new(move |answer| {
                mesh.answer_with(&peer, id, answer, not_handled(NotHandled::Trapped));
            }),
        };
        match self.events.sender.try_send(event) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(event)) => event.refuse(),
            // Only the node's end closes it.
            Err(mpsc::error::TrySendError::Closed(event)) => {
                event.answer(not_handled(NotHandled::Absent));
            }
        }
    }

    /// Answers a peer. An answer that is too large for the link would be sent again and again: `otherwise`
    /// is sent in its place.
    pub(super) fn answer_with(&self, peer: &Peer, id: u64, answer: Answer, otherwise: Answer) {
        let encode = |answer| {
            wire::encode(wire::frame::Frame::Answer(wire::Answer {
                id,
                answer: Some(answer),
            }))
        };
        let mut frame = encode(answer);
        if frame.len() > peer.outbound.largest_frame() {
            tracing::error!(
                bytes = frame.len(),
                "an answer to another node is too large for a link"
            );
            frame = encode(otherwise);
        }
        // Where there is no room, who asked waits in vain, and not for long: no reason to drop all
        // messages that found some.
        self.push(peer, frame);
    }
}
