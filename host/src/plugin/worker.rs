//! The worker's side: events of other nodes' clients, and calls that came to other nodes.
//!
//! Each is a task while it lasts, since it may wait, and there are `peer_events` of a plugin at
//! most. They are handled by what runs here and never passed on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::call::{CallError, CallErrorCode, Caller, Directory};
use super::instance::Whose;
use super::{Answer, Decision, Failure, Handshake, Plugin, failed};
use crate::id::ClientId;
use crate::mesh::work::{self, NotHandled, Work, not_handled};
use crate::mesh::{self, Ask, Elsewhere, ask};
use crate::message::Message;
use crate::policy::TrapPolicy;
use crate::registry::{Close, Closer, Departure};

/// How long other nodes' clients must have been gone, and their ends told, for a plugin whose
/// file was removed to end: a node says that it has none before the last ones' `on-close`.
const QUIET: Duration = Duration::from_secs(1);

/// What of a plugin is under way for other nodes' clients.
#[derive(Debug, Default)]
pub(super) struct PeerEvents {
    under_way: AtomicUsize,
    last: Mutex<Option<Instant>>,
}

/// Handles the events of peers, for as long as the node runs.
pub(super) async fn keep_working(
    plugins: Arc<Directory>,
    mut works: mpsc::Receiver<Work>,
    most: usize,
) {
    while let Some(work) = works.recv().await {
        let Some(plugin) = plugins.read().get(&work.plugin).cloned() else {
            work.answer(not_handled(NotHandled::Absent));
            continue;
        };
        let Some(under_way) = UnderWay::begin(plugin, most) else {
            work.refuse();
            continue;
        };
        tokio::spawn(async move {
            let answer = under_way.0.handle(&work.event).await;
            // Its place is free before its client's next event can come.
            drop(under_way);
            work.answer(answer);
        });
    }
}

impl PeerEvents {
    pub(super) fn is_quiet(&self) -> bool {
        let last = *self.last.lock();
        self.under_way.load(Ordering::Relaxed) == 0
            && last.is_none_or(|last| last.elapsed() > QUIET)
    }

    fn touch(&self) {
        *self.last.lock() = Some(Instant::now());
    }
}

/// An event of a plugin that is under way.
struct UnderWay(Arc<Plugin>);

impl UnderWay {
    /// One more, if there are fewer than `most`.
    fn begin(plugin: Arc<Plugin>, most: usize) -> Option<UnderWay> {
        let before = plugin.peer_events.under_way.fetch_add(1, Ordering::Relaxed);
        let under_way = UnderWay(plugin);
        (before < most).then_some(under_way)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let events = &self.0.peer_events;
        events.touch();
        events.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Plugin {
    /// Whether nodes that do not have the plugin have clients of it, whose ends nobody but this
    /// one can take.
    pub(super) fn is_awaited(&self) -> bool {
        let Some(mesh) = &self.mesh else { return false };
        if mesh.elsewhere(self.name()) == Elsewhere::Open {
            return false;
        }
        if mesh.has_clients_without_plugin(self.name()) {
            self.peer_events.touch();
        }
        !self.peer_events.is_quiet()
    }

    async fn handle(&self, event: &Ask) -> mesh::Answer {
        let handled = async {
            match event {
                Ask::Connect(connect) => self.handle_connect(connect).await,
                Ask::Said(said) => self.handle_said(said).await,
                Ask::Closed(closed) => self.handle_closed(closed).await,
                Ask::Call(call) => self.handle_call(call).await,
                _ => Err(Failure::Absent),
            }
        };
        // Nobody waits for longer, but for an end: the client's next event may come meanwhile.
        let patience = match event {
            Ask::Closed(_) => Duration::MAX,
            _ => self.namespace().serving().patience,
        };
        let handled = tokio::time::timeout(patience, handled).await;
        let handled = handled.unwrap_or(Err(Failure::Overloaded));
        handled.unwrap_or_else(|failure| {
            not_handled(match failure {
                Failure::Trapped(TrapPolicy::Close) => NotHandled::Trapped,
                Failure::Trapped(TrapPolicy::Keep) => NotHandled::TrappedKeep,
                Failure::Overloaded => NotHandled::Overloaded,
                Failure::Absent | Failure::Lost | Failure::TooLarge => NotHandled::Absent,
            })
        })
    }

    async fn handle_connect(&self, connect: &work::Connect) -> Result<mesh::Answer, Failure> {
        let client = client(&connect.client)?;
        let pairs = |pairs: &[work::Pair]| {
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
        Ok(match self.decide(Whose::there(client), &handshake).await? {
            Decision::TurnedAway(answer) => turned_away(answer),
            Decision::Accepted(acceptance, granted) => {
                let left = granted
                    .until
                    .map(|until| until.saturating_duration_since(tokio::time::Instant::now()));
                mesh::Answer::Accepted(work::Accepted {
                    subprotocol: acceptance.subprotocol,
                    uid: acceptance.uid,
                    groups: acceptance.groups,
                    info: acceptance.info.into_iter().collect(),
                    granted_uid: granted.uid,
                    expires_in_ms: left
                        .map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
                })
            }
        })
    }

    async fn handle_said(&self, said: &work::Said) -> Result<mesh::Answer, Failure> {
        let client = client(&said.client)?;
        let message = match said.message.as_ref().ok_or(Failure::Absent)? {
            work::SaidMessage::Text(text) => Message::Text(text),
            work::SaidMessage::Binary(bytes) => Message::Binary(bytes),
        };
        let mut lease = self.lease().await?;
        match lease.on_message(Whose::there(client), message.into()).await {
            Ok(()) => Ok(done()),
            Err(trapped) => Err(failed(&lease, "on-message", client, &trapped)),
        }
    }

    async fn handle_closed(&self, closed: &work::Closed) -> Result<mesh::Answer, Failure> {
        let client = client(&closed.client)?;
        let by = match closed.by() {
            work::Closer::Client => Closer::Client,
            work::Closer::Plugin => Closer::Plugin,
            work::Closer::Node => Closer::Node,
            work::Closer::Network => Closer::Network,
        };
        let departure = Departure {
            close: Close {
                code: u16::try_from(closed.code).unwrap_or(1006),
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
        self.tell_on_close(Whose::there(client), &departure).await?;
        Ok(done())
    }

    async fn handle_call(&self, call: &work::Call) -> Result<mesh::Answer, Failure> {
        let caller = Caller::Api(&call.token);
        match self.call_here(caller, &call.method, &call.payload).await {
            Ok(answer) => Ok(mesh::Answer::Called(answer.into())),
            // Nothing has happened: another node may do it.
            Err(CallError::Absent | CallError::Draining) => Err(Failure::Absent),
            Err(CallError::Overloaded) => Err(Failure::Overloaded),
            Err(error) => Ok(mesh::Answer::CallFailed(work::CallFailed {
                code: code(&error).into(),
                message: error.to_string(),
            })),
        }
    }
}

/// No node gives out another one.
fn client(bytes: &[u8]) -> Result<ClientId, Failure> {
    ask::client(bytes).ok_or(Failure::Absent)
}

fn done() -> mesh::Answer {
    mesh::Answer::Done(work::Done {})
}

fn turned_away(answer: Answer) -> mesh::Answer {
    let away = |status: u16, reason| work::TurnedAway {
        status: status.into(),
        reason,
        ..work::TurnedAway::default()
    };
    mesh::Answer::TurnedAway(match answer {
        Answer::Refused { status, reason } => away(status, reason),
        Answer::Unauthorized { reason } => work::TurnedAway {
            asks_for_token: true,
            ..away(401, reason)
        },
        Answer::OriginDenied { reason } => work::TurnedAway {
            origin_denied: true,
            ..away(403, reason)
        },
        // No decision to turn a client away says so.
        Answer::Accepted { .. } => away(500, "the server failed".to_owned()),
    })
}

fn code(error: &CallError) -> work::Code {
    match error.code() {
        _ if matches!(error, CallError::TooLarge { .. }) => work::Code::TooLarge,
        CallErrorCode::UnknownMethod => work::Code::UnknownMethod,
        CallErrorCode::InvalidArgument => work::Code::InvalidArgument,
        CallErrorCode::NotFound => work::Code::NotFound,
        CallErrorCode::Denied => work::Code::Denied,
        CallErrorCode::LimitExceeded => work::Code::LimitExceeded,
        CallErrorCode::Overloaded => work::Code::Overloaded,
        CallErrorCode::Unavailable => work::Code::Unavailable,
        CallErrorCode::Failed => work::Code::Failed,
    }
}
