//! The end of a client's conversation with its plugin, and what the client is told then.

use std::future::poll_fn;
use std::sync::Arc;

use super::reader::{Goodbye, Reader};
use super::resumable::SessionRequest;
use crate::close_code::CloseCode;
use crate::outbox::Condition;
use crate::registry::{Client, Close, Closer, NodeState};

/// The close reason for a client whose token has expired.
const TOKEN_EXPIRED: &str = "token expired";

/// The reason why a conversation has ended.
#[derive(Debug)]
pub(super) enum SessionEnd {
    /// Something else has made the client leave, and its last frames are queued.
    Already,
    /// The end of this conversation makes the client leave.
    Now(Close),
    /// The end of this conversation makes the client leave, and the client's bytes can no longer be
    /// understood.
    Unreadable(Close),
    /// The node ends, and the client is to come back on another connection.
    Interrupted(Close),
    /// Another node has the client.
    Moved,
    /// The client has come back on another connection, here or at another node.
    TakenOver(Box<SessionRequest>),
}

impl SessionEnd {
    /// The end of a client that does not read what it is sent.
    pub(super) fn too_slow() -> SessionEnd {
        SessionEnd::Now(too_slow())
    }

    /// The end of a client whose token has expired.
    pub(super) fn token_expired() -> SessionEnd {
        SessionEnd::Now(Close {
            code: CloseCode::TokenExpired,
            reason: TOKEN_EXPIRED.to_owned(),
            by: Closer::Node,
        })
    }
}

/// The close of a client for which more waits than may.
pub(super) fn too_slow() -> Close {
    Close {
        code: CloseCode::TryAgainLater,
        reason: "too slow: messages wait and are not read".to_owned(),
        by: Closer::Plugin,
    }
}

/// The close of a client whose connection has broken.
pub(super) fn broken() -> Close {
    Close::without_frame(Closer::Network)
}

/// Lets a client whose connection ends receive its queued frames, and waits for its close frame.
pub(super) async fn goodbye(
    client: &Arc<Client>,
    shared: &NodeState,
    reader: &mut Reader,
    ended: &SessionEnd,
    close: &Close,
) {
    let mut condition = client.outbox().flush();
    while let Condition::Blocked { .. } = condition {
        let writable = poll_fn(|context| reader.poll_writable(context)).await;
        condition = if writable.is_ok() {
            client.outbox().resume()
        } else {
            Condition::Broken
        };
    }
    // Its close frame may have been read when the node had just closed it for a reason of its own.
    let has_said = matches!(ended, SessionEnd::Now(said) if said.by == Closer::Client);
    if condition == Condition::Broken || has_said || close.by == Closer::Client {
        return;
    }
    let unreadable = matches!(ended, SessionEnd::Unreadable(_));
    let goodbye = poll_fn(|context| reader.poll_goodbye(context, client, shared));
    if unreadable || goodbye.await == Goodbye::Unreadable {
        // Its answer can't be told from the rest; the end of the stream tells it to go.
        client.outbox().detach();
        poll_fn(|context| reader.poll_discard(context)).await;
    }
}
