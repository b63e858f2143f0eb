//! A client that is away: its connection has ended, and its session waits for it to come back.
//!
//! Meanwhile the client stays in the registry, with its uid, groups and info, and its outbox keeps
//! what is sent to it. The wait ends when the window is over, when more was sent than is kept, when
//! somebody closes the client, or when the client has come back: on this node, or at another node,
//! which takes it over.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout};

use super::connection::Connection;
use super::resumable::{Resumable, ResumeRequest, SessionRequest};
use super::session_end::too_slow;
use crate::id::Incarnation;
use crate::mesh::GivenClient;
use crate::outbox::Condition;
use crate::policy::ResumePolicy;
use crate::registry::{Client, Close, MoveSide, NodeState};

/// How the wait for a client has ended.
pub(super) enum Return {
    /// The client has come back, and has received so many messages.
    Back {
        connection: Box<Connection>,
        received: u64,
    },
    /// Another node has the client.
    Moved,
    /// The client has not come back, and leaves with this close.
    Over(Close),
    /// Somebody has closed the client.
    Closed,
}

/// A client that is away.
pub(super) struct AwayClient<'a> {
    pub(super) client: &'a Arc<Client>,
    pub(super) shared: &'a NodeState,
    pub(super) resumable: &'a mut Resumable,
    /// How many of its messages the plugin has handled.
    pub(super) handled: u64,
}

impl AwayClient<'_> {
    /// Waits for the client, after its connection has ended with `close`. A `request` is one that has
    /// come already.
    pub(super) async fn wait(
        mut self,
        policy: ResumePolicy,
        close: Close,
        request: Option<SessionRequest>,
    ) -> Return {
        self.client.outbox().suspend();
        let counters = self.shared.counters();
        let Some(_permit) = self.resumable.sessions().permit_to_be_away() else {
            counters.resumes_failed.add_one();
            return Return::Over(close);
        };
        counters.clients_away.add_one();
        let until = Instant::now() + policy.window;
        let mut next = request;
        loop {
            if self.client.has_left() {
                return Return::Closed;
            }
            // A node that ends waits for its clients for a while.
            self.client.take_interruption();
            if self.client.outbox().condition() == Condition::Overflowed {
                counters.resumes_failed.add_one();
                return Return::Over(too_slow());
            }
            let request = match next.take() {
                Some(request) => request,
                None => tokio::select! {
                    request = self.resumable.request() => request,
                    () = self.client.woken() => continue,
                    () = sleep_until(until) => {
                        counters.resumes_failed.add_one();
                        return Return::Over(close);
                    }
                },
            };
            let (SessionRequest::Resume(ResumeRequest { received, .. })
            | SessionRequest::Take(received, _)) = request
            else {
                // It belongs to a move that has been given up.
                continue;
            };
            if !self.client.outbox().follows(received) {
                counters.resumes_failed.add_one();
                return Return::Over(close);
            }
            let ended = match request {
                SessionRequest::Resume(request) => self.take_back(request).await,
                SessionRequest::Take(received, answer) => self.move_away(received, answer).await,
                SessionRequest::Give(..) | SessionRequest::Taken => continue,
            };
            match ended {
                Ok(Some(request)) => next = Some(request),
                Ok(None) => {}
                Err(ended) => return ended,
            }
        }
    }

    /// Waits for the new connection of the client. If another request comes, it counts.
    async fn take_back(
        &mut self,
        request: ResumeRequest,
    ) -> Result<Option<SessionRequest>, Return> {
        let received = request.received;
        let Some(connection) = request.accept() else {
            return Ok(None);
        };
        let patience = self.shared.limits().handshake_timeout;
        tokio::select! {
            connection = timeout(patience, connection) => match connection {
                Ok(Ok(connection)) => {
                    self.shared.counters().clients_resumed.add_one();
                    Err(Return::Back { connection, received })
                }
                // The handshake has broken off.
                _ => Ok(None),
            },
            // A client may try again before its last attempt has failed.
            request = self.resumable.request() => Ok(Some(request)),
        }
    }

    /// Gives the client to another node. If another request comes, or if the other node says nothing
    /// any more, the client goes on waiting here.
    async fn move_away(
        &mut self,
        received: u64,
        answer: oneshot::Sender<crate::mesh::HeldClient>,
    ) -> Result<Option<SessionRequest>, Return> {
        self.client.begin_move(MoveSide::Leaving);
        let _ = answer.send(self.resumable.held_client(self.client));
        let moved = self.serve_move(received).await;
        if !matches!(moved, Err(Return::Moved)) {
            self.client.end_move();
        }
        moved
    }

    async fn serve_move(&mut self, received: u64) -> Result<Option<SessionRequest>, Return> {
        // The other node asks twice, and waits for the others in between.
        let patience = self.shared.limits().ask_timeout * 3;
        let until = Instant::now() + patience;
        loop {
            let request = tokio::select! {
                request = self.resumable.request() => request,
                () = self.client.woken() => match self.client.has_left() {
                    true => return Err(Return::Closed),
                    false => continue,
                },
                () = sleep_until(until) => return Ok(None),
            };
            match request {
                SessionRequest::Give(nodes, answer) => {
                    if self.have_switched(&nodes, patience).await {
                        let _ = answer.send(GivenClient {
                            state: self.client.held_state(),
                            handled: self.handled,
                            frames: self.client.outbox().after(received),
                        });
                    }
                }
                SessionRequest::Taken => {
                    self.shared.counters().clients_moved.add_one();
                    return Err(Return::Moved);
                }
                again @ (SessionRequest::Resume(_) | SessionRequest::Take(..)) => {
                    return Ok(Some(again));
                }
            }
        }
    }

    /// Waits until all these nodes send to the new node.
    async fn have_switched(&self, nodes: &[Incarnation], patience: Duration) -> bool {
        let switched = async {
            while !self.client.have_switched(nodes) {
                self.client.woken().await;
            }
        };
        let is_whole = timeout(patience, switched).await.is_ok();
        is_whole
            && !self.client.has_left()
            && self.client.outbox().condition() != Condition::Overflowed
    }
}
