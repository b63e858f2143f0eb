//! The load of another build of a plugin, which an operator asks for.
//!
//! A plugin has one load at a time: newer files end a rollback that is under way, and whoever has
//! asked for it is told so.

use std::sync::Arc;
use std::time::Instant;

use data_encoding::HEXLOWER;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot;

use super::builds::{KeptBuild, UnknownBuild};
use super::folder::{Plugins, on_blocking_thread};
use super::generation::{Digest, Generation};
use super::handle::Plugin;
use super::load::{BuildSource, PluginFiles};
use super::loads::Loads;
use super::rollback_request::{RollbackError, RollbackRequest, RolledBack};
use super::slot::Slot;

impl Plugins {
    /// Loads another build of a plugin in place of the one that runs, and waits until it has taken
    /// over. The build is the one whose digest begins with these hexadecimal `digits`, or the one that
    /// ran before. The build that ran is not loaded again, also not after a restart, until its
    /// component or manifest changes, or somebody asks for it here.
    ///
    /// # Errors
    ///
    /// There is no such build, or it cannot be loaded. What ran before still runs.
    pub async fn roll_back(
        &self,
        plugin: &str,
        digits: Option<&str>,
        by: &str,
    ) -> Result<RolledBack, RollbackError> {
        if self.loader.is_none() {
            return Err(RollbackError::Gateway);
        }
        let (answer, answered) = oneshot::channel();
        let asked = self.rollbacks.try_ask(RollbackRequest {
            plugin: plugin.to_owned(),
            digits: digits.map(str::to_owned),
            by: by.to_owned(),
            answer,
        });
        asked.map_err(|error| match error {
            TrySendError::Full(_) => RollbackError::Overloaded,
            TrySendError::Closed(_) => RollbackError::Overtaken,
        })?;
        answered.await.unwrap_or(Err(RollbackError::Overtaken))
    }

    /// Returns the builds of a plugin that are kept, those that were loaded last first.
    ///
    /// # Errors
    ///
    /// The builds cannot be read.
    pub async fn kept_builds(self: &Arc<Self>, plugin: &str) -> std::io::Result<Vec<KeptBuild>> {
        let (plugins, name) = (self.clone(), plugin.to_owned());
        on_blocking_thread(move || plugins.builds.all(&name)).await
    }

    /// Begins the load that an operator asks for.
    pub(super) async fn begin_rollback(
        self: &Arc<Self>,
        request: RollbackRequest,
        loads: &mut Loads,
    ) {
        let started = Instant::now();
        let name = &request.plugin;
        let Some(plugin) = self.get(name) else {
            let unknown = UnknownBuild::new(name, request.digits.as_deref());
            let _ = request.answer.send(Err(unknown.into()));
            return;
        };
        let files = match loads.has(name) {
            true => Err(RollbackError::Busy),
            false => self.asked_build(&plugin, request.digits).await,
        };
        let checked = files.and_then(|files| {
            let digest = files.digest;
            let load = self.checked_load(plugin.clone(), files, loads, started)?;
            Ok((load, digest))
        });
        let (mut load, digest) = match checked {
            Ok(load) => load,
            Err(error) => {
                let _ = request.answer.send(Err(error));
                return;
            }
        };
        let (plugins, answer, by) = (self.clone(), request.answer, request.by);
        let run = load.run;
        load.run = Box::pin(async move {
            let former = plugin.running();
            let loaded = run.await;
            match &loaded {
                Ok(generation) => {
                    let generation = generation.unwrap_or_default();
                    let rolled_back = RolledBack { generation, digest };
                    plugins.rolled_back(&plugin, former, rolled_back, by, answer);
                }
                Err(error) => {
                    let _ = answer.send(Err(RollbackError::Load(error.to_string())));
                }
            }
            loaded
        });
        loads.start(request.plugin, load);
    }

    /// Records a rollback that has taken over, and answers once that is on disk.
    fn rolled_back(
        self: &Arc<Self>,
        plugin: &Plugin,
        former: Option<Arc<Generation>>,
        rolled_back: RolledBack,
        by: String,
        answer: oneshot::Sender<Result<RolledBack, RollbackError>>,
    ) {
        let (plugins, name) = (self.clone(), plugin.name().to_owned());
        let RolledBack { generation, digest } = rolled_back;
        let digits = HEXLOWER.encode(&digest);
        tracing::warn!(
            plugin = name,
            generation,
            digest = digits,
            by,
            "rolled back by an operator"
        );
        self.builds.accept(&name, &digest);
        if let Some(former) = &former {
            self.refuse(plugin, former);
        }
        let reason = match &*by {
            "" => "rolled back over the API\n".to_owned(),
            by => format!("rolled back over the API by {by:?}\n"),
        };
        self.tasks.lock().spawn_blocking(move || {
            plugins.builds.record(&name, &digest, &reason);
            if let Some(former) = former {
                plugins.builds.record(&name, &former.digest, &reason);
            }
            let _ = answer.send(Ok(rolled_back));
        });
    }

    /// Reads the build that an operator asks for.
    async fn asked_build(
        self: &Arc<Self>,
        plugin: &Plugin,
        digits: Option<String>,
    ) -> Result<PluginFiles, RollbackError> {
        let (plugins, name) = (self.clone(), plugin.name().to_owned());
        let running = plugin.running().map(|running| running.digest);
        let is_running = match &**plugin.slot() {
            Slot::Running(running) if running.canary.is_some() => {
                return Err(RollbackError::Canary(name));
            }
            Slot::Running(_) => true,
            // Its clients are being closed, since its file is gone.
            Slot::Draining(_) => return Err(RollbackError::NotHere),
            Slot::Empty | Slot::DrainingOrphans => false,
        };
        let path = self.component_path(&name);
        on_blocking_thread(move || {
            let digest = plugins.wanted_build(&name, digits.as_deref(), running)?;
            if running == Some(digest) {
                return Err(RollbackError::Runs);
            }
            if !is_running && !path.exists() {
                return Err(RollbackError::NotHere);
            }
            let was_refused = plugins.builds.is_refused(&name, &digest);
            let loader = plugins.loader.as_ref().ok_or(RollbackError::Gateway)?;
            let (component, manifest) = plugins.builds.read(&name, &digest)?;
            let files = PluginFiles::new(component, manifest, &path, &loader.defaults);
            Ok(files.from(BuildSource::Asked { was_refused }))
        })
        .await
    }

    /// Returns the build whose digest begins with these digits; without them, the one that was loaded
    /// last before the one that runs.
    pub(super) fn wanted_build(
        &self,
        name: &str,
        digits: Option<&str>,
        running: Option<Digest>,
    ) -> Result<Digest, UnknownBuild> {
        match digits {
            Some(digits) => self.builds.find(name, digits),
            None => {
                let last = self.builds.last(name, running.as_ref());
                last.ok_or_else(|| UnknownBuild::new(name, None))
            }
        }
    }
}
