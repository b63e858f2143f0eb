//! What nodes and registers say to each other, generated from `proto/jackfield/mesh/v1`, and
//! how it becomes our own values.

use bytes::Bytes;
use prost::Message as _;

use super::link;
use crate::delivery::Target;
use crate::id::ClientId;

pub use self::generated::*;

/// Generated ahead; `tests/generated` keeps it current.
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::unwrap_used
)]
mod generated {
    include!("../../generated/jackfield.mesh.v1.rs");
}

/// One frame, encoded once for all peers that it is for.
pub(super) fn encode(frame: frame::Frame) -> Bytes {
    Frame { frame: Some(frame) }.encode_to_vec().into()
}

impl From<Target<'_>> for deliver::To {
    fn from(to: Target<'_>) -> deliver::To {
        let names = |names: &[String]| Names {
            names: names.to_vec(),
        };
        match to {
            Target::All => deliver::To::All(All {}),
            Target::Uids(uids) => deliver::To::Uids(names(uids)),
            Target::Groups(groups) => deliver::To::Groups(names(groups)),
        }
    }
}

/// A client id, in 16 bytes.
pub fn client_bytes(client: ClientId) -> Bytes {
    Bytes::copy_from_slice(&client.to_bytes())
}

/// A client id from its bytes; none: no node gives out such a one.
pub fn client(bytes: &[u8]) -> Option<ClientId> {
    bytes.try_into().ok().map(ClientId::from_bytes)
}

impl From<link::Batch> for Push {
    fn from(batch: link::Batch) -> Push {
        let link::Batch { first, frames } = batch;
        push::Push::Batch(Batch { first, frames }).into()
    }
}

impl From<Batch> for link::Batch {
    fn from(batch: Batch) -> link::Batch {
        let Batch { first, frames } = batch;
        link::Batch { first, frames }
    }
}

impl From<push::Push> for Push {
    fn from(push: push::Push) -> Push {
        Push { push: Some(push) }
    }
}

impl From<pull::Pull> for Pull {
    fn from(pull: pull::Pull) -> Pull {
        Pull { pull: Some(pull) }
    }
}
