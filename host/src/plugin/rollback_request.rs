//! The rollbacks that operators ask for, and what becomes of them.

use tokio::sync::oneshot;

use super::builds::UnknownBuild;
use super::load::LoadError;

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
    /// It is not clear which build is to be gone back from.
    #[error(
        "the plugin has a canary: withdraw it first with `jackfield canary withdraw {0}`, or promote it"
    )]
    Canary(String),
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
