//! Which plugin has a name, or a path.

use std::path::PathBuf;
use std::sync::Arc;

use super::folder::{Plugins, on_blocking_thread};
use super::handle::Plugin;
use crate::manifest::{fits_a_path, name_in};

impl Plugins {
    /// Returns the plugin of that name, if this node knows it.
    pub fn get(&self, name: &str) -> Option<Arc<Plugin>> {
        let find = || self.plugins.read().get(name).cloned();
        find().or_else(|| {
            self.adopt();
            find()
        })
    }

    /// Adds the plugins that other nodes have to those that this node knows.
    fn adopt(&self) {
        let elsewhere = self.mesh.iter().flat_map(|mesh| mesh.plugins_elsewhere());
        for name in elsewhere {
            let is_here = self.plugins.read().contains_key(&*name);
            // A peer is trusted, and yet: of another version, it may have other names.
            if !is_here && fits_a_path(&name) {
                self.plugin(&name);
            }
        }
    }

    /// Returns the plugin whose clients come in at this path: the plugin of that name, a plugin
    /// with that route, or the plugin with the longest matching prefix.
    pub fn at(&self, path: &str) -> Option<Arc<Plugin>> {
        let exact = match path {
            "/" => path,
            _ => path.strip_suffix('/').unwrap_or(path),
        };
        let named = || {
            let plugin = self.plugins.read().get(name_in(exact)?).cloned();
            plugin.filter(|plugin| plugin.is_known())
        };
        let runs = |plugin: &Arc<Plugin>| plugin.runs() || plugin.is_open();
        if let Some(plugin) = named().filter(runs) {
            return Some(plugin);
        }
        self.adopt();
        let named = named();
        if named.as_ref().is_some_and(runs) {
            return named;
        }
        let plugins = self.all();
        let routed = plugins.iter().find(|plugin| plugin.has_route(exact));
        let prefixed = || {
            let longest = |plugin: &&Arc<Plugin>| plugin.longest_prefix(path);
            plugins
                .iter()
                .max_by_key(longest)
                .filter(|plugin| longest(plugin).is_some())
        };
        // A name that does not run (its client gets 503) takes no path from one that does.
        routed
            .cloned()
            .or(named)
            .or_else(|| self.default_plugin().filter(|_| path == "/"))
            .or_else(|| prefixed().cloned())
    }

    /// Returns the plugin of the path `/`: the plugin `default`, or the only open one.
    fn default_plugin(&self) -> Option<Arc<Plugin>> {
        let plugins = self.plugins.read();
        let mut open = plugins.values().filter(|plugin| plugin.is_open());
        match (plugins.get("default"), open.next(), open.next()) {
            (Some(default), ..) => Some(default.clone()),
            (None, Some(only), None) => Some(only.clone()),
            _ => None,
        }
    }

    /// Returns whether there may be plugins that this node has not heard of yet. This is so for a
    /// gateway that has just started, since a gateway runs no plugins itself.
    pub fn may_be_unknown(&self) -> bool {
        let mesh = self.mesh.as_ref().filter(|_| self.loader.is_none());
        mesh.is_some_and(|mesh| !mesh.is_settled())
    }

    /// Returns all plugins that this node knows, in the order of their names.
    pub fn all(&self) -> Vec<Arc<Plugin>> {
        self.plugins.read().values().cloned().collect()
    }

    /// Whether the plugins folder has a plugin.
    pub(super) async fn is_in_folder(&self, name: &str) -> bool {
        let path = self.component_path(name);
        let exists = on_blocking_thread(move || Ok::<_, std::io::Error>(path.exists()));
        exists.await.unwrap_or_default()
    }

    /// Returns where the component of a plugin is in the folder, or would be.
    pub(super) fn component_path(&self, name: &str) -> PathBuf {
        self.folder().join(format!("{name}.wasm"))
    }
}
