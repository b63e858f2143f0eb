//! Dialling: this node's stream to a peer, which is made again whenever it breaks.
//!
//! There is one task for each address that a source lists. The task learns which node is there when
//! the node answers. The frames that wait for that node are then sent from where the last
//! connection stopped.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;

use super::address::can_be_dialled;
use super::link::draw_session;
use super::link_end::LinkEnd;
use super::peer::Peer;
use super::source::Source;
use super::state::Mesh;
use super::transport::{CONNECT_TIMEOUT, Pulls};
use super::trust::{self, Purpose, Talk, UNREACHED};
use super::wire::{self, pull, push};
use crate::id::Incarnation;
use crate::log_throttle::LastLogged;

/// How long the other side may then take to accept this node, for which it tests whether it can
/// reach this node.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(2);

/// The pause between two attempts to dial an address.
const RETRY: Duration = Duration::from_millis(250);

/// After how many failures in a row the pause doubles, and how often it does: up to two seconds.
const FAILURES: u32 = 8;
const RETRY_DOUBLED: u32 = 3;

/// The pause when there is nobody to dial: the address is this node's own, or another address of a
/// node that is already linked.
const OURSELVES: Duration = Duration::from_secs(10);

/// The most addresses that are dialled because others have listed them. More nodes than a mesh can
/// have are a mistake of whoever lists them.
const ADDRESSES: usize = 2000;

/// How often a sign of life is sent when there is nothing else to send.
const SIGN_OF_LIFE: Duration = Duration::from_millis(500);

/// How long a connection may acknowledge nothing, not even a sign of life, before it is given up. A
/// new connection works sooner than a stalled one.
const SILENCE: Duration = Duration::from_secs(2);

/// How many batches may wait for the connection. Everything beyond waits in the link.
const BATCHES: usize = 4;

impl Mesh {
    /// Replaces the addresses that `source` lists. An address is dialled for as long as any source
    /// lists it. An address that cannot be dialled is left out, and so is a new one beyond
    /// `ADDRESSES`.
    pub fn want(self: &Arc<Self>, source: &Source, addresses: &BTreeSet<String>) {
        let mut wanted = self.wanted.lock();
        let mut left_out = 0;
        for (address, sources) in wanted.iter_mut() {
            if !addresses.contains(address) {
                sources.remove(source);
            }
        }
        for address in addresses {
            if *address == self.address {
                continue;
            }
            let is_new = !wanted.contains_key(address);
            // A node that has dialled this one is a peer, and peers have a bound of their own.
            let has_room = wanted.len() < ADDRESSES || matches!(source, Source::Itself(_));
            if is_new && !(has_room && can_be_dialled(address)) {
                left_out += 1;
                continue;
            }
            wanted
                .entry(address.clone())
                .or_default()
                .insert(source.clone());
            if is_new {
                tokio::spawn(self.clone().keep_dialling(address.clone()));
            }
        }
        drop(wanted);
        if left_out > 0
            && let Some(unsaid) = self.left_out.happened()
        {
            tracing::error!(
                ?source,
                left_out,
                unsaid,
                "addresses of nodes are left out: they cannot be dialled, or there are more than \
                 {ADDRESSES}"
            );
        }
    }

    /// Removes all addresses that `source` lists.
    pub(super) fn unwant(&self, source: &Source) {
        for sources in self.wanted.lock().values_mut() {
            sources.remove(source);
        }
    }

    /// The addresses that are dialled and at which no node is linked.
    pub fn dialled(&self) -> Vec<String> {
        let peers = self.peers();
        let linked: BTreeSet<String> = peers
            .iter()
            .filter(|peer| peer.outbound.is_dialled())
            .map(|peer| peer.address())
            .collect();
        let mut dialled: Vec<String> = self.wanted.lock().keys().cloned().collect();
        dialled.retain(|address| !linked.contains(address));
        dialled
    }

    /// Whether any source lists the address; if not, it is not dialled any more.
    fn is_wanted(&self, address: &str) -> bool {
        let mut wanted = self.wanted.lock();
        let is_wanted = wanted
            .get(address)
            .is_some_and(|sources| !sources.is_empty());
        if !is_wanted {
            wanted.remove(address);
        }
        is_wanted
    }

    /// Whether a node has said that it is at `address`, while this node is not linked to it yet. If
    /// several nodes share an address, the next connection may lead to that node; without another
    /// attempt that node would be lost and come back again and again.
    fn is_awaited(&self, address: &str) -> bool {
        let wanted = self.wanted.lock();
        let mut sources = wanted.get(address).into_iter().flatten();
        sources.any(|source| match source {
            Source::Itself(node) => self
                .peer(*node)
                .is_some_and(|peer| !peer.outbound.is_dialled()),
            Source::Listed(_) | Source::Register(_) => false,
        })
    }

    async fn keep_dialling(self: Arc<Self>, address: String) {
        let mut news = LastLogged::default();
        let mut failures = 0;
        while !self.leaving.is_cancelled() && self.is_wanted(&address) {
            let began = tokio::time::Instant::now();
            let ended = self.link(&address).await;
            let was_linked = began.elapsed() > CONNECT_TIMEOUT + WELCOME_TIMEOUT;
            failures = match &ended {
                LinkEnd::Ourselves | LinkEnd::Dialled(_) => 0,
                _ if was_linked || self.is_awaited(&address) => 0,
                _ => failures + 1,
            };
            if news.is(&ended.to_string()) {
                match &ended {
                    LinkEnd::Dialled(_) | LinkEnd::Restarted => {}
                    LinkEnd::Refused(status) if status.code() == UNREACHED => {
                        tracing::warn!(address, "not linked to a node: {ended}");
                    }
                    _ => tracing::info!(address, "not linked to a node: {ended}"),
                }
            }
            match ended {
                LinkEnd::Ourselves | LinkEnd::Dialled(_) if self.is_awaited(&address) => {
                    tokio::time::sleep(RETRY).await;
                }
                LinkEnd::Ourselves => tokio::time::sleep(OURSELVES).await,
                LinkEnd::Dialled(peer) => {
                    let _ = tokio::time::timeout(OURSELVES, peer.gone()).await;
                }
                _ => tokio::time::sleep(retry_after(failures)).await,
            }
        }
    }

    /// Connects to a node and sends, until the connection ends.
    async fn link(self: &Arc<Self>, address: &str) -> LinkEnd {
        let greeting = tokio::time::timeout(CONNECT_TIMEOUT, self.greet(address));
        let greeted = match greeting.await {
            Ok(Ok(greeted)) => greeted,
            Ok(Err(ended)) => return ended,
            Err(_) => return LinkEnd::Slow,
        };
        match tokio::time::timeout(WELCOME_TIMEOUT, self.enter(address, greeted)).await {
            Ok(Ok(connected)) => self.keep_pushing(connected).await,
            Ok(Err(ended)) => ended,
            Err(_) => LinkEnd::Slow,
        }
    }

    /// Tests whether a node can be reached at the address that it gives. A node that cannot be
    /// reached is refused: it would get no answer, be taken for gone, and come back again.
    pub(super) async fn reach(
        &self,
        node: Incarnation,
        address: &str,
    ) -> Result<(), tonic::Status> {
        let why = match tokio::time::timeout(CONNECT_TIMEOUT, self.greet(address)).await {
            Ok(Ok(greeted)) if greeted.node == node => return Ok(()),
            Ok(Ok(greeted)) => format!("node {} is there", greeted.node),
            Ok(Err(ended)) => ended.to_string(),
            Err(_) => LinkEnd::Slow.to_string(),
        };
        let why =
            format!("node {node} cannot be reached at {address} ({why}): check its --advertise");
        Err(tonic::Status::new(UNREACHED, why))
    }

    /// Connects to an address, and learns which node is there.
    pub(super) async fn greet(&self, address: &str) -> Result<Greeted, LinkEnd> {
        let (push, pushed) = mpsc::channel(BATCHES);
        let nonce = trust::nonce()?;
        let hello = wire::Hello {
            incarnation: self.own().to_u64(),
            address: self.address.clone(),
            nonce: nonce.to_vec().into(),
        };
        send(&push, push::Push::Hello(hello)).await?;
        let mut pulls = self.transport.dial(address, pushed).await?;

        let Some(pull::Pull::Challenge(challenge)) = next(&mut pulls).await? else {
            return Err(LinkEnd::UnexpectedAnswer);
        };
        let (ours, theirs) = (
            self.own().to_u64().to_be_bytes(),
            challenge.incarnation.to_be_bytes(),
        );
        let talk = Talk {
            nonces: [&nonce, &challenge.nonce],
            about: &[&ours, &theirs, self.address.as_bytes()],
        };
        if !self
            .trust
            .secret
            .accepts(&challenge.proof, Purpose::LinkAccept, &talk)
        {
            self.registry.counters().mesh_untrusted.add_one();
            let (proof, session) = (trust::NO_PROOF.into(), 0);
            send(&push, push::Push::Proof(wire::Proof { proof, session })).await?;
            // Its refusal: it has heard so.
            let _ = next(&mut pulls).await;
            return Err(LinkEnd::NotTrusted);
        }
        Ok(Greeted {
            node: Incarnation::from_u64(challenge.incarnation).ok_or(LinkEnd::UnexpectedAnswer)?,
            nonces: [nonce.to_vec().into(), challenge.nonce],
            push,
            pulls,
        })
    }

    /// Tells another node that it has the address of this one, so that it logs this, too.
    pub(super) async fn report_shared_address(&self, greeted: Greeted) -> LinkEnd {
        let Greeted {
            node,
            nonces,
            push,
            mut pulls,
        } = greeted;
        let proof = self.proof(node, &nonces, NO_SESSION);
        if send(&push, push::Push::Proof(proof)).await.is_ok() {
            // Its refusal: it has heard so.
            let _ = next(&mut pulls).await;
        }
        LinkEnd::Another(node.to_string())
    }

    fn proof(&self, node: Incarnation, nonces: &[Bytes; 2], session: u64) -> wire::Proof {
        let (ours, theirs) = (self.own().to_u64(), node.to_u64());
        let talk = Talk {
            nonces: [&nonces[0], &nonces[1]],
            about: &[
                &ours.to_be_bytes(),
                &theirs.to_be_bytes(),
                self.address.as_bytes(),
                &session.to_be_bytes(),
            ],
        };
        let proof = self.trust.secret.prove(Purpose::LinkDial, &talk).into();
        wire::Proof { proof, session }
    }

    /// Proves the identity of this node to the other node, and agrees on a session.
    async fn enter(
        self: &Arc<Self>,
        address: &str,
        greeted: Greeted,
    ) -> Result<Connected, LinkEnd> {
        let Greeted {
            node,
            nonces,
            push,
            mut pulls,
        } = greeted;
        if node == self.own() {
            return Err(LinkEnd::Ourselves);
        }
        let peer = self.meet(node, address);
        if !peer.outbound.take_dialling() {
            return Err(LinkEnd::Dialled(peer));
        }
        let dialling = Dialling(peer);
        let peer = &dialling.0;
        let session = peer.outbound.session();
        let proof = self.proof(node, &nonces, session);
        send(&push, push::Push::Proof(proof)).await?;

        let Some(pull::Pull::Welcome(welcome)) = next(&mut pulls).await? else {
            return Err(LinkEnd::UnexpectedAnswer);
        };
        if peer.outbound.session() != session || peer.outbound.resume(welcome.received).is_err() {
            // It has forgotten what we said: it took us for gone.
            let lost = peer.restart(draw_session());
            self.registry.counters().mesh_dropped.add(lost as u64);
            return Err(LinkEnd::Restarted);
        }
        peer.outbound.set_message_bytes(welcome.message_bytes);
        Ok(Connected {
            dialling,
            session,
            push,
            pulls,
        })
    }

    /// Sends the frames that wait, and takes the acknowledgements.
    async fn keep_pushing(&self, connected: Connected) -> LinkEnd {
        let Connected {
            dialling,
            session,
            push,
            mut pulls,
        } = connected;
        let peer = &dialling.0;
        tracing::debug!(peer = %peer.incarnation(), "linked");
        let mut telling = std::pin::pin!(self.push_snapshot(peer));
        let mut is_telling = !peer.outbound.is_synced();
        let mut alive = tokio::time::interval(SIGN_OF_LIFE);
        let silence = tokio::time::sleep(SILENCE);
        let mut silence = std::pin::pin!(silence);
        let mut sent = true;
        loop {
            // What waits goes out as fast as the connection takes it.
            let batch = async {
                let permit = push.reserve().await;
                match peer.outbound.next_batch(session) {
                    Some(batch) => permit.map(|permit| permit.send(batch.into())).is_ok(),
                    None => {
                        drop(permit);
                        peer.outbound.queued().await;
                        true
                    }
                }
            };
            tokio::select! {
                pull = pulls.next() => match pull {
                    Some(Ok(wire::Pull { pull: Some(pull::Pull::Ack(ack)) })) => {
                        if let Some(took) = peer.acknowledged(session, ack.received) {
                            let durations = &self.registry.counters().durations;
                            durations.mesh_frames.record(took);
                        }
                        silence.as_mut().reset(tokio::time::Instant::now() + SILENCE);
                    }
                    Some(Ok(_)) => return LinkEnd::UnexpectedAnswer,
                    Some(Err(status)) => return status.into(),
                    None => return LinkEnd::Closed,
                },
                is_open = batch => {
                    if !is_open {
                        return LinkEnd::Closed;
                    }
                    sent = true;
                }
                () = &mut telling, if is_telling => is_telling = false,
                _ = alive.tick() => {
                    // Only where nothing else says it.
                    if !std::mem::take(&mut sent) {
                        let _ = push.try_send(peer.outbound.sign_of_life().into());
                    }
                }
                () = &mut silence => return LinkEnd::Silent,
                () = peer.gone() => return LinkEnd::Gone,
                () = self.leaving.cancelled() => return LinkEnd::Gone,
            }
            if peer.outbound.session() != session {
                return LinkEnd::Restarted;
            }
        }
    }
}

/// The pause after so many attempts in a row that have led to no link. Thousands of addresses where
/// nobody is must not keep the node busy.
fn retry_after(failures: u32) -> Duration {
    let doubled = (failures / FAILURES).min(RETRY_DOUBLED);
    RETRY * 2_u32.pow(doubled)
}

/// The session number of a node that wants no session: it has only connected to say that the other
/// node has its address.
pub(super) const NO_SESSION: u64 = 0;

/// A stream to a node that has proved its identity, before this node has proved its own.
pub(super) struct Greeted {
    pub(super) node: Incarnation,
    nonces: [Bytes; 2],
    push: mpsc::Sender<wire::Push>,
    pulls: Pulls,
}

/// A stream on which both sides have agreed on a session.
struct Connected {
    dialling: Dialling,
    session: u64,
    push: mpsc::Sender<wire::Push>,
    pulls: Pulls,
}

/// The right to dial a peer, which is given back when this value is dropped.
struct Dialling(Arc<Peer>);

impl Drop for Dialling {
    fn drop(&mut self) {
        self.0.outbound.leave_dialling();
    }
}

async fn send(push: &mpsc::Sender<wire::Push>, message: push::Push) -> Result<(), LinkEnd> {
    push.send(message.into()).await.map_err(|_| LinkEnd::Closed)
}

async fn next(pulls: &mut Pulls) -> Result<Option<pull::Pull>, LinkEnd> {
    let pull = pulls.next().await.ok_or(LinkEnd::Closed)??;
    Ok(pull.pull)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_where_nobody_is_is_dialled_less_and_less_often() {
        let pauses = [1, FAILURES - 1, FAILURES, 2 * FAILURES, 100 * FAILURES].map(retry_after);
        let pauses = pauses.map(|pause| pause.as_millis());
        assert_eq!(pauses, [250, 250, 500, 1000, 2000]);
    }
}
