//! The gateway's side: events of clients here, whose plugin runs at another node.
//!
//! Each client has at most one event under way, and all its events go to the same node while that
//! node takes them. If it is known that an event has not begun at a node, another node gets the
//! event. If no node can take the event, the event waits for one, `worker_wait` at most. If a node
//! goes away after it got an event, the event may have had its effect. Such an event is counted and
//! reported as lost, and is not given to another node. An `on-close` is the exception: another node
//! gets it, since the plugin must learn that the client has gone.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::answer::{Answer, Decision, Failure};
use super::canary_member::CanaryMember;
use super::handle::Plugin;
use super::spread::spread;
use crate::access::{Granted, Handshake};
use crate::counters::Counters;
use crate::guest::{Acceptance, CallError, CallErrorCode};
use crate::id::{ClientId, Incarnation};
use crate::mesh::peer_event::{self, ConnectAnswer, EventRequest, Failed, NotHandled};
use crate::mesh::{Elsewhere, Mesh, Worker};
use crate::message::Message;
use crate::policy::TrapPolicy;
use crate::registry::{Closer, Departure, EventKind};

/// The first pause before an event is offered to a node again. For an `on-close`, the pause doubles
/// each time the node is overloaded.
const AGAIN: Duration = Duration::from_millis(50);

/// The longest pause before an `on-close` is offered to an overloaded node again.
const AGAIN_AT_MOST: Duration = Duration::from_millis(500);

/// The name of the plugin function that answers a handshake.
const ON_CONNECT: &str = "on-connect";
/// The name of the plugin function that handles a client's end.
const ON_CLOSE: &str = "on-close";

/// An event that another node is to handle.
struct RemoteEvent<'a> {
    mesh: &'a Mesh,
    counters: &'a Counters,
    plugin: &'a str,
    /// A number that selects the node if no node has had an event of this client before.
    number: u64,
    current: Option<Incarnation>,
    /// Whether the event is the client's end (`on-close`).
    ends: bool,
    /// The time that the event may wait for a node in all. A node that has begun the event may take
    /// longer, except for an `on-close`.
    wait: Duration,
    /// The time that the event and its answer may need on the link.
    grace: Duration,
}

impl RemoteEvent<'_> {
    /// Lets another node handle the event. Returns the node that did, and its answer.
    async fn run<A>(
        self,
        event: impl Fn(&Worker) -> EventRequest<A>,
    ) -> Result<(Incarnation, A), Failure> {
        let deadline = Instant::now() + self.wait;
        let mut pause = AGAIN;
        let mut changes = self.mesh.serving_changes();
        loop {
            changes.mark_unchanged();
            let worker = self
                .mesh
                .worker(self.plugin, self.number, self.current, self.ends);
            if let Some(worker) = &worker {
                // An end waits for as long as it may; others for as long as the worker takes.
                let patience = match self.ends {
                    true => deadline.saturating_duration_since(Instant::now()),
                    false => worker.patience + self.grace,
                };
                let dispatched =
                    self.mesh
                        .dispatch(worker.node, self.plugin, event(worker), patience);
                match dispatched.await {
                    Ok(answer) => return Ok((worker.node, answer)),
                    Err(Failed::Gone) if !self.ends => return Err(Failure::Lost),
                    // Perhaps it is at it still: a second time would be one too many.
                    Err(Failed::Late) => return Err(Failure::Lost),
                    Err(Failed::TooLarge) => return Err(Failure::TooLarge),
                    Err(Failed::UnexpectedAnswer) => {
                        let plugin = self.plugin;
                        tracing::error!(plugin, "a node answered an event with something else");
                        return Err(Failure::Absent);
                    }
                    Err(Failed::NotHandled(why)) => match why {
                        // It is owed: what is too much now is not so later.
                        NotHandled::Overloaded if self.ends => pause = AGAIN_AT_MOST.min(pause * 2),
                        NotHandled::Overloaded => return Err(Failure::Overloaded),
                        NotHandled::Trapped => return Err(Failure::Trapped(TrapPolicy::Close)),
                        NotHandled::TrappedKeep => return Err(Failure::Trapped(TrapPolicy::Keep)),
                        // It has told before how it stands now.
                        NotHandled::Absent | NotHandled::Unspecified => {}
                    },
                    Err(Failed::Gone | Failed::Untold) => {}
                }
            } else if self.is_over() {
                return Err(Failure::Absent);
            }
            let until = match worker {
                Some(_) => deadline.min(Instant::now() + self.spread_out(pause)),
                None => deadline,
            };
            // It ends with the node only, which tells it itself.
            let _ = tokio::time::timeout_at(until, changes.changed()).await;
            if Instant::now() >= deadline {
                self.counters.events_unserved.add_one();
                return Err(Failure::Overloaded);
            }
        }
    }

    /// Returns between half of `pause` and all of it, which differs for each client. Clients that
    /// tried again all at once would find no room again and again.
    fn spread_out(&self, pause: Duration) -> Duration {
        pause / 2 + spread(self.number, pause / 2)
    }

    /// Returns whether no node is left that might take the event.
    fn is_over(&self) -> bool {
        match self.mesh.elsewhere(self.plugin) {
            Elsewhere::Nobody => true,
            Elsewhere::Closing => !self.ends,
            Elsewhere::Open | Elsewhere::Away => false,
        }
    }
}

/// The gateway of one client: it sends the client's events to a node that runs the plugin.
pub(super) struct Gateway<'a> {
    plugin: &'a Plugin,
    /// The node that has the client's events; 0 if there is none yet.
    worker: &'a AtomicU64,
    member: &'a CanaryMember,
}

impl<'a> Gateway<'a> {
    /// Creates the gateway of a client whose events have gone to `worker`. When another node
    /// handles an event, its number is stored in `worker`.
    pub(super) fn new(
        plugin: &'a Plugin,
        worker: &'a AtomicU64,
        member: &'a CanaryMember,
    ) -> Gateway<'a> {
        Gateway {
            plugin,
            worker,
            member,
        }
    }

    /// Returns the canary that the client is one for; 0: none. A canary that this node has not heard of
    /// may have let the client in.
    fn canary(&self, client: ClientId, worker: &Worker) -> u64 {
        if let Some(canary) = &worker.canary {
            let uid = || self.plugin.namespace().uid(client).ok().flatten();
            let clients = &self.plugin.canary_clients;
            if !self.member.is_in(canary, client, uid, clients) {
                return 0;
            }
        }
        self.member.joined()
    }

    /// Lets another node decide whether a client may come in. This and the other events also return
    /// which generation has handled them there, if the node says so.
    pub(super) async fn decide(
        &self,
        client: ClientId,
        handshake: &Handshake,
    ) -> Result<(Decision, Option<u64>), Failure> {
        let mesh = self.plugin.mesh.as_ref().ok_or(Failure::Absent)?;
        mesh.follow_policies(self.plugin.namespace());
        let event = |_: &Worker| {
            EventRequest::connect(peer_event::Connect {
                client: peer_event::client_bytes(client),
                path: handshake.path.clone(),
                query: pairs(&handshake.query),
                headers: pairs(&handshake.headers),
                remote_address: handshake.remote_address.clone(),
                subprotocols: handshake.subprotocols.clone(),
            })
        };
        match self.dispatch(mesh, client, ON_CONNECT, event).await? {
            ConnectAnswer::Accepted(accepted) => {
                let uid = accepted.granted_uid.as_deref();
                self.member.set_place(client, uid);
                if accepted.canary != 0 {
                    let clients = &self.plugin.canary_clients;
                    self.member.join(accepted.canary, clients);
                }
                let generation = said(accepted.generation);
                Ok((decision(accepted), generation))
            }
            ConnectAnswer::TurnedAway(away) => Ok((Decision::TurnedAway(turned_away(away)), None)),
        }
    }

    pub(super) async fn message(
        &self,
        client: ClientId,
        message: Message<'_>,
    ) -> Result<Option<u64>, Failure> {
        let mesh = self.plugin.mesh.as_ref().ok_or(Failure::Absent)?;
        let event = |worker: &Worker| {
            EventRequest::message(peer_event::Said {
                client: peer_event::client_bytes(client),
                canary: self.canary(client, worker),
                message: Some(match message {
                    Message::Text(text) => peer_event::SaidMessage::Text(text.to_owned()),
                    Message::Binary(bytes) => {
                        peer_event::SaidMessage::Binary(bytes.to_vec().into())
                    }
                }),
            })
        };
        match self.dispatch(mesh, client, "on-message", event).await {
            Err(Failure::TooLarge) => {
                let counters = self.plugin.namespace().shared().counters();
                counters.messages_too_big.add_one();
                Err(Failure::TooLarge)
            }
            handled => Ok(said(handled?.generation)),
        }
    }

    pub(super) async fn close(
        &self,
        client: ClientId,
        departure: &Departure,
    ) -> Result<Option<u64>, Failure> {
        let mesh = self.plugin.mesh.as_ref().ok_or(Failure::Absent)?;
        let by = match departure.close.by {
            Closer::Client => peer_event::Closer::Client,
            Closer::Plugin => peer_event::Closer::Plugin,
            Closer::Node => peer_event::Closer::Node,
            Closer::Network => peer_event::Closer::Network,
        };
        let event = |worker: &Worker| {
            EventRequest::closed(peer_event::Closed {
                client: peer_event::client_bytes(client),
                canary: self.canary(client, worker),
                code: departure.close.code.into(),
                reason: departure.close.reason.clone(),
                by: by.into(),
                uid: departure.uid.as_deref().map(str::to_owned),
                groups: departure.groups.iter().map(|g| g.to_string()).collect(),
                info: departure.info.clone().into_iter().collect(),
            })
        };
        let done = self.dispatch(mesh, client, ON_CLOSE, event).await?;
        Ok(said(done.generation))
    }

    async fn dispatch<A>(
        &self,
        mesh: &Mesh,
        client: ClientId,
        function: &'static str,
        event: impl Fn(&Worker) -> EventRequest<A>,
    ) -> Result<A, Failure> {
        let (wait, grace) = {
            let limits = self.plugin.namespace().shared().limits();
            let wait = match function {
                ON_CONNECT => limits.handshake_worker_wait(),
                ON_CLOSE => limits.drain_timeout,
                _ => limits.worker_wait,
            };
            (wait, limits.ask_timeout)
        };
        let counters = self.plugin.namespace().shared().counters();
        let ends = function == ON_CLOSE;
        let event_there = RemoteEvent {
            mesh,
            counters,
            plugin: self.plugin.name(),
            number: client.counter(),
            current: Incarnation::from_u64(self.worker.load(Ordering::Relaxed)),
            ends,
            wait,
            grace,
        };
        match event_there.run(event).await {
            Ok((node, answer)) => {
                self.worker.store(node.to_u64(), Ordering::Relaxed);
                counters.events_elsewhere.add_one();
                Ok(answer)
            }
            Err(Failure::Lost) => {
                counters.events_lost.add_one();
                let namespace = self.plugin.namespace();
                namespace.emit(|| EventKind::Lost { client, function });
                Err(Failure::Lost)
            }
            Err(failure) => Err(failure),
        }
    }
}

impl Plugin {
    /// Lets another node answer a backend's call.
    pub(super) async fn call_elsewhere(
        &self,
        token: &str,
        method: &str,
        payload: &[u8],
    ) -> Result<Vec<u8>, CallError> {
        let mesh = self.mesh.as_ref().ok_or(CallError::Absent)?;
        let ask_timeout = self.namespace().shared().limits().ask_timeout;
        let event_there = RemoteEvent {
            mesh,
            counters: self.namespace().shared().counters(),
            plugin: self.name(),
            number: self.calls.fetch_add(1, Ordering::Relaxed),
            current: None,
            ends: false,
            wait: ask_timeout,
            grace: ask_timeout,
        };
        let event = |_: &Worker| {
            EventRequest::call(peer_event::Call {
                token: token.to_owned(),
                method: method.to_owned(),
                payload: payload.to_vec().into(),
            })
        };
        match event_there.run(event).await {
            Ok((_, Ok(answer))) => Ok(answer.into()),
            Ok((_, Err(failed))) => Err(call_error(failed)),
            Err(Failure::Overloaded | Failure::Paused(_)) => Err(CallError::Overloaded),
            Err(Failure::Lost) => Err(CallError::Lost),
            Err(Failure::Absent) => Err(CallError::Absent),
            Err(Failure::TooLarge) => Err(CallError::There {
                code: CallErrorCode::LimitExceeded,
                is_too_large: true,
                message: "the call is too large to go to another node".to_owned(),
            }),
            Err(Failure::Trapped(_)) => Err(CallError::Trapped),
        }
    }
}

/// The number of a generation, if a node has said one.
fn said(generation: u64) -> Option<u64> {
    Some(generation).filter(|generation| *generation > 0)
}

fn pairs(pairs: &[(String, String)]) -> Vec<peer_event::Pair> {
    let pairs = pairs.iter().cloned();
    pairs
        .map(|(name, value)| peer_event::Pair { name, value })
        .collect()
}

fn decision(accepted: peer_event::Accepted) -> Decision {
    let acceptance = Acceptance {
        subprotocol: accepted.subprotocol,
        uid: accepted.uid,
        groups: accepted.groups,
        info: accepted.info.into_iter().collect(),
    };
    let expires = accepted.expires_in_ms.map(Duration::from_millis);
    let granted = Granted {
        uid: accepted.granted_uid,
        until: expires.and_then(|expires| Instant::now().checked_add(expires)),
        // The plugin has got them at its own node.
        claims: None,
    };
    Decision::Accepted(acceptance, granted)
}

fn turned_away(away: peer_event::TurnedAway) -> Answer {
    let reason = away.reason;
    if away.asks_for_token {
        Answer::Unauthorized { reason }
    } else if away.origin_denied {
        Answer::OriginDenied { reason }
    } else {
        Answer::Refused {
            status: u16::try_from(away.status).unwrap_or(403),
            reason,
        }
    }
}

fn call_error(failed: peer_event::CallFailed) -> CallError {
    let code = match failed.code() {
        peer_event::Code::Failed => CallErrorCode::Failed,
        peer_event::Code::UnknownMethod => CallErrorCode::UnknownMethod,
        peer_event::Code::InvalidArgument => CallErrorCode::InvalidArgument,
        peer_event::Code::NotFound => CallErrorCode::NotFound,
        peer_event::Code::Denied => CallErrorCode::Denied,
        peer_event::Code::LimitExceeded | peer_event::Code::TooLarge => {
            CallErrorCode::LimitExceeded
        }
        peer_event::Code::Overloaded => CallErrorCode::Overloaded,
        peer_event::Code::Unavailable => CallErrorCode::Unavailable,
    };
    CallError::There {
        code,
        is_too_large: failed.code() == peer_event::Code::TooLarge,
        message: failed.message,
    }
}
