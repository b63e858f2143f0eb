//! The checks of a plugin's files beside what runs and what is loaded.

use std::sync::Arc;
use std::time::Instant;

use super::folder::Plugins;
use super::handle::Plugin;
use super::load::{LoadError, PluginFiles};
use super::loads::{Load, Loads};
use super::preparation::Preparation;
use crate::manifest::Routes;

impl Plugins {
    /// Checks a plugin's files beside what runs and what is loaded, also if they run already.
    pub(super) fn checked_load(
        self: &Arc<Self>,
        plugin: Arc<Plugin>,
        files: PluginFiles,
        loads: &Loads,
        started: Instant,
    ) -> Result<Load, LoadError> {
        self.gated_load(plugin, files, loads, started, None)
    }

    /// As `checked_load`; with a `gate`, the build waits for a decision before it takes over.
    pub(super) fn gated_load(
        self: &Arc<Self>,
        plugin: Arc<Plugin>,
        files: PluginFiles,
        loads: &Loads,
        started: Instant,
        gate: Option<Arc<Preparation>>,
    ) -> Result<Load, LoadError> {
        if let Some(former) = &*plugin.former_rules.lock() {
            files.check_rules(former)?;
        }
        let name = plugin.name();
        let mut routes = Routes::default();
        if let Ok(manifest) = &files.manifest {
            self.check_routes(name, &manifest.routes, loads)?;
            routes = manifest.routes.clone();
        }
        let (source, digest) = (files.source, files.kept_as.unwrap_or(files.digest));
        Ok(Load {
            routes,
            source,
            digest,
            run: Box::pin(self.clone().load(plugin, files, started, gate)),
        })
    }

    /// Checks whether a plugin may have these routes and its name, beside the plugins that run and
    /// those whose loads are under way.
    fn check_routes(&self, name: &str, routes: &Routes, loads: &Loads) -> Result<(), LoadError> {
        let check = |other: &str, its: &Routes| {
            let taken = routes.taken_by(other, its);
            match taken.or_else(|| its.of_name(name)) {
                Some(path) if other != name => Err(LoadError::RouteTaken {
                    path,
                    owner: other.to_owned(),
                }),
                _ => Ok(()),
            }
        };
        for other in self.all() {
            for held in other.slot().all() {
                check(other.name(), &held.routes)?;
            }
        }
        for (other, its) in loads.routes() {
            check(other, its)?;
        }
        Ok(())
    }
}
