//! `jackfield new`: a project for a new plugin, with all that it is built from but the toolchain.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use clap::{Args, ValueEnum};
use toml::{Table, Value};

use super::sources::{self, WORKSPACE, sdk_files};
use super::wit::write_folder;
use crate::manifest::fits_a_path;
use crate::stdout::print;

/// What stands for the plugin's name in the texts and the names of templates.
const NAME: &str = "{{name}}";

/// What in the SDKs is from others, and under which licence.
const THIRD_PARTY: &str = "THIRD-PARTY.md";

/// The names of files with which a manifest would be mistaken.
const TAKEN: [&str; 3] = ["jackfield", "cargo", "pyproject"];

/// The longest name of a new plugin, in bytes.
const NAME_BYTES: usize = 64;

/// Which project is written.
#[derive(Args)]
pub struct NewFlags {
    /// The name of the plugin, which is also its path: a-z, A-Z, 0-9, - and _.
    name: String,
    /// The language of the plugin.
    #[arg(long, value_enum)]
    lang: Language,
    /// The folder of the project, which must be empty or missing; without it, it has the name of the plugin.
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
}

/// A language with an SDK.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Language {
    Rust,
    Ts,
    Js,
    Python,
    Go,
    C,
}

impl Language {
    /// The folder of the SDK, and that of the template.
    fn folders(self) -> (&'static str, &'static str) {
        match self {
            Language::Rust => ("src", "template"),
            Language::Ts => ("js", "js/template-ts"),
            Language::Js => ("js", "js/template-js"),
            Language::Python => ("python", "python/template"),
            Language::Go => ("go", "go/template"),
            Language::C => ("c", "c/template"),
        }
    }
}

/// Writes the project that the flags name.
pub(super) fn new(flags: &NewFlags) -> anyhow::Result<()> {
    let name = &*flags.name;
    ensure!(
        fits_a_path(name) && name.starts_with(|first: char| first.is_ascii_alphabetic()),
        "{name:?} is no name for a plugin: it begins with a letter, and has a-z, A-Z, 0-9, - and _"
    );
    ensure!(
        !TAKEN.iter().any(|taken| name.eq_ignore_ascii_case(taken)),
        "{name:?} is the name of a file that is not the plugin's: choose another one"
    );
    ensure!(
        name.len() <= NAME_BYTES,
        "the name has {} bytes, and may have {NAME_BYTES}",
        name.len()
    );
    let folder = flags.folder.clone().unwrap_or_else(|| PathBuf::from(name));
    ensure!(
        sources::has_nothing(&folder),
        "{} is there already and is not empty: name another folder with --folder",
        folder.display()
    );
    write_project(&folder, name, flags.lang)?;
    print(&format!(
        "{name} is in {folder}. Next:\n\n  cd {folder}\n  jackfield dev\n\n{folder}/README.md says what \
         it needs and how to go on.\n",
        folder = folder.display()
    ))
}

fn write_project(folder: &Path, name: &str, language: Language) -> anyhow::Result<()> {
    let (sdk, template) = language.folders();
    for (path, content) in sdk_files("common").into_iter().chain(sdk_files(template)) {
        let path = path.to_str().context("a template's name is UTF-8")?;
        let path = folder.join(path.replace(NAME, name));
        match std::str::from_utf8(content) {
            Ok(text) => sources::write(&path, text.replace(NAME, name).as_bytes())?,
            Err(_) => sources::write(&path, content)?,
        }
    }
    let is_template = |path: &Path| path.to_string_lossy().starts_with("template");
    let to = match language {
        Language::Rust => folder.join("sdk/src"),
        _ => folder.join("sdk"),
    };
    for (path, content) in sdk_files(sdk) {
        if !is_template(path) {
            sources::write(&to.join(path), content)?;
        }
    }
    // The package in Rust is the folder of all SDKs, and its licences are those of the others, too.
    for (path, content) in sdk_files("") {
        let to = folder.join("sdk").join(path);
        let is_licence =
            path.to_string_lossy().starts_with("LICENSE") || path == Path::new(THIRD_PARTY);
        let is_at_root = path.parent() == Some(Path::new(""));
        if path == Path::new("Cargo.toml") {
            if language == Language::Rust {
                let manifest = standing_alone(std::str::from_utf8(content)?, WORKSPACE)?;
                sources::write(&to, manifest.as_bytes())?;
            }
        } else if is_at_root && (is_licence || language == Language::Rust) {
            sources::write(&to, content)?;
        }
    }
    if language == Language::Rust {
        return Ok(());
    }
    let manifest = std::fs::read_to_string(folder.join(name).with_extension("toml"));
    write_folder(folder, &manifest.unwrap_or_default())
}

/// The manifest of a package outside of its workspace: what it inherits is written out.
fn standing_alone(package: &str, workspace: &str) -> anyhow::Result<String> {
    let workspace: Table = workspace.parse().context("the workspace")?;
    let workspace = workspace["workspace"].as_table().context("a workspace")?;
    let mut package: Table = package.parse().context("the package")?;
    package.remove("lints");
    inherit(&mut package, "package", workspace);
    Ok(package.to_string())
}

/// Writes out what the tables within a table inherit; `section` is the name of the table.
fn inherit(table: &mut Table, section: &str, workspace: &Table) {
    let of_workspace = match section {
        "package" => workspace.get("package"),
        _ => workspace.get("dependencies"),
    };
    for (key, value) in table.iter_mut() {
        let Some(inner) = value.as_table_mut() else {
            continue;
        };
        if inner.get("workspace") != Some(&Value::Boolean(true)) {
            inherit(inner, key, workspace);
        } else if let Some(inherited) = of_workspace.and_then(|all| all.get(key)) {
            inner.remove("workspace");
            *value = match (inherited, inner.is_empty()) {
                (Value::Table(inherited), false) => {
                    let mut whole = inherited.clone();
                    whole.extend(std::mem::take(inner));
                    whole.into()
                }
                (version, false) => {
                    inner.insert("version".to_owned(), version.clone());
                    continue;
                }
                (inherited, true) => inherited.clone(),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_of_the_workspace_stands_alone() {
        let workspace = "[workspace.package]\nversion = '1.2.3'\nedition = '2024'\n\
             [workspace.dependencies]\ntoml = '1.2'\nserde = { version = '1', features = ['derive'] }\n";
        let package = "[package]\nname = 'p'\nversion.workspace = true\nedition.workspace = true\n\
             [dependencies]\ntoml = { workspace = true, optional = true }\n\
             [target.'cfg(unix)'.dependencies]\nserde.workspace = true\nother = '2'\n\
             [lints]\nworkspace = true\n";
        let alone: Table = standing_alone(package, workspace)
            .and_then(|text| Ok(text.parse()?))
            .expect("a manifest");
        let expected: Table = "[package]\nname = 'p'\nversion = '1.2.3'\nedition = '2024'\n\
             [dependencies]\ntoml = { version = '1.2', optional = true }\n\
             [target.'cfg(unix)'.dependencies]\nserde = { version = '1', features = ['derive'] }\n\
             other = '2'\n"
            .parse()
            .expect("a manifest");
        assert_eq!(alone, expected);
    }

    #[test]
    fn each_language_has_a_project_with_nothing_left_to_be_replaced() {
        for language in Language::value_variants() {
            let folder = tempfile::tempdir().expect("a folder");
            write_project(folder.path(), "my-room", *language).expect("a project");
            for file in [
                "jackfield.toml",
                "my-room.toml",
                "README.md",
                "page/index.html",
                "scenarios/lobby.scenario",
                ".gitignore",
            ] {
                let text = std::fs::read_to_string(folder.path().join(file));
                let text = text.unwrap_or_else(|error| panic!("{language:?} {file}: {error}"));
                assert!(!text.contains(NAME), "{language:?} {file}");
            }
            let project = super::super::project::Project::open(folder.path().to_owned());
            assert_eq!(project.expect("a project").name, "my-room");
        }
    }
}
