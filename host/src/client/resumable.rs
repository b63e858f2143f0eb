//! The sessions whose clients may come back on another connection, by the ids of their clients.
//!
//! A handshake with a client's secret asks the task of the client's session for it, over a queue of
//! one request. The task answers when it has dropped the connection before, if there is one, and then
//! waits for the new connection.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, mpsc, oneshot};
use tokio::time::Instant;

use super::away_count::{AwayCount, AwayPermit};
use super::connection::Connection;
use super::subprotocol::{ResumeOffer, ResumeSecret, WelcomeResume};
use crate::access::Granted;
use crate::id::{ClientId, Incarnation};
use crate::limits::Limits;
use crate::mesh::{GivenClient, HeldClient, Mesh, MoveRequest, MoveStep};
use crate::registry::{Client, Namespace};

/// The sessions of this node whose clients may come back.
pub(super) struct ResumableSessions {
    sessions: Mutex<HashMap<ClientId, KnownSession>>,
    /// The clients that are away. They have neither a connection nor a place among the clients of the
    /// node.
    away: Arc<AwayCount>,
    /// The clients that are being adopted from other nodes, each of which comes once.
    adopting: Mutex<HashMap<ClientId, Arc<AsyncMutex<()>>>>,
    mesh: Option<Arc<Mesh>>,
    next: AtomicU64,
}

struct KnownSession {
    /// Tells it from another session of the same client, which is ending.
    number: u64,
    secret: ResumeSecret,
    namespace: Arc<Namespace>,
    /// The uid that the client's handshake has shown.
    shown_uid: Option<String>,
    /// The time when the client's token expires, if it does.
    until: Option<Instant>,
    requests: mpsc::Sender<SessionRequest>,
}

/// What belongs to a session for as long as it lasts.
#[derive(Clone, Debug)]
pub(super) struct SessionToken {
    pub(super) secret: ResumeSecret,
    /// The uid that the client's first handshake has shown.
    pub(super) shown_uid: Option<String>,
    /// The subprotocol that its plugin has chosen.
    pub(super) subprotocol: Option<String>,
}

/// The session's side of a session whose client may come back. When it is dropped, the client cannot
/// come back any more.
pub(super) struct Resumable {
    sessions: Arc<ResumableSessions>,
    number: u64,
    client: ClientId,
    namespace: Arc<Namespace>,
    token: SessionToken,
    until: Option<Instant>,
    requests: mpsc::Receiver<SessionRequest>,
}

/// A request for a session whose client may come back.
#[derive(Debug)]
pub(super) enum SessionRequest {
    /// The client has come back on this node.
    Resume(ResumeRequest),
    /// The client has come back at another node, and has received so many messages. The session says
    /// what the client has.
    Take(u64, oneshot::Sender<HeldClient>),
    /// The other node wants everything that the client has not received, once these nodes have
    /// switched to it.
    Give(Vec<Incarnation>, oneshot::Sender<GivenClient>),
    /// The other node has the client.
    Taken,
}

/// A client that asks for its session.
#[derive(Debug)]
pub(super) struct ResumeRequest {
    /// The number of messages that the client has received.
    pub(super) received: u64,
    accept: oneshot::Sender<()>,
    connection: oneshot::Receiver<Box<Connection>>,
}

/// A session that waits for the new connection of its client. When this is dropped, the session goes
/// on waiting for others.
pub(super) struct AcceptedResume(oneshot::Sender<Box<Connection>>);

impl ResumableSessions {
    /// Creates the table, without any sessions yet.
    pub(super) fn new(mesh: Option<Arc<Mesh>>) -> Arc<ResumableSessions> {
        Arc::new(ResumableSessions {
            sessions: Mutex::default(),
            away: Arc::default(),
            adopting: Mutex::default(),
            mesh,
            next: AtomicU64::new(0),
        })
    }

    /// Lets a client come back. Its own token expires at `until`, if it does.
    pub(super) fn register(
        self: &Arc<Self>,
        client: ClientId,
        namespace: Arc<Namespace>,
        token: SessionToken,
        until: Option<Instant>,
    ) -> Box<Resumable> {
        let (sender, requests) = mpsc::channel(1);
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let known = KnownSession {
            number,
            secret: token.secret,
            namespace: namespace.clone(),
            shown_uid: token.shown_uid.clone(),
            until,
            requests: sender,
        };
        self.sessions.lock().insert(client, known);
        Box::new(Resumable {
            sessions: self.clone(),
            number,
            client,
            namespace,
            token,
            until,
            requests,
        })
    }

    /// The lock under which a client is adopted from another node. Whoever finds it taken finds the
    /// session here afterwards.
    pub(super) fn adopting(&self, client: ClientId) -> Arc<AsyncMutex<()>> {
        let mut adopting = self.adopting.lock();
        // Nobody else holds those that are done.
        adopting.retain(|_, lock| Arc::strong_count(lock) > 1);
        adopting.entry(client).or_default().clone()
    }

    /// The other nodes, if there are any.
    pub(super) fn mesh(&self) -> Option<&Arc<Mesh>> {
        self.mesh.as_ref()
    }

    /// Passes on the request of another node for a client that moves there.
    pub(super) async fn pass_on(&self, request: MoveRequest) -> Option<()> {
        let (requests, request, patience) = {
            let sessions = self.sessions.lock();
            let known = sessions.get(&request.client)?;
            if known.namespace.name() != request.plugin {
                return None;
            }
            let passed = match request.step {
                MoveStep::Take(shown, answer) => {
                    let is_it = ResumeSecret::from_bytes(&shown.secret)
                        .is_some_and(|secret| known.secret.is(&secret))
                        && shown.shown_uid.is_none_or(|uid| uid == known.shown_uid);
                    is_it.then_some(SessionRequest::Take(shown.received, answer))?
                }
                MoveStep::Give(nodes, answer) => SessionRequest::Give(nodes, answer),
                MoveStep::Taken => SessionRequest::Taken,
            };
            let patience = known.namespace.shared().limits().ask_timeout;
            (known.requests.clone(), passed, patience)
        };
        // As long as the other node waits for the answer.
        requests.send_timeout(request, patience).await.ok()
    }

    /// Asks the session of a client for its client, and returns it with the time when the client's
    /// token expires. Nothing is returned if this node does not have the session, or if the handshake
    /// is another one's. A node that does not run the plugin has not checked what the handshake shows,
    /// and has nothing `granted`.
    pub(super) async fn request(
        &self,
        offer: &ResumeOffer,
        namespace: &Arc<Namespace>,
        granted: Option<&Granted>,
    ) -> Option<(AcceptedResume, Option<Instant>)> {
        let (requests, until) = {
            let sessions = self.sessions.lock();
            let known = sessions.get(&offer.client)?;
            let is_it = known.secret.is(&offer.secret)
                && Arc::ptr_eq(&known.namespace, namespace)
                && granted.is_none_or(|granted| granted.uid == known.shown_uid);
            let until = granted.map_or(known.until, |granted| granted.until);
            // Where nothing was checked, the time of the token before counts.
            let is_in_time = granted.is_some() || until.is_none_or(|until| until > Instant::now());
            (is_it && is_in_time).then(|| (known.requests.clone(), until))?
        };
        let (accept, accepted) = oneshot::channel();
        let (sender, connection) = oneshot::channel();
        let request = ResumeRequest {
            received: offer.received,
            accept,
            connection,
        };
        let request = SessionRequest::Resume(request);
        requests.send(request).await.ok()?;
        accepted.await.ok()?;
        Some((AcceptedResume(sender), until))
    }
}

impl Resumable {
    /// Counts the client as one that is away, within the limits of the node.
    pub(super) fn may_be_away(
        &self,
        limits: &Limits,
        address: Option<IpAddr>,
    ) -> Option<AwayPermit> {
        self.sessions.away.take(limits, address)
    }

    /// Whether another node has the client, as far as this node was told.
    pub(super) fn is_elsewhere(&self, client: &Client) -> bool {
        let mesh = self.sessions.mesh.as_ref();
        let (plugin, number) = (self.namespace.name(), client.moves() + 1);
        mesh.is_some_and(|mesh| mesh.has_moved(plugin, self.client, number))
    }

    /// Notes when the client's new token expires, if it does.
    pub(super) fn set_until(&mut self, until: Option<Instant>) {
        self.until = until;
        if let Some(known) = self.sessions.sessions.lock().get_mut(&self.client) {
            known.until = until;
        }
    }

    /// The subprotocol that the client's plugin has chosen.
    pub(super) fn subprotocol(&self) -> Option<&str> {
        self.token.subprotocol.as_deref()
    }

    /// What the client has, for another node.
    pub(super) fn held_client(&self, client: &Client) -> HeldClient {
        let until = self.until;
        HeldClient {
            state: client.held_state(),
            shown_uid: self.token.shown_uid.clone(),
            expires_in: until.map(|until| until.saturating_duration_since(Instant::now())),
            subprotocol: self.token.subprotocol.clone(),
            number: client.moves() + 1,
        }
    }

    /// How the client may come back.
    pub(super) fn welcome(&self, window: Duration) -> WelcomeResume {
        WelcomeResume::new(self.client, &self.token.secret, window)
    }

    /// Polls for a request for the session.
    pub(super) fn poll_request(&mut self, context: &mut Context<'_>) -> Poll<SessionRequest> {
        match self.requests.poll_recv(context) {
            Poll::Ready(Some(request)) => Poll::Ready(request),
            // The sessions of the node keep a sender for as long as this value lives.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    /// Waits for a request for the session.
    pub(super) async fn request(&mut self) -> SessionRequest {
        std::future::poll_fn(|context| self.poll_request(context)).await
    }
}

impl Drop for Resumable {
    fn drop(&mut self) {
        let mut sessions = self.sessions.sessions.lock();
        let known = sessions.get(&self.client);
        if known.is_some_and(|known| known.number == self.number) {
            sessions.remove(&self.client);
        }
    }
}

impl SessionRequest {
    /// Whether the request is for a client with a connection, and somebody waits for the answer.
    pub(super) fn is_awaited(&self) -> bool {
        match self {
            SessionRequest::Resume(request) => !request.accept.is_closed(),
            SessionRequest::Take(_, answer) => !answer.is_closed(),
            SessionRequest::Give(..) | SessionRequest::Taken => false,
        }
    }

    /// The number of messages that the client has received, as it says.
    pub(super) fn received(&self) -> Option<u64> {
        match self {
            SessionRequest::Resume(ResumeRequest { received, .. })
            | SessionRequest::Take(received, _) => Some(*received),
            SessionRequest::Give(..) | SessionRequest::Taken => None,
        }
    }
}

impl ResumeRequest {
    /// Accepts the client. Returns the new connection to wait for, or nothing if the handshake has
    /// broken off.
    pub(super) fn accept(self) -> Option<oneshot::Receiver<Box<Connection>>> {
        self.accept.send(()).ok()?;
        Some(self.connection)
    }
}

impl AcceptedResume {
    /// Hands the new connection to the session.
    pub(super) fn hand_over(self, connection: Box<Connection>) {
        // The session has ended meanwhile: the client sees its connection end, and tries again.
        let _ = self.0.send(connection);
    }
}
