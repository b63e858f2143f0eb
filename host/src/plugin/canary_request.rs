//! What operators ask for about canaries, and what becomes of it.

use tokio::sync::oneshot;

use super::deploy_outcome::DeployError;
use crate::invalid_value::InvalidValue;

/// A request about the canary of a plugin.
pub(super) struct CanaryRequest {
    pub(super) plugin: String,
    pub(super) change: CanaryChange,
    /// Who asks for it.
    pub(super) by: String,
    pub(super) answer: oneshot::Sender<Result<(), CanaryError>>,
}

/// A change of a canary.
pub enum CanaryChange {
    /// The canary takes over for all clients.
    Promote,
    /// The canary ends, and its clients have the other build.
    Withdraw,
    /// The canary is for other clients.
    Rollout(RolloutChange),
}

/// What changes of a rollout. What is none stays as it is.
pub struct RolloutChange {
    /// The share of the clients, in percent.
    pub percent: Option<f64>,
    /// The uids that it is for in any case; empty: as before.
    pub uids: Vec<String>,
    /// When it takes over by itself, in milliseconds after its start; 0: it does not.
    pub promote_after_ms: Option<u64>,
    /// The most that the 99th percentile may be, as a multiple of that of the other build; 0: that
    /// is no matter.
    pub max_p99_ratio: Option<f64>,
}

/// The reason why a canary was not changed.
#[derive(Debug, thiserror::Error)]
pub enum CanaryError {
    /// There is no canary.
    #[error("{0:?} has no canary on this node: `jackfield plugins` lists the nodes that have one")]
    None(String),
    /// The canary is one of this node's folder.
    #[error("the canary comes from the plugins folder: change [rollout] in its manifest")]
    OfFolder,
    /// Another build of the plugin is being prepared.
    #[error("another build of the plugin is being deployed: try again when that has ended")]
    Deploying,
    /// The rollout is wrong.
    #[error(transparent)]
    Invalid(#[from] InvalidValue),
    /// The other nodes cannot be told.
    #[error(transparent)]
    Deploy(#[from] DeployError),
    /// It cannot be written that the build is for all clients.
    #[error("it cannot be written that the build is for all clients: {0}")]
    Write(#[from] std::io::Error),
    /// Too many requests wait, or the node ends.
    #[error("too many requests wait, or the node ends: try again")]
    Overloaded,
}
