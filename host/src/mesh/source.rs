//! Who says that there is a node at an address.

use crate::id::Incarnation;

/// Who says that there is a node at an address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The operator: `--peer`, or a name looked up in DNS, or etcd.
    Listed(String),
    /// This register.
    Register(String),
    /// The node itself: it has dialled us.
    Itself(Incarnation),
}
