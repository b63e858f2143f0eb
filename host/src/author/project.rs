//! A project: a folder with a `jackfield.toml`, from which one plugin is built.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use clap::Args;
use serde::Deserialize;

use crate::file;
use crate::manifest::fits_a_path;

/// The file that makes a folder a project.
pub(super) const PROJECT_FILE: &str = "jackfield.toml";

/// The folder of a project for what is made while it is developed. It can be removed at any time.
pub(super) const SCRATCH: &str = ".jackfield";

/// The largest project file, and the largest manifest, in bytes.
const TEXT_BYTES: u64 = 1 << 20;

/// Which project a command is for.
#[derive(Args)]
pub struct ProjectFlags {
    /// The folder of the project, or one within it.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(super) project: PathBuf,
}

/// A project, as its file says.
#[derive(Debug)]
pub(super) struct Project {
    /// The folder with the file.
    pub(super) folder: PathBuf,
    /// The name of the plugin: that of the component's file.
    pub(super) name: String,
    pub(super) build: BuildSettings,
    /// How the tests of the language run, if the project says so.
    pub(super) test: Option<TestSettings>,
}

/// How a plugin is built.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BuildSettings {
    /// The command, for `sh -c` in the folder of the project.
    pub(super) command: String,
    /// The component that the command makes, from the folder on.
    pub(super) output: PathBuf,
    /// The files and folders from which it is made, beside the project file and the manifest.
    #[serde(default)]
    pub(super) watch: Vec<PathBuf>,
}

/// How the tests of a project's own language run.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TestSettings {
    /// The command, for `sh -c` in the folder of the project. It fails if a test does.
    pub(super) command: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProjectFile {
    build: BuildSettings,
    test: Option<TestSettings>,
}

impl Project {
    /// Finds the project of a folder, which is the folder itself or one above it.
    ///
    /// # Errors
    ///
    /// There is no project file, or it is wrong.
    pub(super) fn find(from: &Path) -> anyhow::Result<Project> {
        let from = from
            .canonicalize()
            .with_context(|| format!("the folder {}", from.display()))?;
        let mut folders = from.ancestors();
        let folder = folders.find(|folder| folder.join(PROJECT_FILE).is_file());
        let folder = folder.with_context(|| {
            format!(
                "there is no {PROJECT_FILE} in {} or above: go to the folder of a plugin, or write one \
                 with `jackfield new NAME --lang LANGUAGE`",
                from.display()
            )
        })?;
        Project::open(folder.to_owned())
    }

    /// Reads the project file of a folder.
    ///
    /// # Errors
    ///
    /// The project file cannot be read, or it is wrong.
    pub(super) fn open(folder: PathBuf) -> anyhow::Result<Project> {
        let path = folder.join(PROJECT_FILE);
        let wrong = || format!("{} is wrong", path.display());
        let text = file::read_text(&path, TEXT_BYTES).with_context(wrong)?;
        let ProjectFile { build, test } = toml::from_str(&text).with_context(wrong)?;
        let is_component = build.output.extension().is_some_and(|end| end == "wasm");
        let name = build.output.file_stem().and_then(|name| name.to_str());
        let name = name.filter(|name| is_component && fits_a_path(name) && *name != "jackfield");
        let name = name.with_context(|| {
            format!(
                "{}: build.output is {}, and must be a file NAME.wasm, where NAME is the plugin's: a-z, \
                 A-Z, 0-9, - and _",
                path.display(),
                build.output.display()
            )
        })?;
        ensure!(
            !build.command.trim().is_empty(),
            "{}: build.command is empty",
            path.display()
        );
        let is_empty = |test: &TestSettings| test.command.trim().is_empty();
        ensure!(
            !test.as_ref().is_some_and(is_empty),
            "{}: test.command is empty",
            path.display()
        );
        Ok(Project {
            name: name.to_owned(),
            folder,
            build,
            test,
        })
    }

    /// The component that the build makes.
    pub(super) fn output(&self) -> PathBuf {
        self.folder.join(&self.build.output)
    }

    /// The plugin's manifest, which need not be there.
    pub(super) fn manifest_path(&self) -> PathBuf {
        self.folder.join(&self.name).with_extension("toml")
    }

    /// The text of the manifest; empty without one.
    ///
    /// # Errors
    ///
    /// The manifest is there and cannot be read.
    pub(super) fn manifest(&self) -> anyhow::Result<String> {
        let path = self.manifest_path();
        if !path.exists() {
            return Ok(String::new());
        }
        file::read_text(&path, TEXT_BYTES)
            .with_context(|| format!("the manifest {}", path.display()))
    }

    /// The folder with the plugin's page, if it has one.
    pub(super) fn page(&self) -> Option<PathBuf> {
        Some(self.folder.join("page")).filter(|page| page.is_dir())
    }

    /// The folder for what is made while the plugin is developed.
    pub(super) fn scratch(&self) -> PathBuf {
        self.folder.join(SCRATCH)
    }

    /// The files and folders of which a change builds the plugin again.
    pub(super) fn watched(&self) -> Vec<PathBuf> {
        let named = self.build.watch.iter().map(|path| self.folder.join(path));
        let always = [self.folder.join(PROJECT_FILE), self.manifest_path()];
        named.chain(always).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_file(text: &str) -> (tempfile::TempDir, anyhow::Result<Project>) {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join(PROJECT_FILE), text).expect("a file");
        std::fs::create_dir_all(folder.path().join("src/deep")).expect("a folder");
        let project = Project::find(&folder.path().join("src/deep"));
        (folder, project)
    }

    #[test]
    fn a_project_is_found_from_within_and_has_the_name_of_its_component() {
        let text = "[build]\ncommand = 'make'\noutput = 'build/lobby.wasm'\nwatch = ['src']\n";
        let (folder, project) = with_file(text);
        let project = project.expect("a project");
        assert_eq!(project.name, "lobby");
        let folder = folder.path().canonicalize().expect("a path");
        assert_eq!(project.output(), folder.join("build/lobby.wasm"));
        assert_eq!(
            project.watched(),
            ["src", PROJECT_FILE, "lobby.toml"].map(|path| folder.join(path))
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, why) in [
            ("[build]\noutput = 'a.wasm'", "missing field `command`"),
            (
                "[build]\ncommand = 'make'\noutput = 'a b.wasm'",
                "must be a file NAME.wasm",
            ),
            (
                "[build]\ncommand = 'make'\noutput = 'a.so'",
                "must be a file NAME.wasm",
            ),
            (
                "[build]\ncommand = ' '\noutput = 'a.wasm'",
                "build.command is empty",
            ),
            ("[build]\ncomand = 'make'", "unknown field `comand`"),
        ] {
            let (_folder, project) = with_file(text);
            let error = format!("{:#}", project.expect_err(text));
            assert!(error.contains(why), "{error}");
        }
        let empty = tempfile::tempdir().expect("a folder");
        let error = Project::find(empty.path())
            .expect_err("no file")
            .to_string();
        assert!(error.contains("jackfield new NAME"), "{error}");
    }
}
