//! The sources from which this node learns the addresses of others.

use crate::id::Incarnation;

/// A source that says that there is a node at an address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The operator: `--peer`, a name that is looked up in DNS, or etcd.
    Listed(String),
    /// The register with this address.
    Register(String),
    /// The node itself, which has dialled this one.
    Itself(Incarnation),
}
