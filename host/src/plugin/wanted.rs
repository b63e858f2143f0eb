//! What a plugin is to run, by its files and its deployment, and what has to be loaded so that it does.
//!
//! A canary is loaded once there is a build for the clients that it is not for. After a restart this is
//! the one that had run before, which the node has kept.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::folder::{Plugins, on_blocking_thread};
use super::generation::{Digest, Generation};
use super::handle::Plugin;
use super::load::{LoadError, PluginFiles};
use super::loads::{Load, Loads};
use super::slot::Slot;
use super::watch::FolderWatch;
use crate::limits::PluginLimits;
use crate::manifest::fits_a_path;
use crate::mesh::deployment::Deployment;
use crate::registry::{EventKind, ServingSource};

/// What a plugin is to run.
pub(super) struct Wanted {
    /// The build for all clients that the canary is not for; none: the one that runs.
    stable: Option<PluginFiles>,
    canary: WantedCanary,
}

/// The canary that a plugin is to have.
enum WantedCanary {
    None,
    /// It is not known yet: what runs goes on.
    AsItIs,
    Build(Box<PluginFiles>),
}

impl Wanted {
    fn only(files: PluginFiles) -> Wanted {
        Wanted {
            stable: Some(files),
            canary: WantedCanary::None,
        }
    }
}

impl Plugins {
    /// Reads the files that a plugin is to run: those that were deployed, or those of the folder.
    pub(super) async fn read(self: &Arc<Self>, name: &str) -> Result<Wanted, LoadError> {
        if !fits_a_path(name) {
            return Err(LoadError::Name(name.to_owned()));
        }
        let path = self.component_path(name);
        let deployment = self.deployments.get(name);
        let (plugins, name) = (self.clone(), name.to_owned());
        on_blocking_thread(
            move || match deployment.filter(|one| one.everywhere || path.exists()) {
                Some(deployment) => plugins.wanted_of_deployment(deployment, &path),
                None => plugins.wanted_of_folder(&name, &path),
            },
        )
        .await
    }

    fn defaults(&self) -> PluginLimits {
        let defaults = self.loader.as_ref().map(|loader| &loader.defaults);
        defaults.cloned().unwrap_or_default()
    }

    fn wanted_of_folder(&self, name: &str, path: &Path) -> Result<Wanted, LoadError> {
        let files = PluginFiles::read(path, &self.defaults())?;
        let manifest = files.manifest.as_ref().ok();
        let rollout = manifest.and_then(|manifest| manifest.rollout.clone());
        let builds = &self.builds;
        let is_settled = |digest: &Digest| {
            builds.has_run_for_all(name, digest) || builds.is_refused(name, digest)
        };
        let Some(rollout) = rollout.filter(|_| !is_settled(&files.digest)) else {
            return Ok(Wanted::only(files));
        };
        let stable = match self.base(name) {
            Some(running) if running.digest == files.digest => return Ok(Wanted::only(files)),
            Some(_) => None,
            None => match self.kept_base(name, &files.digest, path) {
                Some(stable) => Some(stable),
                // There is nothing that it could run beside.
                None => return Ok(Wanted::only(files)),
            },
        };
        let canary = WantedCanary::Build(Box::new(files.for_clients_of(rollout)));
        Ok(Wanted { stable, canary })
    }

    /// Returns the generation that runs, if it is one of the folder beside which a canary can run.
    fn base(&self, name: &str) -> Option<Arc<Generation>> {
        let Slot::Running(running) = Slot::clone(&self.get(name)?.slot()) else {
            return None;
        };
        let is_deployed = *running.stable.source.lock() == ServingSource::Deployment;
        Some(running.stable).filter(|_| !is_deployed)
    }

    /// Reads the last build of a plugin that is kept, apart from one.
    fn kept_base(&self, name: &str, except: &Digest, path: &Path) -> Option<PluginFiles> {
        let digest = self.builds.last(name, Some(except))?;
        match self.builds.read(name, &digest) {
            Ok(kept) => Some(PluginFiles::put_back(&digest, kept, path, &self.defaults())),
            Err(error) => {
                tracing::warn!(
                    plugin = name,
                    %error,
                    "the build before this one cannot be read: this one runs for all clients"
                );
                None
            }
        }
    }

    fn wanted_of_deployment(
        self: &Arc<Self>,
        deployment: Deployment,
        path: &Path,
    ) -> Result<Wanted, LoadError> {
        if !deployment.is_canary() {
            return self.read_or_get(&deployment, path).map(Wanted::only);
        }
        let stable = match deployment.stable() {
            Some(stable) => Some(self.read_or_get(stable, path)?),
            // What the folder has does not count as long as anything is deployed.
            None if self.base(&deployment.plugin).is_some() => None,
            None => {
                let of_folder = self.wanted_of_folder(&deployment.plugin, path)?;
                of_folder.stable
            }
        };
        let canary = match self.read_deployed(&deployment) {
            Ok(files) => WantedCanary::Build(Box::new(files)),
            Err(LoadError::NotHere) => {
                self.get_build_later(deployment);
                WantedCanary::AsItIs
            }
            Err(error) => {
                let plugin = deployment.plugin;
                tracing::error!(plugin, %error, "the canary that is deployed cannot be read");
                WantedCanary::AsItIs
            }
        };
        Ok(Wanted { stable, canary })
    }

    /// Reads the build of a deployment. If it is not here, it is got from the other nodes.
    fn read_or_get(
        self: &Arc<Self>,
        deployment: &Deployment,
        path: &Path,
    ) -> Result<PluginFiles, LoadError> {
        let read = self.read_deployed(deployment);
        if matches!(read, Err(LoadError::NotHere)) {
            let plugin = self.get(&deployment.plugin);
            let runs = plugin.is_some_and(|plugin| plugin.runs());
            self.get_build_later(deployment.clone());
            // Until it comes, what the folder has is better than nothing.
            if self.loader.is_some() && !runs && path.exists() {
                return PluginFiles::read(path, &self.defaults());
            }
        }
        read
    }

    /// Loads what a plugin is to run now, or drains the plugin if there is nothing to run. A folder that
    /// is away for the moment is no order to end it.
    pub(super) async fn reload(
        self: &Arc<Self>,
        name: String,
        loads: &mut Loads,
        watch: &FolderWatch,
    ) {
        let deployment = self.deployments.get(&name);
        let is_everywhere = deployment.is_some_and(|deployment| deployment.everywhere);
        if is_everywhere || watch.has(&name) || self.is_in_folder(&name).await {
            return loads.enqueue(name);
        }
        loads.cancel(&name);
        self.remove(&name);
    }

    /// Ends a canary that was deployed and is not any more, if nothing is deployed, or if what is
    /// deployed for all `is_elsewhere`: otherwise, it may be the canary.
    pub(super) fn end_withdrawn_canary(&self, name: &str, is_elsewhere: bool) {
        let Some(plugin) = self.get(name) else { return };
        let is_over = match self.deployments.get(name) {
            None => true,
            Some(deployment) => is_elsewhere && !deployment.is_canary(),
        };
        if is_over && has_deployed_canary(&plugin) {
            end_canary(&plugin);
        }
    }

    /// Tries another build that is kept, since this one cannot be loaded; in the end, the folder counts.
    pub(super) fn try_another(self: &Arc<Self>, name: &str, digest: &Digest) {
        self.builds.refuse(name, digest);
        let (plugins, name) = (self.clone(), name.to_owned());
        // Who handles the request may wait for this.
        tokio::spawn(async move { plugins.reloads.ask(name).await });
    }

    /// Checks what a plugin is to run beside what runs and what is loaded. Nothing is returned if
    /// nothing is to be loaded.
    pub(super) fn prepare(
        self: &Arc<Self>,
        name: &str,
        Wanted { stable, canary }: Wanted,
        loads: &Loads,
        started: Instant,
    ) -> Result<Option<Load>, LoadError> {
        let plugin = self.plugin(name);
        let stable = stable.filter(|files| !self.runs_already(&plugin, files));
        let keeps_canary = !matches!(canary, WantedCanary::None);
        let canary = match canary {
            WantedCanary::None if stable.is_none() || has_deployed_canary(&plugin) => {
                end_canary(&plugin);
                None
            }
            WantedCanary::None | WantedCanary::AsItIs => None,
            WantedCanary::Build(files) => {
                Some(files).filter(|files| !self.runs_as_canary(&plugin, files))
            }
        };
        if let Some(files) = stable {
            let kept_as = files.kept_as;
            let digest = kept_as.unwrap_or(files.digest);
            if !self.builds.is_refused(name, &digest) {
                let files = match keeps_canary {
                    true => files.beside_the_canary(),
                    false => files,
                };
                let load = self.checked_load(plugin.clone(), files, loads, started);
                if load.is_err() && kept_as.is_some() && !plugin.runs() {
                    self.try_another(name, &digest);
                }
                let mut load = load?;
                if canary.is_some() {
                    self.load_canary_after(name, &mut load);
                }
                return Ok(Some(load));
            }
            // What runs in its place goes on, also beside a canary.
            if canary.is_none() || !plugin.runs() {
                return Err(LoadError::TakenBack);
            }
        }
        let Some(files) = canary else { return Ok(None) };
        if self.builds.is_refused(name, &files.digest) {
            return Err(LoadError::TakenBack);
        }
        self.checked_load(plugin, *files, loads, started).map(Some)
    }

    /// Returns whether a build runs for all clients that the canary is not for. If it is the canary, it
    /// takes over for all.
    fn runs_already(self: &Arc<Self>, plugin: &Plugin, files: &PluginFiles) -> bool {
        let Slot::Running(running) = Slot::clone(&plugin.slot()) else {
            return false;
        };
        let (name, digest) = (plugin.name(), files.digest);
        let is_canary = running.canary.is_some_and(|canary| canary.digest == digest);
        if running.stable.digest == digest {
            plugin.comes_from(&running.stable, files.source.served());
        } else if is_canary {
            plugin.canary_comes_from(files.source.served());
            plugin.promote();
            let (plugins, name) = (self.clone(), name.to_owned());
            self.tasks.lock().spawn_blocking(move || {
                if let Err(error) = plugins.builds.promote(&name, &digest) {
                    tracing::warn!(plugin = name, %error, "a restart may load the build before");
                }
            });
        } else {
            return false;
        }
        self.builds.accept(name, &digest);
        true
    }

    /// Returns whether a build runs for the clients that the canary is for, or for all.
    fn runs_as_canary(&self, plugin: &Plugin, files: &PluginFiles) -> bool {
        let canary = plugin.canary();
        if canary.is_some_and(|(canary, _)| canary.digest == files.digest) {
            plugin.canary_comes_from(files.source.served());
            if let Some(rollout) = &files.rollout {
                plugin.set_rollout(rollout);
            }
            return true;
        }
        let runs = plugin.running();
        runs.is_some_and(|running| running.digest == files.digest)
    }

    /// Looks again at what the plugin is to run, once a build has taken over beside which the canary can
    /// run.
    pub(super) fn load_canary_after(self: &Arc<Self>, name: &str, load: &mut Load) {
        let (plugins, name) = (self.clone(), name.to_owned());
        let run = std::mem::replace(&mut load.run, Box::pin(std::future::pending()));
        load.run = Box::pin(async move {
            let loaded = run.await;
            if loaded.is_ok() {
                // Who handles the request waits for this load.
                tokio::spawn(async move { plugins.reloads.ask(name).await });
            }
            loaded
        });
    }
}

fn has_deployed_canary(plugin: &Plugin) -> bool {
    let canary = plugin.canary();
    canary.is_some_and(|(generation, _)| *generation.source.lock() == ServingSource::Deployment)
}

/// Ends the canary of a plugin, if there is one.
pub(super) fn end_canary(plugin: &Plugin) {
    if let Some(ended) = plugin.end_canary() {
        let (plugin_name, generation) = (plugin.name(), ended.number);
        plugin.namespace().emit(|| EventKind::TakenBack(generation));
        tracing::warn!(plugin = plugin_name, generation, "the canary is withdrawn");
    }
}
