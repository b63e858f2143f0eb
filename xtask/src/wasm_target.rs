//! The target every plugin is built for: after [`ensure()`] the compiler in use has it.
//!
//! `rustup target add` is tried first. Where its download is blocked, as on machines that
//! reach package registries only, the target's standard library is built from Debian's
//! packages (see [`debian`]). Either way it appears in the compiler's sysroot whole or not at
//! all, so a run that is cut short leaves nothing to repair.

mod debian;

use std::env;
use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};

use crate::file::remove;
use crate::process;
use crate::workspace::Workspace;

pub(crate) const TARGET: &str = "wasm32-wasip2";

/// What rustup has got to download the target, some 20 MB. It retries by itself, and behind
/// a firewall that drops packets it would do so for long.
const RUSTUP_LIMIT: Duration = Duration::from_secs(120);

/// Makes sure that the compiler in use can build for [`TARGET`].
pub(crate) fn ensure(workspace: &Workspace) -> Result<()> {
    let compiler = Compiler::in_use()?;
    if compiler.target() == Target::Present {
        return Ok(());
    }
    let _lock = lock(&compiler.rustlib())?;
    match compiler.target() {
        // Another command has installed it while we waited for the lock.
        Target::Present => return Ok(()),
        Target::Missing => {}
        Target::OfAnotherVersion => set_aside(&compiler)?,
    }
    // Cargo does not notice that a target has another std than before, and what was built
    // with the former one cannot be used.
    remove(&workspace.target.join(TARGET))?;
    let Err(rustup) = add_with_rustup(&compiler) else {
        return Ok(());
    };
    eprintln!(
        "rustup cannot add {TARGET} ({rustup:#}); building it from Debian's packages instead"
    );
    debian::install(&compiler, &workspace.target.join("wasm-target")).with_context(|| {
        format!(
            "the target {TARGET} is missing, and neither rustup nor Debian's packages could supply it; \
             install it by hand (`rustup target add {TARGET}` where that download works)"
        )
    })
}

/// The rustc that cargo calls.
struct Compiler {
    /// As in `1.95.0`.
    release: String,
    commit: String,
    sysroot: PathBuf,
}

/// Whether a compiler has the target.
#[derive(Debug, PartialEq, Eq)]
enum Target {
    Present,
    Missing,
    /// Built by us for the compiler that stood here before an update; of no use to this one.
    OfAnotherVersion,
}

impl Compiler {
    /// Says which compiler a target of ours was built for. A target without this file is
    /// rustup's, which replaces it together with the compiler.
    const STAMP: &str = "built-by-jackfield-xtask";

    fn in_use() -> Result<Self> {
        let rustc =
            || Command::new(env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc")));
        let version = process::output(rustc().arg("-vV"))?;
        let field = |name: &str| {
            let value = version
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            value
                .map(str::to_owned)
                .with_context(|| format!("`rustc -vV` names no {name}"))
        };
        let sysroot = process::output(rustc().args(["--print", "sysroot"]))?;
        Ok(Self {
            release: field("release")?,
            commit: field("commit-hash")?,
            sysroot: sysroot.trim_end().into(),
        })
    }

    fn rustlib(&self) -> PathBuf {
        self.sysroot.join("lib/rustlib")
    }

    fn target_folder(&self) -> PathBuf {
        self.rustlib().join(TARGET)
    }

    /// Beside the target's folder, on the same file system: what is to become the target, or
    /// is no longer.
    fn staging_folder(&self) -> PathBuf {
        self.rustlib().join(format!(".{TARGET}.partial"))
    }

    fn stamp(&self) -> String {
        format!("{} {}\n", self.release, self.commit)
    }

    fn target(&self) -> Target {
        let folder = self.target_folder();
        if !has_std(&folder.join("lib")) {
            return Target::Missing;
        }
        match fs::read_to_string(folder.join(Self::STAMP)) {
            Ok(stamp) if stamp != self.stamp() => Target::OfAnotherVersion,
            _ => Target::Present,
        }
    }
}

fn has_std(folder: &Path) -> bool {
    let Ok(entries) = fs::read_dir(folder) else {
        return false;
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names
        .into_iter()
        .any(|name| name.starts_with("libstd-") && name.ends_with(".rlib"))
}

/// Held while the target is installed: two commands at once would do it twice, into one folder.
fn lock(rustlib: &Path) -> Result<File> {
    let folder =
        File::open(rustlib).with_context(|| format!("cannot open {}", rustlib.display()))?;
    match folder.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            eprintln!("another command is installing {TARGET}; waiting for it …");
            folder.lock()?;
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).context(format!("cannot lock {}", rustlib.display()));
        }
    }
    Ok(folder)
}

fn add_with_rustup(compiler: &Compiler) -> Result<()> {
    ensure!(
        process::find_program("rustup").is_some(),
        "rustup is not installed"
    );
    process::run_within(
        RUSTUP_LIMIT,
        Command::new("rustup").args(["target", "add", TARGET]),
    )?;
    match compiler.target() {
        Target::Present => Ok(()),
        _ => Err(anyhow!(
            "it added the target to another toolchain than {}",
            compiler.sysroot.display()
        )),
    }
}

/// Takes a target away in one step: half removed, it could pass for rustup's.
fn set_aside(compiler: &Compiler) -> Result<()> {
    let aside = compiler.staging_folder();
    remove(&aside)?;
    fs::rename(compiler.target_folder(), &aside)
        .with_context(|| format!("cannot remove {}", compiler.target_folder().display()))?;
    remove(&aside)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiler(sysroot: &Path) -> Compiler {
        Compiler {
            release: "1.95.0".to_owned(),
            commit: "59807616e".to_owned(),
            sysroot: sysroot.to_owned(),
        }
    }

    #[test]
    fn a_target_counts_once_its_std_is_there() -> Result<()> {
        let sysroot = tempfile::tempdir()?;
        let compiler = compiler(sysroot.path());
        let library = compiler.target_folder().join("lib");
        assert_eq!(compiler.target(), Target::Missing);
        fs::create_dir_all(&library)?;
        assert_eq!(compiler.target(), Target::Missing);
        fs::write(library.join("libstd-145b48c578b2b1aa.rlib"), "")?;
        assert_eq!(compiler.target(), Target::Present);
        Ok(())
    }

    #[test]
    fn a_target_of_ours_counts_only_for_the_compiler_it_was_built_for() -> Result<()> {
        let sysroot = tempfile::tempdir()?;
        let mut compiler = compiler(sysroot.path());
        fs::create_dir_all(compiler.target_folder().join("lib"))?;
        fs::write(compiler.target_folder().join("lib/libstd-1.rlib"), "")?;
        fs::write(
            compiler.target_folder().join(Compiler::STAMP),
            compiler.stamp(),
        )?;
        assert_eq!(compiler.target(), Target::Present);
        compiler.release = "1.96.0".to_owned();
        assert_eq!(compiler.target(), Target::OfAnotherVersion);
        Ok(())
    }
}
