//! Python 2.7 and the suite, in one folder: the interpreter and its pip from Debian's suite
//! bullseye, the last that has them, and the rest from PyPI in the versions of
//! `requirements.txt`. Nothing is installed on the system, and root is not needed.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::apt::sources::{self, Archive};
use crate::apt::{self, Apt, Version};
use crate::file::remove;
use crate::{process, progress};

const SUITE: &str = "bullseye";

/// The interpreter with what it links to that later suites do not have, its headers, and pip.
const PACKAGES: [&str; 10] = [
    "libffi7",
    "libpython2.7-dev",
    "libpython2.7-minimal",
    "libpython2.7-stdlib",
    "libssl1.1",
    "python-pip-whl",
    "python-pkg-resources",
    "python-setuptools",
    "python2.7",
    "python2.7-minimal",
];

const REQUIREMENTS: &str = include_str!("requirements.txt");

/// Says that a folder is complete, and with which requirements.
const STAMP: &str = "complete";

/// An interpreter with the suite.
pub(super) struct Python {
    /// What `/` is to the packages.
    root: PathBuf,
}

impl Python {
    /// Makes sure that `folder` has one.
    pub(super) fn ensure(folder: &Path) -> Result<Python> {
        let root = folder.join("root");
        let python = Python { root };
        if fs::read_to_string(folder.join(STAMP)).is_ok_and(|stamp| stamp == REQUIREMENTS) {
            return Ok(python);
        }
        apt::require_debian()?;
        remove(folder)?;
        progress::step("fetching Python 2.7 from Debian's suite bullseye", || {
            python.unpack(folder)
        })?;
        progress::step("fetching the Autobahn test suite from PyPI", || {
            python.install(folder)
        })?;
        fs::write(folder.join(STAMP), REQUIREMENTS)?;
        Ok(python)
    }

    /// A program of a package of PyPI's; arguments are still to be added.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut python = self.interpreter();
        // The packages warn of the end of Python 2.
        python.args(["-W", "ignore"]);
        python.arg(self.packages().join("bin").join(program));
        python
    }

    fn unpack(&self, folder: &Path) -> Result<()> {
        let apt = Apt::new(folder.join("apt"))?;
        let chosen = find_packages(&apt)?;
        let downloads = folder.join("packages");
        apt.download(&chosen, &downloads)?;
        apt::unpack(&downloads, &self.root)
    }

    fn install(&self, folder: &Path) -> Result<()> {
        let requirements = folder.join("requirements.txt");
        fs::write(&requirements, REQUIREMENTS)?;
        let headers = self.root.join("usr/include");
        let installed = process::output(
            self.interpreter()
                .args(["-m", "pip", "install", "--no-deps", "--no-cache-dir"])
                .args(["--disable-pip-version-check", "--target"])
                .arg(self.packages())
                .arg("--requirement")
                .arg(requirements)
                .env("PYTHONPATH", self.pip()?)
                // Of the few that are compiled here.
                .env("CC", "cc")
                .env(
                    "CPATH",
                    env::join_paths([headers.join("python2.7"), headers])?,
                ),
        );
        installed
            .map(drop)
            .context("some packages are there for x86-64 only, and one needs a C compiler (cc)")
    }

    fn interpreter(&self) -> Command {
        let mut python = Command::new(self.root.join("usr/bin/python2.7"));
        python
            .env("LD_LIBRARY_PATH", self.libraries())
            .env_remove("PYTHONPATH")
            .env_remove("PYTHONHOME");
        python
    }

    /// Where the suite and what it needs are.
    fn packages(&self) -> PathBuf {
        self.root.join("usr/lib/python2.7/dist-packages")
    }

    /// Debian's folder of libraries, which is named after the machine's kind.
    fn libraries(&self) -> PathBuf {
        let arch = env::consts::ARCH;
        self.root.join(format!("usr/lib/{arch}-linux-gnu"))
    }

    /// Debian's pip is a wheel, which runs as it is.
    fn pip(&self) -> Result<PathBuf> {
        let wheels = self.root.join("usr/share/python-wheels");
        for entry in fs::read_dir(&wheels)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with("pip-") {
                return Ok(entry.path());
            }
        }
        bail!("{} has no pip", wheels.display())
    }
}

fn find_packages(apt: &Apt) -> Result<Vec<Version>> {
    let mut failures = Vec::new();
    for mirror in sources::mirrors(&sources::of_this_machine()?, Archive::Main) {
        match apt.add(&mirror, SUITE) {
            Ok(()) => {
                let known = apt.versions(&PACKAGES)?;
                return PACKAGES.iter().map(|name| newest(&known, name)).collect();
            }
            Err(error) => failures.push(format!("{error:#}")),
        }
    }
    bail!(
        "no mirror of this machine's has Debian's suite {SUITE}:\n{}",
        failures.join("\n")
    )
}

fn newest(known: &[Version], name: &str) -> Result<Version> {
    let found = known.iter().find(|version| version.package == name);
    found
        .cloned()
        .with_context(|| format!("Debian's suite {SUITE} has no package {name}"))
}
