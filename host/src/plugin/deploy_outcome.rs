//! What has become of a deployment.

use super::builds::UnknownBuild;
use crate::id::Incarnation;

/// A deployment that was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployed {
    /// Counts the deployments of the plugin.
    pub version: u64,
    /// The digest of the component and its manifest.
    pub digest: Vec<u8>,
    /// The nodes that were asked to run it.
    pub nodes: Vec<DeployedNode>,
}

/// A node of a deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeployedNode {
    /// The incarnation of the node.
    pub node: Incarnation,
    /// The address that its peers dial; empty: it is alone.
    pub mesh: String,
    /// The generation that has taken over, or why the build does not run there.
    pub generation: Result<u64, String>,
}

/// The reason why nothing was deployed. What ran before still runs.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// The node runs no plugins.
    #[error("this node is a gateway and runs no plugins: ask a node that does")]
    Gateway,
    /// The node cannot take part.
    #[error("{0}")]
    NotHere(String),
    /// The plugin cannot be deployed, for this reason.
    #[error("{0}")]
    Invalid(String),
    /// The build cannot be kept.
    #[error("the build cannot be written: {0}")]
    Write(#[from] std::io::Error),
    /// The build cannot run on each node.
    #[error("nothing was changed, since the build cannot run on each node: {}", reasons(.0))]
    Refused(Vec<DeployedNode>),
    /// There is no such build.
    #[error(transparent)]
    Unknown(#[from] UnknownBuild),
    /// Nothing of the plugin is deployed.
    #[error("no build of {0:?} is deployed")]
    NotDeployed(String),
}

fn reasons(nodes: &[DeployedNode]) -> String {
    let failed = nodes.iter().filter_map(|node| {
        let why = node.generation.as_ref().err()?;
        Some(format!("node {} ({}): {why}", node.node, node.mesh))
    });
    failed.collect::<Vec<_>>().join("; ")
}
