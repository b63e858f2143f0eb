//! A client that is away: its connection has ended, and its session waits for it to come back.
//!
//! Meanwhile the client stays in the registry, with its uid, groups and info, and its outbox keeps
//! what is sent to it. The wait ends when the window is over, when more was sent than is kept, when
//! somebody closes the client, or when the client has come back.

use std::sync::Arc;

use tokio::time::{Instant, sleep_until, timeout};

use super::connection::Connection;
use super::resumable::{Resumable, ResumeRequest};
use super::session_end::too_slow;
use crate::outbox::Condition;
use crate::policy::ResumePolicy;
use crate::registry::{Client, Close, NodeState};

/// How the wait for a client has ended.
pub(super) enum Return {
    /// The client has come back, and has received so many messages.
    Back {
        connection: Box<Connection>,
        received: u64,
    },
    /// The client has not come back, and leaves with this close.
    Over(Close),
    /// Somebody has closed the client.
    Closed,
}

/// Waits for a client, after its connection has ended with `close`. A `request` is one that has come
/// already.
pub(super) async fn wait_for_return(
    client: &Arc<Client>,
    shared: &NodeState,
    resumable: &mut Resumable,
    policy: ResumePolicy,
    close: Close,
    request: Option<ResumeRequest>,
) -> Return {
    client.outbox().suspend();
    let Some(_permit) = resumable.sessions().permit_to_be_away() else {
        shared.counters().resumes_failed.add_one();
        return Return::Over(close);
    };
    shared.counters().clients_away.add_one();
    let until = Instant::now() + policy.window;
    let mut next = request;
    loop {
        if client.has_left() {
            return Return::Closed;
        }
        // A node that ends waits for its clients for a while.
        client.take_interruption();
        if client.outbox().condition() == Condition::Overflowed {
            shared.counters().resumes_failed.add_one();
            return Return::Over(too_slow());
        }
        let request = match next.take() {
            Some(request) => request,
            None => tokio::select! {
                request = resumable.request() => request,
                () = client.woken() => continue,
                () = sleep_until(until) => {
                    shared.counters().resumes_failed.add_one();
                    return Return::Over(close);
                }
            },
        };
        let received = request.received;
        if !client.outbox().follows(received) {
            shared.counters().resumes_failed.add_one();
            return Return::Over(close);
        }
        let Some(connection) = request.accept() else {
            continue;
        };
        let patience = shared.limits().handshake_timeout;
        tokio::select! {
            connection = timeout(patience, connection) => {
                // Else the handshake has broken off.
                if let Ok(Ok(connection)) = connection {
                    shared.counters().clients_resumed.add_one();
                    return Return::Back { connection, received };
                }
            }
            // A client may try again before its last attempt has failed.
            request = resumable.request() => next = Some(request),
        }
    }
}
