//! Where things are: what cargo says of the workspace, asked once.
//!
//! Cargo is asked rather than the folders, so that `CARGO_TARGET_DIR` holds here as it
//! does everywhere, and a folder counts as a plugin exactly when cargo can build it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::process::{self, cargo};

/// The workspace this command was called in.
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
    packages: Vec<Package>,
}

/// A crate of the workspace.
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
    /// Features of which each gives a component of its own, from
    /// `[package.metadata.jackfield] variants` in the crate's `Cargo.toml`.
    pub(crate) variants: Vec<String>,
}

impl Workspace {
    pub(crate) fn load() -> Result<Self> {
        let answer =
            process::output(cargo().args(["metadata", "--format-version=1", "--no-deps"]))?;
        let metadata: Metadata =
            serde_json::from_str(&answer).context("cannot read what `cargo metadata` says")?;
        Ok(Self {
            root: metadata.workspace_root,
            target: metadata.target_directory,
            packages: metadata.packages.into_iter().map(Package::from).collect(),
        })
    }

    /// The shipped plugins: the crates in `plugins/`.
    pub(crate) fn plugins(&self) -> Vec<&Package> {
        self.packages_in(&self.root.join("plugins"))
    }

    /// The components only tests use: the crates in `tests/guests/`.
    pub(crate) fn guests(&self) -> Vec<&Package> {
        self.packages_in(&self.root.join("tests/guests"))
    }

    /// The folder a node of this workspace watches.
    pub(crate) fn plugin_folder(&self) -> PathBuf {
        self.target.join("plugins")
    }

    /// The same, as a person in the workspace's root would name it.
    pub(crate) fn shown_plugin_folder(&self) -> PathBuf {
        let folder = self.plugin_folder();
        folder
            .strip_prefix(&self.root)
            .map(Path::to_owned)
            .unwrap_or(folder)
    }

    pub(crate) fn guest_folder(&self) -> PathBuf {
        self.target.join("guests")
    }

    fn packages_in(&self, folder: &Path) -> Vec<&Package> {
        self.packages
            .iter()
            .filter(|package| package.folder.parent() == Some(folder))
            .collect()
    }
}

#[derive(Deserialize)]
struct Metadata {
    workspace_root: PathBuf,
    target_directory: PathBuf,
    packages: Vec<PackageMetadata>,
}

#[derive(Deserialize)]
struct PackageMetadata {
    name: String,
    manifest_path: PathBuf,
    metadata: Option<ToolMetadata>,
}

#[derive(Default, Deserialize)]
struct ToolMetadata {
    #[serde(default)]
    jackfield: JackfieldMetadata,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct JackfieldMetadata {
    #[serde(default)]
    variants: Vec<String>,
}

impl From<PackageMetadata> for Package {
    fn from(package: PackageMetadata) -> Self {
        let folder = package
            .manifest_path
            .parent()
            .unwrap_or(Path::new(""))
            .to_owned();
        let variants = package.metadata.unwrap_or_default().jackfield.variants;
        Self {
            name: package.name,
            folder,
            variants,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_are_read_and_other_tools_metadata_is_left_alone() {
        let package: PackageMetadata = serde_json::from_str(
            r#"{"name": "marker", "manifest_path": "/w/tests/guests/marker/Cargo.toml",
                "metadata": {"other": 1, "jackfield": {"variants": ["a", "b"]}}}"#,
        )
        .expect("the shape cargo prints");
        let package = Package::from(package);
        assert_eq!(package.folder, Path::new("/w/tests/guests/marker"));
        assert_eq!(package.variants, ["a", "b"]);
    }

    #[test]
    fn a_crate_without_metadata_has_no_variants() {
        let package: PackageMetadata = serde_json::from_str(
            r#"{"name": "echo", "manifest_path": "/w/plugins/echo/Cargo.toml", "metadata": null}"#,
        )
        .expect("the shape cargo prints");
        assert!(Package::from(package).variants.is_empty());
    }
}
