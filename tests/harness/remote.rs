//! The commands for a node that runs, and builds that they deploy.

use anyhow::ensure;
use serde_json::Value;
use tempfile::TempDir;

use crate::{Node, Output, component, run_node_binary_in};

/// Runs a command against this node's API.
pub async fn run(node: &Node, arguments: &[&str]) -> anyhow::Result<Output> {
    let api = format!("http://{}", node.api_address());
    run_node_binary_in(&[("JACKFIELD_API_URL", &api)], arguments).await
}

/// What a command prints that must succeed.
pub async fn printed(node: &Node, arguments: &[&str]) -> anyhow::Result<String> {
    let output = run(node, arguments).await?;
    ensure!(output.code == 0, "{arguments:?}: {}", output.text());
    Ok(output.stdout)
}

/// What a command says that must succeed, in JSON.
pub async fn done(node: &Node, arguments: &[&str]) -> anyhow::Result<Value> {
    let json = printed(node, &[arguments, &["--json"]].concat()).await?;
    Ok(serde_json::from_str(&json)?)
}

/// What a command says that must fail.
pub async fn refused(node: &Node, arguments: &[&str]) -> anyhow::Result<String> {
    let output = run(node, arguments).await?;
    ensure!(output.code == 1, "{arguments:?}: {}", output.text());
    Ok(output.stderr)
}

/// A component and a manifest to be deployed as the plugin `marker`, as files.
pub struct Build {
    path: String,
    _folder: TempDir,
}

impl Build {
    /// One of the components built for tests.
    pub fn of(source: &str, manifest: &str) -> anyhow::Result<Build> {
        Build::of_bytes(&std::fs::read(component(source)?)?, manifest)
    }

    /// A component of these bytes.
    pub fn of_bytes(component: &[u8], manifest: &str) -> anyhow::Result<Build> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("marker.wasm");
        std::fs::write(&path, component)?;
        if !manifest.is_empty() {
            std::fs::write(path.with_extension("toml"), manifest)?;
        }
        let path = path.display().to_string();
        Ok(Build {
            path,
            _folder: folder,
        })
    }

    /// The path of the component.
    pub fn path(&self) -> String {
        self.path.clone()
    }

    /// Deploys it, which must succeed.
    pub async fn deploy(&self, node: &Node) -> anyhow::Result<Value> {
        self.deploy_with(node, &[]).await
    }

    /// Deploys it with more flags, which must succeed.
    pub async fn deploy_with(&self, node: &Node, flags: &[&str]) -> anyhow::Result<Value> {
        done(node, &[&["deploy", &self.path], flags].concat()).await
    }

    /// Why it is not deployed.
    pub async fn refused(&self, node: &Node) -> anyhow::Result<String> {
        refused(node, &["deploy", &self.path]).await
    }
}
