//! The services of the node for its plugins: the key-value store and outgoing requests.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::http::https::Https;
use crate::config::Config;
use crate::keyvalue::Keyvalue;

/// The services that all plugins of a node share. A plugin's manifest grants its part of them.
#[derive(Clone)]
pub struct Services {
    pub(crate) keyvalue: Keyvalue,
    pub(crate) https: Https,
    /// The permits for requests that all plugins together may have under way at once.
    pub(crate) requests: Arc<Semaphore>,
}

impl Services {
    /// Opens the services as they are configured. `files` is the number of open files for requests.
    ///
    /// # Errors
    ///
    /// The configured store or certificate authorities cannot be used.
    pub async fn open(config: &Config, files: usize) -> anyhow::Result<Services> {
        Ok(Services {
            keyvalue: Keyvalue::open(&config.keyvalue).await?,
            https: Https::new(&config.http.authorities)?,
            requests: requests(files),
        })
    }

    /// The kind of store for the plugins' state: `memory`, `file` or `redis`.
    pub fn keyvalue_store(&self) -> &'static str {
        self.keyvalue.kind()
    }

    /// The reason why the plugins' state cannot be used or changed now, if there is one.
    pub fn keyvalue_failure(&self) -> Option<String> {
        self.keyvalue.failure()
    }

    /// The key-value store of the plugins' state.
    pub(crate) fn keyvalue(&self) -> &Keyvalue {
        &self.keyvalue
    }

    /// Services with an empty key-value store in memory.
    ///
    /// # Errors
    ///
    /// The TLS configuration cannot be built.
    pub fn in_memory() -> anyhow::Result<Services> {
        Ok(Services {
            keyvalue: Keyvalue::default(),
            https: Https::new(Path::new(""))?,
            requests: requests(Semaphore::MAX_PERMITS),
        })
    }
}

/// The permits for requests, for a number of open files. A request counts as two files, since a
/// lookup of its name may have as many open at once.
fn requests(files: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(files / 2))
}
