//! The folder `wit` of a project: one world with all that the plugin exports and may import.
//!
//! Tools of other languages want one world in one folder. The plugin exports every handler, since an
//! SDK has a default for each. It imports what the node grants: settings in any case, and buckets and
//! requests only if the manifest asks for them, since a node refuses a plugin that imports more.

use std::path::Path;

use anyhow::{Context as _, ensure};
use toml::Table;

use super::project::{Project, ProjectFlags};
use super::sources::{self, wit_files};

/// The name of the world.
pub(super) const WORLD: &str = "app";

/// The folder of a project that this writes.
const FOLDER: &str = "wit";

/// The file of the world within the folder.
const FILE: &str = "world.wit";

/// The first line of the world, by which its author is known.
const HEAD: &str = "// Written by `jackfield wit`, from the manifest. Changes are lost.";

/// A package of interfaces: its folder in a project, and the one that it is copied from.
type PackageSource = (&'static str, &'static str);

/// What a section of a manifest grants.
struct Grant {
    section: &'static str,
    include: &'static str,
    packages: &'static [PackageSource],
}

const CONTRACT: PackageSource = ("jackfield-plugin", "0.1");
const SETTINGS: PackageSource = ("wasi-config", "wasi/config");

const GRANTS: [Grant; 2] = [
    Grant {
        section: "keyvalue",
        include: "wasi:keyvalue/imports@0.2.0-draft2",
        packages: &[("wasi-keyvalue", "wasi/keyvalue")],
    },
    Grant {
        section: "http",
        include: "wasi:http/imports@0.2.4",
        packages: &[
            ("wasi-http", "wasi/http"),
            ("wasi-clocks", "wasi/http/deps/clocks"),
            ("wasi-io", "wasi/http/deps/io"),
        ],
    },
];

/// Writes the folder of the project.
pub(super) fn write(flags: &ProjectFlags) -> anyhow::Result<()> {
    let project = Project::find(&flags.project)?;
    write_folder(&project.folder, &project.manifest()?)
}

/// Writes the folder again if it was written here, or is empty: the manifest may grant something else
/// now. A folder of the author's own is left alone.
pub(super) fn refresh(project: &Project) -> anyhow::Result<()> {
    let folder = project.folder.join(FOLDER);
    match folder.is_dir() && may_be_written(&folder) {
        true => write_folder(&project.folder, &project.manifest()?),
        false => Ok(()),
    }
}

fn may_be_written(folder: &Path) -> bool {
    sources::has_nothing(folder) || is_ours(folder)
}

fn is_ours(folder: &Path) -> bool {
    std::fs::read_to_string(folder.join(FILE)).is_ok_and(|text| text.starts_with(HEAD))
}

/// Writes the folder in a project, as a manifest grants it.
///
/// # Errors
///
/// The manifest is no TOML, the folder has a world that somebody else has written, or a file cannot be
/// written.
pub(super) fn write_folder(project: &Path, manifest: &str) -> anyhow::Result<()> {
    let manifest: Table = toml::from_str(manifest).context("the manifest is wrong")?;
    let grants = GRANTS.iter().filter(|grant| {
        manifest
            .get(grant.section)
            .is_some_and(toml::Value::is_table)
    });
    let grants: Vec<_> = grants.collect();
    let folder = project.join(FOLDER);
    let world = folder.join(FILE);
    ensure!(
        may_be_written(&folder),
        "{} was not written by `jackfield wit`, and is left as it is: move it away first",
        folder.display()
    );
    let includes = [
        "jackfield:plugin/plugin@0.1.0",
        "jackfield:plugin/with-lifecycle@0.1.0",
        "jackfield:plugin/with-call-handler@0.1.0",
        "jackfield:plugin/with-timer-handler@0.1.0",
        "wasi:config/imports@0.2.0-rc.1",
    ];
    let granted = grants.iter().map(|grant| grant.include);
    let mut text = format!("{HEAD}\npackage local:plugin;\n\nworld {WORLD} {{\n");
    for include in includes.into_iter().chain(granted) {
        text.push_str(&format!("  include {include};\n"));
    }
    text.push_str("}\n");
    let granted = grants.iter().flat_map(|grant| grant.packages);
    let packages = [CONTRACT, SETTINGS].iter().chain(granted);
    let mut files = vec![(world, text.into_bytes())];
    for (package, source) in packages {
        // What a package depends on is a package of its own.
        let own = wit_files(source).into_iter();
        let own = own.filter(|(path, _)| path.parent() == Some(Path::new("")));
        files.extend(own.map(|(path, content)| {
            let path = folder.join("deps").join(package).join(path);
            (path, content.to_vec())
        }));
    }
    for grant in &GRANTS {
        for (package, _) in grant.packages {
            let package = folder.join("deps").join(package);
            if !files.iter().any(|(path, _)| path.starts_with(&package)) && package.is_dir() {
                let failed = || format!("{} cannot be removed", package.display());
                std::fs::remove_dir_all(&package).with_context(failed)?;
            }
        }
    }
    for (path, content) in files {
        // A file that stays the same is not touched: whoever watches it would build again.
        if std::fs::read(&path).ok().as_ref() != Some(&content) {
            sources::write(&path, &content)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use wit_parser::Resolve;

    use super::*;

    fn imports(folder: &Path) -> Vec<String> {
        let mut resolve = Resolve::default();
        let (package, _) = resolve.push_dir(folder.join(FOLDER)).expect("a package");
        let world = resolve
            .select_world(&[package], Some(WORLD))
            .expect("a world");
        let imports = resolve.worlds[world].imports.keys();
        imports.map(|key| resolve.name_world_key(key)).collect()
    }

    #[test]
    fn the_world_has_what_the_manifest_grants_and_no_more() {
        let project = tempfile::tempdir().expect("a folder");
        let has = |imports: &[String], name: &str| imports.iter().any(|one| one.starts_with(name));
        write_folder(project.path(), "[http]\n[keyvalue]\n").expect("a world");
        let all = imports(project.path());
        for name in [
            "jackfield:plugin/send",
            "wasi:config/store",
            "wasi:keyvalue/atomics",
        ] {
            assert!(has(&all, name), "{name}: {all:?}");
        }
        assert!(has(&all, "wasi:http/outgoing-handler"), "{all:?}");

        write_folder(project.path(), "http = false").expect("a world");
        let few = imports(project.path());
        assert!(has(&few, "jackfield:plugin/send"), "{few:?}");
        assert!(
            !has(&few, "wasi:keyvalue") && !has(&few, "wasi:http"),
            "{few:?}"
        );
        assert!(!project.path().join("wit/deps/wasi-http").exists());
    }

    #[test]
    fn a_world_of_the_author_is_left_alone() {
        let project = tempfile::tempdir().expect("a folder");
        let world = project.path().join("wit/world.wit");
        sources::write(&world, b"package own:world;").expect("a file");
        let error = write_folder(project.path(), "").expect_err("not ours");
        assert!(error.to_string().contains("was not written by"), "{error}");
        // Nor is one with another name, and what it depends on.
        std::fs::remove_file(&world).expect("a file");
        let own = project.path().join("wit/deps/own/own.wit");
        sources::write(&own, b"package other:own;").expect("a file");
        assert!(write_folder(project.path(), "").is_err());
        assert!(own.exists());
        sources::write(&world, b"package own:world;").expect("a file");
        let file = "[build]\ncommand = 'make'\noutput = 'a.wasm'";
        sources::write(&project.path().join("jackfield.toml"), file.as_bytes()).expect("a file");
        let opened = Project::open(project.path().to_owned()).expect("a project");
        refresh(&opened).expect("it needs none of ours");
        assert!(own.exists());
        assert_eq!(
            std::fs::read(&world).expect("a file"),
            b"package own:world;"
        );
        // An empty one waits to be filled.
        std::fs::remove_dir_all(project.path().join("wit")).expect("a folder");
        refresh(&opened).expect("nothing is wanted");
        assert!(!world.exists());
        std::fs::create_dir(project.path().join("wit")).expect("a folder");
        refresh(&opened).expect("a world");
        assert!(world.exists());
    }
}
