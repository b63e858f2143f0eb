//! The router: it serves the calls of a plugin in the whole cluster.
//!
//! A call goes to the clients of this node and to the nodes that hold the other clients. Messages
//! are sent without waiting, and counts are answered from memory. A question about one client goes
//! to its node, which the client id names. Lists and commands for many clients go to all holders at
//! once; a node that does not answer in time is named in `missing`.
//!
//! Long because each function of the contract that asks other nodes is here, once.

mod arguments;
mod refused;

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::join_all;
use ipnet::IpNet;
use smallvec::SmallVec;

use crate::delivery::Delivery;
use crate::id::{ClientId, Incarnation};
use crate::limits::PAGE_ITEMS;
use crate::live_trace::{PATIENCE, TraceRequest, TraceStep};
use crate::mesh::{AskError, Holder, Listed, Mesh, Question, Space, Unanswered, ask};
use crate::message::{Frame, Message};
use crate::registry::{ClientStatus, Ending, Info, Kind, Namespace};

use self::arguments::{check_count, invalid};

pub use self::arguments::{client_id, ending, excluded, page_limit, schedule};
pub use self::refused::RouterError;

/// The access of one plugin to its clients, on all nodes.
#[derive(Clone)]
pub struct Router {
    namespace: Arc<Namespace>,
    mesh: Option<Arc<Mesh>>,
}

/// A value gathered from the whole cluster.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Gathered<T> {
    /// The value, as far as the nodes have answered.
    pub value: T,
    /// The nodes that have not answered.
    pub missing: Vec<Incarnation>,
}

/// The result of a delivery: how many clients it reached.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// How many clients it reached: those here whose outbox took it, and those that other nodes
    /// hold.
    pub clients: u64,
    /// How many clients here did not get it because their outbox was full.
    pub dropped: u64,
    /// The nodes that could not be reached.
    pub missing: Vec<Incarnation>,
}

/// One page of a list.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The items of the page in order, at most as many as asked for.
    pub items: Vec<String>,
    /// The cursor for the next page; `None` means that this was the last page.
    pub next: Option<String>,
}

impl Router {
    /// A router to the clients of one plugin. Without a `mesh` there is only this node.
    pub fn new(namespace: Arc<Namespace>, mesh: Option<Arc<Mesh>>) -> Router {
        Router { namespace, mesh }
    }

    /// The namespace of the plugin's clients on this node.
    pub fn namespace(&self) -> &Arc<Namespace> {
        &self.namespace
    }

    // Arguments.

    /// Encodes a message, if its frame fits into an outbox.
    ///
    /// # Errors
    ///
    /// The frame is longer than `outbox_bytes`.
    pub fn frame(&self, message: Message<'_>) -> Result<Frame, RouterError> {
        let frame = Frame::message(message);
        let limit = self.namespace.shared().limits().outbox_bytes;
        match frame.as_bytes().len() {
            bytes if bytes > limit => Err(RouterError::TooLarge { bytes, limit }),
            _ => Ok(frame),
        }
    }

    /// Checks the name of a uid, a group or a timer; `what` is the word for it in the error.
    ///
    /// # Errors
    ///
    /// The name is empty, or longer than `name_bytes`.
    pub fn check_name(&self, what: &str, name: &str) -> Result<(), RouterError> {
        let limit = self.namespace.shared().limits().name_bytes;
        match name.len() {
            0 => Err(invalid(format!("the {what} is empty"))),
            bytes if bytes > limit => Err(invalid(format!(
                "the {what} has {bytes} bytes, more than {limit} (name_bytes)"
            ))),
            _ => Ok(()),
        }
    }

    /// Checks the names of one call, and their number.
    ///
    /// # Errors
    ///
    /// There are too many names, or a name is empty or too long.
    pub fn check_names(&self, what: &str, names: &[String]) -> Result<(), RouterError> {
        check_count(what, names.len())?;
        names
            .iter()
            .try_for_each(|name| self.check_name(what.trim_end_matches('s'), name))
    }

    // Sends.

    /// Queues a delivery once for each of its clients, on this node and on others.
    pub fn deliver(&self, delivery: &Delivery<'_>) -> Reached {
        let _routes = self.mesh.as_ref().map(|mesh| mesh.routes());
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
    ///
    /// # Errors
    ///
    /// The client is not connected, or its outbox is full. For a client of another node: that node
    /// is not known, or its link did not take the frame.
    pub fn send_to(&self, id: ClientId, frame: Frame) -> Result<(), RouterError> {
        let _routes = self.mesh.as_ref().map(|mesh| mesh.routes());
        match self.elsewhere(id) {
            Some((mesh, node)) => {
                let plugin = self.namespace.name();
                Ok(mesh.forward_to_client(node, plugin, id, &frame)?)
            }
            None => {
                let client = self.namespace.find(id)?;
                Ok(self.namespace.send_to(&client, frame)?)
            }
        }
    }

    /// Whether this node is the node that fires a timer of the cluster.
    pub fn fires(&self, timer: &str) -> bool {
        let mesh = self.mesh.as_ref();
        mesh.is_none_or(|mesh| mesh.fires(&self.namespace, timer))
    }

    // One client.

    /// Binds the client to a uid, in place of its former uid.
    ///
    /// # Errors
    ///
    /// The client is not connected, its node gives no answer, or the uid can take no further
    /// client.
    pub async fn bind_uid(&self, id: ClientId, uid: &str) -> Result<(), RouterError> {
        match (self.elsewhere(id), &self.mesh) {
            (None, None) => Ok(self.namespace.bind_uid(id, uid, 0)?),
            (None, Some(mesh)) => Ok(mesh.bind_uid(&self.namespace, id, uid)?),
            (Some(at), _) => self.at(at, ask::bind_uid(id, uid)).await,
        }
    }

    /// Removes the client's uid and returns whether there was one. If `uid` is given, only this uid
    /// is removed.
    ///
    /// # Errors
    ///
    /// The client is not connected, or its node gives no answer.
    pub async fn unbind_uid(&self, id: ClientId, uid: Option<&str>) -> Result<bool, RouterError> {
        let Some(at) = self.elsewhere(id) else {
            return Ok(self.namespace.unbind_uid(id, uid)?);
        };
        self.at(at, ask::unbind_uid(id, uid)).await
    }

    /// The client's uid, if it has one.
    ///
    /// # Errors
    ///
    /// The client is not connected, or its node gives no answer.
    pub async fn uid(&self, id: ClientId) -> Result<Option<String>, RouterError> {
        let Some(at) = self.elsewhere(id) else {
            return Ok(self.namespace.uid(id)?);
        };
        self.at(at, ask::uid(id)).await
    }

    /// Puts the client into the group.
    ///
    /// # Errors
    ///
    /// The client is not connected, its node gives no answer, or it is in too many groups.
    pub async fn join_group(&self, id: ClientId, group: &str) -> Result<(), RouterError> {
        let Some(at) = self.elsewhere(id) else {
            return Ok(self.namespace.join_group(id, group)?);
        };
        self.at(at, ask::join_group(id, group)).await
    }

    /// Takes the client out of the group. A client that is not in the group is no error.
    ///
    /// # Errors
    ///
    /// The client is not connected, or its node gives no answer.
    pub async fn leave_group(&self, id: ClientId, group: &str) -> Result<(), RouterError> {
        let Some(at) = self.elsewhere(id) else {
            return Ok(self.namespace.leave_group(id, group)?);
        };
        self.at(at, ask::leave_group(id, group)).await
    }

    /// Whether the client is connected and not being closed.
    ///
    /// # Errors
    ///
    /// The client's node gives no answer. An unknown node is no error: its clients are offline.
    pub async fn is_online(&self, id: ClientId) -> Result<bool, RouterError> {
        let Some(at) = self.elsewhere(id) else {
            return Ok(self.namespace.is_online(id));
        };
        match self.at(at, ask::is_online(id)).await {
            // Its clients have gone with it.
            Err(RouterError::Unanswered(Unanswered::NoNode(_))) => Ok(false),
            answered => answered,
        }
    }

    /// Closes the connection of one client.
    ///
    /// # Errors
    ///
    /// The client is not connected, or its node gives no answer.
    pub async fn close_client(&self, id: ClientId, ending: &Ending) -> Result<(), RouterError> {
        let Some(at) = self.elsewhere(id) else {
            return Ok(self.namespace.close_client(id, ending)?);
        };
        self.at(at, ask::close_client(id, ending)).await
    }

    /// The node that has the client, if any has: the one that has given it its id, or the one that it
    /// has moved to.
    pub fn node_of(&self, id: ClientId) -> Incarnation {
        let own = self.namespace.shared().incarnation();
        self.elsewhere(id).map_or(own, |(_, node)| node)
    }

    /// The nodes that may have clients of the plugin: this one, and those that it knows.
    pub fn nodes(&self) -> Vec<Incarnation> {
        let own = self.namespace.shared().incarnation();
        let others = self.mesh.iter().flat_map(|mesh| mesh.peers());
        let others = others.map(|peer| peer.incarnation());
        std::iter::once(own).chain(others).collect()
    }

    /// Reads the next steps of a live trace on a node, or waits for some for a while. The first read
    /// opens the trace.
    ///
    /// # Errors
    ///
    /// The node gives no answer, or has too many traces.
    pub async fn read_trace(
        &self,
        node: Incarnation,
        request: &TraceRequest,
    ) -> Result<Vec<TraceStep>, RouterError> {
        let own = self.namespace.shared().incarnation();
        match &self.mesh {
            Some(mesh) if node != own => self.at_node(mesh, node, ask::read_trace(request)).await,
            _ => {
                let steps = self.namespace.read_trace(request, PATIENCE).await;
                steps.map_err(|error| RouterError::TooMany(error.to_string()))
            }
        }
    }

    /// The state of the client.
    ///
    /// # Errors
    ///
    /// The client is not connected, or its node gives no answer.
    pub async fn client_status(&self, id: ClientId) -> Result<ClientStatus, RouterError> {
        let Some(at) = self.elsewhere(id) else {
            return Ok(self.namespace.client_status(id)?);
        };
        self.at(at, ask::client_status(id)).await
    }

    /// The info of the client.
    ///
    /// # Errors
    ///
    /// The client is not connected, or its node gives no answer.
    pub async fn info(&self, id: ClientId) -> Result<Info, RouterError> {
        let Some(at) = self.elsewhere(id) else {
            return Ok(self.namespace.info(id)?);
        };
        self.at(at, ask::info(id)).await
    }

    /// Replaces the client's info.
    ///
    /// # Errors
    ///
    /// The client is not connected, its node gives no answer, or the info is too long.
    pub async fn set_info(&self, id: ClientId, info: Info) -> Result<(), RouterError> {
        let Some(at) = self.elsewhere(id) else {
            return Ok(self.namespace.set_info(id, info)?);
        };
        self.at(at, ask::set_info(id, info)).await
    }

    /// Sets each key to its value, deletes the keys whose value is `None`, and returns the whole
    /// info.
    ///
    /// # Errors
    ///
    /// The client is not connected, its node gives no answer, or the info would be too long.
    pub async fn update_info(
        &self,
        id: ClientId,
        changes: Vec<(String, Option<String>)>,
    ) -> Result<Info, RouterError> {
        let Some(at) = self.elsewhere(id) else {
            return Ok(self.namespace.update_info(id, changes)?);
        };
        self.at(at, ask::update_info(id, changes)).await
    }

    // Numbers, from memory.

    /// Whether any client in the cluster has this uid.
    pub fn is_uid_online(&self, uid: &str) -> bool {
        self.count(Kind::Uid, uid).value > 0
    }

    /// The number of clients in the group.
    pub fn group_count(&self, group: &str) -> Gathered<u64> {
        self.count(Kind::Group, group)
    }

    /// The number of clients that the plugin has.
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

    /// A page of the uids or groups that have any clients.
    ///
    /// # Errors
    ///
    /// The cursor is malformed.
    pub fn names(
        &self,
        kind: Kind,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Gathered<Page>, RouterError> {
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

    /// A page of the clients with this uid, or in this group.
    ///
    /// # Errors
    ///
    /// The cursor is malformed.
    pub async fn clients(
        &self,
        kind: Kind,
        name: &str,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Gathered<Page>, RouterError> {
        let after = client_after(cursor)?;
        let question = ask::clients(kind, name, after, limit.min(PAGE_ITEMS));
        let here = self.namespace.clients_after(kind, name, after, limit);
        let there = self.gather(kind, name, question).await;
        Ok(Page::of_clients(here, there, limit))
    }

    /// A page of all clients of the plugin. With `from`, only clients whose address is in that
    /// network.
    ///
    /// # Errors
    ///
    /// The cursor is malformed.
    pub async fn all_clients(
        &self,
        from: Option<IpNet>,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Gathered<Page>, RouterError> {
        let after = client_after(cursor)?;
        let question = ask::all_clients(after, from, limit.min(PAGE_ITEMS));
        let here = self.namespace.all_clients_after(after, from, limit).await;
        let there = self.gather_from(Space::nodes, question).await;
        Ok(Page::of_clients(here, there, limit))
    }

    /// A page of the uids in the group, each listed once.
    ///
    /// # Errors
    ///
    /// The cursor is malformed.
    pub async fn group_uids(
        &self,
        group: &str,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Gathered<Page>, RouterError> {
        let after = after(cursor)?;
        let (here, mut more) = self.namespace.group_uids_after(group, after, limit).await;
        let mut uids: BTreeSet<String> = here.iter().map(|uid| uid.to_string()).collect();
        let question = ask::group_uids(group, after, limit.min(PAGE_ITEMS));
        let gathered = self.gather(Kind::Group, group, question).await;
        for listed in gathered.value {
            more |= listed.more;
            uids.extend(listed.items);
        }
        Ok(Gathered {
            value: Page::of(uids.into_iter(), limit, more).mark("after:"),
            missing: gathered.missing,
        })
    }

    /// The number of different uids in the group.
    pub async fn group_uid_count(&self, group: &str) -> Gathered<u64> {
        let Some(mesh) = &self.mesh else {
            let value = self.namespace.group_uids(group).await.len() as u64;
            return Gathered {
                value,
                missing: Vec::new(),
            };
        };
        let here = mesh.uid_count(&self.namespace, group).await;
        let question = ask::group_uid_count(group);
        let gathered = self.gather(Kind::Group, group, question).await;
        let mut own = here.own;
        let mut shared: BTreeSet<String> = here.shared.into_iter().collect();
        for there in gathered.value {
            own += there.own;
            shared.extend(there.shared);
        }
        Gathered {
            value: own + shared.len() as u64,
            missing: gathered.missing,
        }
    }

    /// Takes every member out of the group, and returns how many there were.
    pub async fn ungroup(&self, group: &str) -> Gathered<u64> {
        let here = self.namespace.ungroup(group).await;
        let there = self.gather(Kind::Group, group, ask::ungroup(group)).await;
        there.sum(here)
    }

    /// Closes every client with this uid, or in this group, and returns how many there were.
    pub async fn close_all(&self, kind: Kind, name: &str, ending: &Ending) -> Gathered<u64> {
        let here = self.namespace.close_all(kind, name, ending).await;
        let question = ask::close_all(kind, name, ending);
        self.gather(kind, name, question).await.sum(here)
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

    /// Asks all other nodes that hold the name, at the same time.
    async fn gather<A>(&self, kind: Kind, name: &str, question: Question<A>) -> Gathered<Vec<A>> {
        self.gather_from(|space| space.holders(kind, name), question)
            .await
    }

    /// Asks these other nodes, at the same time.
    async fn gather_from<A>(
        &self,
        holders: impl FnOnce(&Space) -> SmallVec<[Holder; 1]>,
        question: Question<A>,
    ) -> Gathered<Vec<A>> {
        let mut gathered = Gathered {
            value: Vec::new(),
            missing: Vec::new(),
        };
        let (Some(mesh), Some(space)) = (&self.mesh, self.space()) else {
            gathered.missing = self.unknown();
            return gathered;
        };
        let holders = holders(&space);
        let asked = holders.iter().map(|holder| {
            let question = question.clone();
            async move {
                let answer = mesh.ask(holder.node, self.namespace.name(), question).await;
                (holder.node, answer)
            }
        });
        gathered.missing = mesh.unknown();
        for (node, answer) in join_all(asked).await {
            match answer {
                Ok(answer) => gathered.value.push(answer),
                // It has ended, and its clients with it.
                Err(AskError::Unanswered(Unanswered::NoNode(_))) => {}
                Err(_) => gathered.missing.push(node),
            }
        }
        gathered.missing.sort_unstable();
        gathered.missing.dedup();
        gathered
    }

    /// The mesh and the node of the client, if it belongs to another node: to the one that has given
    /// it its id, or to the one that it has moved to.
    fn elsewhere(&self, id: ClientId) -> Option<(&Arc<Mesh>, Incarnation)> {
        let mesh = self.mesh.as_ref()?;
        let own = self.namespace.shared().incarnation();
        let is_of_this_node = id.incarnation() == own;
        if is_of_this_node && !self.namespace.has_moved_clients() {
            return None;
        }
        if self.namespace.takes_own(id) {
            return None;
        }
        let moved_to = self.space().and_then(|space| space.moved_to(id));
        match moved_to {
            Some(node) => Some((mesh, node)),
            None if is_of_this_node => None,
            None => Some((mesh, id.incarnation())),
        }
    }

    async fn at<A>(
        &self,
        (mesh, node): (&Arc<Mesh>, Incarnation),
        question: Question<A>,
    ) -> Result<A, RouterError> {
        self.at_node(mesh, node, question).await
    }

    async fn at_node<A>(
        &self,
        mesh: &Mesh,
        node: Incarnation,
        question: Question<A>,
    ) -> Result<A, RouterError> {
        let answered = mesh.ask(node, self.namespace.name(), question).await;
        answered.map_err(|error| match error {
            AskError::Unanswered(unanswered) => unanswered.into(),
            AskError::Refused { reason, message } => RouterError::There { reason, message },
        })
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

impl Gathered<Vec<u64>> {
    /// All numbers and this one, added up.
    fn sum(self, here: u64) -> Gathered<u64> {
        Gathered {
            value: here + self.value.iter().sum::<u64>(),
            missing: self.missing,
        }
    }
}

impl Page {
    /// A page of the first `limit` items. The text of the last item is the cursor for the next
    /// page.
    fn of(items: impl Iterator<Item = String>, limit: usize, more: bool) -> Page {
        let mut items: Vec<String> = items.take(limit + 1).collect();
        let more = more || items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).cloned();
        Page { items, next }
    }

    /// A page of the clients of this node and of others.
    fn of_clients(
        (mut clients, mut more): (Vec<ClientId>, bool),
        there: Gathered<Vec<Listed<ClientId>>>,
        limit: usize,
    ) -> Gathered<Page> {
        for listed in there.value {
            more |= listed.more;
            clients.extend(listed.items);
        }
        // A node's clients follow one another: the incarnation comes first in an id.
        clients.sort_unstable();
        let items = clients.into_iter().map(|client| client.to_string());
        Gathered {
            value: Page::of(items, limit, more),
            missing: there.missing,
        }
    }

    /// Adds `mark` to the cursor, so that it cannot be taken for a client id.
    fn mark(self, mark: &str) -> Page {
        Page {
            next: self.next.map(|next| format!("{mark}{next}")),
            ..self
        }
    }
}

/// The client after which a page begins, from its cursor.
fn client_after(cursor: Option<&str>) -> Result<Option<ClientId>, RouterError> {
    let after = cursor.map(str::parse::<ClientId>).transpose();
    after.map_err(|_| RouterError::MalformedCursor)
}

/// The name after which a page begins, from its cursor.
fn after(cursor: Option<&str>) -> Result<Option<&str>, RouterError> {
    let after = cursor.map(|cursor| {
        cursor
            .strip_prefix("after:")
            .ok_or(RouterError::MalformedCursor)
    });
    after.transpose()
}
