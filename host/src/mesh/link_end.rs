//! The reasons why a connection to another node ends.

use std::sync::Arc;

use super::peer::Peer;

/// The reason why a connection to a node ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkEnd {
    #[error("it cannot be connected to: {}", super::transport_error::causes(.0))]
    Connect(#[from] tonic::transport::Error),
    #[error("{}", super::transport_error::refusal(.0))]
    Refused(Box<tonic::Status>),
    #[error("it did not answer in time")]
    Slow,
    #[error("it closed the connection")]
    Closed,
    #[error("it does not know the mesh's secret")]
    NotTrusted,
    #[error("it answered what is no answer")]
    UnexpectedAnswer,
    #[error("no randomness: {0}")]
    Random(#[from] getrandom::Error),
    #[error("it is this node itself")]
    Ourselves,
    #[error("node {0}")]
    Another(String),
    /// Another task dials this peer, at another of its addresses.
    #[error("it is dialled already")]
    Dialled(Arc<Peer>),
    #[error("it has acknowledged nothing for a while")]
    Silent,
    #[error("its link begins anew")]
    Restarted,
    #[error("it is gone")]
    Gone,
}

impl From<tonic::Status> for LinkEnd {
    fn from(status: tonic::Status) -> LinkEnd {
        LinkEnd::Refused(Box::new(status))
    }
}
