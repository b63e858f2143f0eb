//! `cargo xtask dist`: what is passed on of a version. A tarball, a Debian package and the
//! context of an image, with their checksums.
//!
//! What they are made from is in `xtask/dist`, and `docs/operator.md` says how to use them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::process::{self, cargo};
use crate::tools::Tool;
use crate::workspace::Workspace;

const DEB: Tool = Tool {
    name: "cargo-deb",
    version: "3.8.0",
    features: None,
};

/// The folder that has what is packed. `[package.metadata.deb]` of the host names it, too.
const STAGED: &str = "root";

/// What goes beside the program, from the workspace's root.
const PAPERS: [&str; 4] = ["README.md", "CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT"];

/// The shells whose completions are installed, with the places where they look for them.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "share/bash-completion/completions/jackfield"),
    ("zsh", "share/zsh/site-functions/_jackfield"),
    ("fish", "share/fish/vendor_completions.d/jackfield.fish"),
];

pub(crate) fn dist(workspace: &Workspace) -> Result<()> {
    process::run(
        cargo()
            .args(["build", "--release", "--package", "jackfield"])
            .current_dir(&workspace.root),
    )?;
    let folder = workspace.target.join("dist");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    let name = format!(
        "jackfield-{}-{}-linux",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::ARCH
    );
    let staged = folder.join(STAGED);
    stage(workspace, &staged)?;
    let mut files = vec![pack(&folder, &name)?];
    files.push(debian_package(workspace, &folder)?);
    image(workspace, &staged, &folder.join("image"))?;
    write_checksums(&folder, &files)?;
    for file in &files {
        eprintln!("  {}", folder.join(file).display());
    }
    Ok(())
}

/// Puts the program and all that goes with it where the tarball has it: `bin`, `share`, `etc`.
fn stage(workspace: &Workspace, staged: &Path) -> Result<()> {
    let program = staged.join("bin/jackfield");
    copy(&workspace.target.join("release/jackfield"), &program)?;
    // Its names stay, for backtraces.
    process::run(Command::new("strip").arg("--strip-debug").arg(&program))?;
    for (shell, place) in COMPLETIONS {
        let completions = process::output(Command::new(&program).args(["completions", shell]))?;
        let place = staged.join(place);
        make_folder_of(&place)?;
        fs::write(place, completions)?;
    }
    let manuals = staged.join("share/man/man1");
    fs::create_dir_all(&manuals)?;
    process::run(Command::new(&program).arg("man").arg(&manuals))?;
    let sources = workspace.root.join("xtask/dist");
    for (file, place) in [
        ("node.toml", "etc/jackfield/node.toml"),
        ("jackfield.service", "share/doc/jackfield/jackfield.service"),
    ] {
        copy(&sources.join(file), &staged.join(place))?;
    }
    for paper in PAPERS {
        let place = staged.join("share/doc/jackfield").join(paper);
        copy(&workspace.root.join(paper), &place)?;
    }
    Ok(())
}

/// Packs the staged folder, the same bytes for the same content. Returns the file's name.
fn pack(folder: &Path, name: &str) -> Result<String> {
    let file = format!("{name}.tar.gz");
    process::run(
        Command::new("tar")
            .args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner"])
            .args(["--mtime=@0", "--use-compress-program=gzip -9n"])
            .arg(format!("--transform=s,^{STAGED},{name},"))
            .args(["--create", "--file", &file, STAGED])
            .current_dir(folder),
    )?;
    Ok(file)
}

/// Makes the Debian package from `[package.metadata.deb]` in `host/Cargo.toml`.
fn debian_package(workspace: &Workspace, folder: &Path) -> Result<String> {
    let said = process::output(
        Command::new(DEB.find(workspace)?)
            .args(["--no-build", "--package", "jackfield", "--output"])
            .arg(folder)
            .current_dir(&workspace.root),
    )?;
    // What it prints is the path of the package, and nothing else.
    let made = Path::new(said.trim())
        .file_name()
        .context("a file's name")?;
    Ok(made.to_string_lossy().into_owned())
}

/// Makes the context of an image: the program, the libraries that it needs, and nothing else.
fn image(workspace: &Workspace, staged: &Path, context: &Path) -> Result<()> {
    let root = context.join("rootfs");
    let program = staged.join("bin/jackfield");
    copy(&program, &root.join("usr/bin/jackfield"))?;
    let needed = process::output(Command::new("ldd").arg(&program))?;
    let libraries: Vec<&str> = needed
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
        .collect();
    ensure!(!libraries.is_empty(), "ldd says: {needed}");
    for library in libraries {
        let place = root.join(library.trim_start_matches('/'));
        copy(Path::new(library), &place)?;
    }
    for (folder, mode) in [("tmp", 0o1777), ("data", 0o777), ("plugins", 0o755)] {
        let folder = root.join(folder);
        fs::create_dir_all(&folder)?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(mode))?;
    }
    copy(
        &workspace.root.join("xtask/dist/Dockerfile"),
        &context.join("Dockerfile"),
    )
}

fn write_checksums(folder: &Path, files: &[String]) -> Result<()> {
    let sums = process::output(Command::new("sha256sum").args(files).current_dir(folder))?;
    fs::write(folder.join("SHA256SUMS"), sums)?;
    Ok(())
}

/// Copies a file into a folder, which is made if it is not there.
fn copy(from: &Path, to: &Path) -> Result<()> {
    make_folder_of(to)?;
    fs::copy(from, to).with_context(|| from.display().to_string())?;
    Ok(())
}

fn make_folder_of(file: &Path) -> Result<()> {
    let folder = file.parent().context("a file in a folder")?;
    Ok(fs::create_dir_all(folder)?)
}
