//! The full snapshots that a peer sends of what it holds.

use crate::id::Incarnation;

/// One full snapshot of a peer, with the changes that came after it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Snapshot {
    pub(super) node: Incarnation,
    pub(super) number: u32,
}
