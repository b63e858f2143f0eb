//! The full snapshots that a peer gives of what it holds.

use crate::id::Incarnation;

/// One of a peer's snapshots: what it said since it began to tell everything.
#[derive(Clone, Copy, Debug)]
pub(super) struct Snapshot {
    pub(super) node: Incarnation,
    pub(super) number: u32,
}
