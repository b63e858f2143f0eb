//! The load of another build of a plugin, which an operator asks for.
//!
//! A plugin has one load at a time: newer files end a rollback that is under way, and whoever has
//! asked for it is told so.

use std::sync::Arc;
use std::time::Instant;

use data_encoding::HEXLOWER;

use super::builds::{KeptBuild, UnknownBuild};
use super::folder::{Plugins, on_blocking_thread};
use super::generation::Digest;
use super::handle::Plugin;
use super::load::PluginFiles;
use super::loads::{Load, Loads};
use super::rollback_request::{RollbackError, RollbackRequest, RolledBack};

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
        self.rollbacks.ask(plugin, digits, by).await
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
        let files = self.asked_build(&plugin, request.digits).await;
        let checked = files.and_then(|files| {
            let digest = files.digest;
            let load = self.checked_load(plugin.clone(), files, loads, started)?;
            Ok((load, digest))
        });
        let (Load { routes, run }, digest) = match checked {
            Ok(load) => load,
            Err(error) => {
                let _ = request.answer.send(Err(error));
                return;
            }
        };
        let (plugins, answer, by) = (self.clone(), request.answer, request.by);
        let run = Box::pin(async move {
            let former = plugin.running();
            let loaded = run.await;
            let answered = match &loaded {
                Ok(generation) => {
                    plugins.accept(plugin.name(), digest);
                    if let Some(former) = former {
                        let reason = match &*by {
                            "" => "rolled back over the API\n".to_owned(),
                            by => format!("rolled back over the API by {by:?}\n"),
                        };
                        plugins.refuse(&plugin, &former, reason);
                    }
                    Ok(RolledBack {
                        generation: generation.unwrap_or_default(),
                        digest,
                    })
                }
                Err(error) => Err(RollbackError::Load(error.to_string())),
            };
            let _ = answer.send(answered);
            loaded
        });
        loads.start(request.plugin, Load { routes, run });
    }

    /// Reads the build that an operator asks for.
    async fn asked_build(
        self: &Arc<Self>,
        plugin: &Plugin,
        digits: Option<String>,
    ) -> Result<PluginFiles, RollbackError> {
        let (plugins, name) = (self.clone(), plugin.name().to_owned());
        let running = plugin.running().map(|running| running.digest);
        let path = self.component_path(&name);
        on_blocking_thread(move || {
            let digest = match &digits {
                Some(digits) => plugins.builds.find(&name, digits)?,
                None => plugins.build_before(&name, running)?,
            };
            if running == Some(digest) {
                return Err(RollbackError::Runs);
            }
            let loader = plugins.loader.as_ref().ok_or(RollbackError::Gateway)?;
            let (component, manifest) = plugins.builds.read(&name, &digest)?;
            let files = PluginFiles::new(component, manifest, &path, &loader.defaults);
            Ok(files.kept())
        })
        .await
    }

    /// Returns the build that was loaded last before the one that runs.
    fn build_before(&self, name: &str, running: Option<Digest>) -> Result<Digest, UnknownBuild> {
        let last = self.builds.last(name, running.as_ref());
        last.ok_or_else(|| UnknownBuild::new(name, None))
    }

    /// Takes back that a build was taken back, since somebody wants it.
    fn accept(self: &Arc<Self>, name: &str, digest: Digest) {
        self.builds.accept(name, &digest);
        let (plugins, name) = (self.clone(), name.to_owned());
        self.tasks.lock().spawn_blocking(move || {
            if let Err(error) = plugins.builds.remove_refused(&name, &digest) {
                let digest = HEXLOWER.encode(&digest);
                tracing::warn!(plugin = name, digest, %error, "a restart may load another build");
            }
        });
    }
}
