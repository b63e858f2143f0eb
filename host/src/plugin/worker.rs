//! The worker's side: events of other nodes' clients, and calls that came to other nodes.
//!
//! Each event is a task of its own, since it may wait. A plugin has at most `peer_events` of them
//! under way. The events are handled by the generation that runs here, and are never passed on.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::answer::{Answer, Decision, Failure};
use super::canary_member::{CanaryClients, CanaryMember};
use super::directory::Directory;
use super::generation::Generation;
use super::handle::{Choose, Plugin};
use super::slot::Slot;
use crate::access::Handshake;
use crate::close_code::CloseCode;
use crate::guest::{CallError, CallErrorCode, Caller, EventClient, GuestFunction};
use crate::id::ClientId;
use crate::mesh;
use crate::mesh::peer_event::{self, Event, NotHandled, PeerEvent, not_handled};
use crate::message::Message;
use crate::policy::TrapPolicy;
use crate::registry::{Close, Closer, Departure, in_ms};
use crate::tracer::{RemoteContext, SpanKind, within};

/// Handles the events of peers, for as long as the node runs.
pub(super) async fn handle_peer_events(
    plugins: Arc<Directory>,
    mut events: mpsc::Receiver<PeerEvent>,
    most: usize,
) {
    while let Some(event) = events.recv().await {
        let Some(plugin) = plugins.read().get(&event.plugin).cloned() else {
            event.answer(not_handled(NotHandled::Absent));
            continue;
        };
        let Some(under_way) = UnderWay::begin(plugin, most) else {
            event.refuse();
            continue;
        };
        tokio::spawn(async move {
            let answer = under_way
                .0
                .handle_traced(&event.event, event.trace.as_ref())
                .await;
            // Its place is free before its client's next event can come.
            drop(under_way);
            event.answer(answer);
        });
    }
}

/// A peer's event that is under way in a plugin.
struct UnderWay(Arc<Plugin>);

impl UnderWay {
    /// Begins one more event of the plugin, if fewer than `most` are under way.
    fn begin(plugin: Arc<Plugin>, most: usize) -> Option<UnderWay> {
        let before = plugin.peer_events.begin();
        let under_way = UnderWay(plugin);
        (before < most).then_some(under_way)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.peer_events.end();
    }
}

impl Plugin {
    /// Handles an event, within a span if the peer has one for it.
    async fn handle_traced(&self, event: &Event, trace: Option<&RemoteContext>) -> mesh::Answer {
        let function = match event {
            Event::Connect(_) => "on-connect",
            Event::Said(_) => "on-message",
            Event::Closed(_) => "on-close",
            // The call has a span of its own in this one.
            Event::Call(_) => "call",
        };
        let tracer = self.namespace().shared().tracer();
        let span = tracer.remote(function, SpanKind::Server, trace);
        if let Some(span) = &span {
            span.set("jackfield.plugin", self.name().to_owned());
        }
        within(span.as_ref(), self.handle(event)).await
    }

    async fn handle(&self, event: &Event) -> mesh::Answer {
        let handled = async {
            match event {
                Event::Connect(connect) => self.handle_connect(connect).await,
                Event::Said(said) => self.handle_said(said).await,
                Event::Closed(closed) => self.handle_closed(closed).await,
                Event::Call(call) => self.handle_call(call).await,
            }
        };
        // Nobody waits for longer, but for an end: the client's next event may come meanwhile.
        let patience = match event {
            Event::Closed(_) => Duration::MAX,
            _ => self.namespace().serving().patience,
        };
        let handled = tokio::time::timeout(patience, handled).await;
        let handled = handled.unwrap_or(Err(Failure::Overloaded));
        handled.unwrap_or_else(|failure| {
            not_handled(match failure {
                Failure::Trapped(TrapPolicy::Close) => NotHandled::Trapped,
                Failure::Trapped(TrapPolicy::Keep) => NotHandled::TrappedKeep,
                Failure::Overloaded | Failure::Paused(_) => NotHandled::Overloaded,
                Failure::Absent | Failure::Lost | Failure::TooLarge => NotHandled::Absent,
            })
        })
    }

    async fn handle_connect(&self, connect: &peer_event::Connect) -> Result<mesh::Answer, Failure> {
        let client = client(&connect.client)?;
        let pairs = |pairs: &[peer_event::Pair]| {
            let pairs = pairs.iter().cloned();
            pairs.map(|pair| (pair.name, pair.value)).collect()
        };
        let handshake = Handshake {
            path: connect.path.clone(),
            query: pairs(&connect.query),
            headers: pairs(&connect.headers),
            remote_address: connect.remote_address.clone(),
            subprotocols: connect.subprotocols.clone(),
        };
        let member = CanaryMember::default();
        // The client is counted on its own node.
        let uncounted = CanaryClients::default();
        let client = EventClient::remote(client);
        let decided = self.decide(client, &handshake, &member, &uncounted);
        let (decision, generation) = decided.await?;
        Ok(match decision {
            Decision::TurnedAway(answer) => turned_away(answer),
            Decision::Accepted(acceptance, granted) => {
                let left = granted
                    .until
                    .map(|until| until.saturating_duration_since(tokio::time::Instant::now()));
                mesh::Answer::Accepted(peer_event::Accepted {
                    subprotocol: acceptance.subprotocol,
                    uid: acceptance.uid,
                    groups: acceptance.groups,
                    info: acceptance.info.into_iter().collect(),
                    granted_uid: granted.uid,
                    expires_in_ms: left.map(in_ms),
                    canary: member.joined(),
                    generation: generation.unwrap_or_default(),
                })
            }
        })
    }

    async fn handle_said(&self, said: &peer_event::Said) -> Result<mesh::Answer, Failure> {
        let client = client(&said.client)?;
        let message = match said.message.as_ref().ok_or(Failure::Absent)? {
            peer_event::SaidMessage::Text(text) => Message::Text(text),
            peer_event::SaidMessage::Binary(bytes) => Message::Binary(bytes),
        };
        let mut lease = self.lease(&|slot| chosen(slot, said.canary)).await?;
        let handled = lease
            .instance
            .on_message(EventClient::remote(client), message);
        match handled.await {
            Ok(()) => Ok(done(lease.generation.number)),
            Err(trapped) => {
                Err(lease.client_event_trapped(GuestFunction::Message, client, &trapped))
            }
        }
    }

    async fn handle_closed(&self, closed: &peer_event::Closed) -> Result<mesh::Answer, Failure> {
        let client = client(&closed.client)?;
        let by = match closed.by() {
            peer_event::Closer::Client => Closer::Client,
            peer_event::Closer::Plugin => Closer::Plugin,
            peer_event::Closer::Node => Closer::Node,
            peer_event::Closer::Network => Closer::Network,
        };
        let departure = Departure {
            close: Close {
                code: u16::try_from(closed.code).map_or(CloseCode::Abnormal, CloseCode::from),
                reason: closed.reason.clone(),
                by,
            },
            uid: closed.uid.as_deref().map(Into::into),
            groups: closed
                .groups
                .iter()
                .map(|group| group.as_str().into())
                .collect(),
            info: closed.info.clone().into_iter().collect(),
        };
        let choose: Choose<'_> = &|slot| chosen(slot, closed.canary);
        let told = self.tell_on_close(EventClient::remote(client), &departure, choose);
        Ok(done(told.await?))
    }

    async fn handle_call(&self, call: &peer_event::Call) -> Result<mesh::Answer, Failure> {
        let caller = Caller::Api(&call.token);
        match self.call_here(caller, &call.method, &call.payload).await {
            Ok(answer) => Ok(mesh::Answer::Called(answer.into())),
            // Nothing has happened: another node may do it.
            Err(CallError::Absent | CallError::Draining) => Err(Failure::Absent),
            Err(CallError::Overloaded) => Err(Failure::Overloaded),
            Err(error) => Ok(mesh::Answer::CallFailed(peer_event::CallFailed {
                code: code(&error).into(),
                message: error.to_string(),
            })),
        }
    }
}

/// Chooses the generation of an event whose client is one for this canary.
fn chosen(slot: &Slot<Generation>, canary: u64) -> Option<&Arc<Generation>> {
    let held = slot.canary();
    let is_it = |held: &&Arc<Generation>| {
        let held = held.serving_canary();
        held.is_some_and(|held| held.id() == canary)
    };
    let held = held.filter(|held| canary != 0 && is_it(held));
    held.or(slot.generation())
}

/// Reads a client's id as another node sent it. An id that cannot be read counts as absent, since
/// no node sends one.
fn client(bytes: &[u8]) -> Result<ClientId, Failure> {
    peer_event::client(bytes).ok_or(Failure::Absent)
}

fn done(generation: u64) -> mesh::Answer {
    mesh::Answer::Done(peer_event::Done { generation })
}

fn turned_away(answer: Answer) -> mesh::Answer {
    let away = |status: u16, reason| peer_event::TurnedAway {
        status: status.into(),
        reason,
        ..peer_event::TurnedAway::default()
    };
    mesh::Answer::TurnedAway(match answer {
        Answer::Refused { status, reason } => away(status, reason),
        Answer::Unauthorized { reason } => peer_event::TurnedAway {
            asks_for_token: true,
            ..away(401, reason)
        },
        Answer::OriginDenied { reason } => peer_event::TurnedAway {
            origin_denied: true,
            ..away(403, reason)
        },
        // No decision to turn a client away says so.
        Answer::Accepted(_) => away(500, "the server failed".to_owned()),
    })
}

fn code(error: &CallError) -> peer_event::Code {
    match error.code() {
        _ if matches!(error, CallError::TooLarge { .. }) => peer_event::Code::TooLarge,
        CallErrorCode::UnknownMethod => peer_event::Code::UnknownMethod,
        CallErrorCode::InvalidArgument => peer_event::Code::InvalidArgument,
        CallErrorCode::NotFound => peer_event::Code::NotFound,
        CallErrorCode::Denied => peer_event::Code::Denied,
        CallErrorCode::LimitExceeded => peer_event::Code::LimitExceeded,
        CallErrorCode::Overloaded => peer_event::Code::Overloaded,
        CallErrorCode::Unavailable => peer_event::Code::Unavailable,
        CallErrorCode::Failed => peer_event::Code::Failed,
    }
}
