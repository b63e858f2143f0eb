//! Programs of crates that a step needs, each in one version.

use std::path::PathBuf;

use anyhow::Result;

use crate::process::{self, cargo};
use crate::workspace::Workspace;

/// A program of a crate.
pub(crate) struct Tool {
    /// The names of the program and of its crate.
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    /// The only features that it is built with, if not its default ones.
    pub(crate) features: Option<&'static str>,
}

impl Tool {
    /// Finds the program on the machine, or installs it into the target folder, once: nothing of
    /// the machine's changes.
    pub(crate) fn find(&self, workspace: &Workspace) -> Result<PathBuf> {
        if let Some(program) = process::find_program(self.name) {
            return Ok(program);
        }
        let folder = workspace.root.join("target/tools");
        let program = folder.join("bin").join(self.name);
        if !program.is_file() {
            let mut install = cargo();
            install
                .args(["install", self.name, "--locked", "--debug"])
                .args(["--version", self.version, "--root"])
                .arg(&folder)
                .current_dir(&workspace.root);
            if let Some(features) = self.features {
                install.args(["--no-default-features", "--features", features]);
            }
            process::run(&mut install)?;
        }
        Ok(program)
    }
}
