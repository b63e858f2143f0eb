//! The register: a server by which nodes learn of each other. Messages never go through it.
//!
//! A node holds a stream to each register for as long as it runs. If the stream breaks, the node
//! stays on the list for `LEASE`, so that it can come back; a node that drains is removed at once.
//! A register that has just started does not know all nodes yet, and says so (`settled`): until
//! then, its list makes nobody forget a node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::{broadcast, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::accept::incoming;
use super::trust::{self, Purpose, Refusals, Talk, Trust};
use super::wire::register_server::{Register as RegisterService, RegisterServer};
use super::wire::{self, announcement, membership};
use crate::id::Incarnation;
use crate::pending_connections::Unauthenticated;

/// How long a node whose stream has broken stays on the list.
pub(super) const LEASE: Duration = Duration::from_secs(5);

/// How often each side says that it is alive.
pub(super) const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

/// The most nodes on the list. Further nodes are refused.
const MEMBERS: usize = 10_000;

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
    next_registration: u64,
}

struct ListedNode {
    address: String,
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
        self.trust
            .tls
            .server()?
            .add_service(RegisterServer::new(RegisterHandler(self)))
            .serve_with_incoming(incoming(listener, "register", files))
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

    /// Puts a node on the list, and returns the number of its registration.
    fn join(&self, member: &wire::Member) -> Result<u64, Status> {
        let mut list = self.list.lock();
        if list.members.len() >= MEMBERS && !list.members.contains_key(&member.incarnation) {
            return Err(Status::resource_exhausted(format!(
                "the register holds {MEMBERS} nodes, as many as it may"
            )));
        }
        list.next_registration += 1;
        let registration = list.next_registration;
        let listed = ListedNode {
            address: member.address.clone(),
            registration,
        };
        let former = list.members.insert(member.incarnation, listed);
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
            list.members.remove(&incarnation);
            tracing::info!(node = %named(incarnation), "a node has left: {why}");
            self.change(&mut list, Vec::new(), vec![incarnation]);
        }
    }

    /// The nodes on the list, and a receiver of the changes from then on.
    fn watch(&self) -> (wire::Snapshot, broadcast::Receiver<wire::Changed>) {
        let list = self.list.lock();
        let members = list
            .members
            .iter()
            .map(|(incarnation, listed)| wire::Member {
                incarnation: *incarnation,
                address: listed.address.clone(),
            });
        let snapshot = wire::Snapshot {
            version: list.version,
            settled: self.is_settled(),
            members: members.collect(),
        };
        (snapshot, self.changes.subscribe())
    }

    /// Waits for the next change. A receiver that is too far behind gets the whole list instead.
    async fn next_change(
        &self,
        changes: &mut broadcast::Receiver<wire::Changed>,
    ) -> membership::Membership {
        if let Ok(changed) = changes.recv().await {
            return membership::Membership::Changed(changed);
        }
        let (snapshot, newer) = self.watch();
        *changes = newer;
        membership::Membership::Snapshot(snapshot)
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
        let (say, said) = mpsc::channel(16);
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
        let registration = match register.join(&member) {
            Ok(registration) => registration,
            Err(status) => {
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
            .filter(|member| !member.address.is_empty() && member.address.len() <= 256)
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
        let (snapshot, mut changes) = register.watch();
        if self
            .tell(membership::Membership::Snapshot(snapshot))
            .await
            .is_err()
        {
            return RegistrationEnd::Broken;
        }
        let mut alive = tokio::time::interval(SIGN_OF_LIFE);
        let mut heard = Instant::now();
        loop {
            let told = tokio::select! {
                said = self.next() => match said {
                    Ok(Some(announcement::Announcement::Alive(_))) => {
                        heard = Instant::now();
                        continue;
                    }
                    Ok(Some(announcement::Announcement::Bye(_))) => return RegistrationEnd::Drained,
                    Ok(_) | Err(_) => return RegistrationEnd::Broken,
                },
                changed = register.next_change(&mut changes) => changed,
                _ = alive.tick() => {
                    if heard.elapsed() > LEASE {
                        return RegistrationEnd::Silent;
                    }
                    membership::Membership::Alive(wire::Alive {})
                }
            };
            if self.tell(told).await.is_err() {
                return RegistrationEnd::Broken;
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

    #[test]
    fn beyond_what_it_may_hold_a_node_is_refused_until_another_one_leaves() {
        let register = register();
        let registrations: Vec<u64> = (0..MEMBERS)
            .map(|number| register.join(&member(number)).expect("room"))
            .collect();
        let refused = register.join(&member(MEMBERS)).expect_err("no room");
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        assert!(refused.message().contains("10000"), "{refused}");
        assert_eq!(register.watch().0.members.len(), MEMBERS);

        // One that comes back has its place, and the former registration is not its end.
        let again = register.join(&member(7)).expect("its place");
        register.leave(7, registrations[7], "its lease has run out");
        register.join(&member(MEMBERS)).expect_err("no room");
        register.leave(7, again, "it drains");
        register.join(&member(MEMBERS)).expect("room");
    }

    #[tokio::test]
    async fn who_is_too_far_behind_is_told_everything_and_then_what_changes() {
        use membership::Membership::{Changed, Snapshot};
        let register = register();
        let (_, mut slow) = register.watch();
        let (_, mut fast) = register.watch();
        for number in 0..=CHANGES {
            register.join(&member(number)).expect("room");
            let next = register.next_change(&mut fast).await;
            assert!(matches!(next, Changed(changed) if changed.joined == [member(number)]));
        }
        let next = register.next_change(&mut slow).await;
        assert!(matches!(next, Snapshot(snapshot) if snapshot.members.len() == CHANGES + 1));
        register.join(&member(CHANGES + 1)).expect("room");
        for changes in [&mut slow, &mut fast] {
            let next = register.next_change(changes).await;
            assert!(matches!(next, Changed(changed) if changed.joined == [member(CHANGES + 1)]));
        }
    }
}
