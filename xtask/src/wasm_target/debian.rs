//! The target's standard library, built from Debian's packages.
//!
//! Rust's own toolchain has all of the target but the library: the code generator and the
//! linker are there. Debian has the library's source in a package of the same version
//! (`rust-src`), and the C library under it as objects (`wasi-libc`). Both are downloaded
//! with apt's own signature checks and unpacked into a folder under `target/`; nothing is
//! installed on the system, root is not needed, and the folder is gone afterwards.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::{Compiler, TARGET};
use crate::apt::sources::{self, Archive, Source};
use crate::apt::{self, Apt, Version};
use crate::file::remove;
use crate::process::{self, cargo};
use crate::progress;

/// Where Debian has the sources of the compilers people use, each with the archive it is
/// part of: the newest first, and what is small to ask before what is large.
const SUITES: &[(Archive, &str)] = &[
    (Archive::Main, "trixie-backports"),
    (Archive::Security, "bookworm-security"),
    (Archive::Security, "trixie-security"),
    (Archive::Main, "trixie"),
    (Archive::Main, "forky"),
    (Archive::Main, "sid"),
];

/// Builds the target and puts it into `compiler`'s sysroot. `scratch` is ours alone.
pub(super) fn install(compiler: &Compiler, scratch: &Path) -> Result<()> {
    apt::require_debian()?;
    // Before the download, because a sysroot that cannot be written to is a common case:
    // a compiler from Debian's packages lives in /usr.
    let staged = stage(compiler)?;
    remove(scratch)?;
    let unpacked = fetch(compiler, scratch)?;
    let library = find_library(&unpacked)?;
    let built = build_std(compiler, &library, &scratch.join("build"))?;
    fill(
        compiler,
        &staged,
        &built,
        &unpacked.join("usr/lib").join(TARGET),
    )?;
    remove(&compiler.target_folder())?;
    fs::rename(&staged, compiler.target_folder())
        .context("cannot move the finished target into place")?;
    eprintln!(
        "installed {TARGET} for rustc {} in {}",
        compiler.release,
        compiler.sysroot.display()
    );
    remove(scratch)
}

/// An empty folder that can become the target's by being renamed.
fn stage(compiler: &Compiler) -> Result<PathBuf> {
    let staged = compiler.staging_folder();
    let create = || {
        remove(&staged)?;
        fs::create_dir_all(staged.join("lib/self-contained"))?;
        anyhow::Ok(())
    };
    create().with_context(|| {
        format!(
            "cannot write to the compiler's folder {}; use a toolchain of your own (rustup installs one) or run this \
             once as its owner",
            compiler.sysroot.display()
        )
    })?;
    Ok(staged)
}

/// Downloads and unpacks both packages, and returns the root they are unpacked in.
fn fetch(compiler: &Compiler, scratch: &Path) -> Result<PathBuf> {
    let machine = sources::of_this_machine()?;
    let apt = Apt::new(scratch.join("apt"))?;
    let packages = progress::step(
        &format!(
            "looking for the source of rustc {} in Debian",
            compiler.release
        ),
        || find_packages(&apt, &machine, &compiler.release),
    )?;
    let names = packages
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(" and ");
    let downloads = scratch.join("packages");
    progress::step(&format!("downloading {names}"), || {
        apt.download(&packages, &downloads)
    })?;
    let root = scratch.join("root");
    progress::step("unpacking them", || apt::unpack(&downloads, &root))?;
    Ok(root)
}

/// Asks one suite after another until both packages are found: the source in exactly the
/// compiler's version, because std uses the compiler's internals, and any of these suites'
/// `wasi-libc`, because older ones have no build for the target.
fn find_packages(apt: &Apt, machine: &[Source], release: &str) -> Result<[Version; 2]> {
    let mut failures = Vec::new();
    for (archive, suite) in SUITES {
        for mirror in sources::mirrors(machine, *archive) {
            match apt.add(&mirror, suite) {
                Ok(()) => break,
                Err(error) => failures.push(format!("{error:#}")),
            }
        }
        let known = apt.versions(&["rust-src", "rust-web-src", "wasi-libc"])?;
        if let Some(packages) = choose(&known, release) {
            return Ok(packages);
        }
    }
    if !failures.is_empty() {
        eprintln!("{}", failures.join("\n"));
    }
    bail!(
        "no suite of Debian that this machine's mirror has holds the source of rustc {release}, or none could be read"
    )
}

fn choose(known: &[Version], release: &str) -> Option<[Version; 2]> {
    let source = known
        .iter()
        .find(|version| version.package != "wasi-libc" && version.is_of(release))?;
    let libc = known
        .iter()
        .find(|version| version.package == "wasi-libc")?;
    Some([source.clone(), libc.clone()])
}

/// The folder named `rustc-VERSION` has the library beside the compiler's other sources.
fn find_library(root: &Path) -> Result<PathBuf> {
    for entry in fs::read_dir(root.join("usr/src")).context("the source package has no usr/src")? {
        let library = entry?.path().join("library");
        if library.join("sysroot/Cargo.toml").exists() {
            return Ok(library);
        }
    }
    bail!(
        "the source package has no library/sysroot/Cargo.toml; this Rust version keeps its library elsewhere"
    )
}

/// Builds std as Rust's own build does, and returns the folder of its rlibs.
fn build_std(compiler: &Compiler, library: &Path, build: &Path) -> Result<PathBuf> {
    // Panics name std's files as they do everywhere, not the folder we are about to remove.
    let remap = format!(
        "--remap-path-prefix={}=/rustc/{}/library",
        library.display(),
        compiler.commit
    );
    let flags = [
        "-Zforce-unstable-if-unmarked",
        "-Cembed-bitcode=yes",
        "-Cdebuginfo=0",
        &remap,
    ];
    eprintln!("building the standard library for {TARGET}, about a minute");
    process::run(
        cargo()
            .args(["build", "--release", "--target", TARGET, "--manifest-path"])
            .arg(library.join("sysroot/Cargo.toml"))
            .args(["--features", "panic-unwind backtrace compiler-builtins-mem"])
            .env("RUSTC_BOOTSTRAP", "1")
            .env("__CARGO_DEFAULT_LIB_METADATA", "local")
            // The encoded form wins over every other, and allows spaces in the path.
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
            .env("CARGO_TARGET_DIR", build),
    )?;
    Ok(build.join(TARGET).join("release/deps"))
}

/// Puts everything where rustup does.
fn fill(compiler: &Compiler, staged: &Path, built: &Path, libc: &Path) -> Result<()> {
    let rlib = |name: &str| name.ends_with(".rlib");
    copy_matching(built, &staged.join("lib"), rlib)?;
    let libc_part =
        |name: &str| name == "libc.a" || (name.starts_with("crt1") && name.ends_with(".o"));
    copy_matching(libc, &staged.join("lib/self-contained"), libc_part)?;
    fs::write(staged.join(Compiler::STAMP), compiler.stamp())?;
    Ok(())
}

fn copy_matching(from: &Path, to: &Path, matches: fn(&str) -> bool) -> Result<()> {
    let mut copied = 0;
    for entry in fs::read_dir(from).with_context(|| format!("cannot list {}", from.display()))? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(matches) {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
            copied += 1;
        }
    }
    ensure!(
        copied > 0,
        "{} has none of the expected files",
        from.display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(package: &str, version: &str) -> Version {
        Version {
            package: package.to_owned(),
            version: version.to_owned(),
        }
    }

    #[test]
    fn the_source_must_be_of_the_compilers_version_and_libc_may_be_any() {
        let known = [
            version("rust-src", "1.96.1+dfsg1-2~bpo13+1"),
            version("rust-src", "1.95.0+dfsg1-2~bpo13+1"),
            version("wasi-libc", "0.0~git20260129.ec0effd-3~bpo13+1"),
        ];
        let [source, libc] = choose(&known, "1.95.0").expect("both are there");
        assert_eq!(source.version, "1.95.0+dfsg1-2~bpo13+1");
        assert_eq!(libc.package, "wasi-libc");
        assert_eq!(choose(&known, "1.94.0"), None);
        assert_eq!(
            choose(&known[..2], "1.95.0"),
            None,
            "without libc another suite is asked"
        );
    }

    #[test]
    fn the_source_may_be_the_one_debian_keeps_for_browsers() {
        let known = [
            version("rust-web-src", "1.96.0+dfsg1-1~deb12u2"),
            version("wasi-libc", "1"),
        ];
        assert!(choose(&known, "1.96.0").is_some());
    }
}
