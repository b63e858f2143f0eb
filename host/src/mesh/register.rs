//! The register: where nodes learn of each other. It takes no part in any message.
//!
//! A node holds a stream to each register for as long as it runs. A stream that breaks leaves
//! its node on the list for `LEASE`, for it to come back; a node that drains is taken off at
//! once. A register that has just started does not know yet who is there, and says so
//! (`settled`): nodes forget nobody because of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::{broadcast, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};

use super::accept::{PROBE_EVERY, PROBE_TIMEOUT, incoming};
use super::seldom::Seldom;
use super::trust::{self, Purpose, Talk, Trust};
use super::wire::register_client::RegisterClient;
use super::wire::register_server::{Register as RegisterService, RegisterServer};
use super::wire::{self, announcement, membership};
use super::{Mesh, Source};
use crate::id::Incarnation;

/// How long a node whose stream has broken stays on the list.
const LEASE: Duration = Duration::from_secs(5);

/// How often each side says that it is alive.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

/// How long a node that has connected may take to prove itself.
const PROOF_TIMEOUT: Duration = Duration::from_secs(5);

/// The pause between two attempts to reach a register.
const RETRY: Duration = Duration::from_millis(500);

/// Nodes on the list. Beyond: refused.
const MEMBERS: usize = 10_000;

/// Changes that a slow node may be behind; beyond, it is told everything.
const CHANGES: usize = 1024;

/// A register.
pub struct Register {
    trust: Trust,
    started: Instant,
    list: Mutex<List>,
    /// Who is refused tries again, twice a second.
    refusals: Seldom,
    changes: broadcast::Sender<wire::Changed>,
}

#[derive(Default)]
struct List {
    version: u64,
    members: BTreeMap<u64, Listed>,
    next_stay: u64,
}

struct Listed {
    address: String,
    /// Which of the node's streams counts.
    stay: u64,
}

impl Register {
    /// An empty one.
    pub fn new(trust: Trust) -> Arc<Register> {
        Arc::new(Register {
            trust,
            started: Instant::now(),
            list: Mutex::default(),
            refusals: Seldom::default(),
            changes: broadcast::Sender::new(CHANGES),
        })
    }

    /// Serves nodes.
    pub async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
    ) -> Result<(), tonic::transport::Error> {
        tokio::spawn(self.clone().settle());
        self.trust
            .tls
            .server()?
            .http2_keepalive_interval(Some(PROBE_EVERY))
            .http2_keepalive_timeout(Some(PROBE_TIMEOUT))
            .add_service(RegisterServer::new(Serving(self)))
            .serve_with_incoming(incoming(listener))
            .await
    }

    /// From here on, who is not on the list is not there.
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

    /// A node is there; the number of its stay.
    fn join(&self, member: &wire::Member) -> Result<u64, Status> {
        let mut list = self.list.lock();
        if list.members.len() >= MEMBERS && !list.members.contains_key(&member.incarnation) {
            return Err(Status::resource_exhausted(format!(
                "the register holds {MEMBERS} nodes, as many as it may"
            )));
        }
        list.next_stay += 1;
        let stay = list.next_stay;
        let listed = Listed {
            address: member.address.clone(),
            stay,
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
        Ok(stay)
    }

    /// A stay is over, unless the node has come back.
    fn leave(&self, incarnation: u64, stay: u64, why: &str) {
        let mut list = self.list.lock();
        if list
            .members
            .get(&incarnation)
            .is_some_and(|listed| listed.stay == stay)
        {
            list.members.remove(&incarnation);
            tracing::info!(node = %named(incarnation), "a node has left: {why}");
            self.change(&mut list, Vec::new(), vec![incarnation]);
        }
    }

    /// Who is there, and what changes from then on.
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
}

/// An incarnation, as nodes log it.
fn named(incarnation: u64) -> String {
    Incarnation::from_u64(incarnation).map_or_else(String::new, |node| node.to_string())
}

struct Serving(Arc<Register>);

#[tonic::async_trait]
impl RegisterService for Serving {
    type JoinStream = ReceiverStream<Result<wire::Membership, Status>>;

    async fn join(
        &self,
        request: Request<Streaming<wire::Announcement>>,
    ) -> Result<Response<Self::JoinStream>, Status> {
        let from = request.remote_addr();
        let (say, said) = mpsc::channel(16);
        let stay = Stay {
            register: self.0.clone(),
            announcements: request.into_inner(),
            say,
        };
        tokio::spawn(stay.run(from));
        Ok(Response::new(ReceiverStream::new(said)))
    }
}

/// A node's stay at a register.
struct Stay {
    register: Arc<Register>,
    announcements: Streaming<wire::Announcement>,
    say: mpsc::Sender<Result<wire::Membership, Status>>,
}

/// Why a stay ended.
enum Left {
    Drained,
    Silent,
    Broken,
}

impl Stay {
    async fn run(mut self, from: Option<SocketAddr>) {
        let proving = tokio::time::timeout(PROOF_TIMEOUT, self.prove());
        let proved = proving
            .await
            .unwrap_or_else(|_| Err(Status::deadline_exceeded("no proof came in time")));
        let member = match proved {
            Ok(member) => member,
            Err(status) => {
                self.say_refused(from, &status);
                let _ = self.say.send(Err(status)).await;
                return;
            }
        };
        let (register, node) = (self.register.clone(), member.incarnation);
        let stay = match register.join(&member) {
            Ok(stay) => stay,
            Err(status) => {
                let _ = self.say.send(Err(status)).await;
                return;
            }
        };
        match self.keep().await {
            Left::Drained => register.leave(node, stay, "it drains"),
            Left::Silent => register.leave(node, stay, "it was silent for longer than its lease"),
            Left::Broken => {
                tokio::time::sleep(LEASE).await;
                register.leave(node, stay, "its lease has run out");
            }
        }
    }

    fn say_refused(&self, from: Option<SocketAddr>, refused: &Status) {
        let from = from.map(|from| from.to_string()).unwrap_or_default();
        let why = refused.message();
        if !matches!(
            refused.code(),
            Code::Unauthenticated | Code::InvalidArgument
        ) {
            // The connection broke: that is the node's news.
            tracing::debug!(from, "a stay did not come about: {why}");
        } else if let Some(unsaid) = self.register.refusals.happened() {
            tracing::warn!(from, unsaid, "a node was refused: {why}");
        }
    }

    async fn prove(&mut self) -> Result<wire::Member, Status> {
        use announcement::Announcement::{Present, Proof};
        let Some(Present(present)) = self.next().await? else {
            return Err(Status::invalid_argument(
                "a stay begins with who is present",
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
            true => Ok(member),
            false => Err(Status::unauthenticated(
                "the mesh's secret is another one, or only one of us has one",
            )),
        }
    }

    /// Tells who is there, and what changes, until the node leaves.
    async fn keep(&mut self) -> Left {
        let (snapshot, mut changes) = self.register.watch();
        if self
            .tell(membership::Membership::Snapshot(snapshot))
            .await
            .is_err()
        {
            return Left::Broken;
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
                    Ok(Some(announcement::Announcement::Bye(_))) => return Left::Drained,
                    Ok(_) | Err(_) => return Left::Broken,
                },
                changed = changes.recv() => match changed {
                    Ok(changed) => membership::Membership::Changed(changed),
                    Err(_) => {
                        let (snapshot, newer) = self.register.watch();
                        changes = newer;
                        membership::Membership::Snapshot(snapshot)
                    }
                },
                _ = alive.tick() => {
                    if heard.elapsed() > LEASE {
                        return Left::Silent;
                    }
                    membership::Membership::Alive(wire::Alive {})
                }
            };
            if self.tell(told).await.is_err() {
                return Left::Broken;
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

/// What a node has been told by one register.
#[derive(Default)]
struct Known {
    /// On its list now.
    listed: BTreeMap<u64, String>,
    /// Known from before it had settled.
    kept: BTreeSet<String>,
}

impl Known {
    /// A new stream begins: what was known stays, until the register has settled.
    fn begin(&mut self) {
        self.kept
            .extend(std::mem::take(&mut self.listed).into_values());
    }

    fn snapshot(&mut self, snapshot: wire::Snapshot) {
        self.listed = snapshot
            .members
            .into_iter()
            .map(|m| (m.incarnation, m.address))
            .collect();
        self.settle(snapshot.settled);
    }

    fn change(&mut self, changed: wire::Changed) {
        for incarnation in changed.left {
            self.listed.remove(&incarnation);
        }
        self.listed.extend(
            changed
                .joined
                .into_iter()
                .map(|m| (m.incarnation, m.address)),
        );
        self.settle(changed.settled);
    }

    fn settle(&mut self, is_settled: bool) {
        if is_settled {
            self.kept.clear();
        }
    }

    fn addresses(&self) -> BTreeSet<String> {
        self.listed.values().chain(&self.kept).cloned().collect()
    }
}

impl Mesh {
    /// Stays at a register for as long as the node runs, and dials whom it lists.
    pub(super) async fn stay_at(self: Arc<Self>, register: String) {
        let mut known = Known::default();
        let mut said = String::new();
        while !self.draining.is_cancelled() {
            let ended = self.stay(&register, &mut known).await;
            let now = ended.message().to_owned();
            if now != said && !self.draining.is_cancelled() {
                tracing::warn!(register, "not at this register: {now}");
            }
            said = now;
            let _ = tokio::time::timeout(RETRY, self.draining.cancelled()).await;
        }
    }

    async fn stay(self: &Arc<Self>, register: &str, known: &mut Known) -> Status {
        let (mut said, say) =
            match tokio::time::timeout(PROOF_TIMEOUT, self.present(register)).await {
                Ok(Ok(stay)) => stay,
                Ok(Err(status)) => return status,
                Err(_) => return Status::deadline_exceeded("it did not answer in time"),
            };
        known.begin();
        let source = Source::Register(register.to_owned());
        let mut alive = tokio::time::interval(SIGN_OF_LIFE);
        let mut heard = Instant::now();
        loop {
            tokio::select! {
                told = said.message() => {
                    use membership::Membership::{Alive, Changed, Snapshot};
                    heard = Instant::now();
                    match told.map(|told| told.and_then(|told| told.membership)) {
                        Ok(Some(Snapshot(snapshot))) => known.snapshot(snapshot),
                        Ok(Some(Changed(changed))) => known.change(changed),
                        Ok(Some(Alive(_))) => continue,
                        Ok(_) => return Status::cancelled("it closed the connection"),
                        Err(status) => return status,
                    }
                    self.want(&source, &known.addresses());
                }
                _ = alive.tick() => {
                    if heard.elapsed() > LEASE {
                        return Status::deadline_exceeded("it has said nothing for a while");
                    }
                    let alive = announcement::Announcement::Alive(wire::Alive {});
                    if say.try_send(alive.into()).is_err() {
                        return Status::cancelled("it takes nothing more");
                    }
                }
                () = self.draining.cancelled() => {
                    let bye = announcement::Announcement::Bye(wire::Bye {});
                    let _ = say.send(bye.into()).await;
                    // The stream ends with what was said.
                    drop(say);
                    while let Ok(Ok(Some(_))) = tokio::time::timeout(SIGN_OF_LIFE, said.message()).await {}
                    return Status::ok("this node drains");
                }
            }
        }
    }

    async fn present(
        &self,
        register: &str,
    ) -> Result<
        (
            Streaming<wire::Membership>,
            mpsc::Sender<wire::Announcement>,
        ),
        Status,
    > {
        let unreachable = |error: tonic::transport::Error| {
            Status::unavailable(format!(
                "it cannot be connected to: {}",
                super::causes(&error)
            ))
        };
        let endpoint = self.trust.tls.endpoint(register).map_err(unreachable)?;
        let channel = endpoint
            .tcp_nodelay(true)
            .connect()
            .await
            .map_err(unreachable)?;
        let (say, saying) = mpsc::channel(4);
        let nonce = trust::nonce().map_err(|_| Status::internal("no randomness"))?;
        let member = wire::Member {
            incarnation: self.own().to_u64(),
            address: self.address.clone(),
        };
        let present = wire::Present {
            member: Some(member),
            nonce: nonce.to_vec().into(),
        };
        let ended = |_| Status::cancelled("it closed the connection");
        say.send(announcement::Announcement::Present(present).into())
            .await
            .map_err(ended)?;
        let mut said = RegisterClient::new(channel)
            .join(ReceiverStream::new(saying))
            .await?
            .into_inner();
        let first = said.message().await?.and_then(|told| told.membership);
        let Some(membership::Membership::Challenge(challenge)) = first else {
            return Err(Status::aborted("it answered what is no answer"));
        };
        let incarnation = self.own().to_u64().to_be_bytes();
        let talk = Talk {
            nonces: [&nonce, &challenge.nonce],
            about: &[&incarnation, self.address.as_bytes()],
        };
        if !self
            .trust
            .secret
            .accepts(&challenge.proof, Purpose::JoinRegister, &talk)
        {
            self.registry.counters().mesh_untrusted.add_one();
            let proof = trust::NO_PROOF.into();
            let proof = announcement::Announcement::Proof(wire::JoinProof { proof });
            say.send(proof.into()).await.map_err(ended)?;
            // Its refusal: it has heard so.
            let _ = said.message().await;
            return Err(Status::unauthenticated(
                "it does not know the mesh's secret",
            ));
        }
        let proof = self.trust.secret.prove(Purpose::JoinNode, &talk).into();
        let proof = announcement::Announcement::Proof(wire::JoinProof { proof });
        say.send(proof.into()).await.map_err(ended)?;
        Ok((said, say))
    }
}

impl From<announcement::Announcement> for wire::Announcement {
    fn from(announcement: announcement::Announcement) -> wire::Announcement {
        wire::Announcement {
            announcement: Some(announcement),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(incarnation: u64) -> wire::Member {
        let address = format!("10.0.0.{incarnation}:7000");
        wire::Member {
            incarnation,
            address,
        }
    }

    fn addresses(of: &[u64]) -> BTreeSet<String> {
        of.iter().map(|number| member(*number).address).collect()
    }

    #[test]
    fn a_register_that_restarts_empties_nothing_until_it_has_settled() {
        let snapshot = |settled, members: &[u64]| wire::Snapshot {
            version: 1,
            settled,
            members: members.iter().copied().map(member).collect(),
        };
        let mut known = Known::default();
        known.begin();
        known.snapshot(snapshot(true, &[1, 2, 3]));
        assert_eq!(known.addresses(), addresses(&[1, 2, 3]));

        known.begin();
        known.snapshot(snapshot(false, &[1]));
        assert_eq!(known.addresses(), addresses(&[1, 2, 3]));
        known.change(wire::Changed {
            version: 2,
            settled: false,
            joined: vec![member(4)],
            left: vec![1],
        });
        assert_eq!(
            known.addresses(),
            addresses(&[1, 2, 3, 4]),
            "1 was there before"
        );
        known.change(wire::Changed {
            version: 3,
            settled: true,
            joined: vec![member(2)],
            left: Vec::new(),
        });
        assert_eq!(known.addresses(), addresses(&[2, 4]));
    }
}
