//! Apt with sources, lists and a cache of its own, in one folder: it sees suites that the
//! machine has not among its sources, and changes nothing that the machine's own apt sees.
//!
//! The machine's apt configuration otherwise holds: a company's proxy is in there.

pub(crate) mod sources;

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use self::sources::Mirror;
use crate::process;

pub(crate) struct Apt {
    folder: PathBuf,
}

/// A package in one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) package: String,
    pub(crate) version: String,
}

impl Apt {
    pub(crate) fn new(folder: PathBuf) -> Result<Self> {
        for needed in ["sources", "lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.join(needed))?;
        }
        fs::write(folder.join("apt.conf"), configuration(&folder))?;
        Ok(Self { folder })
    }

    /// Adds `suite` of `mirror` and reads what it has. A suite that cannot be read, or whose
    /// signature the machine's keys do not confirm, is not added.
    pub(crate) fn add(&self, mirror: &Mirror, suite: &str) -> Result<()> {
        let file = self.folder.join("sources").join(format!("{suite}.sources"));
        fs::write(&file, mirror.stanza(suite))?;
        // Without the option apt says that it failed, and exits with success.
        let update = process::output(self.command("apt-get").args(["update", "--error-on=any"]));
        if let Err(error) = update {
            fs::remove_file(&file)?;
            return Err(error).with_context(|| format!("cannot read Debian's suite {suite}"));
        }
        Ok(())
    }

    /// The versions of `packages` in all suites added, the newest of each first.
    pub(crate) fn versions(&self, packages: &[&str]) -> Result<Vec<Version>> {
        let table = process::output(self.command("apt-cache").arg("madison").args(packages))?;
        Ok(parse_versions(&table))
    }

    /// Puts `packages` into `folder`, as files.
    pub(crate) fn download(&self, packages: &[Version], folder: &Path) -> Result<()> {
        fs::create_dir_all(folder)?;
        let names = packages.iter().map(ToString::to_string);
        process::output(
            self.command("apt-get")
                .arg("download")
                .args(names)
                .current_dir(folder),
        )
        .map(drop)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .arg("-c")
            .arg(self.folder.join("apt.conf"))
            .env("LC_ALL", "C");
        command
    }
}

impl Version {
    /// Whether this packages `release` itself: `1.95.0~beta.3` comes before 1.95.0.
    pub(crate) fn is_of(&self, release: &str) -> bool {
        self.version
            .strip_prefix(release)
            .is_some_and(|rest| rest.starts_with(['+', '-']))
    }
}

/// As `apt-get` takes it.
impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}={}", self.package, self.version)
    }
}

/// Says whether the machine's archive is Debian's.
pub(crate) fn require_debian() -> Result<()> {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    ensure!(
        release.lines().any(|line| line == "ID=debian"),
        "this system is not Debian, so its package archive is not the one that has what is needed"
    );
    Ok(())
}

/// Unpacks all packages in the folder `packages` below `root`; nothing is installed.
pub(crate) fn unpack(packages: &Path, root: &Path) -> Result<()> {
    for entry in fs::read_dir(packages)? {
        let package = entry?.path();
        if package.extension() == Some(OsStr::new("deb")) {
            process::output(Command::new("dpkg").arg("-x").arg(package).arg(root))?;
        }
    }
    Ok(())
}

fn configuration(folder: &Path) -> String {
    let folder = folder.display();
    // The hooks of a container image clean the machine's own apt cache after an update.
    format!(
        r#"#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
Dir::Etc::SourceList "/dev/null";
Dir::Etc::SourceParts "{folder}/sources";
Dir::State::Lists "{folder}/lists";
Dir::Cache "{folder}/cache";
Acquire::Languages "none";
Acquire::Retries "2";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
"#
    )
}

/// Reads the table of `apt-cache madison`: package, version and source between bars.
fn parse_versions(table: &str) -> Vec<Version> {
    let row = |line: &str| {
        let mut cells = line.split('|').map(str::trim);
        Some(Version {
            package: cells.next()?.to_owned(),
            version: cells.next()?.to_owned(),
        })
    };
    table.lines().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_versions_is_read() {
        let table = "  rust-src | 1.96.1+dfsg1-2~bpo13+1 | https://mirror.example/debian trixie-backports/main amd64 Packages
 wasi-libc | 0.0~git20260129.ec0effd-3~bpo13+1 | https://mirror.example/debian trixie-backports/main amd64 Packages
";
        let versions = parse_versions(table);
        assert_eq!(versions.len(), 2);
        assert_eq!(versions[0].to_string(), "rust-src=1.96.1+dfsg1-2~bpo13+1");
        assert_eq!(versions[1].package, "wasi-libc");
        assert!(parse_versions("").is_empty());
    }

    #[test]
    fn a_version_is_of_its_release_only() {
        let version = |version: &str| Version {
            package: "rust-src".to_owned(),
            version: version.to_owned(),
        };
        assert!(version("1.95.0+dfsg1-2~bpo13+1").is_of("1.95.0"));
        assert!(version("1.95.0-1").is_of("1.95.0"));
        assert!(!version("1.95.0~beta.3+dfsg1-1").is_of("1.95.0"));
        assert!(!version("1.95.01+dfsg1-1").is_of("1.95.0"));
        assert!(!version("1.96.0+dfsg1-1").is_of("1.95.0"));
    }
}
