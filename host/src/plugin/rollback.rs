//! Builds that fail are taken back: the build before is loaded again, as a generation of its own. So
//! no client goes back to an older generation, and no socket is closed.
//!
//! A build that was taken back is not loaded again until it changes. If there is no build to go back
//! to, and nothing works, the plugin is paused: its clients are told to come back, and each pause is
//! longer than the one before.

use std::sync::Arc;
use std::time::Instant;

use super::builds::StagedBuild;
use super::folder::{Plugins, on_blocking_thread};
use super::generation::{Digest, Generation};
use super::handle::Plugin;
use super::load::{LoadError, PluginFiles};
use super::loads::Loads;
use super::slot::Slot;
use crate::registry::EventKind;

impl Plugins {
    /// Waits until too many events of a generation have failed.
    pub(super) async fn build_failed(&self) {
        match &self.loader {
            Some(loader) => loader.build_failed.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Takes back the builds of which too many events have failed.
    pub(super) async fn take_builds_back(self: &Arc<Self>, loads: &mut Loads) {
        for plugin in self.all() {
            // One that drains is not loaded again.
            let Slot::Running(generations) = Slot::clone(&plugin.slot()) else {
                continue;
            };
            let generation = generations.stable;
            if let Some(canary) = generations.canary
                && canary.probation.is_due()
            {
                self.take_canary_back(&plugin, &canary.failures()).await;
            }
            // If another build waits or is being loaded, its end is waited for.
            if generation.probation.is_due() && !loads.has(plugin.name()) {
                self.take_back(&plugin, &generation, loads).await;
            }
        }
    }

    async fn take_back(
        self: &Arc<Self>,
        plugin: &Arc<Plugin>,
        generation: &Arc<Generation>,
        loads: &mut Loads,
    ) {
        let name = plugin.name();
        let (failures, events) = (generation.probation.failures(), generation.events());
        let found = match generation.probation.may_be_taken_back() {
            true => self.last_good(plugin, Some(generation)).await,
            // It could not be loaded.
            false => Err(no_build()),
        };
        let started = Instant::now();
        let found = found.map(PluginFiles::beside_the_canary);
        let found =
            found.and_then(|files| self.checked_load(plugin.clone(), files, loads, started));
        match found {
            Ok(load) => {
                tracing::error!(
                    plugin = name,
                    generation = generation.number,
                    failures,
                    events,
                    "too many events failed: the build is taken back, and the one before it is \
                     loaded. This one is not loaded again until its component or manifest changes"
                );
                loads.start(name.to_owned(), load);
            }
            Err(why) if !generation.probation.has_nothing_worked(failures, events) => {
                generation.probation.go_on();
                tracing::error!(
                    plugin = name,
                    generation = generation.number,
                    failures,
                    events,
                    "too many events failed, and there is no build to go back to ({why}): it goes on"
                );
            }
            Err(why) => {
                let pause = generation.probation.pause();
                tracing::error!(
                    plugin = name,
                    generation = generation.number,
                    failures,
                    events,
                    ?pause,
                    "all events failed, and there is no build to go back to ({why}): the plugin is \
                     paused, and its clients are told to come back later. A new build ends the pause"
                );
                self.registry.counters().plugins_paused.add_one();
                let generation = generation.clone();
                self.tasks.lock().spawn(async move {
                    tokio::time::sleep(pause).await;
                    generation.probation.resume(generation.events());
                });
            }
        }
    }

    /// Loads the last good build of a plugin whose build in the folder was taken back, if nothing of
    /// it runs.
    pub(super) async fn load_last_good(self: &Arc<Self>, name: &str, loads: &mut Loads) {
        let plugin = self.plugin(name);
        let running = plugin.running();
        if running.is_some_and(|running| !self.builds.is_refused(name, &running.digest)) {
            return;
        }
        let started = Instant::now();
        let found = self.last_good(&plugin, None).await;
        match found.and_then(|files| self.checked_load(plugin, files, loads, started)) {
            Ok(mut load) => {
                tracing::warn!(plugin = name, "the build before it is loaded");
                if self
                    .deployments
                    .get(name)
                    .is_some_and(|one| one.is_canary())
                {
                    self.load_canary_after(name, &mut load);
                }
                loads.start(name.to_owned(), load);
            }
            Err(why) => tracing::error!(plugin = name, "there is no build to go back to: {why}"),
        }
    }

    /// Reads the build to go back to.
    async fn last_good(
        self: &Arc<Self>,
        plugin: &Arc<Plugin>,
        failed: Option<&Generation>,
    ) -> Result<PluginFiles, LoadError> {
        let name = plugin.name().to_owned();
        let (plugins, path) = (self.clone(), self.component_path(&name));
        let is_first = failed.is_none_or(|failed| failed.number == 1);
        let (good, failed) = (*plugin.last_good.lock(), failed.map(|failed| failed.digest));
        on_blocking_thread(move || {
            let loader = plugins.loader.as_ref().ok_or_else(no_build)?;
            let builds = &plugins.builds;
            let good = good.filter(|good| !builds.is_refused(&name, good));
            // Where no build before has run in this process, it is the last one that has run.
            let last = || {
                is_first
                    .then(|| builds.last(&name, failed.as_ref()))
                    .flatten()
            };
            let good = good.or_else(last);
            let good = good.ok_or_else(no_build)?;
            let kept = builds.read(&name, &good)?;
            let files = PluginFiles::put_back(&good, kept, &path, &loader.defaults);
            Ok::<_, LoadError>(files)
        })
        .await
    }

    /// Refuses the build of a generation that has failed, now that the one before it has taken over.
    pub(super) fn refuse_failed(self: &Arc<Self>, plugin: &Arc<Plugin>, failed: &Generation) {
        self.registry.counters().builds_taken_back.add_one();
        self.refuse(plugin, failed);
        self.record_refused(plugin.name(), &failed.digest, &failed.failures());
    }

    /// Records on disk whether a build was taken back, as it is known then, and why.
    pub(super) fn record_refused(self: &Arc<Self>, name: &str, digest: &Digest, why: &str) {
        let (plugins, name, digest) = (self.clone(), name.to_owned(), *digest);
        let reason = format!("{why}\n");
        self.tasks.lock().spawn_blocking(move || {
            plugins.builds.record(&name, &digest, &reason);
        });
    }

    /// Takes back that a build was taken back, since somebody wants it.
    pub(super) fn accept(self: &Arc<Self>, name: &str, digest: &Digest) {
        self.builds.accept(name, digest);
        self.record_refused(name, digest, "");
    }

    /// Refuses the build of a generation, now that another one has taken over. It is not on disk yet.
    pub(super) fn refuse(&self, plugin: &Plugin, former: &Generation) {
        self.builds.refuse(plugin.name(), &former.digest);
        let number = former.number;
        plugin.namespace().emit(|| EventKind::TakenBack(number));
    }

    /// Writes the files of a build that is about to be loaded.
    pub(super) async fn stage(
        self: &Arc<Self>,
        name: &str,
        files: PluginFiles,
    ) -> Result<(PluginFiles, Option<StagedBuild>), LoadError> {
        let (plugins, name) = (self.clone(), name.to_owned());
        let staging = on_blocking_thread(move || {
            let staged = plugins.builds.stage(&name, &files);
            let staged = staged.unwrap_or_else(|error| {
                warn_not_kept(&name, &error);
                None
            });
            Ok((files, staged))
        });
        staging.await
    }

    /// Marks a build as a canary, before it becomes one.
    pub(super) async fn mark_canary(
        self: &Arc<Self>,
        name: &str,
        digest: &Digest,
    ) -> Result<(), LoadError> {
        let (plugins, name, digest) = (self.clone(), name.to_owned(), *digest);
        on_blocking_thread(move || Ok(plugins.builds.begin_canary(&name, &digest)?)).await
    }

    /// Keeps a build that has been loaded.
    pub(super) fn keep(
        self: &Arc<Self>,
        plugin: &Arc<Plugin>,
        staged: StagedBuild,
        is_canary: bool,
    ) {
        let name = plugin.name().to_owned();
        let good = *plugin.last_good.lock();
        let running = plugin.slot().all().map(|held| held.digest).collect();
        let needed: Vec<_> = good.into_iter().chain::<Vec<_>>(running).collect();
        self.tasks.lock().spawn_blocking(move || {
            if let Err(error) = staged.keep(&needed, is_canary) {
                warn_not_kept(&name, &error);
            }
        });
    }
}

fn no_build() -> LoadError {
    std::io::Error::other("no other build of it is kept").into()
}

fn warn_not_kept(plugin: &str, error: &std::io::Error) {
    tracing::warn!(
        plugin,
        %error,
        "a build cannot be kept: if the next one fails, there may be none to go back to. Name a folder \
         that this process may write to (builds)"
    );
}
