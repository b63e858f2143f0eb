//! The client whose event a guest handles.

use std::sync::Arc;

use crate::id::{ClientId, ClientIdText};
use crate::registry::Client;

/// The client whose event a guest handles, on this node or on another node.
#[derive(Clone, Copy, Debug)]
pub(crate) enum EventClient<C> {
    /// The client is connected to this node.
    Local(C),
    /// The client is connected to the node that its id names.
    Remote(ClientId, ClientIdText),
}

impl<C: AsRef<Client>> EventClient<C> {
    pub(crate) fn id(&self) -> ClientId {
        match self {
            EventClient::Local(client) => client.as_ref().id(),
            EventClient::Remote(id, _) => *id,
        }
    }

    pub(crate) fn id_text(&self) -> &str {
        match self {
            EventClient::Local(client) => client.as_ref().id_text(),
            EventClient::Remote(_, text) => text,
        }
    }
}

impl EventClient<&Arc<Client>> {
    /// The event's client is connected to another node.
    pub(crate) fn remote(id: ClientId) -> Self {
        EventClient::Remote(id, id.text())
    }

    pub(super) fn is(&self, other: &EventClient<Arc<Client>>) -> bool {
        match (self, other) {
            (EventClient::Local(one), EventClient::Local(other)) => Arc::ptr_eq(one, other),
            (EventClient::Remote(one, _), EventClient::Remote(other, _)) => one == other,
            _ => false,
        }
    }

    pub(super) fn owned(self) -> EventClient<Arc<Client>> {
        match self {
            EventClient::Local(client) => EventClient::Local(client.clone()),
            EventClient::Remote(id, text) => EventClient::Remote(id, text),
        }
    }
}
