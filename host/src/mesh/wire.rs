//! The messages between nodes and registers, generated from `proto/jackfield/mesh/v1`, and their
//! conversion to other types of this crate.

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;

use super::link;
use crate::delivery::Target;
use crate::id::ClientId;
use crate::invalid_value::InvalidValue;
use crate::registry::{ClientStatus, ServingBuild, ServingSource, in_ms};
use crate::rollout::{self, WrittenRollout};
use crate::tracer::{RemoteContext, Span};

pub use self::generated::*;

/// The types of the protocol, generated in advance; `tests/generated` checks that they are current.
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

/// A frame of a peer, or a question in it, that makes no sense here: perhaps the peer has another
/// version.
#[derive(Debug)]
pub(super) struct NotUnderstood;

/// Encodes one frame, once for all peers that it is sent to.
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

/// The context of a span, for the node that gets what was sent in it.
pub(super) fn trace_of(span: Option<&Span>) -> Option<TraceContext> {
    let RemoteContext {
        traceparent,
        tracestate,
    } = span?.remote_context()?;
    Some(TraceContext {
        traceparent,
        tracestate,
    })
}

impl From<TraceContext> for RemoteContext {
    fn from(context: TraceContext) -> RemoteContext {
        RemoteContext {
            traceparent: context.traceparent,
            tracestate: context.tracestate,
        }
    }
}

/// Encodes a client id as 16 bytes.
pub fn client_bytes(client: ClientId) -> Bytes {
    Bytes::copy_from_slice(&client.to_bytes())
}

/// Reads a client id from its bytes; `None` means that they are no client id.
pub fn client(bytes: &[u8]) -> Option<ClientId> {
    bytes.try_into().ok().map(ClientId::from_bytes)
}

impl From<ClientStatus> for Client {
    fn from(status: ClientStatus) -> Client {
        Client {
            uid: status.uid.map(|uid| uid.to_string()),
            groups: status.groups.iter().map(ToString::to_string).collect(),
            info: status.info.into_iter().collect(),
            address: status.address,
            connected_at_ms: status.connected_at_ms,
            heard_at_ms: status.heard_at_ms,
            received_messages: status.received_messages,
            received_bytes: status.received_bytes,
            sent_frames: status.sent_frames,
            sent_bytes: status.sent_bytes,
            queued_frames: status.queued_frames,
            queued_bytes: status.queued_bytes,
        }
    }
}

impl From<Client> for ClientStatus {
    fn from(client: Client) -> ClientStatus {
        ClientStatus {
            uid: client.uid.map(Into::into),
            groups: client.groups.into_iter().map(Into::into).collect(),
            info: client.info.into_iter().collect(),
            address: client.address,
            connected_at_ms: client.connected_at_ms,
            heard_at_ms: client.heard_at_ms,
            received_messages: client.received_messages,
            received_bytes: client.received_bytes,
            sent_frames: client.sent_frames,
            sent_bytes: client.sent_bytes,
            queued_frames: client.queued_frames,
            queued_bytes: client.queued_bytes,
        }
    }
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

/// A build, in the form that peers get.
pub fn told_build(build: ServingBuild) -> Build {
    Build {
        generation: build.generation,
        digest: Bytes::copy_from_slice(&build.digest),
        loaded_at_ms: build.loaded_at_ms,
        source: match build.source {
            ServingSource::Unknown => build::Source::Unspecified,
            ServingSource::Folder => build::Source::Folder,
            ServingSource::Deployment => build::Source::Deployment,
            ServingSource::KeptBuild => build::Source::KeptBuild,
        }
        .into(),
    }
}

/// Reads a build that a peer tells of.
pub(super) fn build(told: &Build) -> Option<ServingBuild> {
    Some(ServingBuild {
        generation: told.generation,
        digest: <[u8; 32]>::try_from(&*told.digest).ok()?,
        loaded_at_ms: told.loaded_at_ms,
        source: match told.source() {
            build::Source::Unspecified => ServingSource::Unknown,
            build::Source::Folder => ServingSource::Folder,
            build::Source::Deployment => ServingSource::Deployment,
            build::Source::KeptBuild => ServingSource::KeptBuild,
        },
    })
}

/// A rollout, in the form that peers get.
pub fn told_rollout(rollout: &rollout::Rollout) -> Rollout {
    Rollout {
        percent: rollout.percent(),
        uids: rollout.uids().iter().cloned().collect(),
        promote_after_ms: rollout.promote_after().map_or(0, in_ms),
        max_p99_ratio: rollout.max_p99_ratio().unwrap_or_default(),
        began_ms: rollout.began_ms(),
    }
}

/// Reads a rollout in the form that peers get.
///
/// # Errors
///
/// It is none that a node makes.
pub fn rollout(told: &Rollout) -> Result<rollout::Rollout, InvalidValue> {
    let written = WrittenRollout {
        percent: told.percent,
        uids: told.uids.clone(),
        promote_after: (told.promote_after_ms > 0)
            .then(|| Duration::from_millis(told.promote_after_ms)),
        max_p99_ratio: (told.max_p99_ratio != 0.0).then_some(told.max_p99_ratio),
    };
    Ok(rollout::Rollout::check(written)?.begun_at(told.began_ms))
}
