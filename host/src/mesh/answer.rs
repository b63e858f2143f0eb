//! Answers to peers' questions about the clients of this node.
//!
//! Nothing here waits for other nodes. Work on very many clients lets other tasks run now and then.
//! Every change of uids or groups is told to all peers before the answer (`Mesh::tell`), on the
//! same link. A peer that has its answer therefore sees its own change.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::state::Mesh;
use super::wire::{
    self, NotUnderstood, answer::Answer, ask::Question, read_trace, refused::Reason,
};
use crate::close_code::CloseCode;
use crate::id::ClientId;
use crate::limits::PAGE_ITEMS;
use crate::live_trace::{PATIENCE, TraceRequest, TraceTarget};
use crate::message::Frame;
use crate::registry::{Close, Closer, Ending, Kind, Namespace, Refused};

type Answered = Result<Result<Answer, Refused>, NotUnderstood>;

impl Mesh {
    pub(super) async fn answer(&self, ask: wire::Ask) -> Answer {
        let wire::Ask {
            plugin, question, ..
        } = ask;
        let answered = match (question, self.registry.namespace(&plugin)) {
            (Some(question), Some(namespace)) => self.answer_of(&namespace, question).await,
            (Some(question), None) => nobody(&question),
            (None, _) => Err(NotUnderstood),
        };
        match answered {
            Ok(Ok(answer)) => answer,
            Ok(Err(refused)) => Answer::Refused(refused.into()),
            Err(NotUnderstood) => Answer::Refused(wire::Refused {
                reason: Reason::Internal.into(),
                message: "this node does not understand the question".to_owned(),
            }),
        }
    }

    async fn answer_of(&self, namespace: &Namespace, question: Question) -> Answered {
        let done = |()| Answer::Done(wire::Done::default());
        Ok(match question {
            Question::BindUid(wire::BindUid { client: id, uid }) => {
                self.bind_uid(namespace, client(&id)?, &uid).map(done)
            }
            Question::UnbindUid(wire::UnbindUid { client: id, uid }) => {
                let uid = Some(&*uid).filter(|uid| !uid.is_empty());
                namespace.unbind_uid(client(&id)?, uid).map(Answer::Flag)
            }
            Question::JoinGroup(wire::GroupChange { client: id, group }) => {
                namespace.join_group(client(&id)?, &group).map(done)
            }
            Question::LeaveGroup(wire::GroupChange { client: id, group }) => {
                namespace.leave_group(client(&id)?, &group).map(done)
            }
            Question::GetUid(id) => namespace
                .uid(client(&id)?)
                .map(|uid| Answer::Uid(wire::OptionalUid { uid })),
            Question::IsOnline(id) => Ok(Answer::Flag(namespace.is_online(client(&id)?))),
            Question::GetClient(id) => namespace
                .client_status(client(&id)?)
                .map(|status| Answer::Client(status.into())),
            Question::ListClients(list) => {
                let from = match &*list.network {
                    "" => None,
                    network => Some(network.parse().map_err(|_| NotUnderstood)?),
                };
                let (after, limit) = (after(&list.after)?, limit(list.limit));
                Ok(listed(
                    namespace.all_clients_after(after, from, limit).await,
                ))
            }
            Question::ReadTrace(read) => {
                let request = trace_request(read)?;
                match namespace.read_trace(&request, self.trace_patience()).await {
                    Ok(steps) => Ok(Answer::TraceRead(wire::TraceRead { steps })),
                    Err(error) => Ok(Answer::Refused(wire::Refused {
                        reason: Reason::LimitExceeded.into(),
                        message: error.to_string(),
                    })),
                }
            }
            Question::GetInfo(id) => namespace.info(client(&id)?).map(info),
            Question::SetInfo(wire::SetInfo { client: id, info }) => namespace
                .set_info(client(&id)?, info.into_iter().collect())
                .map(done),
            Question::UpdateInfo(wire::UpdateInfo {
                client: id,
                changes,
            }) => {
                let changes = changes.into_iter().map(|c| (c.key, c.value)).collect();
                namespace.update_info(client(&id)?, changes).map(info)
            }
            Question::CloseClient(wire::CloseClient { client: id, ending }) => namespace
                .close_client(client(&id)?, &to_ending(ending)?)
                .map(done),
            Question::CloseUid(wire::CloseMany { name, ending }) => {
                let ending = to_ending(ending)?;
                Ok(Answer::Count(
                    namespace.close_all(Kind::Uid, &name, &ending).await,
                ))
            }
            Question::CloseGroup(wire::CloseMany { name, ending }) => {
                let ending = to_ending(ending)?;
                Ok(Answer::Count(
                    namespace.close_all(Kind::Group, &name, &ending).await,
                ))
            }
            Question::Ungroup(group) => Ok(Answer::Count(namespace.ungroup(&group).await)),
            Question::UidClients(list) => clients(namespace, Kind::Uid, &list).map(Ok)?,
            Question::GroupClients(list) => clients(namespace, Kind::Group, &list).map(Ok)?,
            Question::GroupUids(list) => {
                let after = std::str::from_utf8(&list.after).map_err(|_| NotUnderstood)?;
                let after = Some(after).filter(|after| !after.is_empty());
                let (uids, more) = namespace
                    .group_uids_after(&list.name, after, limit(list.limit))
                    .await;
                let items = uids
                    .iter()
                    .map(|uid| Bytes::copy_from_slice(uid.as_bytes()));
                Ok(Answer::Listed(wire::Listed {
                    items: items.collect(),
                    more,
                }))
            }
            Question::TakeClient(take) => self.take_client(namespace.name(), take).await?,
            Question::GiveClient(give) => self.give_client(namespace.name(), give).await?,
            Question::GroupUidCount(group) => {
                Ok(Answer::UidCount(self.uid_count(namespace, &group).await))
            }
        })
    }

    /// How long a node waits for steps of a live trace before it answers that there are none. Whoever
    /// asks waits longer.
    fn trace_patience(&self) -> Duration {
        (self.limits().ask_timeout / 2).min(PATIENCE)
    }

    /// Binds a uid to a client of this node. Clients that have the uid at other nodes count too.
    ///
    /// # Errors
    ///
    /// The client is not on this node, or the namespace refuses the uid.
    pub fn bind_uid(&self, namespace: &Namespace, id: ClientId, uid: &str) -> Result<(), Refused> {
        let space = self.interest.space(namespace.name());
        let holders = space.map(|space| space.holders(Kind::Uid, uid));
        let elsewhere = holders.iter().flatten().map(|h| u64::from(h.clients)).sum();
        namespace.bind_uid(id, uid, elsewhere)?;
        self.claim(namespace.name(), uid);
        Ok(())
    }

    /// Counts the different uids in a group on this node. Uids that no other node holds are only a
    /// number; uids that other nodes hold too are listed by name.
    pub async fn uid_count(&self, namespace: &Namespace, group: &str) -> wire::UidCount {
        let space = self.interest.space(namespace.name());
        let is_shared = |uid: &str| {
            let space = space.as_ref();
            space.is_some_and(|space| !space.holders(Kind::Uid, uid).is_empty())
        };
        let (shared, own): (Vec<_>, Vec<_>) = namespace
            .group_uids(group)
            .await
            .into_iter()
            .partition(|uid| is_shared(uid));
        wire::UidCount {
            own: own.len() as u64,
            shared: shared.iter().map(|uid| uid.to_string()).collect(),
        }
    }
}

/// Returns the answer of a node that has no such plugin, and thus none of the plugin's clients.
fn nobody(question: &Question) -> Answered {
    let id = match question {
        Question::IsOnline(_) => return Ok(Ok(Answer::Flag(false))),
        Question::CloseUid(_) | Question::CloseGroup(_) | Question::Ungroup(_) => {
            return Ok(Ok(Answer::Count(0)));
        }
        Question::UidClients(_)
        | Question::GroupClients(_)
        | Question::GroupUids(_)
        | Question::ListClients(_) => {
            return Ok(Ok(Answer::Listed(wire::Listed::default())));
        }
        Question::GroupUidCount(_) => return Ok(Ok(Answer::UidCount(wire::UidCount::default()))),
        Question::ReadTrace(_) => return Ok(Ok(Answer::TraceRead(wire::TraceRead::default()))),
        Question::BindUid(of) => &of.client,
        Question::UnbindUid(of) => &of.client,
        Question::JoinGroup(of) | Question::LeaveGroup(of) => &of.client,
        Question::GetUid(id) | Question::GetInfo(id) | Question::GetClient(id) => id,
        Question::SetInfo(of) => &of.client,
        Question::UpdateInfo(of) => &of.client,
        Question::CloseClient(of) => &of.client,
        Question::TakeClient(of) => &of.client,
        Question::GiveClient(of) => &of.client,
    };
    Ok(Err(Refused::NotFound(client(id)?)))
}

fn trace_request(read: wire::ReadTrace) -> Result<TraceRequest, NotUnderstood> {
    Ok(TraceRequest {
        trace: read.trace,
        target: match read.target.ok_or(NotUnderstood)? {
            read_trace::Target::Client(id) => TraceTarget::Client(client(&id)?),
            read_trace::Target::Uid(uid) => TraceTarget::Uid(uid),
            read_trace::Target::Share(share) => TraceTarget::Share(share),
        },
        with_payloads: read.with_payloads,
        is_recording: read.is_recording,
        is_again: read.is_again,
    })
}

fn client(bytes: &[u8]) -> Result<ClientId, NotUnderstood> {
    wire::client(bytes).ok_or(NotUnderstood)
}

fn limit(asked: u32) -> usize {
    usize::try_from(asked).unwrap_or(PAGE_ITEMS).min(PAGE_ITEMS)
}

fn clients(namespace: &Namespace, kind: Kind, list: &wire::List) -> Result<Answer, NotUnderstood> {
    let (after, limit) = (after(&list.after)?, limit(list.limit));
    Ok(listed(
        namespace.clients_after(kind, &list.name, after, limit),
    ))
}

/// The client after which a part of a list begins.
fn after(bytes: &[u8]) -> Result<Option<ClientId>, NotUnderstood> {
    match bytes {
        [] => Ok(None),
        bytes => client(bytes).map(Some),
    }
}

fn listed((ids, more): (Vec<ClientId>, bool)) -> Answer {
    Answer::Listed(wire::Listed {
        items: ids.into_iter().map(wire::client_bytes).collect(),
        more,
    })
}

fn info(info: BTreeMap<String, String>) -> Answer {
    Answer::Info(wire::Info {
        info: info.into_iter().collect(),
    })
}

fn to_ending(ending: Option<wire::Ending>) -> Result<Ending, NotUnderstood> {
    let wire::Ending {
        code,
        reason,
        last_message,
    } = ending.ok_or(NotUnderstood)?;
    let last_message = match last_message.is_empty() {
        true => None,
        false => Some(Frame::from_wire(last_message).ok_or(NotUnderstood)?),
    };
    let code = CloseCode::from(u16::try_from(code).map_err(|_| NotUnderstood)?);
    if !code.may_be_sent() || reason.len() > crate::message::CLOSE_REASON_BYTES {
        return Err(NotUnderstood);
    }
    let by = Closer::Plugin;
    Ok(Ending::new(Close { code, reason, by }, last_message))
}

impl From<Refused> for wire::Refused {
    fn from(refused: Refused) -> wire::Refused {
        let reason = match &refused {
            Refused::NotFound(_) => Reason::NotFound,
            Refused::Taken(_) => Reason::Taken,
            Refused::LimitExceeded { .. } => Reason::LimitExceeded,
            Refused::Overloaded(_) => Reason::Internal,
        };
        wire::Refused {
            reason: reason.into(),
            message: refused.to_string(),
        }
    }
}
