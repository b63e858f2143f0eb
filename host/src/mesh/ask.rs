//! The questions that a node may ask a peer of the clients that are there, each with the type of
//! its answer.

use std::collections::BTreeMap;

use bytes::Bytes;
use ipnet::IpNet;

use super::move_request::{GivenClient, HeldClient, ShownToken};
use super::moves::given_client;
use super::unanswered::Unanswered;
use super::wire::answer::Answer;
use super::wire::ask::Question as Asked;
use super::wire::read_trace::Target;
use super::wire::refused::Reason;
use super::wire::{self, client_bytes};
use crate::id::{ClientId, Incarnation};
use crate::live_trace::{TraceRequest, TraceStep, TraceTarget};
use crate::registry::{self, ClientStatus, Kind};

/// A question whose answer is an `A`.
#[derive(Debug)]
pub struct Question<A> {
    pub(super) question: Asked,
    /// Reads the answer; none: the peer has answered something else.
    pub(super) read: fn(Answer) -> Option<A>,
}

// Written out: an answer need not be `Clone`.
impl<A> Clone for Question<A> {
    fn clone(&self) -> Question<A> {
        Question {
            question: self.question.clone(),
            read: self.read,
        }
    }
}

/// A part of a list.
#[derive(Debug, PartialEq, Eq)]
pub struct Listed<T> {
    /// The items, in order.
    pub items: Vec<T>,
    /// Whether there are more after them.
    pub more: bool,
}

/// Why a question has not the answer that was asked for.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// No answer has come.
    #[error(transparent)]
    Unanswered(#[from] Unanswered),
    /// The peer refuses to do it.
    #[error("{message}")]
    Refused {
        /// The kind of refusal.
        reason: Reason,
        /// The peer's own words.
        message: String,
    },
}

impl AskError {
    /// A peer of another version may answer what it was not asked.
    pub(super) fn unexpected_answer() -> AskError {
        AskError::Refused {
            reason: Reason::Internal,
            message: "the client's node answered what it was not asked".to_owned(),
        }
    }
}

/// Gives the client this uid in place of the one that it had.
pub fn bind_uid(client: ClientId, uid: &str) -> Question<()> {
    done(Asked::BindUid(wire::BindUid {
        client: client_bytes(client),
        uid: uid.to_owned(),
    }))
}

/// Takes the client's uid away, or only this one; answers whether the client had it.
pub fn unbind_uid(client: ClientId, uid: Option<&str>) -> Question<bool> {
    flag(Asked::UnbindUid(wire::UnbindUid {
        client: client_bytes(client),
        uid: uid.unwrap_or_default().to_owned(),
    }))
}

/// Asks for the client's uid.
pub fn uid(client: ClientId) -> Question<Option<String>> {
    Question {
        question: Asked::GetUid(client_bytes(client)),
        read: |answer| match answer {
            Answer::Uid(answer) => Some(answer.uid),
            _ => None,
        },
    }
}

/// Puts the client into the group.
pub fn join_group(client: ClientId, group: &str) -> Question<()> {
    done(Asked::JoinGroup(group_change(client, group)))
}

/// Takes the client out of the group.
pub fn leave_group(client: ClientId, group: &str) -> Question<()> {
    done(Asked::LeaveGroup(group_change(client, group)))
}

/// Asks whether the client is connected.
pub fn is_online(client: ClientId) -> Question<bool> {
    flag(Asked::IsOnline(client_bytes(client)))
}

/// Closes the client's connection.
pub fn close_client(client: ClientId, ending: &registry::Ending) -> Question<()> {
    done(Asked::CloseClient(wire::CloseClient {
        client: client_bytes(client),
        ending: Some(wire_ending(ending)),
    }))
}

/// Asks for the client's state.
pub fn client_status(client: ClientId) -> Question<ClientStatus> {
    Question {
        question: Asked::GetClient(client_bytes(client)),
        read: |answer| match answer {
            Answer::Client(client) => Some(client.into()),
            _ => None,
        },
    }
}

/// Asks for a part of all clients of the plugin there.
pub fn all_clients(
    after: Option<ClientId>,
    from: Option<IpNet>,
    limit: usize,
) -> Question<Listed<ClientId>> {
    Question {
        question: Asked::ListClients(wire::ListClients {
            after: after.map(client_bytes).unwrap_or_default(),
            limit: u32::try_from(limit).unwrap_or(u32::MAX),
            network: from.map(|from| from.to_string()).unwrap_or_default(),
        }),
        read: listed_clients,
    }
}

/// Asks for the next steps of a live trace.
pub fn read_trace(request: &TraceRequest) -> Question<Vec<TraceStep>> {
    Question {
        question: Asked::ReadTrace(wire::ReadTrace {
            trace: request.trace,
            target: Some(match &request.target {
                TraceTarget::Client(client) => Target::Client(client_bytes(*client)),
                TraceTarget::Uid(uid) => Target::Uid(uid.clone()),
                TraceTarget::Share(share) => Target::Share(*share),
            }),
            with_payloads: request.with_payloads,
            is_recording: request.is_recording,
            is_again: request.is_again,
        }),
        read: |answer| match answer {
            Answer::TraceRead(read) => Some(read.steps),
            _ => None,
        },
    }
}

/// Asks the old node of a client that has come back here what the client has.
pub fn take_client(client: ClientId, shown: ShownToken) -> Question<HeldClient> {
    Question {
        question: Asked::TakeClient(wire::TakeClient {
            client: client_bytes(client),
            secret: shown.secret.into(),
            received: shown.received,
            is_checked: shown.shown_uid.is_some(),
            shown_uid: shown.shown_uid.flatten(),
        }),
        read: |answer| match answer {
            Answer::HeldClient(held) => Some(held.into()),
            _ => None,
        },
    }
}

/// Asks the old node of a client for all that the client has not received, once these nodes have
/// switched.
pub fn give_client(client: ClientId, nodes: &[Incarnation]) -> Question<GivenClient> {
    Question {
        question: Asked::GiveClient(wire::GiveClient {
            client: client_bytes(client),
            nodes: nodes.iter().map(|node| node.to_u64()).collect(),
        }),
        read: |answer| match answer {
            Answer::GivenClient(given) => given_client(given),
            _ => None,
        },
    }
}

/// Asks for the client's info.
pub fn info(client: ClientId) -> Question<BTreeMap<String, String>> {
    whole_info(Asked::GetInfo(client_bytes(client)))
}

/// Replaces the client's info.
pub fn set_info(client: ClientId, info: BTreeMap<String, String>) -> Question<()> {
    done(Asked::SetInfo(wire::SetInfo {
        client: client_bytes(client),
        info: info.into_iter().collect(),
    }))
}

/// Sets each key to its value, or deletes it; answers with the whole info.
pub fn update_info(
    client: ClientId,
    changes: Vec<(String, Option<String>)>,
) -> Question<BTreeMap<String, String>> {
    let change = |(key, value)| wire::Change { key, value };
    whole_info(Asked::UpdateInfo(wire::UpdateInfo {
        client: client_bytes(client),
        changes: changes.into_iter().map(change).collect(),
    }))
}

/// Lists the clients with this uid, or in this group, from the one after `after` on.
pub fn clients(
    kind: Kind,
    name: &str,
    after: Option<ClientId>,
    limit: usize,
) -> Question<Listed<ClientId>> {
    let after = after.map(client_bytes).unwrap_or_default();
    let list = list(name, after, limit);
    Question {
        question: match kind {
            Kind::Uid => Asked::UidClients(list),
            Kind::Group => Asked::GroupClients(list),
        },
        read: listed_clients,
    }
}

/// Lists the uids in this group, from the one after `after` on.
pub fn group_uids(group: &str, after: Option<&str>, limit: usize) -> Question<Listed<String>> {
    let after = Bytes::copy_from_slice(after.unwrap_or_default().as_bytes());
    Question {
        question: Asked::GroupUids(list(group, after, limit)),
        read: |answer| {
            let (items, more) = listed(answer)?;
            let items = items.iter();
            let items = items.map(|uid| String::from_utf8_lossy(uid).into_owned());
            Some(Listed {
                items: items.collect(),
                more,
            })
        },
    }
}

/// Counts the different uids in the group: a number for those that no other node has.
pub fn group_uid_count(group: &str) -> Question<wire::UidCount> {
    Question {
        question: Asked::GroupUidCount(group.to_owned()),
        read: |answer| match answer {
            Answer::UidCount(count) => Some(count),
            _ => None,
        },
    }
}

/// Takes all clients out of the group; answers how many there were.
pub fn ungroup(group: &str) -> Question<u64> {
    count(Asked::Ungroup(group.to_owned()))
}

/// Closes all clients with this uid, or in this group; answers how many there were.
pub fn close_all(kind: Kind, name: &str, ending: &registry::Ending) -> Question<u64> {
    let close = wire::CloseMany {
        name: name.to_owned(),
        ending: Some(wire_ending(ending)),
    };
    count(match kind {
        Kind::Uid => Asked::CloseUid(close),
        Kind::Group => Asked::CloseGroup(close),
    })
}

fn done(question: Asked) -> Question<()> {
    Question {
        question,
        read: |answer| matches!(answer, Answer::Done(_)).then_some(()),
    }
}

fn flag(question: Asked) -> Question<bool> {
    Question {
        question,
        read: |answer| match answer {
            Answer::Flag(flag) => Some(flag),
            _ => None,
        },
    }
}

fn count(question: Asked) -> Question<u64> {
    Question {
        question,
        read: |answer| match answer {
            Answer::Count(count) => Some(count),
            _ => None,
        },
    }
}

fn whole_info(question: Asked) -> Question<BTreeMap<String, String>> {
    Question {
        question,
        read: |answer| match answer {
            Answer::Info(answer) => Some(answer.info.into_iter().collect()),
            _ => None,
        },
    }
}

fn group_change(client: ClientId, group: &str) -> wire::GroupChange {
    wire::GroupChange {
        client: client_bytes(client),
        group: group.to_owned(),
    }
}

fn list(name: &str, after: Bytes, limit: usize) -> wire::List {
    wire::List {
        name: name.to_owned(),
        after,
        limit: u32::try_from(limit).unwrap_or(u32::MAX),
    }
}

fn listed_clients(answer: Answer) -> Option<Listed<ClientId>> {
    let (items, more) = listed(answer)?;
    let items = items.iter().filter_map(|bytes| wire::client(bytes));
    Some(Listed {
        items: items.collect(),
        more,
    })
}

fn listed(answer: Answer) -> Option<(Vec<Bytes>, bool)> {
    match answer {
        Answer::Listed(listed) => Some((listed.items, listed.more)),
        _ => None,
    }
}

fn wire_ending(ending: &registry::Ending) -> wire::Ending {
    let close = ending.close();
    wire::Ending {
        code: close.code.into(),
        reason: close.reason.clone(),
        last_message: ending
            .last_message()
            .map(crate::message::Frame::to_bytes)
            .unwrap_or_default(),
    }
}
