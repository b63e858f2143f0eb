//! From save to live: how long it takes from a source that is saved until a client hears it, with
//! `jackfield dev`, in each language whose toolchain is here.
//!
//! The project is the one that `jackfield new` writes. What is saved is another reason for refusing a
//! client, so that each handshake says which build answers it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::machine;
use crate::server::Built;
use crate::table::{median, table};

/// The languages, with the source of their project and the time that is the goal.
const LANGUAGES: [(&str, &str, f64); 6] = [
    ("rust", "src/lib.rs", 2.0),
    ("ts", "src/index.ts", 3.0),
    ("js", "src/index.js", 3.0),
    ("go", "src/main.go", 5.0),
    ("python", "src/plugin.py", 5.0),
    ("c", "src/lobby.c", 5.0),
];

/// What is in the source of each project.
const REASON: &str = "say ?name=";

/// The pause between two handshakes.
const LOOK: Duration = Duration::from_millis(5);

/// The longest time for one build. The first one may install its toolchain.
const PATIENCE: Duration = Duration::from_secs(600);

/// Measures each language whose project is in the folder, and prints the table.
pub(crate) fn run_save(built: &Built, languages: &Path, rounds: usize) -> Result<()> {
    machine::pin_nowhere()?;
    let mut rows = Vec::new();
    for (language, source, goal) in LANGUAGES {
        let project = languages.join(language).join("lobby");
        if !project.is_dir() {
            writeln!(
                std::io::stderr(),
                "{language} is left out: it was not built"
            )?;
            continue;
        }
        let times = measure(built, &project, source, rounds);
        let times = times.with_context(|| format!("the project in {language}"))?;
        let most = times.iter().copied().fold(0.0, f64::max);
        rows.push([
            language.to_owned(),
            format!("{:.2}", median(times)),
            format!("{most:.2}"),
            format!("{goal:.0}"),
        ]);
    }
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{}\n", machine::describe())?;
    let head = ["from save to live", "median, s", "at most, s", "goal, s"];
    writeln!(stdout, "{}", table(head, rows))?;
    Ok(())
}

/// The times of so many saves, in seconds.
fn measure(built: &Built, project: &Path, source: &str, rounds: usize) -> Result<Vec<f64>> {
    let source = Source::open(project.join(source))?;
    // What its toolchain has kept may be of another project, which has shared it since.
    source.save(REASON)?;
    let dev = Dev::start(built, project)?;
    // The first build, and the first answer.
    dev.wait_for(REASON)?;
    let mut times = Vec::new();
    for round in 0..rounds {
        let reason = format!("build {round}: {REASON}");
        let saved = Instant::now();
        source.save(&reason)?;
        dev.wait_for(&reason)?;
        times.push(saved.elapsed().as_secs_f64());
    }
    Ok(times)
}

/// The source of a project, which is as before when this is dropped.
struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    fn open(path: PathBuf) -> Result<Source> {
        let text = std::fs::read_to_string(&path);
        let text = text.with_context(|| path.display().to_string())?;
        ensure!(
            text.contains(REASON),
            "{} has no {REASON:?}",
            path.display()
        );
        Ok(Source { path, text })
    }

    fn save(&self, reason: &str) -> Result<()> {
        let text = self.text.replacen(REASON, reason, 1);
        Ok(std::fs::write(&self.path, text)?)
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let _ = std::fs::write(&self.path, &self.text);
    }
}

/// `jackfield dev`, as an author runs it.
struct Dev {
    child: Child,
    addresses: PathBuf,
}

impl Dev {
    fn start(built: &Built, project: &Path) -> Result<Dev> {
        let mut command = Command::new(&built.node);
        command.args(["dev", "--project"]).arg(project);
        // Where the toolchain is that the plugins of the tests share (`guest-sdk/c/jackfield.mk`).
        let shared = project.parent().unwrap_or(project).join(".toolchain");
        command.env("VENV", shared);
        // Cargo's own variables are for this program.
        command.env_remove("CARGO_TARGET_DIR");
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Ok(Dev {
            child: command.spawn().context("cannot start `jackfield dev`")?,
            addresses: project.join(".jackfield/dev.json"),
        })
    }

    /// Waits until a client is refused for this reason.
    fn wait_for(&self, reason: &str) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        while self.reason().as_deref() != Some(reason) {
            ensure!(Instant::now() < until, "no build says {reason:?}");
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Why a client without a name is refused, if there is a build yet.
    fn reason(&self) -> Option<String> {
        let addresses = std::fs::read(&self.addresses).ok()?;
        let addresses: Value = serde_json::from_slice(&addresses).ok()?;
        let mut stream = TcpStream::connect(addresses["clients"].as_str()?).ok()?;
        let request = "GET /lobby HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\n\
                       upgrade: websocket\r\nsec-websocket-version: 13\r\n\
                       sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        Some(body.trim().to_owned())
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // As Ctrl-C does: it ends what it has started, too.
        if let Ok(id) = i32::try_from(self.child.id())
            && let Some(id) = rustix::process::Pid::from_raw(id)
        {
            let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        }
        let _ = self.child.wait();
    }
}
