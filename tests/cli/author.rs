//! The commands for authors: what a new project has, and a plugin that is replaced while it is written.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use jackfield_tests::{Output, component, node_command, run_node_binary_in, within};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

async fn run(arguments: &[&str]) -> Result<Output> {
    run_node_binary_in(&[], arguments).await
}

async fn done(arguments: &[&str]) -> Result<String> {
    let output = run(arguments).await?;
    ensure!(output.code == 0, "{arguments:?}: {}", output.text());
    Ok(output.stdout)
}

async fn refused(arguments: &[&str], why: &str) -> Result<()> {
    let output = run(arguments).await?;
    ensure!(output.code == 1, "{arguments:?}: {}", output.text());
    ensure!(
        output.stderr.contains(why),
        "{arguments:?}: {}",
        output.stderr
    );
    Ok(())
}

/// A command that goes on, what it prints, and what it reads.
struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    stdin: ChildStdin,
}

impl Running {
    fn start(arguments: &[&str]) -> Result<Running> {
        let mut command = node_command()?;
        command.args(arguments).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let stdout = child.stdout.take().context("its stdout")?;
        let stdin = child.stdin.take().context("its stdin")?;
        let lines = BufReader::new(stdout).lines();
        Ok(Running {
            child,
            lines,
            stdin,
        })
    }

    /// Waits for a line that has these words.
    async fn prints(&mut self, words: &str) -> Result<()> {
        within(words, async {
            loop {
                let line = self.lines.next_line().await?;
                let line = line.with_context(|| format!("it ended without {words:?}"))?;
                if line.contains(words) {
                    return anyhow::Ok(());
                }
            }
        })
        .await
    }

    async fn say(&mut self, line: &str) -> Result<()> {
        Ok(self.stdin.write_all(format!("{line}\n").as_bytes()).await?)
    }

    async fn ends(&mut self) -> Result<i32> {
        let ended = within("the command's end", async {
            anyhow::Ok(self.child.wait().await?)
        })
        .await?;
        ended.code().context("it was killed")
    }

    fn terminate(&self) -> Result<()> {
        let id = self.child.id().context("it has ended")?;
        let id = Pid::from_raw(i32::try_from(id)?).context("a process")?;
        Ok(kill_process(id, Signal::TERM)?)
    }
}

/// A project whose build copies a component.
fn project(manifest: &str) -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    let file = "[build]\ncommand = 'test ! -e broken && cp source build/room.wasm'\n\
                output = 'build/room.wasm'\nwatch = ['source', 'broken']\n";
    fs::write(folder.path().join("jackfield.toml"), file)?;
    fs::write(folder.path().join("room.toml"), manifest)?;
    put_source(folder.path(), "marker-a")?;
    Ok(folder)
}

fn put_source(folder: &Path, name: &str) -> Result<()> {
    fs::copy(component(name)?, folder.join("source"))?;
    Ok(())
}

#[tokio::test]
async fn a_plugin_is_replaced_while_it_is_written_and_its_client_stays() -> Result<()> {
    let folder = project("[jwt]\nsecret_file = 'room.secret'\n")?;
    let path = folder.path().display().to_string();
    let of_project = ["--project", &*path];
    let command = |name: &'static str| [&[name][..], &of_project].concat();
    refused(
        &[&command("token")[..], &["ada"]].concat(),
        "start `jackfield dev`",
    )
    .await?;
    refused(&command("connect"), "no `jackfield dev` runs").await?;

    let mut dev = Running::start(&command("dev"))?;
    dev.prints("live: generation 1").await?;
    refused(&command("dev"), "another `jackfield dev` runs").await?;
    let token = done(&[&command("token")[..], &["ada", "--claim", "role=admin"]].concat()).await?;
    refused(&command("connect"), "401").await?;
    let with_token = [&command("connect")[..], &["--token", token.trim()]].concat();
    let mut client = Running::start(&with_token)?;
    client.say("1").await?;
    client.prints("a:1:1").await?;

    put_source(folder.path(), "marker-b")?;
    dev.prints("live: generation 2").await?;
    client.say("2").await?;
    client.prints("b:2:2").await?;
    // What fails is said, and changes nothing.
    fs::write(folder.path().join("broken"), "")?;
    dev.prints("failed: the build failed").await?;
    fs::write(
        folder.path().join("room.toml"),
        "nonsense = 1\n[jwt]\nsecret_file = 'room.secret'\n",
    )?;
    fs::remove_file(folder.path().join("broken"))?;
    dev.prints("nonsense").await?;
    client.say("3").await?;
    client.prints("b:2:3").await?;

    let nodes: Value =
        serde_json::from_slice(&fs::read(folder.path().join(".jackfield/dev.json"))?)?;
    let api = nodes["api"].as_str().context("an address")?;
    let status = done(&["status", "--api", api]).await?;
    ensure!(status.contains("room"), "{status}");
    // The client ends with its connection, though its input goes on.
    dev.terminate()?;
    ensure!(dev.ends().await? == 0);
    ensure!(client.ends().await? == 0);
    ensure!(!folder.path().join(".jackfield/dev.json").exists());
    ensure!(!folder.path().join("room.secret").exists());
    Ok(())
}

#[tokio::test]
async fn a_build_says_whether_a_node_would_load_it() -> Result<()> {
    let folder = project("[config]\nkey = 'value'\n")?;
    let path = folder.path().display().to_string();
    let build = ["build", "--project", &path];
    let said = done(&build).await?;
    ensure!(said.contains("room.wasm is ready, with "), "{said}");
    fs::write(folder.path().join("source"), "no component")?;
    refused(&build, "a node would not load").await?;
    fs::write(folder.path().join("broken"), "")?;
    refused(&build, "the build failed (exit status: 1)").await?;
    fs::remove_file(folder.path().join("jackfield.toml"))?;
    refused(&build, "jackfield new NAME --lang LANGUAGE").await
}

#[tokio::test]
async fn a_new_project_is_written_into_a_folder_of_its_own() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    let to = path("room");
    let new = ["new", "room", "--lang", "c", "--folder", &*to];
    let said = done(&new).await?;
    ensure!(said.contains("jackfield dev"), "{said}");
    for file in [
        "jackfield.toml",
        "src/room.c",
        "sdk/README.md",
        "sdk/LICENSE-MIT",
        "wit/world.wit",
    ] {
        ensure!(folder.path().join("room").join(file).exists(), "{file}");
    }
    refused(&new, "is there already and is not empty").await?;
    let long = "a".repeat(65);
    for name in ["a b", "7up", "jackfield", "../room", "", &long] {
        let to = path("other");
        let output = run(&["new", name, "--lang", "c", "--folder", &to]).await?;
        ensure!(
            output.code == 1 && !Path::new(&to).exists(),
            "{name}: {}",
            output.text()
        );
    }
    // The world follows the manifest.
    let manifest = folder.path().join("room/room.toml");
    let http = folder.path().join("room/wit/deps/wasi-http");
    ensure!(!http.exists());
    fs::write(&manifest, "[http]\n")?;
    done(&["wit", "--project", &to]).await?;
    ensure!(http.exists());
    Ok(())
}
