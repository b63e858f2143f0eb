//! The same plugins in each language that has an SDK: `target/languages/LANGUAGE/PLUGIN.wasm`, made as an
//! author makes them, by `jackfield new` and `jackfield build`.
//!
//! A language whose toolchain is not here is left out, and that is said.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use crate::file;
use crate::host;
use crate::process;
use crate::skipped::is_skipped;
use crate::workspace::Workspace;

/// A language, its toolchain, and its plugins.
struct Language {
    name: &'static str,
    /// The programs that an author needs before the first build.
    needs: &'static [&'static str],
    /// What the first build installs into the project, and the others can use as well.
    installs: &'static [&'static str],
    /// The folder of its plugins within `tests/languages`, if it has others than the lobby.
    plugins: Option<&'static str>,
    /// The folder of its SDK within `guest-sdk`.
    sdk: &'static str,
}

const LANGUAGES: [Language; 6] = [
    Language {
        name: "rust",
        needs: &["cargo"],
        installs: &["target"],
        plugins: Some("rust"),
        sdk: "src",
    },
    Language {
        name: "ts",
        needs: &["node", "npm"],
        installs: &["node_modules", "package-lock.json"],
        plugins: Some("js"),
        sdk: "js",
    },
    Language {
        name: "js",
        needs: &["node", "npm"],
        installs: &["node_modules", "package-lock.json"],
        plugins: None,
        sdk: "js",
    },
    Language {
        name: "python",
        needs: &["python3"],
        installs: &[".toolchain"],
        plugins: Some("python"),
        sdk: "python",
    },
    Language {
        name: "go",
        needs: &["go"],
        installs: &[],
        plugins: Some("go"),
        sdk: "go",
    },
    Language {
        name: "c",
        needs: &["python3", "make"],
        installs: &[],
        plugins: Some("c"),
        sdk: "c",
    },
];

/// The plugins beside the lobby, which each language has for tests.
const PLUGINS: [&str; 3] = ["auction", "console", "tutorial"];

/// The folder of what is built here.
pub(crate) fn folder(workspace: &Workspace) -> PathBuf {
    workspace.target.join("languages")
}

/// Builds all plugins of all languages whose toolchain is here, and returns the plugin of
/// the contract's suite in each. The program of the host must have been built.
pub(crate) fn build(workspace: &Workspace) -> Result<Vec<PathBuf>> {
    let mut consoles = Vec::new();
    for language in &LANGUAGES {
        let to = folder(workspace).join(language.name);
        let what = format!("plugins in {}", language.name);
        if is_skipped(&what, language.needs, &to)? {
            continue;
        }
        language.build(workspace, &to)?;
        consoles.extend(Some(to.join("console.wasm")).filter(|console| console.exists()));
    }
    Ok(consoles)
}

impl Language {
    fn build(&self, workspace: &Workspace, to: &Path) -> Result<()> {
        let root = &workspace.root;
        let own = self
            .plugins
            .map(|folder| root.join("tests/languages").join(folder));
        let sdk = root.join("guest-sdk");
        let mut sources = vec![sdk.join(self.sdk), root.join("wit")];
        // What writes and builds projects, and what each of them has.
        let common = [
            "guest-sdk/common",
            "guest-sdk/template",
            "guest-sdk/Cargo.toml",
            "Cargo.lock",
        ];
        sources.extend(common.map(|path| root.join(path)));
        let others = [
            "host/src/author",
            "tests/languages/auction.toml",
            "tests/languages/tutorial.toml",
        ];
        sources.extend(others.map(|path| root.join(path)));
        sources.extend(own.clone());
        let newest = sources.iter().map(|path| newest(path)).max().flatten();
        let lobby = to.join("lobby");
        if !is_newer(&to.join("lobby.wasm"), newest) {
            self.clear(&lobby)?;
            let name = self.name;
            let mut new = Command::new(host::debug_program(workspace));
            new.args(["new", "lobby", "--lang", name, "--folder"])
                .arg(to.join("fresh"));
            file::remove(&to.join("fresh"))?;
            process::run(&mut new)?;
            move_into(&to.join("fresh"), &lobby)?;
            make(workspace, &lobby, "lobby", to)?;
        }
        let Some(own) = own else { return Ok(()) };
        // What several of them share.
        for entry in fs::read_dir(&own)? {
            let entry = entry?;
            if !PLUGINS.iter().any(|plugin| entry.file_name() == *plugin) {
                file::copy_folder(&entry.path(), &to.join(entry.file_name()))?;
            }
        }
        for plugin in PLUGINS {
            if !own.join(plugin).exists()
                || is_newer(&to.join(plugin).with_extension("wasm"), newest)
            {
                continue;
            }
            let project = to.join(plugin);
            self.clear(&project)?;
            file::copy_folder(&own.join(plugin), &project)?;
            let manifest = root
                .join("tests/languages")
                .join(plugin)
                .with_extension("toml");
            if manifest.exists() {
                fs::copy(&manifest, project.join(plugin).with_extension("toml"))?;
            }
            fs::create_dir_all(project.join("wit"))?;
            for shared in self.installs.iter().chain(&["sdk"]) {
                let (from, link) = (lobby.join(shared), project.join(shared));
                // It may lead to where the target folder was before.
                if link.is_symlink() {
                    fs::remove_file(&link)?;
                }
                if from.exists() && !link.exists() {
                    std::os::unix::fs::symlink(from, link)?;
                }
            }
            make(workspace, &project, plugin, to)?;
        }
        Ok(())
    }

    /// Empties the folder of a project but for what builds have installed.
    fn clear(&self, project: &Path) -> Result<()> {
        fs::create_dir_all(project)?;
        for entry in fs::read_dir(project)? {
            let path = entry?.path();
            if self.installs.iter().any(|install| path.ends_with(install)) {
                continue;
            }
            match path.is_dir() && !path.is_symlink() {
                true => fs::remove_dir_all(path)?,
                false => fs::remove_file(path)?,
            }
        }
        Ok(())
    }
}

/// Builds a project, and puts its component where the tests find it.
fn make(workspace: &Workspace, project: &Path, plugin: &str, to: &Path) -> Result<()> {
    eprintln!("== {plugin} in {}", to.display());
    let mut build = Command::new(host::debug_program(workspace));
    build.args(["build", "--project"]).arg(project);
    // One compiler of C for all projects (`guest-sdk/c/jackfield.mk`).
    build.env("VENV", to.join(".toolchain"));
    // Cargo's own variables are for this project, and not for the one that is built.
    build
        .env_remove("CARGO_TARGET_DIR")
        .env("PATH", process::search_path());
    process::run(&mut build)?;
    let output = project.join("build").join(plugin).with_extension("wasm");
    ensure!(output.exists(), "{} is missing", output.display());
    fs::copy(&output, to.join(plugin).with_extension("wasm"))?;
    let manifest = project.join(plugin).with_extension("toml");
    if manifest.exists() {
        fs::copy(&manifest, to.join(plugin).with_extension("toml"))?;
    }
    // The suite of the contract wants this one beside it.
    fs::copy(
        workspace.plugin_folder().join("echo.wasm"),
        to.join("echo.wasm"),
    )?;
    compile(workspace, &to.join(plugin).with_extension("wasm"))
}

/// Compiles a component for the tests, which have better things to wait for: the cache may have lost it
/// since the last time.
pub(crate) fn compile(workspace: &Workspace, component: &Path) -> Result<()> {
    let mut check = Command::new(host::debug_program(workspace));
    let cache = workspace.target.join("test-cache");
    process::run(
        check
            .arg("check")
            .arg(component)
            .env("JACKFIELD_CACHE", cache),
    )
}

fn is_newer(output: &Path, newest: Option<std::time::SystemTime>) -> bool {
    let written = output.metadata().and_then(|file| file.modified());
    written.is_ok_and(|written| newest.is_some_and(|newest| written > newest))
}

/// When the file that was written last within a folder was written.
fn newest(path: &Path) -> Option<std::time::SystemTime> {
    if !path.is_dir() {
        return path.metadata().and_then(|file| file.modified()).ok();
    }
    let entries = fs::read_dir(path).ok()?.flatten();
    entries.filter_map(|entry| newest(&entry.path())).max()
}

/// Moves what is in a folder into another one.
fn move_into(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        fs::rename(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(fs::remove_dir(from)?)
}
