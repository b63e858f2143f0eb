//! A deployment that this node was asked for: the build goes to all nodes that run the plugin, and
//! takes over on all of them once it has started on each. If it cannot run on one, nothing changes.
//!
//! What decides is that this node has written the deployment to its disk: from then on it tells all
//! others of it, also those that come later, and again after a restart. If this node ends before, the
//! others drop what they have prepared.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::deploy_outcome::{DeployError, Deployed, DeployedNode};
use super::deployments::ReceivedBuild;
use super::folder::{Plugins, on_blocking_thread};
use crate::id::Incarnation;
use crate::manifest::{fits_a_path, reach, rollout};
use crate::mesh::PeerState;
use crate::mesh::deployment::{Deployment, DeploymentState, Phase, Prepare, Step, told_rollout};
use crate::mesh::peer_event::Failed;
use crate::registry::now_ms;
use crate::rollout::Rollout;

/// How often another node is asked how far it is.
const LOOK: Duration = Duration::from_millis(200);

/// The time for all nodes to get the build and to start it.
const PREPARE_TIMEOUT: Duration = Duration::from_secs(300);

/// The time for a node to answer at all, and to let the build take over once that is decided.
const NODE_TIMEOUT: Duration = Duration::from_secs(15);

/// A build that is to run on the nodes of the cluster.
pub struct DeployOrder {
    /// The name of the plugin.
    pub plugin: String,
    /// Where the component was taken from, for a person.
    pub origin: String,
    /// The name of whoever deploys it.
    pub by: String,
    /// With this, the nodes change one after the other, and each must run the build for this long
    /// before the next one does. Otherwise all change at once.
    pub rolling: Option<Duration>,
    /// The clients that the build is for at first, beside the one that runs; none: those that its
    /// manifest says, or all.
    pub canary: Option<Rollout>,
}

/// A node that is to run the build.
pub(super) struct DeploymentMember {
    pub(super) node: Incarnation,
    mesh: String,
    is_this: bool,
}

impl Plugins {
    /// Begins to receive a build of a plugin that is to be deployed.
    ///
    /// # Errors
    ///
    /// The node is a gateway, or cannot write the build.
    pub fn receive_build(&self, plugin: &str) -> Result<ReceivedBuild, DeployError> {
        if self.loader.is_none() {
            return Err(DeployError::Gateway);
        }
        if plugin.is_empty() || !fits_a_path(plugin) {
            let why = format!("{plugin:?} is no plugin's name: a-z, A-Z, 0-9, - and _");
            return Err(DeployError::Invalid(why));
        }
        if !self.deployments.are_kept() {
            let why = "the node keeps no builds: give it a folder for them (builds)";
            return Err(DeployError::NotHere(why.to_owned()));
        }
        Ok(self.deployments.receive(plugin)?)
    }

    /// Returns what a manifest lets its plugin reach, and that of the build that runs does not, each with
    /// its key: files, and addresses of the private network.
    pub async fn new_reach(self: &Arc<Self>, plugin: &str, manifest: &str) -> BTreeSet<String> {
        let mut reached = reach(manifest);
        let running = self.get(plugin).and_then(|plugin| plugin.running());
        if let Some(running) = running {
            let (plugins, name) = (self.clone(), plugin.to_owned());
            let before =
                on_blocking_thread(move || plugins.builds.manifest(&name, &running.digest));
            let before = reach(&before.await.ok().flatten().unwrap_or_default());
            reached.retain(|one| !before.contains(one));
        }
        reached
    }

    /// Takes a build that this node keeps: the one whose digest begins with these hexadecimal
    /// `digits`, or the one that ran before. Returns it with its digest.
    ///
    /// # Errors
    ///
    /// The node is a gateway, there is no such build, or it cannot be copied.
    pub async fn receive_kept(
        self: &Arc<Self>,
        plugin: &str,
        digits: Option<&str>,
    ) -> Result<(ReceivedBuild, [u8; 32]), DeployError> {
        let running = self.get(plugin).and_then(|plugin| plugin.running());
        let running = running.map(|running| running.digest);
        let (plugins, name) = (self.clone(), plugin.to_owned());
        let digits = digits.map(str::to_owned);
        on_blocking_thread(move || {
            let received = plugins.receive_build(&name)?;
            if digits.is_none() && plugins.canary(&name).is_some() {
                let why =
                    "the plugin has a canary: promote or withdraw it first, or name the build";
                return Err(DeployError::Invalid(why.to_owned()));
            }
            let digest = plugins.wanted_build(&name, digits.as_deref(), running)?;
            let (component, manifest) = plugins.builds.read(&name, &digest)?;
            std::fs::write(received.component(), component)?;
            received.write_manifest(manifest.unwrap_or_default().as_bytes())?;
            Ok((received, digest))
        })
        .await
    }

    /// Deploys a build on all nodes that run the plugin; if none does, on all that run plugins.
    ///
    /// # Errors
    ///
    /// The build cannot run on one of these nodes, and nothing was changed.
    pub async fn deploy(
        self: &Arc<Self>,
        order: DeployOrder,
        build: ReceivedBuild,
    ) -> Result<Deployed, DeployError> {
        let (deployments, name) = (self.deployments.clone(), order.plugin.clone());
        let ended = on_blocking_thread(move || {
            // Whether it is text is found out where it is loaded.
            let said = rollout(&String::from_utf8_lossy(&build.manifest()?));
            Ok::<_, DeployError>((said, build.end(&name, None, &deployments)?))
        });
        // As long as this is there, nobody removes the build.
        let (said, (_used, digest, component_bytes, manifest_bytes)) = ended.await?;
        if let Some(mesh) = &self.mesh {
            // A node that has just started may not have heard of the others.
            mesh.settled().await;
        }
        self.check_nodes_are_known()?;
        let runs_it = self.nodes_with(&order.plugin).await;
        let last = self.deployments.last(&order.plugin);
        if order.canary.is_some() && runs_it.is_empty() {
            let why = "no node runs the plugin: a canary needs a build beside it";
            return Err(DeployError::Invalid(why.to_owned()));
        }
        let canary = order.canary.or(said).filter(|_| !runs_it.is_empty());
        if canary.is_some() && order.rolling.is_some() {
            let why = "a canary is for a part of the clients on all nodes at once: deploy it without a \
                       time for which each node runs it alone (rolling)";
            return Err(DeployError::Invalid(why.to_owned()));
        }
        // The others have what is deployed for all now, or what the folders have.
        let stable = canary.as_ref().map(|_| match &last {
            Some(last) if last.is_canary() => last.without_canary(),
            Some(last) => last.clone(),
            None => Deployment {
                plugin: order.plugin.clone(),
                ..Deployment::default()
            },
        });
        let is_same = |stable: &Deployment| stable.digest == digest[..];
        if stable.as_ref().is_some_and(is_same) {
            let why = "this build is deployed already, for all clients";
            return Err(DeployError::Invalid(why.to_owned()));
        }
        let was_everywhere = last.as_ref().is_some_and(|last| last.everywhere);
        let deployment = Deployment {
            version: 1 + last.map_or(0, |last| last.version),
            plugin: order.plugin,
            digest: digest.to_vec().into(),
            component_bytes,
            manifest_bytes,
            everywhere: was_everywhere || runs_it.is_empty(),
            origin: order.origin,
            by: order.by,
            at_ms: now_ms(),
            rollout: canary.map(|canary| told_rollout(&canary.begun_at(now_ms()))),
            stable: stable.map(Box::new),
        };
        self.can_keep(&deployment)
            .map_err(|why| DeployError::NotHere(why.to_owned()))?;
        let mut members = self.members();
        if !deployment.everywhere {
            members.retain(|member| runs_it.contains(&member.node));
        }
        let nodes = self.deploy_on(members, &deployment, order.rolling).await?;
        Ok(Deployed {
            version: deployment.version,
            digest: digest.to_vec(),
            nodes,
        })
    }

    /// Checks that each node has said what it has: one that has not may run the plugin.
    fn check_nodes_are_known(&self) -> Result<(), DeployError> {
        let unknown = self.mesh.iter().flat_map(|mesh| mesh.unknown());
        let unknown: Vec<_> = unknown.map(|node| node.to_string()).collect();
        match unknown.as_slice() {
            [] => Ok(()),
            nodes => Err(DeployError::NotHere(format!(
                "not all nodes have said which plugins they have, or they are silent ({}): try again when \
                 `jackfield nodes` shows them as alive, or not at all",
                nodes.join(", ")
            ))),
        }
    }

    /// Withdraws the deployment of a plugin: its nodes run what their folders have.
    ///
    /// # Errors
    ///
    /// Nothing of the plugin is deployed, or that cannot be written.
    pub async fn withdraw(self: &Arc<Self>, plugin: &str, by: &str) -> Result<u64, DeployError> {
        if self.loader.is_none() {
            return Err(DeployError::Gateway);
        }
        let last = self.deployments.get(plugin);
        let last = last.ok_or_else(|| DeployError::NotDeployed(plugin.to_owned()))?;
        let withdrawn = Deployment {
            plugin: plugin.to_owned(),
            // It counts more than what becomes of a canary at the same time.
            version: last.version + if last.is_canary() { 3 } else { 1 },
            by: by.to_owned(),
            at_ms: now_ms(),
            ..Deployment::default()
        };
        self.decide(&withdrawn).await?;
        Ok(withdrawn.version)
    }

    /// The last deployments of all plugins that were not withdrawn.
    pub fn deployments(&self) -> Vec<Deployment> {
        let all = match &self.mesh {
            Some(mesh) => mesh.deployments(),
            None => self.deployments.all(),
        };
        let all = all.into_iter();
        all.filter(|deployment| !deployment.is_withdrawn())
            .collect()
    }

    /// The nodes that have a plugin.
    async fn nodes_with(self: &Arc<Self>, plugin: &str) -> BTreeSet<Incarnation> {
        let elsewhere = self.mesh.iter().flat_map(|mesh| mesh.nodes_with(plugin));
        let mut nodes: BTreeSet<_> = elsewhere.collect();
        let runs = self.get(plugin).is_some_and(|plugin| plugin.runs());
        if runs || self.is_in_folder(plugin).await {
            nodes.insert(self.registry.incarnation());
        }
        nodes
    }

    /// All nodes that are known, this one last.
    pub(super) fn members(&self) -> Vec<DeploymentMember> {
        let peers = self.mesh.iter().flat_map(|mesh| mesh.peers());
        // One that leaves hears of it in its next run.
        let stay = peers.filter(|peer| peer.state() != Some(PeerState::Leaving));
        let members = stay.map(|peer| DeploymentMember {
            node: peer.incarnation(),
            mesh: peer.address(),
            is_this: false,
        });
        let this = DeploymentMember {
            node: self.registry.incarnation(),
            mesh: self
                .mesh
                .as_ref()
                .map_or_else(String::new, |mesh| mesh.address().to_owned()),
            is_this: true,
        };
        members.chain([this]).collect()
    }

    async fn deploy_on(
        self: &Arc<Self>,
        members: Vec<DeploymentMember>,
        deployment: &Deployment,
        rolling: Option<Duration>,
    ) -> Result<Vec<DeployedNode>, DeployError> {
        let id = getrandom::u64().map_err(std::io::Error::other)?;
        let prepared = self.prepare_on(id, &members, deployment).await;
        // A gateway has no part in it.
        let (members, prepared): (Vec<_>, Vec<_>) = members
            .into_iter()
            .zip(prepared)
            .filter(|(_, state)| !matches!(state, Ok(None)))
            .unzip();
        let failed = prepared.iter().any(Result::is_err);
        if failed || members.is_empty() {
            self.abort_on(id, &members).await;
            return Err(match failed {
                true => DeployError::Refused(outcomes(&members, prepared)),
                false => DeployError::NotHere("no node runs plugins".to_owned()),
            });
        }
        if let Some(settle) = rolling {
            self.roll(id, &members, settle).await?;
        }
        // One that was ready a while ago may not be any more.
        let still = members.iter().map(|member| async move {
            let is_there = |phase| matches!(phase, Phase::Ready | Phase::Running);
            self.wait_for(id, member, is_there, Instant::now()).await
        });
        let still = join_all(still).await;
        if still.iter().any(Result::is_err) {
            self.abort_on(id, &members).await;
            return Err(DeployError::Refused(outcomes(&members, still)));
        }
        if let Err(error) = self.decide(deployment).await {
            self.abort_on(id, &members).await;
            return Err(error);
        }
        let running = members.iter().map(|member| async move {
            let timeout = Instant::now() + NODE_TIMEOUT;
            let is_there = |phase| phase == Phase::Running;
            self.wait_for(id, member, is_there, timeout).await
        });
        let running = join_all(running).await;
        Ok(outcomes(&members, running))
    }

    /// Lets all nodes prepare the build, and waits for all of them, or for the first that cannot. A
    /// gateway's answer is none.
    async fn prepare_on(
        self: &Arc<Self>,
        id: u64,
        members: &[DeploymentMember],
        deployment: &Deployment,
    ) -> Vec<Result<Option<u64>, String>> {
        let timeout = Instant::now() + PREPARE_TIMEOUT;
        let plugin = &*deployment.plugin;
        let prepare = || {
            let deployment = Some(deployment.clone());
            Step::Prepare(Prepare { id, deployment })
        };
        let has_failed = tokio_util::sync::CancellationToken::new();
        let preparing = members.iter().map(|member| {
            let has_failed = &has_failed;
            async move {
                let prepared = async {
                    let state = self.ask_patiently(member, &prepare()).await?;
                    match state.phase() {
                        Phase::Gateway => Ok(None),
                        Phase::Failed => Err(state.failure),
                        _ => {
                            let is_ready = |phase| phase == Phase::Ready;
                            self.wait_for(id, member, is_ready, timeout).await
                        }
                    }
                };
                tokio::select! {
                    prepared = prepared => {
                        let (node, mesh) = (&member.node, &member.mesh);
                        match &prepared {
                            Ok(None) => {}
                            Ok(Some(_)) => tracing::info!(plugin, %node, mesh, "a node is ready"),
                            Err(why) => {
                                tracing::warn!(plugin, %node, mesh, why, "a node is not ready");
                                has_failed.cancel();
                            }
                        }
                        prepared
                    }
                    // It is given up, and this node is not to blame.
                    () = has_failed.cancelled() => Ok(Some(0)),
                }
            }
        });
        // Those that are ready wait for as long as somebody looks.
        tokio::select! {
            prepared = join_all(preparing) => prepared,
            never = self.keep_looking_at(id, members) => match never {},
        }
    }

    /// Looks at all nodes again and again, so that they go on waiting.
    async fn keep_looking_at(
        self: &Arc<Self>,
        id: u64,
        members: &[DeploymentMember],
    ) -> Infallible {
        loop {
            tokio::time::sleep(LOOK * 5).await;
            self.look_at(id, members).await;
        }
    }

    /// Looks at all nodes. Returns the number of the first one that has failed, and why.
    async fn look_at(
        self: &Arc<Self>,
        id: u64,
        members: &[DeploymentMember],
    ) -> Option<(usize, String)> {
        let looks = members
            .iter()
            .map(|member| self.ask_step(member, Step::Look(id)));
        let states = join_all(looks).await.into_iter().enumerate();
        let mut failed = states.filter_map(|(number, state)| {
            let state = state.ok().filter(|state| state.phase() == Phase::Failed)?;
            Some((number, state.failure))
        });
        failed.next()
    }

    /// Lets one node after the other run the build, each for a while before the next one does.
    async fn roll(
        self: &Arc<Self>,
        id: u64,
        members: &[DeploymentMember],
        settle: Duration,
    ) -> Result<(), DeployError> {
        let rolling = async {
            for (number, member) in members.iter().enumerate() {
                let began = self.ask_patiently(member, &Step::BeginTrial(id)).await;
                let timeout = Instant::now() + NODE_TIMEOUT;
                let is_running = |phase| phase == Phase::Running;
                let tried = async {
                    began?;
                    self.wait_for(id, member, is_running, timeout).await?;
                    let until = Instant::now() + settle;
                    while Instant::now() < until {
                        tokio::time::sleep(LOOK).await;
                        let now = Instant::now() + NODE_TIMEOUT;
                        self.wait_for(id, member, is_running, now).await?;
                    }
                    Ok(())
                };
                tried.await.map_err(|why| (number, why))?;
            }
            Ok(())
        };
        // The others wait, or run it on trial, for as long as somebody looks; and one of them may fail.
        let looking = async {
            loop {
                tokio::time::sleep(LOOK * 5).await;
                if let Some(failed) = self.look_at(id, members).await {
                    return failed;
                }
            }
        };
        let rolled: Result<(), (usize, String)> = tokio::select! {
            rolled = rolling => rolled,
            failed = looking => Err(failed),
        };
        let Err((number, why)) = rolled else {
            return Ok(());
        };
        self.abort_on(id, members).await;
        let outcomes = members.iter().enumerate().map(|(index, member)| {
            let outcome = match index == number {
                true => Err(why.clone()),
                false => Ok(None),
            };
            member.outcome(outcome)
        });
        Err(DeployError::Refused(outcomes.collect()))
    }

    /// Writes a deployment to the disk, tells all nodes of it, and lets it take over here.
    pub(super) async fn decide(
        self: &Arc<Self>,
        deployment: &Deployment,
    ) -> Result<(), DeployError> {
        let (plugins, decided) = (self.clone(), deployment.clone());
        let taken = on_blocking_thread(move || {
            if !decided.is_withdrawn() && !plugins.deployments.has(&decided) {
                return Err(std::io::Error::other("it is not there any more"));
            }
            plugins.deployments.take(&decided, false)
        });
        let taken = taken.await?;
        if !taken {
            let why = "another deployment of the plugin came meanwhile: try again";
            return Err(DeployError::NotHere(why.to_owned()));
        }
        if let Some(mesh) = &self.mesh {
            mesh.announce_deployment(deployment);
        }
        self.run_deployment(deployment);
        Ok(())
    }

    async fn abort_on(self: &Arc<Self>, id: u64, members: &[DeploymentMember]) {
        let aborts = members
            .iter()
            .map(|member| self.ask_step(member, Step::Abort(id)));
        join_all(aborts).await;
    }

    /// Asks a node again and again how far it is, until it is there. Returns the generation, if there
    /// is one.
    async fn wait_for(
        self: &Arc<Self>,
        id: u64,
        member: &DeploymentMember,
        is_there: fn(Phase) -> bool,
        timeout: Instant,
    ) -> Result<Option<u64>, String> {
        loop {
            let state = self.ask_patiently(member, &Step::Look(id)).await?;
            match state.phase() {
                Phase::Failed => return Err(state.failure),
                phase if is_there(phase) => return Ok(Some(state.generation)),
                _ if Instant::now() > timeout => return Err("it takes too long".to_owned()),
                _ => tokio::time::sleep(LOOK).await,
            }
        }
    }

    /// Asks a node for a step, again if no answer comes.
    async fn ask_patiently(
        self: &Arc<Self>,
        member: &DeploymentMember,
        step: &Step,
    ) -> Result<DeploymentState, String> {
        let timeout = Instant::now() + NODE_TIMEOUT;
        loop {
            let failed = match self.ask_step(member, step.clone()).await {
                Ok(state) => return Ok(state),
                Err(failed) => failed,
            };
            match failed {
                Failed::Gone => return Err("the node is gone".to_owned()),
                Failed::UnexpectedAnswer => {
                    return Err("the node has a version that knows no deployments".to_owned());
                }
                _ if Instant::now() > timeout => return Err("the node does not answer".to_owned()),
                _ => tokio::time::sleep(LOOK).await,
            }
        }
    }

    pub(super) async fn ask_step(
        self: &Arc<Self>,
        member: &DeploymentMember,
        step: Step,
    ) -> Result<DeploymentState, Failed> {
        match &self.mesh {
            Some(mesh) if !member.is_this => mesh.ask_deployment(member.node, step).await,
            _ => Ok(self.take_step(None, step)),
        }
    }
}

impl DeploymentMember {
    fn outcome(&self, generation: Result<Option<u64>, String>) -> DeployedNode {
        DeployedNode {
            node: self.node,
            mesh: self.mesh.clone(),
            generation: generation.map(Option::unwrap_or_default),
        }
    }
}

fn outcomes(
    members: &[DeploymentMember],
    generations: Vec<Result<Option<u64>, String>>,
) -> Vec<DeployedNode> {
    let outcomes = members.iter().zip(generations);
    outcomes
        .map(|(member, generation)| member.outcome(generation))
        .collect()
}
