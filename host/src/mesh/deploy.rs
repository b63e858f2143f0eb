//! What nodes say to each other of deployments.
//!
//! Each node tells all others what was deployed, and passes on what it had not heard before: the node
//! that was asked for a deployment may end before all others have heard of it. This is little and
//! seldom, so it costs nothing.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::deployment::{Deployment, DeploymentState, PeerStep, ReadBuild, Step};
use super::peer::Peer;
use super::peer_event::{Failed, NotHandled, not_handled};
use super::questions::AskKind;
use super::state::Mesh;
use super::wire::{self, NotUnderstood, answer::Answer};
use crate::id::Incarnation;

/// The most deployments in one frame.
const DEPLOYMENTS_A_FRAME: usize = 100;

impl Mesh {
    /// Tells all peers of a deployment, also those that come later.
    pub fn announce_deployment(&self, deployment: &Deployment) {
        let _publishing = self.publishing.lock();
        if !self.deployments.known.lock().note(deployment) {
            return;
        }
        let frame = frame(vec![deployment.clone()]);
        for peer in self.peers() {
            if peer.outbound.is_subscribed() {
                self.push_reliable(&peer, frame.clone());
            }
        }
    }

    /// Tells a peer of all deployments.
    pub(super) fn push_deployments(&self, peer: &Peer) {
        let _publishing = self.publishing.lock();
        let known = self.deployments();
        for known in known.chunks(DEPLOYMENTS_A_FRAME) {
            self.push_reliable(peer, frame(known.to_vec()));
        }
    }

    /// Notes what a peer says of deployments.
    pub(super) fn hear_deployments(&self, heard: wire::Deployments) -> Result<(), NotUnderstood> {
        let mut understood = Ok(());
        for deployment in heard.deployments {
            match deployment.is_sound() {
                true => self.announce_deployment(&deployment),
                false => understood = Err(NotUnderstood),
            }
        }
        self.deployments.heard.notify_one();
        understood
    }

    /// The last deployments of all plugins that this node has heard of.
    pub fn deployments(&self) -> Vec<Deployment> {
        self.deployments.known.lock().all()
    }

    /// Waits until a peer has said something of deployments.
    pub async fn deployment_heard(&self) {
        self.deployments.heard.notified().await;
    }

    /// Returns the receiver of peers' steps, for the code that handles them. Only the first call
    /// returns the receiver.
    pub fn deployment_steps(&self) -> Option<mpsc::Receiver<PeerStep>> {
        self.deployments.steps.take_receiver()
    }

    /// Asks a peer for a step of a deployment.
    ///
    /// # Errors
    ///
    /// The step could not be sent, or there is no answer in time.
    pub async fn ask_deployment(
        &self,
        node: Incarnation,
        step: Step,
    ) -> Result<DeploymentState, Failed> {
        match self.ask_step(node, step).await? {
            Answer::Deployment(state) => Ok(state),
            _ => Err(Failed::UnexpectedAnswer),
        }
    }

    /// Asks a peer for a part of a build. An empty part says that the peer does not have it.
    ///
    /// # Errors
    ///
    /// The question could not be sent, or there is no answer in time.
    pub async fn ask_build(&self, node: Incarnation, read: ReadBuild) -> Result<Bytes, Failed> {
        match self.ask_step(node, Step::Read(read)).await? {
            Answer::BuildPart(part) => Ok(part.bytes),
            _ => Err(Failed::UnexpectedAnswer),
        }
    }

    async fn ask_step(&self, node: Incarnation, step: Step) -> Result<Answer, Failed> {
        let peer = self.peer(node).ok_or(Failed::Gone)?;
        let asked = peer.questions.begin(AskKind::Question);
        let ask = wire::Ask {
            id: asked.id(),
            deployment: Some(wire::DeploymentStep { step: Some(step) }),
            ..wire::Ask::default()
        };
        self.put(&peer, &asked, ask)?;
        let patience = self.limits().ask_timeout;
        let answered = tokio::time::timeout(patience, asked.answer()).await;
        answered.unwrap_or(Err(Failed::Late))
    }

    /// Takes a step that a peer asks for into the queue. If the queue is full, the peer asks again.
    pub(super) fn take_step(
        self: &Arc<Self>,
        peer: &Arc<Peer>,
        id: u64,
        step: wire::DeploymentStep,
    ) -> Result<(), NotUnderstood> {
        let (mesh, asking) = (self.clone(), peer.clone());
        let step = PeerStep {
            node: peer.incarnation(),
            step: step.step.ok_or(NotUnderstood)?,
            reply: Box::new(move |answer| {
                mesh.answer_with(&asking, id, answer, not_handled(NotHandled::Trapped));
            }),
        };
        let _ = self.deployments.steps.sender.try_send(step);
        Ok(())
    }
}

fn frame(deployments: Vec<Deployment>) -> Bytes {
    wire::encode(wire::frame::Frame::Deployments(wire::Deployments {
        deployments,
    }))
}
