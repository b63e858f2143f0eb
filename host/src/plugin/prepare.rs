//! A node's part in the deployments that another node was asked for: it gets the build, starts it
//! beside the one that runs, and lets it take over once it hears that this is decided.
//!
//! A node that was not asked, since it was away, hears of the deployment when it is back, and gets
//! the build then.

use std::io::ErrorKind;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::{Semaphore, mpsc};

use super::deployments::ReceivedBuild;
use super::folder::{Plugins, on_blocking_thread};
use super::generation::{Digest, Generation};
use super::load::{BuildSource, LoadError, PluginFiles};
use super::loads::Loads;
use super::preparation::{Preparation, PreparationPhase};
use super::slot::Slot;
use super::watch;
use crate::id::Incarnation;
use crate::mesh::Mesh;
use crate::mesh::deployment::{
    Deployment, DeploymentState, PeerStep, Phase, ReadBuild, Step, rollout,
};
use crate::registry::ServingSource;

/// The most bytes of a build that one answer has.
const PART_BYTES: usize = 256 << 10;

/// How many parts are read for other nodes at once.
const READS: usize = 16;

/// The pause before a part of a build is asked for again.
const PART_RETRY: Duration = Duration::from_millis(250);

/// How long a build may not go on being got.
const STALLED: Duration = Duration::from_secs(30);

/// The pause before a build that no node has is looked for again.
const NOT_FOUND: Duration = Duration::from_secs(5);

/// Handles the steps of deployments that other nodes ask for, for as long as the node runs.
async fn handle_steps(plugins: Weak<Plugins>, mut steps: mpsc::Receiver<PeerStep>) {
    let reads = Arc::new(Semaphore::new(READS));
    while let Some(step) = steps.recv().await {
        let Some(plugins) = plugins.upgrade() else {
            return;
        };
        match step.step.clone() {
            Step::Read(read) => {
                let reads = reads.clone();
                tokio::spawn(async move {
                    let _read = reads.acquire().await;
                    step.answer_part(plugins.read_part(read).await);
                });
            }
            asked => {
                let state = plugins.take_step(Some(step.node), asked);
                step.answer(state);
            }
        }
    }
}

/// Runs what was deployed on other nodes, for as long as the node runs.
async fn follow_deployments(plugins: Weak<Plugins>, mesh: Arc<Mesh>) {
    loop {
        mesh.deployment_heard().await;
        for deployment in mesh.deployments() {
            let Some(plugins) = plugins.upgrade() else {
                return;
            };
            if plugins.deployments.is_newer(&deployment) {
                plugins.take_deployment(deployment).await;
            }
        }
    }
}

impl Plugins {
    /// Takes part in deployments, for as long as the node runs.
    pub(super) fn join_deployments(self: &Arc<Self>, mesh: &Arc<Mesh>) {
        for deployment in self.deployments.all() {
            mesh.announce_deployment(&deployment);
        }
        let (plugins, mut tasks) = (Arc::downgrade(self), self.tasks.lock());
        if let Some(steps) = mesh.deployment_steps() {
            tasks.spawn(handle_steps(plugins.clone(), steps));
        }
        if self.loader.is_some() {
            tasks.spawn(follow_deployments(plugins, mesh.clone()));
        }
    }

    /// Does a step that a node asks for; none: this node.
    pub(super) fn take_step(
        self: &Arc<Self>,
        node: Option<Incarnation>,
        step: Step,
    ) -> DeploymentState {
        let unknown = || {
            let why = "the node knows nothing of this deployment any more";
            PreparationPhase::Failed(why.to_owned()).into()
        };
        let (id, step): (u64, fn(&Preparation)) = match step {
            Step::Prepare(prepare) => {
                let deployment = prepare.deployment.unwrap_or_default();
                return self.begin_preparation(prepare.id, deployment, node);
            }
            Step::Look(id) => (id, Preparation::look),
            Step::BeginTrial(id) => (id, |one| one.may_run.cancel()),
            Step::Abort(id) => (id, |one| one.aborted.cancel()),
            Step::Compare(plugin) => {
                return DeploymentState {
                    canary: self.canary_state(&plugin),
                    ..DeploymentState::default()
                };
            }
            // It is handled elsewhere.
            Step::Read(_) => return DeploymentState::default(),
        };
        let Some(preparation) = self.preparations.get(id) else {
            return unknown();
        };
        step(&preparation);
        self.progress_of(&preparation).into()
    }

    /// Returns how far a preparation is, and whether its build still runs.
    fn progress_of(&self, preparation: &Preparation) -> PreparationPhase {
        let progress = preparation.progress();
        if !matches!(progress, PreparationPhase::Running(_)) {
            return progress;
        }
        let plugin = self.get(&preparation.deployment.plugin);
        let running = plugin.and_then(|plugin| {
            let slot = plugin.slot();
            let is_it = |held: &&Arc<Generation>| Some(&held.digest) == preparation.digest.get();
            slot.all().find(is_it).cloned()
        });
        match running {
            Some(running) if running.probation.has_failed() => {
                PreparationPhase::Failed(running.failures())
            }
            Some(_) => progress,
            None => PreparationPhase::Failed("the build has run, and was taken back".to_owned()),
        }
    }

    /// Begins to prepare a build that `node` has, or that is here.
    fn begin_preparation(
        self: &Arc<Self>,
        id: u64,
        deployment: Deployment,
        node: Option<Incarnation>,
    ) -> DeploymentState {
        if self.loader.is_none() {
            return DeploymentState {
                phase: Phase::Gateway.into(),
                ..DeploymentState::default()
            };
        }
        // What was asked before, and whose answer has not come.
        if let Some(known) = self.preparations.get(id) {
            return self.progress_of(&known).into();
        }
        let preparation = Arc::new(Preparation::new(id, deployment));
        let begun = self.can_keep(&preparation.deployment);
        let begun = begun.and_then(|()| self.preparations.begin(preparation.clone()));
        if let Err(why) = begun {
            return PreparationPhase::Failed(why.to_owned()).into();
        }
        let plugins = self.clone();
        tokio::spawn(async move {
            plugins.run_preparation(&preparation, node).await;
            preparation.end();
        });
        PreparationPhase::Preparing.into()
    }

    /// Whether the node can keep a deployment, or why not.
    pub(super) fn can_keep(&self, deployment: &Deployment) -> Result<(), &'static str> {
        if !self.deployments.are_kept() {
            return Err("the node keeps no builds: give it a folder for them (builds)");
        }
        if !deployment.is_sound() {
            return Err(
                "the name is no plugin's (a-z, A-Z, 0-9, - and _), or the component is too large",
            );
        }
        match self.deployments.is_newer(deployment) {
            true => Ok(()),
            false => Err("the node knows a later deployment of the plugin, or of too many plugins"),
        }
    }

    /// Prepares a build, and goes on until it runs, or is dropped.
    async fn run_preparation(
        self: &Arc<Self>,
        preparation: &Arc<Preparation>,
        node: Option<Incarnation>,
    ) {
        let deployment = &preparation.deployment;
        let name = &*deployment.plugin;
        let _used = self.deployments.use_build(name, &deployment.digest);
        let prepared = async {
            if let Some(node) = node {
                self.get_build(deployment, &[node]).await?;
            }
            let files = self.deployed_files(deployment).await?;
            let files = files.from(BuildSource::Prepared);
            let _ = preparation.digest.set(files.digest);
            let asked = self.prepared.ask((preparation.clone(), files)).await;
            asked.map_err(|_| LoadError::Overtaken)?;
            preparation.reach(PreparationPhase::has_ended).await;
            Ok(())
        };
        let prepared = tokio::select! {
            biased;
            prepared = prepared => prepared,
            () = preparation.is_dropped() => Err(LoadError::NotDeployed),
        };
        if let Err(error) = prepared {
            preparation.advance(PreparationPhase::Failed(error.to_string()));
        }
        if let PreparationPhase::Running(_) = preparation.progress() {
            self.run_trial(preparation).await;
        }
    }

    /// Waits until a build that runs was deployed. If it is not, what ran before is loaded again.
    async fn run_trial(self: &Arc<Self>, preparation: &Preparation) {
        let deployment = &preparation.deployment;
        loop {
            let taken = self.deployments_taken.notified();
            if !self.deployments.is_newer(deployment) {
                return;
            }
            tokio::select! {
                () = taken => {}
                () = preparation.is_dropped() => break,
            }
        }
        let plugin = &*deployment.plugin;
        let why = "the trial of a build has ended, and what ran before it is loaded";
        tracing::warn!(plugin, "{why}");
        preparation.advance(PreparationPhase::Failed(why.to_owned()));
        self.step_back(plugin, preparation.digest.get());
        let _ = self.reloads.ask(plugin.to_owned()).await;
    }

    /// Makes way for what a plugin is to run without the build of this digest, which somebody has given
    /// up. That the manifest demanded more of clients is no reason to keep it then.
    fn step_back(&self, plugin: &str, digest: Option<&Digest>) {
        if let Some(plugin) = self.get(plugin) {
            *plugin.former_rules.lock() = None;
        }
        if let Some(digest) = digest {
            self.builds.refuse(plugin, digest);
        }
    }

    /// Reads the files of a deployment that is here.
    async fn deployed_files(
        self: &Arc<Self>,
        deployment: &Deployment,
    ) -> Result<PluginFiles, LoadError> {
        let (plugins, deployment) = (self.clone(), deployment.clone());
        on_blocking_thread(move || plugins.read_deployed(&deployment)).await
    }

    /// Reads the files of a deployment that is here, on a thread that may wait.
    pub(super) fn read_deployed(&self, deployment: &Deployment) -> Result<PluginFiles, LoadError> {
        let loader = self.loader.as_ref().ok_or(LoadError::NotDeployed)?;
        let read = self.deployments.read(deployment);
        let (component, manifest) = read.map_err(|error| match error.kind() {
            ErrorKind::NotFound => LoadError::NotHere,
            _ => error.into(),
        })?;
        let path = self.component_path(&deployment.plugin);
        let files = PluginFiles::new(component, manifest, &path, &loader.defaults);
        let files = files.from(BuildSource::Deployed);
        match &deployment.rollout {
            None => Ok(files),
            Some(told) => {
                let rollout = rollout(told).map_err(|_| LoadError::NotDeployed)?;
                Ok(files.for_clients_of(rollout))
            }
        }
    }

    /// Begins the load of a build that waits for a decision before it takes over.
    pub(super) fn begin_prepared(
        self: &Arc<Self>,
        preparation: Arc<Preparation>,
        files: PluginFiles,
        loads: &mut Loads,
    ) {
        let started = Instant::now();
        let name = preparation.deployment.plugin.clone();
        let plugin = self.plugin(&name);
        let (running, beside) = match Slot::clone(&plugin.slot()) {
            Slot::Running(running) => (Some(running.stable), running.canary),
            _ => (None, None),
        };
        if files.rollout.is_some() && running.is_none() {
            let why = LoadError::NothingBeside.to_string();
            return preparation.advance(PreparationPhase::Failed(why));
        }
        let mut all = running.into_iter().chain(beside);
        if let Some(running) = all.find(|running| running.digest == files.digest) {
            // It runs already, and is only to go on.
            preparation.advance(PreparationPhase::Ready);
            let number = running.number;
            tokio::spawn(async move {
                tokio::select! {
                    biased;
                    () = preparation.may_run.cancelled() => {
                        plugin.comes_from(&running, ServingSource::Deployment);
                        preparation.advance(PreparationPhase::Running(number));
                    }
                    () = preparation.is_dropped() => {
                        preparation.advance(PreparationPhase::Failed(LoadError::NotDeployed.to_string()));
                    }
                }
            });
            return;
        }
        if loads.has(&name) {
            let busy = "another build of the plugin is being loaded: try again when it has ended";
            preparation.advance(PreparationPhase::Failed(busy.to_owned()));
            return;
        }
        let gate = Some(preparation.clone());
        match self.gated_load(plugin, files, loads, started, gate) {
            Ok(mut load) => {
                let run = load.run;
                load.run = Box::pin(async move {
                    // If it is dropped, newer files have come.
                    let overtaken = LoadError::Overtaken.to_string();
                    let overtaken = scopeguard::guard(preparation, |preparation| {
                        preparation.advance(PreparationPhase::Failed(overtaken));
                    });
                    let loaded = tokio::select! {
                        biased;
                        loaded = run => loaded,
                        () = overtaken.is_dropped() => Err(LoadError::NotDeployed),
                    };
                    let preparation = scopeguard::ScopeGuard::into_inner(overtaken);
                    preparation.advance(match &loaded {
                        Ok(generation) => PreparationPhase::Running(generation.unwrap_or_default()),
                        Err(error) => PreparationPhase::Failed(error.to_string()),
                    });
                    loaded
                });
                loads.start(name, load);
            }
            Err(error) => preparation.advance(PreparationPhase::Failed(error.to_string())),
        }
    }

    /// Takes a deployment of which another node has told, and lets its build take over.
    async fn take_deployment(self: &Arc<Self>, deployment: Deployment) {
        let (plugins, taken) = (self.clone(), deployment.clone());
        let written = on_blocking_thread(move || plugins.deployments.take(&taken, true)).await;
        if let Err(error) = written {
            tracing::error!(
                plugin = deployment.plugin,
                %error,
                "a deployment cannot be written: a restart may load another build, until other nodes \
                 tell of it (builds)"
            );
        }
        self.run_deployment(&deployment);
    }

    /// Lets what was deployed take over, as far as it is for this node.
    pub(super) fn run_deployment(self: &Arc<Self>, deployment: &Deployment) {
        let name = &*deployment.plugin;
        tracing::info!(
            plugin = name,
            version = deployment.version,
            origin = deployment.origin,
            by = deployment.by,
            is_withdrawn = deployment.is_withdrawn(),
            "deployed"
        );
        let prepared = self.preparations.of(deployment);
        if let Some(prepared) = &prepared {
            prepared.may_run.cancel();
        }
        self.deployments_taken.notify_waiters();
        if deployment.is_withdrawn() {
            let running = self.get(name).and_then(|plugin| plugin.running());
            let deployed =
                running.filter(|running| *running.source.lock() == ServingSource::Deployment);
            // If something else runs, its rules still count.
            if let Some(deployed) = deployed {
                self.step_back(name, Some(&deployed.digest));
            }
        }
        // Whatever has become of what was prepared: it is what shall run now.
        let (plugins, name) = (self.clone(), name.to_owned());
        tokio::spawn(async move {
            if let Some(prepared) = prepared {
                prepared.reach(PreparationPhase::has_ended).await;
            }
            let _ = plugins.reloads.ask(name).await;
        });
    }

    /// Gets the build of a deployment from another node, on a task of its own, and loads it then.
    pub(super) fn get_build_later(self: &Arc<Self>, deployment: Deployment) {
        let name = deployment.plugin.clone();
        if !self.deployments.are_kept() {
            return tracing::error!(
                plugin = name,
                "what is deployed cannot run here, since the node keeps no builds: give it a folder for \
                 them (builds)"
            );
        }
        if !self.getting.lock().insert(name.clone()) {
            return;
        }
        let plugins = Arc::downgrade(self);
        tokio::spawn(async move {
            let mut has_failed = false;
            loop {
                let Some(plugins) = plugins.upgrade() else {
                    return;
                };
                let last = plugins.deployments.last(&name);
                let is_last = last.is_some_and(|last| last.has_build(&deployment.digest));
                let mesh = plugins.mesh.as_ref();
                let nodes = mesh.map(|mesh| mesh.peers()).unwrap_or_default();
                let nodes: Vec<_> = nodes.iter().map(|peer| peer.incarnation()).collect();
                let got = match is_last {
                    true => plugins.get_build(&deployment, &nodes).await,
                    false => Ok(()),
                };
                let Err(error) = got else {
                    plugins.getting.lock().remove(&name);
                    let _ = plugins.reloads.ask(name).await;
                    return;
                };
                if !has_failed {
                    has_failed = true;
                    tracing::warn!(
                        plugin = name,
                        "no node has sent the build that is deployed, this one asks again: {error}"
                    );
                }
                drop(plugins);
                tokio::time::sleep(NOT_FOUND).await;
            }
        });
    }

    /// Tries a deployed build again after a while. The folder need not have it, so the watch of the
    /// folder does not do this.
    pub(super) fn retry_later(self: &Arc<Self>, name: &str) {
        if !self.retrying.lock().insert(name.to_owned()) {
            return;
        }
        let (plugins, name) = (Arc::downgrade(self), name.to_owned());
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(watch::RETRY).await;
                let Some(plugins) = plugins.upgrade() else {
                    return;
                };
                if !plugins.preparations.is_under_way(&name) {
                    plugins.retrying.lock().remove(&name);
                    let _ = plugins.reloads.ask(name).await;
                    return;
                }
            }
        });
    }

    /// Gets the build of a deployment from one of these nodes, unless it is here. Where a connection
    /// breaks, it goes on with the next part.
    async fn get_build(
        self: &Arc<Self>,
        deployment: &Deployment,
        nodes: &[Incarnation],
    ) -> Result<(), LoadError> {
        // Nobody removes it before it is known whether it is the deployed one.
        let _used = self
            .deployments
            .use_build(&deployment.plugin, &deployment.digest);
        let (plugins, wanted) = (self.clone(), deployment.clone());
        let begun = on_blocking_thread(move || {
            let deployments = &plugins.deployments;
            match deployments.has(&wanted) {
                true => Ok::<_, LoadError>(None),
                false => Ok(Some(deployments.receive(&wanted.plugin)?)),
            }
        });
        let Some(received) = begun.await? else {
            return Ok(());
        };
        let received = self.receive_parts(received, deployment, nodes).await?;
        let (deployments, wanted) = (self.deployments.clone(), deployment.clone());
        let ended = on_blocking_thread(move || {
            received.end(&wanted.plugin, Some(&wanted.digest), &deployments)
        });
        ended.await?;
        Ok(())
    }

    async fn receive_parts(
        &self,
        received: ReceivedBuild,
        deployment: &Deployment,
        nodes: &[Incarnation],
    ) -> Result<ReceivedBuild, LoadError> {
        let mesh = self.mesh.as_ref().ok_or(LoadError::NotHere)?;
        let mut component = tokio::fs::File::create(received.component()).await?;
        let mut manifest = Vec::new();
        let all = deployment.component_bytes + deployment.manifest_bytes;
        let (mut offset, mut went_on) = (0, Instant::now());
        let mut others = nodes.iter().cycle();
        let mut node = others.next().ok_or(LoadError::NotHere)?;
        while offset < all {
            let read = ReadBuild {
                plugin: deployment.plugin.clone(),
                digest: deployment.digest.clone(),
                offset,
            };
            match mesh.ask_build(*node, read).await {
                Ok(part) if !part.is_empty() && part.len() as u64 <= all - offset => {
                    let left = deployment.component_bytes.saturating_sub(offset);
                    let left = usize::try_from(left).unwrap_or(usize::MAX).min(part.len());
                    component.write_all(&part[..left]).await?;
                    manifest.extend_from_slice(&part[left..]);
                    offset += part.len() as u64;
                    went_on = Instant::now();
                }
                // It does not have it, or cannot be reached for the moment.
                _ if went_on.elapsed() > STALLED => return Err(LoadError::NotHere),
                _ => {
                    node = others.next().ok_or(LoadError::NotHere)?;
                    tokio::time::sleep(PART_RETRY).await;
                }
            }
        }
        component.flush().await?;
        drop(component);
        on_blocking_thread(move || {
            received.write_manifest(&manifest)?;
            Ok::<_, LoadError>(received)
        })
        .await
    }

    /// Reads a part of a build for another node. It is empty if the build is not here.
    async fn read_part(self: &Arc<Self>, read: ReadBuild) -> Bytes {
        let plugins = self.clone();
        let part = on_blocking_thread(move || {
            let deployments = &plugins.deployments;
            deployments.read_part(&read.plugin, &read.digest, read.offset, PART_BYTES)
        });
        part.await.unwrap_or_default()
    }
}
