//! What a node may ask a peer of the clients that are there, for whoever asks.

use super::wire;
use crate::registry;

pub use super::wire::{
    BindUid, Change, CloseClient, CloseMany, GroupChange, List, SetInfo, UnbindUid, UpdateInfo,
    client, client_bytes,
};

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
