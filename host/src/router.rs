//! The router: here, there, or both.
//!
//! What a plugin calls goes to the clients of this node and to the nodes that hold the rest.
//! Sends never wait. Counts are answered from memory. What concerns one client is asked of its
//! node, which the id names; lists and orders for many go to all holders at once, and a node
//! that does not answer in time is named in `missing`.

mod arguments;
mod refused;

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::join_all;

use crate::delivery::Delivery;
use crate::id::{ClientId, Incarnation};
use crate::limits::PAGE_ITEMS;
use crate::mesh::{Answer, Ask, Mesh, Reason, Space, Unanswered, ask};
use crate::message::{Frame, Message};
use crate::registry::{Ending, Info, Kind, Namespace};

use self::arguments::{check_count, invalid};

pub use self::arguments::{client_id, ending, excluded, page_limit, schedule};
pub use self::refused::Refused;

/// One plugin's way to its clients, wherever they are.
#[derive(Clone)]
pub struct Router {
    namespace: Arc<Namespace>,
    mesh: Option<Arc<Mesh>>,
}

/// Something gathered in the whole cluster.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Gathered<T> {
    /// What there is, as far as nodes have answered.
    pub value: T,
    /// The nodes that have not.
    pub missing: Vec<Incarnation>,
}

/// Whom a delivery reached.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// Clients here whose outbox took it, and those that other nodes have told of.
    pub clients: u64,
    /// Clients here that lost it because their outbox was full.
    pub dropped: u64,
    /// Nodes that could not be told.
    pub missing: Vec<Incarnation>,
}

/// A part of a list.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// At most as many as asked for, in order.
    pub items: Vec<String>,
    /// Where the next page goes on; none: this was the last.
    pub next: Option<String>,
}

impl Router {
    /// The way to the clients of one plugin.
    pub fn new(namespace: Arc<Namespace>, mesh: Option<Arc<Mesh>>) -> Router {
        Router { namespace, mesh }
    }

    /// The plugin's clients on this node.
    pub fn namespace(&self) -> &Arc<Namespace> {
        &self.namespace
    }

    // Arguments.

    /// Encodes a message, if an outbox could hold it.
    pub fn frame(&self, message: Message<'_>) -> Result<Frame, Refused> {
        let frame = Frame::message(message);
        let limit = self.namespace.shared().limits().outbox_bytes;
        match frame.as_bytes().len() {
            bytes if bytes > limit => Err(Refused::TooLarge { bytes, limit }),
            _ => Ok(frame),
        }
    }

    /// A name that there may be, of a uid, a group or a timer.
    pub fn check_name(&self, what: &str, name: &str) -> Result<(), Refused> {
        let limit = self.namespace.shared().limits().name_bytes;
        match name.len() {
            0 => Err(invalid(format!("the {what} is empty"))),
            bytes if bytes > limit => Err(invalid(format!(
                "the {what} has {bytes} bytes, more than {limit} (name_bytes)"
            ))),
            _ => Ok(()),
        }
    }

    /// As many of them as one call may name.
    pub fn check_names(&self, what: &str, names: &[String]) -> Result<(), Refused> {
        check_count(what, names.len())?;
        names
            .iter()
            .try_for_each(|name| self.check_name(what.trim_end_matches('s'), name))
    }

    // Sends.

    /// Queues a delivery for each client it is for, once, here and elsewhere.
    pub fn deliver(&self, delivery: &Delivery<'_>) -> Reached {
        let here = self.namespace.deliver(delivery);
        let mut reached = Reached {
            clients: here.clients,
            dropped: here.dropped,
            missing: Vec::new(),
        };
        if let Some(mesh) = &self.mesh {
            let there = mesh.forward(self.namespace.name(), delivery);
            reached.clients += there.clients;
            reached.missing = mesh.unknown();
            reached.missing.extend(there.missing);
            reached.missing.sort_unstable();
            reached.missing.dedup();
        }
        reached
    }

    /// Queues a frame for one client: in its outbox, or in the link to its node.
    pub fn send_to(&self, id: ClientId, frame: Frame) -> Result<(), Refused> {
        match self.elsewhere(id) {
            Some(mesh) => Ok(mesh.forward_to_client(self.namespace.name(), id, &frame)?),
            None => {
                let client = self.namespace.find(id)?;
                Ok(self.namespace.send_to(&client, frame)?)
            }
        }
    }

    /// Whether this node is the one that fires a timer of the cluster.
    pub fn fires(&self, timer: &str) -> bool {
        let mesh = self.mesh.as_ref();
        mesh.is_none_or(|mesh| mesh.fires(&self.namespace, timer))
    }

    // One client.

    /// Gives the client this uid in place of the one it had.
    pub async fn bind_uid(&self, id: ClientId, uid: &str) -> Result<(), Refused> {
        match (self.elsewhere(id), &self.mesh) {
            (None, None) => Ok(self.namespace.bind_uid(id, uid, 0)?),
            (None, Some(mesh)) => Ok(mesh.bind_uid(&self.namespace, id, uid)?),
            (Some(mesh), _) => {
                let (client, uid) = (ask::client_bytes(id), uid.to_owned());
                self.done(mesh, id, Ask::BindUid(ask::BindUid { client, uid }))
                    .await
            }
        }
    }

    /// Takes the client's uid away; with `uid` given, only if it is that one.
    pub async fn unbind_uid(&self, id: ClientId, uid: Option<&str>) -> Result<bool, Refused> {
        let Some(mesh) = self.elsewhere(id) else {
            return Ok(self.namespace.unbind_uid(id, uid)?);
        };
        let (client, uid) = (ask::client_bytes(id), uid.unwrap_or_default().to_owned());
        match self
            .at(mesh, id, Ask::UnbindUid(ask::UnbindUid { client, uid }))
            .await?
        {
            Answer::Flag(unbound) => Ok(unbound),
            _ => Err(nonsense()),
        }
    }

    /// The client's uid, if it has one.
    pub async fn uid(&self, id: ClientId) -> Result<Option<String>, Refused> {
        let Some(mesh) = self.elsewhere(id) else {
            return Ok(self.namespace.uid(id)?);
        };
        match self
            .at(mesh, id, Ask::GetUid(ask::client_bytes(id)))
            .await?
        {
            Answer::Uid(answer) => Ok(answer.uid),
            _ => Err(nonsense()),
        }
    }

    /// Puts the client into the group.
    pub async fn join_group(&self, id: ClientId, group: &str) -> Result<(), Refused> {
        let Some(mesh) = self.elsewhere(id) else {
            return Ok(self.namespace.join_group(id, group)?);
        };
        let (client, group) = (ask::client_bytes(id), group.to_owned());
        self.done(mesh, id, Ask::JoinGroup(ask::GroupChange { client, group }))
            .await
    }

    /// Takes the client out of the group; not being in it is fine.
    pub async fn leave_group(&self, id: ClientId, group: &str) -> Result<(), Refused> {
        let Some(mesh) = self.elsewhere(id) else {
            return Ok(self.namespace.leave_group(id, group)?);
        };
        let (client, group) = (ask::client_bytes(id), group.to_owned());
        self.done(
            mesh,
            id,
            Ask::LeaveGroup(ask::GroupChange { client, group }),
        )
        .await
    }

    /// Whether the client is connected and not being closed.
    pub async fn is_online(&self, id: ClientId) -> Result<bool, Refused> {
        let Some(mesh) = self.elsewhere(id) else {
            return Ok(self.namespace.is_online(id));
        };
        match self
            .at(mesh, id, Ask::IsOnline(ask::client_bytes(id)))
            .await
        {
            Ok(Answer::Flag(is_online)) => Ok(is_online),
            Ok(_) => Err(nonsense()),
            // Its clients have gone with it.
            Err(Refused::Unanswered(Unanswered::NoNode(_))) => Ok(false),
            Err(refused) => Err(refused),
        }
    }

    /// Closes one client.
    pub async fn close_client(&self, id: ClientId, ending: &Ending) -> Result<(), Refused> {
        let Some(mesh) = self.elsewhere(id) else {
            return Ok(self.namespace.close_client(id, ending)?);
        };
        let (client, ending) = (ask::client_bytes(id), Some(ask::ending(ending)));
        self.done(
            mesh,
            id,
            Ask::CloseClient(ask::CloseClient { client, ending }),
        )
        .await
    }

    /// The client's info.
    pub async fn info(&self, id: ClientId) -> Result<Info, Refused> {
        let Some(mesh) = self.elsewhere(id) else {
            return Ok(self.namespace.info(id)?);
        };
        match self
            .at(mesh, id, Ask::GetInfo(ask::client_bytes(id)))
            .await?
        {
            Answer::Info(answer) => Ok(answer.info.into_iter().collect()),
            _ => Err(nonsense()),
        }
    }

    /// Replaces the client's info.
    pub async fn set_info(&self, id: ClientId, info: Info) -> Result<(), Refused> {
        let Some(mesh) = self.elsewhere(id) else {
            return Ok(self.namespace.set_info(id, info)?);
        };
        let (client, info) = (ask::client_bytes(id), info.into_iter().collect());
        self.done(mesh, id, Ask::SetInfo(ask::SetInfo { client, info }))
            .await
    }

    /// Sets each key to its value, deletes those given as none, and answers the whole.
    pub async fn update_info(
        &self,
        id: ClientId,
        changes: Vec<(String, Option<String>)>,
    ) -> Result<Info, Refused> {
        let Some(mesh) = self.elsewhere(id) else {
            return Ok(self.namespace.update_info(id, changes)?);
        };
        let client = ask::client_bytes(id);
        let changes = changes
            .into_iter()
            .map(|(key, value)| ask::Change { key, value });
        let changes = changes.collect();
        let ask = Ask::UpdateInfo(ask::UpdateInfo { client, changes });
        match self.at(mesh, id, ask).await? {
            Answer::Info(answer) => Ok(answer.info.into_iter().collect()),
            _ => Err(nonsense()),
        }
    }

    // Numbers, from memory.

    /// Whether any client has this uid.
    pub fn is_uid_online(&self, uid: &str) -> bool {
        self.count(Kind::Uid, uid).value > 0
    }

    /// How many clients are in the group.
    pub fn group_count(&self, group: &str) -> Gathered<u64> {
        self.count(Kind::Group, group)
    }

    /// How many clients there are.
    pub fn client_count(&self) -> Gathered<u64> {
        let there = self.space().map(|space| space.nodes());
        let there = there
            .iter()
            .flatten()
            .map(|holder| u64::from(holder.clients));
        Gathered {
            value: self.namespace.client_count() + there.sum::<u64>(),
            missing: self.unknown(),
        }
    }

    /// All names that some client has, uids or groups.
    pub fn names(
        &self,
        kind: Kind,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Gathered<Page>, Refused> {
        let after = after(cursor)?;
        // One more than asked for says whether there is another page.
        let mut names = self.namespace.names_after(kind, after, limit + 1);
        if let Some(space) = self.space() {
            names.extend(space.names_after(kind, after, limit + 1));
        }
        let names: BTreeSet<Arc<str>> = names.into_iter().collect();
        let page = Page::of(names.into_iter().map(|name| name.to_string()), limit, false);
        let missing = self.unknown();
        Ok(Gathered {
            value: page.mark("after:"),
            missing,
        })
    }

    // Many clients: holders are asked, all at once.

    /// The clients with this uid, or in this group.
    pub async fn clients(
        &self,
        kind: Kind,
        name: &str,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Gathered<Page>, Refused> {
        let after = cursor.map(str::parse::<ClientId>).transpose();
        let after = after.map_err(|_| Refused::MalformedCursor)?;
        let list = ask::List {
            name: name.to_owned(),
            after: after.map(ask::client_bytes).unwrap_or_default(),
            limit: u32::try_from(limit.min(PAGE_ITEMS)).unwrap_or(u32::MAX),
        };
        let ask = match kind {
            Kind::Uid => Ask::UidClients(list),
            Kind::Group => Ask::GroupClients(list),
        };
        let (mut clients, mut more) = self.namespace.clients_after(kind, name, after, limit);
        let gathered = self.gather(kind, name, ask).await;
        for answer in gathered.value {
            let Answer::Listed(listed) = answer else {
                continue;
            };
            more |= listed.more;
            clients.extend(listed.items.iter().filter_map(|bytes| ask::client(bytes)));
        }
        // A node's clients follow one another: the incarnation comes first in an id.
        clients.sort_unstable();
        let items = clients.into_iter().map(|client| client.to_string());
        Ok(Gathered {
            value: Page::of(items, limit, more),
            missing: gathered.missing,
        })
    }

    /// The uids in the group, each once.
    pub async fn group_uids(
        &self,
        group: &str,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Gathered<Page>, Refused> {
        let after = after(cursor)?;
        let list = ask::List {
            name: group.to_owned(),
            after: after.unwrap_or_default().as_bytes().to_vec().into(),
            limit: u32::try_from(limit.min(PAGE_ITEMS)).unwrap_or(u32::MAX),
        };
        let (here, mut more) = self.namespace.group_uids_after(group, after, limit).await;
        let mut uids: BTreeSet<String> = here.iter().map(|uid| uid.to_string()).collect();
        let gathered = self.gather(Kind::Group, group, Ask::GroupUids(list)).await;
        for answer in gathered.value {
            let Answer::Listed(listed) = answer else {
                continue;
            };
            more |= listed.more;
            let there = listed
                .items
                .iter()
                .map(|uid| String::from_utf8_lossy(uid).into_owned());
            uids.extend(there);
        }
        Ok(Gathered {
            value: Page::of(uids.into_iter(), limit, more).mark("after:"),
            missing: gathered.missing,
        })
    }

    /// How many different uids are in the group.
    pub async fn group_uid_count(&self, group: &str) -> Gathered<u64> {
        let Some(mesh) = &self.mesh else {
            let value = self.namespace.group_uids(group).await.len() as u64;
            return Gathered {
                value,
                missing: Vec::new(),
            };
        };
        let here = mesh.uid_count(&self.namespace, group).await;
        let ask = Ask::GroupUidCount(group.to_owned());
        let gathered = self.gather(Kind::Group, group, ask).await;
        let mut own = here.own;
        let mut shared: BTreeSet<String> = here.shared.into_iter().collect();
        for answer in gathered.value {
            if let Answer::UidCount(there) = answer {
                own += there.own;
                shared.extend(there.shared);
            }
        }
        Gathered {
            value: own + shared.len() as u64,
            missing: gathered.missing,
        }
    }

    /// Takes every member out of the group, and counts them.
    pub async fn ungroup(&self, group: &str) -> Gathered<u64> {
        let here = self.namespace.ungroup(group).await;
        let ask = Ask::Ungroup(group.to_owned());
        sum(here, self.gather(Kind::Group, group, ask).await)
    }

    /// Closes every client of the uid, or in the group, and counts them.
    pub async fn close_all(&self, kind: Kind, name: &str, ending: &Ending) -> Gathered<u64> {
        let here = self.namespace.close_all(kind, name, ending).await;
        let close = ask::CloseMany {
            name: name.to_owned(),
            ending: Some(ask::ending(ending)),
        };
        let ask = match kind {
            Kind::Uid => Ask::CloseUid(close),
            Kind::Group => Ask::CloseGroup(close),
        };
        sum(here, self.gather(kind, name, ask).await)
    }

    fn count(&self, kind: Kind, name: &str) -> Gathered<u64> {
        let there = self.space().map(|space| space.holders(kind, name));
        let there = there
            .iter()
            .flatten()
            .map(|holder| u64::from(holder.clients));
        Gathered {
            value: self.namespace.count(kind, name) + there.sum::<u64>(),
            missing: self.unknown(),
        }
    }

    /// Asks all other nodes that hold the name, at once.
    async fn gather(&self, kind: Kind, name: &str, ask: Ask) -> Gathered<Vec<Answer>> {
        let mut gathered = Gathered::default();
        let (Some(mesh), Some(space)) = (&self.mesh, self.space()) else {
            gathered.missing = self.unknown();
            return gathered;
        };
        let holders = space.holders(kind, name);
        let asked = holders.iter().map(|holder| {
            let ask = ask.clone();
            async move {
                let answer = mesh.ask(holder.node, self.namespace.name(), ask).await;
                (holder.node, answer)
            }
        });
        gathered.missing = mesh.unknown();
        for (node, answer) in join_all(asked).await {
            match answer {
                Ok(Answer::Refused(_)) => gathered.missing.push(node),
                Ok(answer) => gathered.value.push(answer),
                // It has ended, and its clients with it.
                Err(Unanswered::NoNode(_)) => {}
                Err(_) => gathered.missing.push(node),
            }
        }
        gathered.missing.sort_unstable();
        gathered.missing.dedup();
        gathered
    }

    /// The mesh, if the client is another node's.
    fn elsewhere(&self, id: ClientId) -> Option<&Arc<Mesh>> {
        let own = self.namespace.shared().incarnation();
        self.mesh.as_ref().filter(|_| id.incarnation() != own)
    }

    async fn at(&self, mesh: &Mesh, id: ClientId, ask: Ask) -> Result<Answer, Refused> {
        match mesh
            .ask(id.incarnation(), self.namespace.name(), ask)
            .await?
        {
            Answer::Refused(refused) => Err(Refused::There {
                reason: refused.reason(),
                message: refused.message,
            }),
            answer => Ok(answer),
        }
    }

    async fn done(&self, mesh: &Mesh, id: ClientId, ask: Ask) -> Result<(), Refused> {
        match self.at(mesh, id, ask).await? {
            Answer::Done(_) => Ok(()),
            _ => Err(nonsense()),
        }
    }

    fn space(&self) -> Option<Arc<Space>> {
        self.mesh.as_ref()?.interest().space(self.namespace.name())
    }

    fn unknown(&self) -> Vec<Incarnation> {
        self.mesh
            .as_ref()
            .map(|mesh| mesh.unknown())
            .unwrap_or_default()
    }
}

impl Page {
    /// The first `limit` items; the last one's text is the next page's cursor.
    fn of(items: impl Iterator<Item = String>, limit: usize, more: bool) -> Page {
        let mut items: Vec<String> = items.take(limit + 1).collect();
        let more = more || items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).cloned();
        Page { items, next }
    }

    /// The same, with what tells its cursors from client ids.
    fn mark(self, mark: &str) -> Page {
        Page {
            next: self.next.map(|next| format!("{mark}{next}")),
            ..self
        }
    }
}

/// What a cursor of names says.
fn after(cursor: Option<&str>) -> Result<Option<&str>, Refused> {
    let after = cursor.map(|cursor| {
        cursor
            .strip_prefix("after:")
            .ok_or(Refused::MalformedCursor)
    });
    after.transpose()
}

fn sum(here: u64, there: Gathered<Vec<Answer>>) -> Gathered<u64> {
    let counts = there.value.iter().map(|answer| match answer {
        Answer::Count(count) => *count,
        _ => 0,
    });
    Gathered {
        value: here + counts.sum::<u64>(),
        missing: there.missing,
    }
}

/// A peer has answered what nobody asked: another version of it, perhaps.
fn nonsense() -> Refused {
    Refused::There {
        reason: Reason::Internal,
        message: "the client's node answered what it was not asked".to_owned(),
    }
}
