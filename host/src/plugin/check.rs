//! The check of one component without a node: `jackfield check`.

use std::path::Path;
use std::sync::{Arc, Weak};

use tokio_util::task::TaskTracker;

use super::directory::Directory;
use super::handle::Plugin;
use super::load::{Advice, LoadError, Loader, PluginFiles};
use super::look::plugin_name;
use crate::counters::Counters;
use crate::guest::{CompilerOptions, Components, Interfaces, Services};
use crate::id::Incarnation;
use crate::limits::{Limits, PluginLimits};
use crate::manifest::fits_a_path;
use crate::rate_limiter::RateLimits;
use crate::registry::Registry;
use crate::tracer::Tracer;

/// The result of `jackfield check` for one component.
#[derive(Debug)]
pub struct Checked {
    /// The interfaces that the component imports and exports, as far as they could be read.
    pub interfaces: Interfaces,
    /// Advice for the component's author, if the component would load.
    pub advice: Vec<Advice>,
    /// The reason why the component would not load, if any.
    pub error: Option<LoadError>,
}

/// Loads a component as a node would, but without clients.
///
/// # Errors
///
/// The component engine, the services or the random incarnation cannot be set up. A component that
/// cannot be loaded is no error here, but part of the result.
pub async fn check(
    component: &Path,
    compiler: CompilerOptions,
    defaults: PluginLimits,
) -> anyhow::Result<Checked> {
    let counters = Arc::<Counters>::default();
    // Its on-start finds nothing in its buckets, and leaves nothing.
    let services = Services::in_memory()?;
    let nobody = Weak::<Directory>::new();
    let components = Components::new(compiler)?;
    let limits = Limits::default();
    let memory_bytes = limits.guest_memory_bytes();
    let loader = Loader::new(components, defaults, nobody, services, memory_bytes);
    let registry = Registry::new(
        Incarnation::draw()?,
        limits,
        counters,
        Tracer::default(),
        1,
        false,
    );
    let name = component
        .file_stem()
        .map_or("plugin".into(), |stem| stem.to_string_lossy());
    let plugin = Plugin::new(
        &name,
        &registry,
        None,
        &TaskTracker::new(),
        RateLimits::default(),
    );
    let named = match plugin_name(component) {
        Some(name) if fits_a_path(&name) => Ok(()),
        _ => Err(LoadError::Name(name.to_string())),
    };
    let files = match named.and_then(|()| PluginFiles::read(component, &loader.defaults)) {
        Ok(files) => files,
        Err(error) => {
            return Ok(Checked {
                interfaces: Interfaces::default(),
                advice: Vec::new(),
                error: Some(error),
            });
        }
    };
    let interfaces = loader.interfaces(&name, files.component.clone()).await;
    let (interfaces, loaded) = match interfaces {
        Ok(interfaces) => {
            // So that it is compiled once.
            loader.idle().await;
            let (router, usage) = (plugin.router.clone(), plugin.usage.clone());
            let loaded = loader.load(1, router, usage, files).await;
            (interfaces, loaded.map(|(_, advice)| advice))
        }
        Err(error) => (Interfaces::default(), Err(error)),
    };
    loader.idle().await;
    let (advice, error) = match loaded {
        Ok(advice) => (advice, None),
        Err(error) => (Vec::new(), Some(error)),
    };
    Ok(Checked {
        interfaces,
        advice,
        error,
    })
}
