//! What a client has in the registry, as a value: for the node that takes the client over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A small map that lives exactly as long as its client.
pub type Info = BTreeMap<String, String>;

/// The uid, the groups and the info of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeldState {
    /// The client's uid, if it has one.
    pub uid: Option<Arc<str>>,
    /// The time when the uid was bound, in milliseconds since 1970.
    pub bound_at_ms: u64,
    /// The groups that the client is in.
    pub groups: BTreeSet<Arc<str>>,
    /// The info of the client.
    pub info: Info,
}
