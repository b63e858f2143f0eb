//! The rollbacks that operators ask for, and what becomes of them. The task that looks at the folder
//! handles them, since it begins all loads.

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Mutex, mpsc, oneshot};

use super::builds::UnknownBuild;
use super::load::LoadError;

/// The most requests that wait. Another one is told to come back.
const WAITING: usize = 16;

/// The requests that wait for the task that loads builds.
pub(super) struct RollbackRequests {
    asking: mpsc::Sender<RollbackRequest>,
    asked: Mutex<mpsc::Receiver<RollbackRequest>>,
}

/// A request for another build of a plugin.
pub(super) struct RollbackRequest {
    pub(super) plugin: String,
    /// The first digits of the build's digest; none: the build before the one that runs.
    pub(super) digits: Option<String>,
    /// Who asks for it.
    pub(super) by: String,
    pub(super) answer: oneshot::Sender<Result<RolledBack, RollbackError>>,
}

/// The build that runs after a rollback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RolledBack {
    /// The number of the generation that has taken over.
    pub generation: u64,
    /// The digest of its build.
    pub digest: [u8; 32],
}

/// The reason why a rollback was not done. What ran before still runs.
#[derive(Debug, thiserror::Error)]
pub enum RollbackError {
    /// The node runs no plugins.
    #[error("this node is a gateway and runs no plugins: ask a node that does")]
    Gateway,
    /// There is no such build.
    #[error(transparent)]
    Unknown(#[from] UnknownBuild),
    /// The build cannot be loaded, for this reason.
    #[error("the build is not loaded: {0}")]
    Load(String),
    /// The build runs already.
    #[error("this build runs already")]
    Runs,
    /// The plugin is not in the folder of this node.
    #[error(
        "the plugin is not in the plugins folder of this node, or its clients are being closed"
    )]
    NotHere,
    /// Another load of the plugin is under way.
    #[error("another build of the plugin is being loaded: try it again when it has ended")]
    Busy,
    /// Newer files have come, or the node has ended.
    #[error("a newer build has come meanwhile, or the node ends")]
    Overtaken,
    /// Too many requests wait.
    #[error("too many rollbacks wait: try it again")]
    Overloaded,
}

impl Default for RollbackRequests {
    fn default() -> RollbackRequests {
        let (asking, asked) = mpsc::channel(WAITING);
        let asked = Mutex::new(asked);
        RollbackRequests { asking, asked }
    }
}

impl RollbackRequests {
    /// Asks for another build of a plugin, and waits until it has taken over.
    ///
    /// # Errors
    ///
    /// There is no such build, or it cannot be loaded.
    pub(super) async fn ask(
        &self,
        plugin: &str,
        digits: Option<&str>,
        by: &str,
    ) -> Result<RolledBack, RollbackError> {
        let (answer, answered) = oneshot::channel();
        let request = RollbackRequest {
            plugin: plugin.to_owned(),
            digits: digits.map(str::to_owned),
            by: by.to_owned(),
            answer,
        };
        let asked = self.asking.try_send(request);
        asked.map_err(|error| match error {
            TrySendError::Full(_) => RollbackError::Overloaded,
            TrySendError::Closed(_) => RollbackError::Overtaken,
        })?;
        answered.await.unwrap_or(Err(RollbackError::Overtaken))
    }

    /// Answers the requests that wait, and takes no more.
    pub(super) async fn end(&self) {
        let mut asked = self.asked.lock().await;
        asked.close();
        // Whoever has asked for one that is dropped is told so.
        while asked.try_recv().is_ok() {}
    }

    /// Waits for the next request.
    pub(super) async fn next(&self) -> RollbackRequest {
        match self.asked.lock().await.recv().await {
            Some(request) => request,
            // The sender is beside it.
            None => std::future::pending().await,
        }
    }
}

impl From<std::io::Error> for RollbackError {
    fn from(error: std::io::Error) -> RollbackError {
        LoadError::from(error).into()
    }
}

impl From<LoadError> for RollbackError {
    fn from(error: LoadError) -> RollbackError {
        RollbackError::Load(error.to_string())
    }
}
