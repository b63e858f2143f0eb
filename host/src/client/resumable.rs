//! The sessions whose clients may come back on another connection, by the ids of their clients.
//!
//! A handshake with a client's secret asks the task of the client's session for it, over a queue of
//! one request. The task answers when it has dropped the connection before, if there is one, and then
//! waits for the new connection.

use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use super::connection::Connection;
use super::subprotocol::{ResumeOffer, ResumeSecret, WelcomeResume};
use crate::access::Granted;
use crate::id::{ClientId, Incarnation};
use crate::mesh::{GivenClient, HeldClient, MoveRequest, MoveStep};
use crate::registry::{Client, Namespace};

/// The sessions of this node whose clients may come back.
#[derive(Debug)]
pub(super) struct ResumableSessions {
    sessions: Mutex<HashMap<ClientId, KnownSession>>,
    /// The permits for clients that are away. These clients have neither a connection nor a place
    /// among the clients of the node.
    away: Arc<Semaphore>,
}

#[derive(Debug)]
struct KnownSession {
    secret: ResumeSecret,
    namespace: Arc<Namespace>,
    /// The uid that the client's handshake has shown.
    shown_uid: Option<String>,
    /// The time when the client's token expires, if it does.
    until: Option<Instant>,
    requests: mpsc::Sender<SessionRequest>,
}

/// The session's side of a session whose client may come back. When it is dropped, the client cannot
/// come back any more.
#[derive(Debug)]
pub(super) struct Resumable {
    sessions: Arc<ResumableSessions>,
    client: ClientId,
    secret: ResumeSecret,
    shown_uid: Option<String>,
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
    /// No sessions yet. At most `away` clients may be away at the same time.
    pub(super) fn new(away: usize) -> Arc<ResumableSessions> {
        Arc::new(ResumableSessions {
            sessions: Mutex::default(),
            away: Arc::new(Semaphore::new(away.min(Semaphore::MAX_PERMITS))),
        })
    }

    /// Lets a client come back that shows this secret.
    pub(super) fn register(
        self: &Arc<Self>,
        client: ClientId,
        secret: ResumeSecret,
        namespace: Arc<Namespace>,
        shown_uid: Option<String>,
        until: Option<Instant>,
    ) -> Box<Resumable> {
        let (sender, requests) = mpsc::channel(1);
        let known = KnownSession {
            secret,
            namespace,
            shown_uid: shown_uid.clone(),
            until,
            requests: sender,
        };
        self.sessions.lock().insert(client, known);
        Box::new(Resumable {
            sessions: self.clone(),
            client,
            secret,
            shown_uid,
            until,
            requests,
        })
    }

    /// Passes on the request of another node for a client that moves there.
    pub(super) async fn pass_on(&self, request: MoveRequest) -> Option<()> {
        let (requests, request) = {
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
            (known.requests.clone(), passed)
        };
        requests.send(request).await.ok()
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
            is_it.then(|| (known.requests.clone(), until))?
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

    /// Takes a permit for a client that is away, if there is one left.
    pub(super) fn permit_to_be_away(&self) -> Option<tokio::sync::OwnedSemaphorePermit> {
        self.away.clone().try_acquire_owned().ok()
    }
}

impl Resumable {
    /// The sessions of the node.
    pub(super) fn sessions(&self) -> &ResumableSessions {
        &self.sessions
    }

    /// What the client has, for another node.
    pub(super) fn held_client(&self, client: &Client) -> HeldClient {
        let until = self.until;
        HeldClient {
            state: client.held_state(),
            shown_uid: self.shown_uid.clone(),
            expires_in: until.map(|until| until.saturating_duration_since(Instant::now())),
        }
    }

    /// How the client may come back.
    pub(super) fn welcome(&self, window: Duration) -> WelcomeResume {
        WelcomeResume::new(self.client, &self.secret, window)
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
        self.sessions.sessions.lock().remove(&self.client);
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
    pub(super) fn hand_over(self, connection: Connection) {
        // The session has ended meanwhile: the client sees its connection end, and tries again.
        let _ = self.0.send(Box::new(connection));
    }
}
