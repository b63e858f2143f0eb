//! The load of a build whose files were checked, up to the generation that has taken over, for all
//! clients or for a part of them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use scopeguard::ScopeGuard;

use super::folder::Plugins;
use super::handle::Plugin;
use super::load::{BuildSource, LoadError, PluginFiles};
use super::loads::LoadResult;
use super::preparation::{Preparation, PreparationPhase};

impl Plugins {
    /// Makes a generation from a plugin's files, and lets it take over. With a `gate`, it waits for
    /// a decision before that.
    pub(super) async fn load(
        self: Arc<Self>,
        plugin: Arc<Plugin>,
        files: PluginFiles,
        started: Instant,
        gate: Option<Arc<Preparation>>,
    ) -> LoadResult {
        let Some(loader) = &self.loader else {
            return Ok(None);
        };
        let name = plugin.name();
        let number = plugin.loads.load(Ordering::Relaxed) + 1;
        let router = plugin.router.clone();
        let usage = plugin.usage.clone();
        let (source, rollout) = (files.source, files.rollout.clone());
        let keeps_canary = files.keeps_canary;
        let (files, staged) = self.stage(name, files).await?;
        let loaded = loader.load(number, router, usage, files).await;
        let durations = &self.registry.counters().durations;
        match &loaded {
            Ok(_) => durations.loads.record(started.elapsed()),
            Err(_) => {
                durations.failed_loads.record(started.elapsed());
                let failed = plugin.running().filter(|_| source == BuildSource::PutBack);
                if let Some(failed) = failed {
                    failed.probation.has_none_before();
                }
            }
        }
        let (generation, advice) = loaded?;
        for advice in advice {
            let file = self.component_path(name);
            tracing::warn!(plugin = name, "{}: {advice}", file.display());
        }
        // A generation that has started and does not take over ends like any other.
        let generation = scopeguard::guard(generation, |unused| {
            plugin.retiring.spawn(unused.pool.clone().retire());
        });
        if let Some(gate) = gate {
            gate.advance(PreparationPhase::Ready);
            let version = gate.deployment.version;
            tracing::info!(
                plugin = name,
                version,
                took = ?started.elapsed(),
                "a build is ready, and takes over when all nodes have it"
            );
            tokio::select! {
                biased;
                () = gate.may_run.cancelled() => {}
                () = gate.is_dropped() => return Err(LoadError::NotDeployed),
            }
            // Somebody wants it.
            self.accept(name, &generation.digest);
        }
        if let Some(rollout) = rollout {
            self.mark_canary(name, &generation.digest).await?;
            let percent = rollout.percent();
            if !plugin.begin_canary(generation.clone(), rollout) {
                return Err(LoadError::NothingBeside);
            }
            ScopeGuard::into_inner(generation);
            plugin.loads.store(number, Ordering::Relaxed);
            if let Some(staged) = staged {
                self.keep(&plugin, staged, true);
            }
            self.registry.counters().generations_loaded.add_one();
            let took = started.elapsed();
            tracing::info!(
                plugin = name,
                generation = number,
                percent,
                ?took,
                "a canary runs beside the build of the other clients"
            );
            return Ok(Some(number));
        }
        let generation = ScopeGuard::into_inner(generation);
        plugin.loads.store(number, Ordering::Relaxed);
        let was_kept = staged.is_some() && self.builds.has_run_for_all(name, &generation.digest);
        // What runs again after a restart, or is put back, has proven itself.
        let is_proven = match source {
            BuildSource::Folder | BuildSource::Deployed => number == 1 && was_kept,
            BuildSource::Prepared => false,
            BuildSource::PutBack => true,
            BuildSource::Asked { was_refused } => !was_refused,
        };
        if is_proven {
            generation.probation.pass();
        }
        let failed = plugin.running().filter(|_| source == BuildSource::PutBack);
        plugin.swap(generation, keeps_canary);
        if let Some(failed) = failed.filter(|failed| failed.probation.has_failed()) {
            self.refuse_failed(&plugin, &failed);
        }
        if let Some(staged) = staged {
            self.keep(&plugin, staged, false);
        }
        self.registry.counters().generations_loaded.add_one();
        let took = started.elapsed();
        tracing::info!(plugin = name, generation = number, ?took, "plugin loaded");
        Ok(Some(number))
    }
}
