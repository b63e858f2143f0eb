//! A delivery: a message together with its recipients. Several modules pass this value on.

use std::sync::Arc;

use crate::id::{ClientId, Incarnation};
use crate::message::Frame;

/// An encoded message together with its recipients.
#[derive(Debug)]
pub struct Delivery<'a> {
    /// The recipients of the message.
    pub to: Target<'a>,
    /// The clients among the recipients that do not get the message.
    pub exclude: &'a [ClientId],
    /// The encoded frame that the recipients get.
    pub frame: Frame,
    /// The node that has sent the delivery; `None` means this node.
    pub from: Option<Incarnation>,
}

impl<'a> Delivery<'a> {
    /// A delivery that this node sends.
    pub fn new(to: Target<'a>, exclude: &'a [ClientId], frame: Frame) -> Delivery<'a> {
        Delivery {
            to,
            exclude,
            frame,
            from: None,
        }
    }
}

/// The recipients of a delivery. Each client gets the message once, even if several names in the
/// list lead to it.
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
    /// Whether each client of the target is there once.
    pub fn is_one_list(&self) -> bool {
        match self {
            Target::All => true,
            Target::Uids(names) | Target::Groups(names) => names.len() == 1,
        }
    }

    /// The key for the overflow policy `conflate`. A full outbox replaces an older message with the
    /// same key.
    pub fn conflation_key(&self) -> Arc<str> {
        match self {
            Target::All => "all".into(),
            Target::Uids(uids) => format!("uid {}", uids.join("\0")).into(),
            Target::Groups(groups) => format!("group {}", groups.join("\0")).into(),
        }
    }
}

/// The numbers of clients that a delivery has reached and not reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// The number of clients whose outbox took the message.
    pub clients: u64,
    /// The number of clients that lost the message because their outbox was full.
    pub dropped: u64,
}
