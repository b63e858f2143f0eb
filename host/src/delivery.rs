//! A delivery: a message and whom it is for. The one value that crosses rooms.

use std::sync::Arc;

use crate::id::ClientId;
use crate::message::Frame;

/// A message, encoded, and whom it is for.
#[derive(Debug)]
pub struct Delivery<'a> {
    /// Whom it is for.
    pub to: Target<'a>,
    /// Who of these does not get it.
    pub exclude: &'a [ClientId],
    /// What they get.
    pub frame: Frame,
}

/// Whom a delivery is for. Each client gets it once, in however many of these it is.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// All clients of the plugin.
    All,
    /// Every client of each of these uids.
    Uids(&'a [String]),
    /// The members of these groups.
    Groups(&'a [String]),
}

impl Target<'_> {
    /// What a full outbox with the policy `conflate` keeps only the newest of.
    pub fn conflation_key(&self) -> Arc<str> {
        match self {
            Target::All => "all".into(),
            Target::Uids(uids) => format!("uid {}", uids.join("\0")).into(),
            Target::Groups(groups) => format!("group {}", groups.join("\0")).into(),
        }
    }
}

/// Whom a delivery reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Clients whose outbox took it.
    pub clients: u64,
    /// Clients that lost it because their outbox was full.
    pub dropped: u64,
}
