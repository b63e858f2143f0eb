//! The register: a server by which nodes learn of each other. Messages never go through it.
//!
//! A node holds a stream to each register for as long as it runs. If the stream breaks, the node
//! stays on the list for `LEASE`, so that it can come back; a node that drains is removed at once.
//! A register that has just started does not know all nodes yet, and says so (`settled`): until
//! then, its list makes nobody forget a node.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::{broadcast, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::accept::incoming;
use super::address::can_be_dialled;
use super::tls;
use super::trust::{self, Purpose, Refusals, Talk, Trust};
use super::wire::register_server::{Register as RegisterService, RegisterServer};
use super::wire::{self, announcement, membership};
use crate::address_share::share_of;
use crate::id::Incarnation;
use crate::pending_connections::Unauthenticated;

/// How long a node whose stream has broken stays on the list.
pub(super) const LEASE: Duration = Duration::from_secs(5);

/// How often each side says that it is alive.
pub(super) const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

/// The most nodes on the list. Further nodes are refused.
pub(super) const MEMBERS: usize = 10_000;

/// The most nodes of one address on the list, so that a mistake at one address does not take all
/// places. Nodes behind a NAT have one address.
const MEMBERS_AN_ADDRESS: usize = 1000;

/// The most nodes in one message. A longer list is told in several messages, so that a node that
/// does not read keeps only one of them in memory.
const MEMBERS_A_MESSAGE: usize = 200;

/// The largest message from a node, in bytes. A node tells its address and a proof.
const MESSAGE_BYTES: usize = 4 << 10;

/// How many changes a slow node may be behind. Beyond that it gets the whole list.
const CHANGES: usize = 1024;

/// The server that lists the nodes of a mesh.
pub struct Register {
    trust: Trust,
    started: Instant,
    list: Mutex<List>,
    /// The log of refused nodes, which try again twice a second.
    refusals: Refusals,
    changes: broadcast::Sender<wire::Changed>,
}

#[derive(Default)]
struct List {
    version: u64,
    members: BTreeMap<u64, ListedNode>,
    /// How many nodes each address has on the list.
    by_address: BTreeMap<IpAddr, usize>,
    next_registration: u64,
}

struct ListedNode {
    address: String,
    /// The address that the node has registered from, if it is known.
    from: Option<IpAddr>,
    /// The number of the node's registration that counts.
    registration: u64,
}

impl Register {
    /// A register with an empty list.
    pub fn new(trust: Trust) -> Arc<Register> {
        Arc::new(Register {
            trust,
            started: Instant::now(),
            list: Mutex::default(),
            refusals: Refusals::default(),
            changes: broadcast::Sender::new(CHANGES),
        })
    }

    /// Serves nodes on `listener`. `files` is the number of open files for their connections.
    ///
    /// # Errors
    ///
    /// The TLS configuration cannot be used, or the server fails.
    pub async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        files: usize,
    ) -> Result<(), tonic::transport::Error> {
        tokio::spawn(self.clone().settle());
        let tls = self.trust.tls.clone();
        let service = RegisterServer::new(RegisterHandler(self));
        let service = service.max_decoding_message_size(MESSAGE_BYTES);
        tls::server()
            .add_service(service)
            .serve_with_incoming(incoming(listener, "register", files, tls))
            .await
    }

    /// Waits for `LEASE`, and then tells all nodes that the list is complete.
    async fn settle(self: Arc<Self>) {
        tokio::time::sleep(LEASE).await;
        self.change(&mut self.list.lock(), Vec::new(), Vec::new());
    }

    fn is_settled(&self) -> bool {
        self.started.elapsed() >= LEASE
    }

    fn change(&self, list: &mut List, joined: Vec<wire::Member>, left: Vec<u64>) {
        list.version += 1;
        let changed = wire::Changed {
            version: list.version,
            settled: self.is_settled(),
            joined,
            left,
        };
        // Nobody listens yet: fine.
        let _ = self.changes.send(changed);
    }

    /// Puts a node on the list that registers `from` this address, and returns the number of its
    /// registration.
    fn join(&self, member: &wire::Member, from: Option<IpAddr>) -> Result<u64, Status> {
        let from = from.map(share_of);
        let mut list = self.list.lock();
        list.check_room(member.incarnation, from)?;
        list.next_registration += 1;
        let registration = list.next_registration;
        let listed = ListedNode {
            address: member.address.clone(),
            from,
            registration,
        };
        let former = list.insert(member.incarnation, listed);
        if former.is_none_or(|former| former.address != member.address) {
            tracing::info!(
                node = %named(member.incarnation),
                address = member.address,
                "a node has joined"
            );
            self.change(&mut list, vec![member.clone()], Vec::new());
        }
        Ok(registration)
    }

    /// Removes a node from the list, unless it has registered again.
    fn leave(&self, incarnation: u64, registration: u64, why: &str) {
        let mut list = self.list.lock();
        if list
            .members
            .get(&incarnation)
            .is_some_and(|listed| listed.registration == registration)
        {
            list.remove(incarnation);
            tracing::info!(node = %named(incarnation), "a node has left: {why}");
            self.change(&mut list, Vec::new(), vec![incarnation]);
        }
    }

    /// A reader of the list and its changes.
    fn watch(&self) -> ListReader {
        ListReader {
            part: Part::First,
            changes: self.changes.subscribe(),
        }
    }

    /// The nodes that come after the node `after`, up to `MEMBERS_A_MESSAGE` of them, and the last
    /// of them if there are more. The list is settled only once it is complete.
    fn part(&self, after: Option<u64>) -> (wire::Snapshot, Option<u64>) {
        let list = self.list.lock();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = list.members.range((from, Bound::Unbounded));
        let members = rest.by_ref().take(MEMBERS_A_MESSAGE);
        let members = members.map(|(incarnation, listed)| wire::Member {
            incarnation: *incarnation,
            address: listed.address.clone(),
        });
        let members: Vec<_> = members.collect();
        let last = members.last().map(|member| member.incarnation);
        let has_more = rest.next().is_some();
        let snapshot = wire::Snapshot {
            version: list.version,
            settled: self.is_settled() && !has_more,
            members,
        };
        (snapshot, last.filter(|_| has_more))
    }
}

impl List {
    fn check_room(&self, incarnation: u64, from: Option<IpAddr>) -> Result<(), Status> {
        let listed = self.members.get(&incarnation);
        if listed.is_none() && self.members.len() >= MEMBERS {
            return Err(Status::resource_exhausted(format!(
                "the register holds {MEMBERS} nodes, as many as it may"
            )));
        }
        let is_counted = listed.is_some_and(|listed| listed.from == from);
        let of_address = from.and_then(|from| self.by_address.get(&from));
        if !is_counted && of_address.is_some_and(|count| *count >= MEMBERS_AN_ADDRESS) {
            return Err(Status::resource_exhausted(format!(
                "the register holds {MEMBERS_AN_ADDRESS} nodes of this address, as many as it may"
            )));
        }
        Ok(())
    }

    fn insert(&mut self, incarnation: u64, listed: ListedNode) -> Option<ListedNode> {
        let former = self.remove(incarnation);
        if let Some(from) = listed.from {
            *self.by_address.entry(from).or_default() += 1;
        }
        self.members.insert(incarnation, listed);
        former
    }

    fn remove(&mut self, incarnation: u64) -> Option<ListedNode> {
        let listed = self.members.remove(&incarnation)?;
        if let Some(from) = listed.from
            && let Some(count) = self.by_address.get_mut(&from)
        {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&from);
            }
        }
        Some(listed)
    }
}

/// A reader of the list: first the whole list in parts, and then its changes.
struct ListReader {
    part: Part,
    changes: broadcast::Receiver<wire::Changed>,
}

/// The part of the list that is told next. What changes meanwhile in parts that were told already
/// is among the changes.
#[derive(Clone, Copy)]
enum Part {
    First,
    /// The part after this node.
    After(u64),
    /// The whole list has been told.
    None,
}

impl ListReader {
    /// Waits for the next part of the list, or for the next change. A reader that is too far behind
    /// gets the whole list once more.
    async fn next(&mut self, register: &Register) -> membership::Membership {
        use membership::Membership::{Changed, Snapshot};
        let after = match self.part {
            Part::First => None,
            Part::After(last) => Some(last),
            Part::None => match self.changes.recv().await {
                Ok(changed) => return Changed(changed),
                Err(_) => {
                    *self = register.watch();
                    None
                }
            },
        };
        let (snapshot, more) = register.part(after);
        self.part = more.map_or(Part::None, Part::After);
        match after {
            None => Snapshot(snapshot),
            Some(_) => Changed(wire::Changed {
                version: snapshot.version,
                settled: snapshot.settled,
                joined: snapshot.members,
                left: Vec::new(),
            }),
        }
    }
}

/// The name of an incarnation, as nodes log it.
fn named(incarnation: u64) -> String {
    Incarnation::from_u64(incarnation).map_or_else(String::new, |node| node.to_string())
}

struct RegisterHandler(Arc<Register>);

#[tonic::async_trait]
impl RegisterService for RegisterHandler {
    type JoinStream = ReceiverStream<Result<wire::Membership, Status>>;

    async fn join(
        &self,
        request: Request<Streaming<wire::Announcement>>,
    ) -> Result<Response<Self::JoinStream>, Status> {
        let (say, said) = mpsc::channel(1);
        let registration = Registration {
            register: self.0.clone(),
            authentication: Unauthenticated::of(&request)?,
            announcements: request.into_inner(),
            say,
        };
        tokio::spawn(registration.run());
        Ok(Response::new(ReceiverStream::new(said)))
    }
}

/// The registration of one node, for as long as its stream lasts.
struct Registration {
    register: Arc<Register>,
    authentication: Arc<Unauthenticated>,
    announcements: Streaming<wire::Announcement>,
    say: mpsc::Sender<Result<wire::Membership, Status>>,
}

/// The reason why a registration ended.
enum RegistrationEnd {
    Drained,
    Silent,
    Broken,
}

impl Registration {
    async fn run(mut self) {
        let member = match self.prove().await {
            Ok(member) => member,
            Err(status) => {
                let from = self.authentication.from;
                self.register.refusals.say("node", from, &status);
                let _ = self.say.send(Err(status)).await;
                return;
            }
        };
        let (register, node) = (self.register.clone(), member.incarnation);
        let from = self.authentication.from;
        let registration = match register.join(&member, from.map(|from| from.ip())) {
            Ok(registration) => registration,
            Err(status) => {
                register.refusals.say("node", from, &status);
                let _ = self.say.send(Err(status)).await;
                return;
            }
        };
        match self.keep().await {
            RegistrationEnd::Drained => register.leave(node, registration, "it drains"),
            RegistrationEnd::Silent => register.leave(
                node,
                registration,
                "it was silent for longer than its lease",
            ),
            RegistrationEnd::Broken => {
                tokio::time::sleep(LEASE).await;
                register.leave(node, registration, "its lease has run out");
            }
        }
    }

    async fn prove(&mut self) -> Result<wire::Member, Status> {
        use announcement::Announcement::{Present, Proof};
        let Some(Present(present)) = self.next().await? else {
            return Err(Status::invalid_argument(
                "a registration begins with who is present",
            ));
        };
        let member = present
            .member
            .filter(|member| Incarnation::from_u64(member.incarnation).is_some())
            .filter(|member| can_be_dialled(&member.address))
            .ok_or_else(|| {
                Status::invalid_argument("who is present? An incarnation and an address")
            })?;
        let nonce = trust::nonce().map_err(|_| Status::internal("no randomness"))?;
        let incarnation = member.incarnation.to_be_bytes();
        let talk = Talk {
            nonces: [&present.nonce, &nonce],
            about: &[&incarnation, member.address.as_bytes()],
        };
        let secret = &self.register.trust.secret;
        let challenge = wire::JoinChallenge {
            nonce: nonce.to_vec().into(),
            proof: secret.prove(Purpose::JoinRegister, &talk).into(),
        };
        self.tell(membership::Membership::Challenge(challenge))
            .await?;
        let Some(Proof(wire::JoinProof { proof })) = self.next().await? else {
            return Err(Status::invalid_argument(
                "a challenge is answered with a proof",
            ));
        };
        match self
            .register
            .trust
            .secret
            .accepts(&proof, Purpose::JoinNode, &talk)
        {
            true => {
                self.authentication.proved();
                Ok(member)
            }
            false => Err(Status::unauthenticated(
                "the mesh's secret is another one, or only one of us has one",
            )),
        }
    }

    /// Tells the node the list and its changes, until the node leaves.
    async fn keep(&mut self) -> RegistrationEnd {
        let register = self.register.clone();
        let mut list = register.watch();
        let mut alive = tokio::time::interval(SIGN_OF_LIFE);
        let mut heard = Instant::now();
        loop {
            let told = tokio::select! {
                // Whoever has spoken is heard before anybody looks whether it has.
                biased;
                said = self.next() => match said {
                    Ok(Some(announcement::Announcement::Alive(_))) => {
                        heard = Instant::now();
                        continue;
                    }
                    Ok(Some(announcement::Announcement::Bye(_))) => return RegistrationEnd::Drained,
                    Ok(_) | Err(_) => return RegistrationEnd::Broken,
                },
                told = list.next(&register) => told,
                _ = alive.tick() => {
                    if heard.elapsed() > LEASE {
                        return RegistrationEnd::Silent;
                    }
                    membership::Membership::Alive(wire::Alive {})
                }
            };
            // A node that does not read is not there.
            match tokio::time::timeout(LEASE, self.tell(told)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return RegistrationEnd::Broken,
                Err(_) => return RegistrationEnd::Silent,
            }
        }
    }

    async fn next(&mut self) -> Result<Option<announcement::Announcement>, Status> {
        let announcement = self.announcements.message().await?;
        let announcement = announcement.ok_or_else(|| Status::cancelled("the stream has ended"))?;
        Ok(announcement.announcement)
    }

    async fn tell(&self, membership: membership::Membership) -> Result<(), Status> {
        let membership = Some(membership);
        let told = self.say.send(Ok(wire::Membership { membership })).await;
        told.map_err(|_| Status::cancelled("the stream has ended"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn register() -> Arc<Register> {
        let trust = Trust::read("".as_ref(), &super::super::TlsFiles::default());
        Register::new(trust.expect("no files, no errors"))
    }

    fn member(incarnation: usize) -> wire::Member {
        wire::Member {
            incarnation: incarnation as u64,
            address: format!("10.0.0.1:{incarnation}"),
        }
    }

    const SOMEBODY: Option<IpAddr> = None;

    /// All nodes on the list, in the parts in which they are told.
    fn parts(register: &Register) -> Vec<usize> {
        let mut parts = Vec::new();
        let mut after = None;
        loop {
            let (snapshot, more) = register.part(after);
            parts.push(snapshot.members.len());
            match more {
                Some(last) => after = Some(last),
                None => return parts,
            }
        }
    }

    #[test]
    fn beyond_what_it_may_hold_a_node_is_refused_until_another_one_leaves() {
        let register = register();
        let registrations: Vec<u64> = (0..MEMBERS)
            .map(|number| register.join(&member(number), SOMEBODY).expect("room"))
            .collect();
        let join = |number| register.join(&member(number), SOMEBODY);
        let refused = join(MEMBERS).expect_err("no room");
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        assert!(refused.message().contains("10000"), "{refused}");
        let parts = parts(&register);
        assert!(parts.iter().all(|part| *part == MEMBERS_A_MESSAGE));
        assert_eq!(parts.iter().sum::<usize>(), MEMBERS);

        // One that comes back has its place, and the former registration is not its end.
        let again = join(7).expect("its place");
        register.leave(7, registrations[7], "its lease has run out");
        join(MEMBERS).expect_err("no room");
        register.leave(7, again, "it drains");
        join(MEMBERS).expect("room");
    }

    #[test]
    fn an_address_has_a_share_of_the_places() {
        let register = register();
        let [here, there] = ["10.0.0.1", "2001:db8::1"].map(|ip| Some(ip.parse().expect("an IP")));
        let join = |number, from| register.join(&member(number), from);
        for number in 0..MEMBERS_AN_ADDRESS {
            join(number, here).expect("room");
        }
        let refused = join(MEMBERS_AN_ADDRESS, here).expect_err("no room");
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        assert!(refused.message().contains("of this address"), "{refused}");
        join(7, here).expect("it is listed already");
        // It has moved.
        let moved = join(8, there).expect("room");
        join(MEMBERS_AN_ADDRESS, here).expect("room");
        register.leave(8, moved, "it drains");
        let list = register.list.lock();
        assert_eq!(list.by_address.len(), 1);
        assert_eq!(list.by_address.values().sum::<usize>(), list.members.len());
    }

    #[tokio::test]
    async fn who_is_too_far_behind_is_told_everything_and_then_what_changes() {
        use membership::Membership::{Changed, Snapshot};
        let register = register();
        let (mut slow, mut fast) = (register.watch(), register.watch());
        for reader in [&mut slow, &mut fast] {
            let next = reader.next(&register).await;
            assert!(matches!(next, Snapshot(snapshot) if snapshot.members.is_empty()));
        }
        for number in 0..=CHANGES {
            register.join(&member(number), SOMEBODY).expect("room");
            let next = fast.next(&register).await;
            assert!(matches!(next, Changed(changed) if changed.joined == [member(number)]));
        }
        let mut told = match slow.next(&register).await {
            Snapshot(snapshot) => snapshot.members,
            other => panic!("{other:?} came"),
        };
        // Of those that come and go meanwhile it hears as well.
        let first = register.join(&member(0), SOMEBODY).expect("its place");
        register.leave(0, first, "it drains");
        while told.len() <= CHANGES {
            match slow.next(&register).await {
                Changed(changed) => told.extend(changed.joined),
                other => panic!("{other:?} came"),
            }
        }
        assert_eq!(told, (0..=CHANGES).map(member).collect::<Vec<_>>());
        for reader in [&mut slow, &mut fast] {
            let next = reader.next(&register).await;
            assert!(matches!(next, Changed(changed) if changed.left == [0]));
        }
        register.join(&member(CHANGES + 1), SOMEBODY).expect("room");
        for reader in [&mut slow, &mut fast] {
            let next = reader.next(&register).await;
            assert!(matches!(next, Changed(changed) if changed.joined == [member(CHANGES + 1)]));
        }
    }
}
