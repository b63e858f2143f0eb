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
use crate::mesh::{GivenClient, HeldClient};
use crate::outbox::Condition;
use crate::policy::ResumePolicy;
use crate::registry::{Client, Close, Ending, MoveSide, Namespace};

/// How the wait for a client has ended.
pub(super) enum Return {
    /// The client has come back, and has received so many messages.
    Back {
        connection: Box<Connection>,
        received: u64,
    },
    /// Another node has the client.
    Moved,
    /// The client has left.
    Left,
}

/// What becomes of the wait after a request.
enum WaitOutcome {
    /// The wait goes on, perhaps with another request.
    GoesOn(Option<SessionRequest>),
    /// The wait has ended.
    Ended(Return),
    /// Something was sent to the client that it will not get.
    Broken,
}

/// A client that is away.
pub(super) struct AwayClient<'a> {
    pub(super) client: &'a Arc<Client>,
    pub(super) namespace: &'a Namespace,
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
        let shared = self.namespace.shared().clone();
        let until = Instant::now() + policy.window;
        let mut next = request;
        // Whoever is back already takes no permit from others.
        let mut permit = None;
        loop {
            if self.client.has_left() {
                return Return::Left;
            }
            // A node that ends waits for its clients for a while.
            self.client.take_interruption();
            if self.client.outbox().condition() == Condition::Overflowed {
                return self.give_up(&too_slow());
            }
            let now = Instant::now();
            let request = match next.take() {
                Some(request) => request,
                None if now >= until => return self.give_up(&close),
                None => {
                    if permit.is_none() {
                        let address = self.client.address().map(|address| address.ip());
                        permit = self.resumable.may_be_away(&shared.limits(), address);
                        if permit.is_none() {
                            return self.give_up(&close);
                        }
                        shared.counters().clients_away.add_one();
                    }
                    tokio::select! {
                        request = self.resumable.request() => request,
                        () = self.client.woken() => continue,
                        () = sleep_until(until) => return self.give_up(&close),
                    }
                }
            };
            let (SessionRequest::Resume(ResumeRequest { received, .. })
            | SessionRequest::Take(received, _)) = request
            else {
                // It belongs to a move that has been given up.
                continue;
            };
            if !self.client.outbox().follows(received) {
                // The request ends after the client: whoever has made it is a new one.
                return self.give_up(&close);
            }
            let answered = match request {
                SessionRequest::Resume(request) => self.take_back(request).await,
                SessionRequest::Take(received, answer) => self.move_away(received, answer).await,
                SessionRequest::Give(..) | SessionRequest::Taken => continue,
            };
            match answered {
                WaitOutcome::GoesOn(request) => next = request,
                WaitOutcome::Ended(ended) => return ended,
                WaitOutcome::Broken => return self.give_up(&close),
            }
        }
    }

    fn give_up(&self, close: &Close) -> Return {
        self.namespace.shared().counters().resumes_failed.add_one();
        self.namespace
            .end(self.client, &Ending::new(close.clone(), None));
        Return::Left
    }

    /// Waits for the new connection of the client. If another request comes, it counts.
    async fn take_back(&mut self, request: ResumeRequest) -> WaitOutcome {
        let received = request.received;
        let Some(connection) = request.accept() else {
            return WaitOutcome::GoesOn(None);
        };
        let shared = self.namespace.shared();
        let patience = shared.limits().handshake_timeout;
        tokio::select! {
            connection = timeout(patience, connection) => match connection {
                Ok(Ok(connection)) => {
                    shared.counters().clients_resumed.add_one();
                    WaitOutcome::Ended(Return::Back { connection, received })
                }
                // The handshake has broken off.
                _ => WaitOutcome::GoesOn(None),
            },
            // A client may try again before its last attempt has failed.
            request = self.resumable.request() => WaitOutcome::GoesOn(Some(request)),
        }
    }

    /// Gives the client to another node. If that node gives up, the client goes on waiting here, unless
    /// something was sent to the other node alone.
    async fn move_away(
        &mut self,
        received: u64,
        answer: oneshot::Sender<HeldClient>,
    ) -> WaitOutcome {
        self.client.begin_move(MoveSide::Leaving);
        let _ = answer.send(self.resumable.held_client(self.client));
        let answered = match self.serve_move(received).await {
            WaitOutcome::GoesOn(_) if self.client.has_any_switched() => WaitOutcome::Broken,
            answered => answered,
        };
        if !matches!(answered, WaitOutcome::Ended(Return::Moved)) {
            self.client.end_move();
        }
        answered
    }

    async fn serve_move(&mut self, received: u64) -> WaitOutcome {
        // The other node asks twice, and waits for the others in between.
        let patience = self.namespace.shared().limits().ask_timeout * 3;
        let until = Instant::now() + patience;
        loop {
            let request = tokio::select! {
                request = self.resumable.request() => request,
                () = self.client.woken() => match self.client.has_left() {
                    true => return WaitOutcome::Ended(Return::Left),
                    false => continue,
                },
                () = sleep_until(until) => return WaitOutcome::GoesOn(None),
            };
            match request {
                SessionRequest::Give(nodes, answer) => {
                    if !self.have_switched(&nodes, patience).await {
                        return WaitOutcome::GoesOn(None);
                    }
                    let given = answer.send(GivenClient {
                        state: self.client.held_state(),
                        handled: self.handled,
                        frames: self.client.outbox().after(received),
                    });
                    return match given {
                        Ok(()) => self.wait_until_taken(patience).await,
                        Err(_) => WaitOutcome::GoesOn(None),
                    };
                }
                SessionRequest::Taken => {}
                again @ (SessionRequest::Resume(_) | SessionRequest::Take(..)) => {
                    return WaitOutcome::GoesOn(Some(again));
                }
            }
        }
    }

    /// Waits for the last word of the node that was given the client. From here on it has the client,
    /// whatever else is asked here.
    async fn wait_until_taken(&mut self, patience: Duration) -> WaitOutcome {
        let taken =
            async { while !matches!(self.resumable.request().await, SessionRequest::Taken) {} };
        let is_taken = timeout(patience, taken).await.is_ok();
        // The word may be lost with its link. That the client is there is told again and again.
        if is_taken || self.resumable.is_elsewhere(self.client) {
            self.namespace.shared().counters().clients_moved.add_one();
            return WaitOutcome::Ended(Return::Moved);
        }
        match self.client.has_left() {
            true => WaitOutcome::Ended(Return::Left),
            false => WaitOutcome::Broken,
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
        let outbox = self.client.outbox();
        is_whole && !self.client.has_left() && outbox.condition() != Condition::Overflowed
    }
}
