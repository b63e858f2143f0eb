//! What a node may ask a peer of the clients that are there, for whoever asks.

use bytes::Bytes;

use super::wire;
use crate::id::ClientId;
use crate::registry;

pub use super::wire::{
    BindUid, Change, CloseClient, CloseMany, GroupChange, List, SetInfo, UnbindUid, UpdateInfo,
};

/// A client id, as questions carry it.
pub fn client(client: ClientId) -> Bytes {
    wire::client_bytes(client)
}

/// A client id, as answers carry it; none: no node gives out such a one.
pub fn to_client(bytes: &[u8]) -> Option<ClientId> {
    wire::client(bytes)
}

/// How connections are to end.
pub fn ending(ending: &registry::Ending) -> wire::Ending {
    let close = ending.close();
    wire::Ending {
        code: close.code.into(),
        reason: close.reason.clone(),
        last_message: ending
            .last_message()
            .map(crate::message::Frame::to_bytes)
            .unwrap_or_default(),
    }
}
