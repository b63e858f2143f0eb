//! What becomes of canaries: they are withdrawn when they fail, and take over for all clients when their
//! time has come or an operator says so.
//!
//! A canary that comes from the plugins folder is that of one node. Where one was deployed, the node that
//! changes it tells all others.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::canary::Canary;
use super::canary_request::{CanaryChange, CanaryError, CanaryRequest, RolloutChange};
use super::deploy_outcome::DeployError;
use super::folder::{Plugins, on_blocking_thread};
use super::generation::Generation;
use super::handle::Plugin;
use super::wanted::end_canary;
use crate::mesh::deployment::{Deployment, rollout, told_rollout};
use crate::registry::{in_ms, now_ms};

/// How many messages each side must have had before their durations are compared.
const COMPARED_MESSAGES: u64 = 1_000;

/// How long a canary must have run on a node at least before the node promotes it by itself.
const TRIED: Duration = Duration::from_secs(60);

impl Plugins {
    /// Changes the canary of a plugin, on all nodes if it was deployed.
    ///
    /// # Errors
    ///
    /// There is no canary, or the change cannot be made. What ran before still runs.
    pub async fn ask_for_canary(
        &self,
        plugin: &str,
        change: CanaryChange,
        by: &str,
    ) -> Result<(), CanaryError> {
        if self.loader.is_none() {
            return Err(DeployError::Gateway.into());
        }
        let (answer, answered) = oneshot::channel();
        let asked = self.canary_requests.try_ask(CanaryRequest {
            plugin: plugin.to_owned(),
            change,
            by: by.to_owned(),
            answer,
        });
        asked.map_err(|_| CanaryError::Overloaded)?;
        answered.await.unwrap_or(Err(CanaryError::Overloaded))
    }

    /// Makes the change that an operator asks for.
    pub(super) async fn change_canary(self: &Arc<Self>, request: CanaryRequest) {
        let CanaryRequest {
            plugin,
            change,
            by,
            answer,
        } = request;
        let changed = match self.get(&plugin) {
            None => Err(CanaryError::None(plugin)),
            Some(plugin) => match change {
                CanaryChange::Promote => self.promote(&plugin, &by).await,
                CanaryChange::Withdraw => self.withdraw_canary(&plugin, &by).await,
                CanaryChange::Rollout(change) => self.change_rollout(&plugin, change, &by).await,
            },
        };
        let _ = answer.send(changed);
    }

    /// The deployment of a canary, if there is one. It need not be the canary that runs here.
    fn deployed_canary(&self, plugin: &Plugin) -> Option<Deployment> {
        let deployment = self.deployments.get(plugin.name());
        deployment.filter(Deployment::is_canary)
    }

    /// The deployment of this canary, if it was deployed.
    fn deployment_of(&self, plugin: &Plugin, canary: &Canary) -> Option<Deployment> {
        let deployed = self.deployed_canary(plugin)?;
        let began_ms = deployed.rollout.as_ref()?.began_ms;
        Some(deployed).filter(|_| began_ms == canary.rollout.began_ms())
    }

    async fn promote(self: &Arc<Self>, plugin: &Arc<Plugin>, by: &str) -> Result<(), CanaryError> {
        let (name, canary) = (plugin.name(), plugin.canary());
        let deployed = self.deployed_canary(plugin);
        if deployed.is_none() && canary.is_none() {
            return Err(CanaryError::None(name.to_owned()));
        }
        self.check_nothing_is_prepared(name)?;
        if let Some((generation, _)) = canary {
            let (plugins, name, digest) = (self.clone(), name.to_owned(), generation.digest);
            on_blocking_thread(move || plugins.builds.promote(&name, &digest)).await?;
        }
        if let Some(deployed) = deployed {
            self.decide_by(deployed.promoted(), by).await?;
        }
        plugin.promote();
        Ok(())
    }

    /// Checks that no other build of the plugin is about to be deployed: it would be decided beside what
    /// it has seen.
    fn check_nothing_is_prepared(&self, name: &str) -> Result<(), CanaryError> {
        let deployed = self.deployments.last(name);
        match self.preparations.has_another(name, deployed.as_ref()) {
            true => Err(CanaryError::Deploying),
            false => Ok(()),
        }
    }

    async fn withdraw_canary(
        self: &Arc<Self>,
        plugin: &Arc<Plugin>,
        by: &str,
    ) -> Result<(), CanaryError> {
        let deployed = self.deployed_canary(plugin);
        if deployed.is_none() && plugin.canary().is_none() {
            return Err(CanaryError::None(plugin.name().to_owned()));
        }
        if let Some(deployed) = deployed {
            self.decide_by(deployed.without_canary(), by).await?;
            end_canary(plugin);
            return Ok(());
        }
        let why = match by {
            "" => "withdrawn over the API".to_owned(),
            by => format!("withdrawn over the API by {by:?}"),
        };
        if let Some(ended) = plugin.end_canary() {
            self.refuse(plugin, &ended);
            self.record_refused(plugin.name(), &ended.digest, &why);
        }
        Ok(())
    }

    async fn change_rollout(
        self: &Arc<Self>,
        plugin: &Arc<Plugin>,
        change: RolloutChange,
        by: &str,
    ) -> Result<(), CanaryError> {
        let none = || CanaryError::None(plugin.name().to_owned());
        self.check_nothing_is_prepared(plugin.name())?;
        let Some(mut deployed) = self.deployed_canary(plugin) else {
            return Err(plugin.canary().map_or_else(none, |_| CanaryError::OfFolder));
        };
        let told = deployed.rollout.as_mut().ok_or_else(none)?;
        told.percent = change.percent.unwrap_or(told.percent);
        told.promote_after_ms = change.promote_after_ms.unwrap_or(told.promote_after_ms);
        told.max_p99_ratio = change.max_p99_ratio.unwrap_or(told.max_p99_ratio);
        if !change.uids.is_empty() {
            told.uids = change.uids;
        }
        let rollout = rollout(told)?;
        *told = told_rollout(&rollout);
        deployed.version += 1;
        self.decide_by(deployed, by).await?;
        plugin.set_rollout(&rollout);
        Ok(())
    }

    async fn decide_by(
        self: &Arc<Self>,
        deployment: Deployment,
        by: &str,
    ) -> Result<(), CanaryError> {
        let deployment = Deployment {
            by: by.to_owned(),
            at_ms: now_ms(),
            ..deployment
        };
        Ok(self.decide(&deployment).await?)
    }

    /// Withdraws the canaries that fail, and lets those take over whose time has come.
    pub(super) async fn judge_canaries(self: &Arc<Self>) {
        for plugin in self.all() {
            let Some((generation, canary)) = plugin.canary() else {
                continue;
            };
            if let Some(why) = failure(&plugin, &generation, &canary) {
                self.take_canary_back(&plugin, &why).await;
                continue;
            }
            let probation = &generation.probation;
            probation.begin_period(generation.limits(), generation.events());
            let since = |ms: u64| now_ms().saturating_sub(ms);
            let (lasts, here) = (since(canary.rollout.began_ms()), since(canary.since_ms));
            let after = canary.rollout.promote_after();
            let is_due = after.is_some_and(|after| {
                // It must have had clients here, however long it took until it ran.
                lasts >= in_ms(after) && here >= in_ms(after.min(TRIED))
            });
            let is_free = self.check_nothing_is_prepared(plugin.name()).is_ok();
            if is_due && is_free && self.promotes(&plugin, &canary) {
                self.promote_in_time(&plugin).await;
            }
        }
    }

    /// Promotes a canary whose time has come. If it cannot, an operator has to.
    async fn promote_in_time(self: &Arc<Self>, plugin: &Arc<Plugin>) {
        let name = plugin.name();
        tracing::info!(
            plugin = name,
            "the time of the canary has come (promote_after)"
        );
        let Err(error) = self.promote(plugin, "").await else {
            return;
        };
        tracing::error!(
            plugin = name,
            %error,
            "the canary is not promoted, and goes on: `jackfield canary promote {name}` tries it again"
        );
        plugin.give_up_promotion();
    }

    /// Whether this node promotes the canary: where it was deployed, one of the nodes does that have it.
    fn promotes(&self, plugin: &Plugin, canary: &Canary) -> bool {
        let Some(mesh) = &self.mesh else { return true };
        if self.deployment_of(plugin, canary).is_none() {
            return true;
        }
        let own = self.registry.incarnation();
        let id = self.canary(plugin.name()).map(|canary| canary.id());
        let others = mesh.nodes_that_promote(plugin.name(), id.unwrap_or_default());
        others.into_iter().all(|other| own < other)
    }

    /// Ends a canary that fails, here and on all nodes if it was deployed.
    pub(super) async fn take_canary_back(self: &Arc<Self>, plugin: &Arc<Plugin>, why: &str) {
        let canary = plugin.canary();
        let deployed = canary.and_then(|(_, canary)| self.deployment_of(plugin, &canary));
        let Some(ended) = plugin.end_canary() else {
            return;
        };
        tracing::error!(
            plugin = plugin.name(),
            generation = ended.number,
            "the canary is taken back, since {why}: its clients have the build of the others, and it is \
             not loaded again until its component or manifest changes"
        );
        self.registry.counters().builds_taken_back.add_one();
        // If it was deployed, it is not loaded again here until all nodes know it.
        self.refuse(plugin, &ended);
        let name = plugin.name();
        let Some(deployed) = deployed else {
            return self.record_refused(name, &ended.digest, why);
        };
        match self.decide_by(deployed.without_canary(), "").await {
            Ok(()) => self.builds.accept(name, &ended.digest),
            Err(error) => {
                tracing::error!(plugin = name, %error, "the other nodes are not told that it failed");
            }
        }
    }
}

/// Why a canary is to be withdrawn, if it is.
fn failure(plugin: &Plugin, generation: &Generation, canary: &Canary) -> Option<String> {
    if generation.probation.has_failed() {
        return Some(generation.failures());
    }
    let most = canary.rollout.max_p99_ratio()?;
    let compared = plugin.compare(generation, canary);
    let ((stable, before), (now, messages)) = (compared.stable.p99(), compared.canary.p99());
    let (stable, now) = (stable?, now?);
    let is_enough = before.min(messages) >= COMPARED_MESSAGES;
    let is_slower = now.as_secs_f64() > stable.as_secs_f64() * most;
    (is_enough && is_slower).then(|| {
        format!(
            "99 of 100 messages took up to {now:.1?}, and {stable:.1?} in the other build \
             (max_p99_ratio is {most})"
        )
    })
}
