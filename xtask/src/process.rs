//! Other programs: run, and an ending that is not success is an error that names the
//! command, its ending, and what it printed if nobody has seen that yet.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// The cargo that runs us, so that all builds use one toolchain. What it tells us of this package
/// is not passed on: the build scripts of some crates run again when it changes, so that each
/// `cargo test` after a `cargo xtask test` would compile the node once more.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(&name);
        }
    }
    cargo
}

/// Runs `command` with its output passed through.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .map_err(|error| not_started(command, error))?;
    ensure!(
        status.success(),
        "{} failed ({status}); it has said why above",
        Shown(command)
    );
    Ok(())
}

/// Runs `command` silently and returns its stdout. When it fails, what it wrote to stderr
/// is in the error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .map_err(|error| not_started(command, error))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{} failed ({}):\n{}",
        Shown(command),
        output.status,
        stderr.trim()
    );
    String::from_utf8(output.stdout)
        .with_context(|| format!("{} did not print text", Shown(command)))
}

/// Like [`run`], but a command still running after `limit` is killed, and that is an error.
pub(crate) fn run_within(limit: Duration, command: &mut Command) -> Result<()> {
    const POLL: Duration = Duration::from_millis(50);

    let mut child = command
        .spawn()
        .map_err(|error| not_started(command, error))?;
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            ensure!(status.success(), "{} failed ({status})", Shown(command));
            return Ok(());
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            bail!(
                "{} was not done after {} s",
                Shown(command),
                limit.as_secs()
            );
        }
        thread::sleep(POLL);
    }
}

/// Where programs are: `PATH`, and the folders of Debian's for administrators, which `PATH` has
/// for root only and which have servers that anybody may run (nginx).
pub(crate) fn search_path() -> OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<_> = env::split_paths(&path).collect();
    folders.extend(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from));
    // No folder of that list has a colon, or it would not have been split there.
    env::join_paths(folders).unwrap_or(path)
}

/// Where `program` is, if it is anywhere on the [`search_path`].
pub(crate) fn find_program(program: &str) -> Option<PathBuf> {
    env::split_paths(&search_path())
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// A child's exit code as a shell would report it: 128 and the signal for a killed one.
pub(crate) fn exit_code(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt;

    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

fn not_started(command: &Command, error: io::Error) -> anyhow::Error {
    let program = command.get_program().to_string_lossy();
    let advice = match error.kind() {
        io::ErrorKind::NotFound => format!("; install `{program}`, or put it on PATH"),
        _ => String::new(),
    };
    anyhow::Error::new(error).context(format!("cannot start {}{advice}", Shown(command)))
}

/// A command as one would type it.
pub(crate) struct Shown<'a>(pub(crate) &'a Command);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Only the name: the path of a toolchain's cargo says nothing here.
        let program = self.0.get_program();
        let name = PathBuf::from(program)
            .file_name()
            .map(OsStr::to_owned)
            .unwrap_or_else(|| program.to_owned());
        write!(formatter, "`{}", name.to_string_lossy())?;
        for argument in self.0.get_args() {
            write!(formatter, " {}", argument.to_string_lossy())?;
        }
        write!(formatter, "`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_command_and_what_it_printed() {
        let error = output(Command::new("sh").args(["-c", "echo no such suite >&2; exit 3"]))
            .expect_err("it exits 3");
        let message = format!("{error:#}");
        assert!(message.contains("`sh -c"), "{message}");
        assert!(message.contains("no such suite"), "{message}");
    }

    #[test]
    fn a_missing_program_says_what_to_do() {
        let error = run(&mut Command::new("no-such-program-here")).expect_err("there is none");
        assert!(
            format!("{error:#}").contains("install `no-such-program-here`"),
            "{error:#}"
        );
    }

    #[test]
    fn a_command_that_does_not_end_is_killed() {
        let error = run_within(Duration::from_millis(60), Command::new("sleep").arg("600"))
            .expect_err("it sleeps");
        assert!(format!("{error:#}").contains("was not done"), "{error:#}");
    }

    #[test]
    fn exit_codes_are_passed_on_and_signals_are_told() {
        let ending = |script: &str| {
            Command::new("sh")
                .args(["-c", script])
                .status()
                .map(exit_code)
                .expect("sh runs")
        };
        assert_eq!(ending("exit 7"), 7);
        assert_eq!(ending("kill -TERM $$"), 128 + 15);
    }
}
