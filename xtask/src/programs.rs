//! Programs that a command runs and that Debian has packages of: what is missing is installed
//! where we may, and said before. Where we may not, the error is the one command that does it.

use std::io::{self, IsTerminal};
use std::process::{Command, Stdio};

use anyhow::{Result, bail, ensure};

use crate::process::{self, Shown};

/// A program's name, and the package's.
pub(crate) type Program = (&'static str, &'static str);

/// Makes sure that `needed` are there; `whose` needs them: `the tests`.
pub(crate) fn require(whose: &str, needed: &[Program]) -> Result<()> {
    let missing = missing(needed, |program| process::find_program(program).is_some());
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.iter().map(|(program, _)| *program);
    let names = names.collect::<Vec<_>>().join(", ");
    let way = Way::of_this_machine();
    if way == Way::Closed {
        bail!("{}", advice(whose, &missing));
    }
    eprintln!("{whose} need {names}, which this machine does not have; installing them:");
    // A third party's broken source fails the update, and Debian's packages can be had all the
    // same.
    if let Err(error) = said_and_run(&mut apt_get(way, &["update"])) {
        eprintln!("{error:#}; trying to install anyway");
    }
    said_and_run(&mut apt_get(way, &install(&missing)))?;
    let still = self::missing(needed, |program| process::find_program(program).is_some());
    ensure!(
        still.is_empty(),
        "the packages are installed, and {} is still not on PATH",
        still
            .iter()
            .map(|(program, _)| *program)
            .collect::<Vec<_>>()
            .join(", ")
    );
    Ok(())
}

/// How packages can be installed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// We are root.
    Root,
    /// `sudo` lets us, or there is somebody whom it can ask for a password.
    Sudo,
    /// Nobody can give us leave, or there is no apt.
    Closed,
}

impl Way {
    fn of_this_machine() -> Way {
        let has = |program| process::find_program(program).is_some();
        let asks_nothing = || {
            let mut sudo = Command::new("sudo");
            process::output(sudo.args(["-n", "true"]).stdin(Stdio::null())).is_ok()
        };
        Way::choose(
            has("apt-get"),
            rustix::process::geteuid().is_root(),
            has("sudo") && (asks_nothing() || io::stdin().is_terminal()),
        )
    }

    fn choose(has_apt: bool, is_root: bool, has_sudo: bool) -> Way {
        match (has_apt, is_root, has_sudo) {
            (true, true, _) => Way::Root,
            (true, false, true) => Way::Sudo,
            _ => Way::Closed,
        }
    }
}

fn missing(needed: &[Program], is_there: impl Fn(&str) -> bool) -> Vec<Program> {
    let is_missing = |(program, _): &&Program| !is_there(program);
    needed.iter().filter(is_missing).copied().collect()
}

fn install(missing: &[Program]) -> Vec<&'static str> {
    let mut arguments = vec!["install", "--yes", "--no-install-recommends"];
    arguments.extend(missing.iter().map(|(_, package)| *package));
    arguments
}

fn advice(whose: &str, missing: &[Program]) -> String {
    let names = missing.iter().map(|(program, _)| *program);
    format!(
        "{whose} need {}, which this machine does not have, and we may not install anything; as \
         root, run: apt-get update; apt-get {}",
        names.collect::<Vec<_>>().join(", "),
        install(missing).join(" ")
    )
}

fn apt_get(way: Way, arguments: &[&str]) -> Command {
    let mut command = match way {
        // What sudo runs has an environment of its own.
        Way::Sudo => {
            let mut sudo = Command::new("sudo");
            sudo.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]);
            sudo
        }
        Way::Root | Way::Closed => {
            let mut apt_get = Command::new("apt-get");
            apt_get.env("DEBIAN_FRONTEND", "noninteractive");
            // Without the folders for administrators dpkg refuses to work.
            apt_get.env("PATH", process::search_path());
            apt_get.stdin(Stdio::null());
            apt_get
        }
    };
    command.args(arguments);
    command
}

fn said_and_run(command: &mut Command) -> Result<()> {
    eprintln!("  {}", Shown(command));
    process::run(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDED: &[Program] = &[
        ("etcd", "etcd-server"),
        ("ip", "iproute2"),
        ("curl", "curl"),
    ];

    #[test]
    fn what_is_there_is_not_installed_again() {
        let missing = missing(NEEDED, |program| program == "ip");
        assert_eq!(missing, [("etcd", "etcd-server"), ("curl", "curl")]);
        assert_eq!(
            Shown(&apt_get(Way::Root, &install(&missing))).to_string(),
            "`apt-get install --yes --no-install-recommends etcd-server curl`"
        );
    }

    #[test]
    fn without_root_it_is_sudo_that_installs_without_questions() {
        assert_eq!(
            Shown(&apt_get(Way::Sudo, &install(&NEEDED[..1]))).to_string(),
            "`sudo DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
             etcd-server`"
        );
    }

    #[test]
    fn who_may_install_nothing_is_told_the_command() {
        assert_eq!(
            advice("the tests", &NEEDED[..2]),
            "the tests need etcd, ip, which this machine does not have, and we may not install \
             anything; as root, run: apt-get update; apt-get install --yes \
             --no-install-recommends etcd-server iproute2"
        );
    }

    #[test]
    fn root_needs_no_sudo_and_nobody_installs_without_apt_or_leave() {
        assert_eq!(Way::choose(true, true, true), Way::Root);
        assert_eq!(Way::choose(true, false, true), Way::Sudo);
        assert_eq!(Way::choose(true, false, false), Way::Closed);
        assert_eq!(Way::choose(false, true, true), Way::Closed);
    }
}
