//! The registration of this node at a register: the node tells its address, and gets the list of
//! the other nodes.
//!
//! All listed nodes are dialled. A register that has just started, or that is down, makes nobody
//! forget a node: its former list counts until the register has settled.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::register::{LEASE, MEMBERS, SIGN_OF_LIFE};
use super::resolver::Resolver;
use super::source::Source;
use super::state::Mesh;
use super::transport_error::{refusal, unreachable};
use super::trust::{self, Purpose, Talk};
use super::unlist::unlist;
use super::wire::register_client::RegisterClient;
use super::wire::{self, announcement, membership};
use crate::id::Incarnation;
use crate::log_throttle::LastLogged;
use crate::pending_connections::PROOF_TIMEOUT;

/// The pause between two attempts to reach a register.
const RETRY: Duration = Duration::from_millis(500);

/// The nodes that one register has listed. A register is trusted, but a list without end would take
/// all memory: beyond as many as a register may hold, nodes are left out.
#[derive(Default)]
struct RegisterListing {
    /// The addresses on the register's current list, by incarnation.
    listed: BTreeMap<u64, String>,
    /// The addresses of former lists, which count until the register has settled.
    kept: BTreeSet<String>,
    /// Whether the register has had this node on its list.
    has_begun: bool,
}

impl RegisterListing {
    /// Begins a new stream. The former list still counts until the register has settled.
    fn begin(&mut self) {
        self.has_begun = true;
        self.kept
            .extend(std::mem::take(&mut self.listed).into_values());
        while self.kept.len() > MEMBERS {
            self.kept.pop_first();
        }
    }

    fn snapshot(&mut self, snapshot: wire::Snapshot) {
        // The rest comes in further parts: what was listed is kept until then.
        self.begin();
        self.add(snapshot.members);
        self.settle(snapshot.settled);
    }

    fn change(&mut self, changed: wire::Changed) {
        for incarnation in changed.left {
            self.listed.remove(&incarnation);
        }
        self.add(changed.joined);
        self.settle(changed.settled);
    }

    fn add(&mut self, members: Vec<wire::Member>) {
        for member in members {
            if self.listed.len() < MEMBERS || self.listed.contains_key(&member.incarnation) {
                self.listed.insert(member.incarnation, member.address);
            }
        }
    }

    fn settle(&mut self, is_settled: bool) {
        if is_settled {
            self.kept.clear();
        }
    }

    /// The name and the address of each node on the register's current list.
    fn nodes(&self) -> impl Iterator<Item = (String, &String)> {
        let nodes = self.listed.iter();
        nodes.filter_map(|(node, address)| {
            Some((Incarnation::from_u64(*node)?.to_string(), address))
        })
    }

    fn addresses(&self) -> BTreeSet<String> {
        self.listed.values().chain(&self.kept).cloned().collect()
    }
}

impl Mesh {
    /// Keeps this node registered for as long as it runs, and dials the nodes that the register
    /// lists.
    pub(super) async fn register_with(self: Arc<Self>, register: String) {
        let mut known = RegisterListing::default();
        let mut news = LastLogged::default();
        let registered = async {
            loop {
                let ended = self.keep_registered(&register, &mut known).await;
                let why = refusal(&ended);
                if news.is(why) {
                    tracing::warn!(register, "not at this register: {why}");
                }
                tokio::time::sleep(RETRY).await;
            }
        };
        self.draining.run_until_cancelled(registered).await;
        if known.has_begun {
            // A stream of its own: the one before may be broken, and the entry is still there.
            unlist(|| self.say_bye(&register)).await;
        }
    }

    /// Keeps this node registered until an error occurs, and returns the error.
    async fn keep_registered(
        self: &Arc<Self>,
        register: &str,
        known: &mut RegisterListing,
    ) -> Status {
        let (mut said, say) =
            match tokio::time::timeout(PROOF_TIMEOUT, self.present(register)).await {
                Ok(Ok(registration)) => registration,
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
                    self.note_listed(&source, known.nodes());
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
            }
        }
    }

    /// Registers this node once more, and takes it off the list.
    async fn say_bye(&self, register: &str) -> Result<(), Status> {
        let (mut said, say) = self.present(register).await?;
        let bye = announcement::Announcement::Bye(wire::Bye {});
        let ended = |_| Status::cancelled("it closed the connection");
        say.send(bye.into()).await.map_err(ended)?;
        // The stream ends with what was said.
        drop(say);
        while said.message().await?.is_some() {}
        Ok(())
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
        let endpoint = self.trust.tls.endpoint(register).map_err(unreachable)?;
        let channel = endpoint
            .connect_with_connector(Resolver::OfOperator.connector())
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
        let mut known = RegisterListing::default();
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
