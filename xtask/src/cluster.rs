//! `cargo xtask cluster N`: a register and N nodes with the shipped plugins, from nothing.
//!
//! They run until they are told to stop. A signal to this command is passed on to the nodes,
//! which drain; the register ends after them. One that ends before is an error, and then all
//! of them end.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use signal_hook::iterator::Signals;

use crate::host::{self, Listening, Running, Started};
use crate::workspace::Workspace;
use crate::{plugins, process};

/// How long the nodes may take to find each other. It is less than a second.
const MEET_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a node may take to answer what it knows.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// How often the nodes are looked at.
const LOOK: Duration = Duration::from_millis(100);

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How many nodes, 2 to 50
    #[arg(value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=50))]
    nodes: u8,
}

pub(crate) fn cluster(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    plugins::build(workspace, &[])?;
    host::build(workspace)?;

    // From here on a signal is the nodes' to answer.
    let told = Told::default();
    told.pass_on(host::signals()?);
    let mut cluster = Cluster::default();
    match cluster.run(workspace, options, &told) {
        // What ended because it was told to has not failed.
        Err(_) if told.is_ending() => cluster.end(),
        Err(error) => Err(error),
        Ok(()) => cluster.end(),
    }
}

/// The register and the nodes. Dropped, all of them end.
#[derive(Default)]
struct Cluster {
    nodes: Vec<Member>,
    // After the nodes: they end first.
    register: Option<Member>,
}

impl Cluster {
    /// Starts all of them, says what to open, and waits until somebody tells them to end.
    fn run(&mut self, workspace: &Workspace, options: &Options, told: &Told) -> Result<()> {
        let mut command = host::command(workspace);
        command.args(["register", "--listen", "127.0.0.1:0"]);
        let register = self.register.insert(Member::start("register", command)?);
        let listening = register.listening()?;
        let register = address(listening.register, "register")?.to_string();

        let mut places = Vec::new();
        for number in 1..=options.nodes {
            let mut command = host::command(workspace);
            command
                .args(["node", "--listen", "127.0.0.1:0", "--api", "127.0.0.1:0"])
                .args([
                    "--mesh",
                    "127.0.0.1:0",
                    "--register",
                    &register,
                    "--plugins",
                ])
                .arg(workspace.plugin_folder());
            let node = Member::start(&format!("node {number}"), command)?;
            told.add(node.running.id()?);
            self.nodes.push(node);
            // One after the other: the first compiles the plugins, the others find them compiled.
            let node = self.nodes.last_mut().context("it was just added")?;
            places.push(Place::of(&node.listening()?)?);
            ensure!(!told.is_ending(), "told to end");
        }
        self.wait_until_met(&places, told)?;

        let mut stdout = io::stdout().lock();
        stdout.write_all(invitation(&places, &workspace.shown_plugin_folder()).as_bytes())?;
        stdout.flush()?;
        while !told.is_ending() {
            self.look()?;
            thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Waits until each node knows all others.
    fn wait_until_met(&mut self, places: &[Place], told: &Told) -> Result<()> {
        let deadline = Instant::now() + MEET_TIMEOUT;
        for (number, place) in (1..).zip(places) {
            loop {
                ensure!(!told.is_ending(), "told to end");
                self.look()?;
                let known = place.nodes()?.alive();
                if known + 1 >= places.len() {
                    break;
                }
                ensure!(
                    Instant::now() < deadline,
                    "node {number} knows {known} of the {} other nodes after {} s",
                    places.len() - 1,
                    MEET_TIMEOUT.as_secs()
                );
                thread::sleep(LOOK);
            }
        }
        Ok(())
    }

    /// Nobody has ended.
    fn look(&mut self) -> Result<()> {
        let members = self.nodes.iter_mut().chain(&mut self.register);
        members.into_iter().try_for_each(Member::look)
    }

    /// Waits for all nodes, which have been told to end. The worst exit code is ours.
    fn end(mut self) -> Result<ExitCode> {
        let mut worst = 0;
        for node in &mut self.nodes {
            worst = worst.max(process::exit_code(node.running.wait()?));
        }
        Ok(ExitCode::from(worst))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // All at once, or each would drain after the one before.
        for node in &mut self.nodes {
            node.running.terminate();
        }
    }
}

/// One process, and what it is called.
struct Member {
    name: String,
    running: Running,
}

impl Member {
    /// Starts it; what it logs is passed on with its name.
    fn start(name: &str, mut command: Command) -> Result<Member> {
        let mut running = Running::start(command.stderr(Stdio::piped()))?;
        if let Some(stderr) = running.stderr() {
            pass_on(name, BufReader::new(stderr));
        }
        Ok(Member {
            name: name.to_owned(),
            running,
        })
    }

    /// Waits until it says where it listens.
    fn listening(&mut self) -> Result<Listening> {
        let Some((line, stdout)) = self.running.first_line()? else {
            bail!("{} ended ({})", self.name, self.running.wait()?);
        };
        pass_on(&self.name, stdout);
        let started: Started = serde_json::from_str(&line)
            .with_context(|| format!("{} did not say where it listens: {line}", self.name))?;
        Ok(started.listening)
    }

    fn look(&mut self) -> Result<()> {
        match self.running.ended()? {
            None => Ok(()),
            Some(status) => bail!("{} ended ({status})", self.name),
        }
    }
}

/// What a process prints goes to our stderr, with its name.
fn pass_on(name: &str, lines: impl BufRead + Send + 'static) {
    let name = name.to_owned();
    thread::spawn(move || {
        for line in lines.lines().map_while(Result::ok) {
            eprintln!("{name} | {line}");
        }
    });
}

/// Who is told when somebody wants us to end.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Telling>>);

#[derive(Default)]
struct Telling {
    nodes: Vec<Pid>,
    is_ending: bool,
}

impl Told {
    fn pass_on(&self, mut signals: Signals) {
        let told = self.clone();
        thread::spawn(move || {
            for signal in signals.forever().filter_map(Signal::from_named_raw) {
                let mut telling = told.lock();
                telling.is_ending = true;
                for node in &telling.nodes {
                    // It fails when the node has gone.
                    let _ = kill_process(*node, signal);
                }
            }
        });
    }

    /// A node that has just been started; if it is late, it is told at once.
    fn add(&self, node: Pid) {
        let mut telling = self.lock();
        telling.nodes.push(node);
        if telling.is_ending {
            let _ = kill_process(node, Signal::TERM);
        }
    }

    fn is_ending(&self) -> bool {
        self.lock().is_ending
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Telling> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a node is.
struct Place {
    clients: SocketAddr,
    api: SocketAddr,
}

impl Place {
    fn of(listening: &Listening) -> Result<Place> {
        Ok(Place {
            clients: address(listening.clients, "clients")?,
            api: address(listening.api, "api")?,
        })
    }

    /// What the node says of the others.
    fn nodes(&self) -> Result<Nodes> {
        let answer = get(self.api, "/v1/nodes")
            .with_context(|| format!("cannot ask http://{}/v1/nodes", self.api))?;
        nodes_in(&answer)
    }
}

fn address(address: Option<SocketAddr>, what: &str) -> Result<SocketAddr> {
    address.with_context(|| format!("the first line names no `{what}`"))
}

/// `GET /v1/nodes`, as far as we read it.
#[derive(Deserialize)]
struct Nodes {
    peers: Vec<Peer>,
}

#[derive(Deserialize)]
struct Peer {
    state: String,
}

impl Nodes {
    /// Nodes that have said what they hold.
    fn alive(&self) -> usize {
        let peers = self.peers.iter();
        peers.filter(|peer| peer.state == "alive").count()
    }
}

/// One request: this does not need an HTTP library.
fn get(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut connection = TcpStream::connect_timeout(&address, ANSWER_TIMEOUT)?;
    connection.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    write!(
        connection,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    Ok(answer)
}

fn nodes_in(answer: &str) -> Result<Nodes> {
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("the API's answer is no HTTP")?;
    let status = head.lines().next().unwrap_or_default();
    ensure!(status.ends_with(" 200 OK"), "the API answered {status}");
    serde_json::from_str(body).context("the API's answer is not what we know")
}

fn invitation(places: &[Place], plugins: &Path) -> String {
    let mut text = format!(
        "\nJackfield is running: {} nodes and a register.\n",
        places.len()
    );
    for (number, Place { clients, api }) in (1..).zip(places) {
        text += &format!(
            "node {number}
  http://{clients}/chat/       the chat page
  ws://{clients}/console       every function of the API over JSON
  http://{api}/v1/nodes    what the node knows of itself and of the others
"
        );
    }
    if let [first, second, ..] = places {
        text += &format!(
            "Open http://{}/chat/ in one window and http://{}/chat/ in another: they talk.\n",
            first.clients, second.clients
        );
    }
    text += &format!(
        "Drop a .wasm into {} and all nodes serve it; drop it again to replace it.
ctrl-c ends all of them.

",
        plugins.display()
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_count_once_they_have_said_what_they_hold() -> Result<()> {
        let answer = concat!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n",
            r#"{"node":{"incarnation":"0w"},"peers":[{"state":"alive","clients":0},"#,
            r#"{"state":"new"},{"state":"suspect"},{"state":"alive"}]}"#
        );
        assert_eq!(nodes_in(answer)?.alive(), 2);
        let error = nodes_in("HTTP/1.1 404 Not Found\r\n\r\n").err();
        let error = error.map(|error| error.to_string());
        assert_eq!(
            error.as_deref(),
            Some("the API answered HTTP/1.1 404 Not Found")
        );
        Ok(())
    }

    #[test]
    fn each_node_has_its_addresses_and_two_of_them_talk() -> Result<()> {
        let place = |port: u16| Place {
            clients: ([127, 0, 0, 1], port).into(),
            api: ([127, 0, 0, 1], port + 1).into(),
        };
        let text = invitation(&[place(5000), place(6000)], Path::new("target/plugins"));
        for line in [
            "node 2\n  http://127.0.0.1:6000/chat/ ",
            "  ws://127.0.0.1:5000/console ",
            "  http://127.0.0.1:6001/v1/nodes ",
            "Open http://127.0.0.1:5000/chat/ in one window and http://127.0.0.1:6000/chat/ in",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
        assert!(!invitation(&[place(5000)], Path::new("p")).contains("they talk"));
        Ok(())
    }

    #[test]
    fn who_ended_is_named() -> Result<()> {
        let member = |name: &str, script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            Member::start(name, command)
        };
        let mut silent = member("node 1", "exit 3")?;
        let error = silent
            .listening()
            .err()
            .context("it has ended")?
            .to_string();
        assert_eq!(error, "node 1 ended (exit status: 3)");

        let line = r#"{"listening":{"clients":"127.0.0.1:1","api":"127.0.0.1:2"}}"#;
        let mut cluster = Cluster::default();
        for (name, then) in [("node 1", "exec sleep 60"), ("node 2", "exit 7")] {
            let mut node = member(name, &format!("echo '{line}'; {then}"))?;
            Place::of(&node.listening()?)?;
            cluster.nodes.push(node);
        }
        cluster.nodes[1].running.wait()?;
        let error = cluster.look().err().context("one has ended")?.to_string();
        assert_eq!(error, "node 2 ended (exit status: 7)");
        Ok(())
    }

    #[test]
    fn a_node_that_comes_after_the_signal_hears_it_too() -> Result<()> {
        let told = Told::default();
        told.lock().is_ending = true;
        let mut late = Running::start(Command::new("sleep").arg("60"))?;
        told.add(late.id()?);
        assert_eq!(process::exit_code(late.wait()?), 128 + 15);
        Ok(())
    }
}
