//! What plugins use of the node beside its clients: where their state is, and the way out.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::http::https::Https;
use crate::config::Config;
use crate::keyvalue::Keyvalue;

/// What all plugins of a node share. What of it is a plugin's, its manifest says.
#[derive(Clone)]
pub struct Services {
    pub(crate) keyvalue: Keyvalue,
    pub(crate) https: Https,
    /// All plugins together have so many requests under way at once.
    pub(crate) requests: Arc<Semaphore>,
}

impl Services {
    /// Opens them as they are configured; requests have so many `files`.
    pub async fn open(config: &Config, files: usize) -> anyhow::Result<Services> {
        Ok(Services {
            keyvalue: Keyvalue::open(&config.keyvalue).await?,
            https: Https::new(&config.http.authorities)?,
            requests: requests(files),
        })
    }

    /// Where the plugins' state is: `memory`, `file` or `redis`.
    pub fn keyvalue_store(&self) -> &'static str {
        self.keyvalue.kind()
    }

    /// Why the plugins' state cannot be used or changed now, if it cannot.
    pub fn keyvalue_failure(&self) -> Option<String> {
        self.keyvalue.failure()
    }

    /// With state in memory, and nothing in it.
    pub fn in_memory() -> anyhow::Result<Services> {
        Ok(Services {
            keyvalue: Keyvalue::default(),
            https: Https::new(Path::new(""))?,
            requests: requests(Semaphore::MAX_PERMITS),
        })
    }
}

/// A request counts as two files: a lookup of its name may have as many open at once.
fn requests(files: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(files / 2))
}
