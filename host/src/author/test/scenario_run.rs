//! The run of one scenario: its lines, one after the other, on nodes of its own.
//!
//! Whatever comes to a client must be expected by a line before the next line does something, and so must
//! a connection that a node has closed and an event that has trapped.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use anyhow::Context as _;
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use tungstenite::Message;
use tungstenite::client::IntoClientRequest as _;
use tungstenite::handshake::client::Request;

use super::scenario::{
    CLIENTS, Expectation, Scenario, ScenarioAction, ScenarioStep, ScriptedCall, StepKind,
};
use super::scripted_handshake::{ExpectedHandshake, ScriptedHandshake};
use super::scripted_message::ScriptedMessage;
use super::template::TakenValues;
use crate::author::dev_screen::shown;
use crate::author::plugins_folder::PluginsFolder;
use crate::author::project::Project;
use crate::author::scripted_client::{RefusedHandshake, ScriptedClient};
use crate::author::shown_message::shown_after_arrow;
use crate::author::test_cluster::{ClusterSettings, TestCluster};
use crate::author::token::signed;
use crate::guest::LOG_TARGET;
use crate::log::{LogReader, indented};

/// How many of the last lines of the log are shown when a scenario fails.
const LOG_LINES: usize = 20;

/// How many of the lines that came last are shown when a scenario fails.
const CAME_LINES: usize = 30;

/// How long a token of a client is valid. Tokens go by the clock of the system.
const TOKEN_VALID: Duration = Duration::from_secs(24 * 3600);

/// Why a scenario has failed.
pub(super) struct ScenarioFailure {
    /// The line that failed, from 1 on; 0 if the nodes did not start.
    pub(super) line: usize,
    /// What is printed, line by line.
    pub(super) lines: Vec<String>,
}

/// A scenario that runs.
struct ScenarioRun<'a> {
    project: &'a Project,
    cluster: TestCluster<'a>,
    clients: BTreeMap<String, ScriptedClient>,
    taken: TakenValues,
    /// How many events have trapped, as lines have expected.
    traps: u64,
    /// The last line that has done something.
    last: Option<(usize, String)>,
    /// What has come since then, as lines of a scenario.
    came: Vec<String>,
    log: RecentLog,
    step_timeout: Duration,
}

/// Runs a scenario to its end.
///
/// # Errors
///
/// A line fails, or the nodes do not start.
pub(super) async fn run_scenario(
    scenario: &Scenario,
    project: &Project,
    folder: &PluginsFolder,
    step_timeout: Duration,
) -> Result<(), ScenarioFailure> {
    let mut log = RecentLog::new(&project.name);
    let settings = ClusterSettings {
        plugin: &project.name,
        plugins: folder.path(),
        nodes: scenario.nodes,
        clients: scenario.clients(),
        message_bytes: 0,
        clock: scenario.clock,
        step_timeout,
    };
    let starting = Box::pin(TestCluster::start(settings));
    let cluster = match starting.await {
        Ok(cluster) => cluster,
        Err(error) => {
            let mut lines = vec![format!(
                "the nodes do not start: {}",
                indented(&format!("{error:#}"))
            )];
            log.show(&mut lines);
            return Err(ScenarioFailure { line: 0, lines });
        }
    };
    let mut run = ScenarioRun {
        project,
        cluster,
        clients: BTreeMap::new(),
        taken: TakenValues::new(),
        traps: 0,
        last: None,
        came: Vec::new(),
        log,
        step_timeout,
    };
    for step in &scenario.steps {
        if matches!(step.kind, StepKind::Do(_)) {
            run.check_all_expected()?;
        }
        let done = Box::pin(run.step(step)).await;
        done.map_err(|why| run.failure(step.line, &step.text, why))?;
    }
    run.check_all_expected()
}

/// Waits for what one line does, for as long as a line may take.
async fn in_time<T>(
    step_timeout: Duration,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let done = tokio::time::timeout(step_timeout, work).await;
    done.with_context(|| format!("the node does not take it within {step_timeout:?}"))?
}

/// What a line that failed says, line by line.
struct WhyFailed(Vec<String>);

impl From<anyhow::Error> for WhyFailed {
    fn from(error: anyhow::Error) -> WhyFailed {
        WhyFailed(vec![indented(&format!("{error:#}"))])
    }
}

impl From<&str> for WhyFailed {
    fn from(why: &str) -> WhyFailed {
        WhyFailed(vec![why.to_owned()])
    }
}

impl From<String> for WhyFailed {
    fn from(why: String) -> WhyFailed {
        WhyFailed(vec![why])
    }
}

impl ScenarioRun<'_> {
    async fn step(&mut self, step: &ScenarioStep) -> Result<(), WhyFailed> {
        match &step.kind {
            StepKind::Do(action) => {
                self.last = Some((step.line, step.text.clone()));
                self.came.clear();
                self.act(action).await?;
                let clients: Vec<_> = self.clients.values().collect();
                Box::pin(self.cluster.rest(&clients)).await?;
                self.came = self.unexpected();
                Ok(())
            }
            StepKind::Expect(expectation) => self.expect(expectation),
        }
    }

    async fn act(&mut self, action: &ScenarioAction) -> Result<(), WhyFailed> {
        match action {
            ScenarioAction::Connect(handshake) => return self.connect(handshake).await,
            ScenarioAction::Send { client, message } => {
                let message = message.to_send(&self.taken)?;
                let handled = self.cluster.handled() + 1;
                let step_timeout = self.step_timeout;
                let client = self.client(client)?;
                client.handled = handled;
                in_time(step_timeout, client.send(message)).await?;
            }
            ScenarioAction::Close {
                client,
                code,
                reason,
            } => {
                let step_timeout = self.step_timeout;
                let closing = self.client(client)?.close(*code, reason.clone());
                in_time(step_timeout, closing).await?;
            }
            ScenarioAction::Drop { client } => {
                self.client(client)?;
                self.clients.remove(client);
            }
            ScenarioAction::Advance(by) => {
                let clients: Vec<_> = self.clients.values().collect();
                Box::pin(self.cluster.advance(*by, &clients)).await?;
            }
            ScenarioAction::Call(call) => return self.call(call).await,
            ScenarioAction::Kill(node) => {
                // Its clients end with it, and nobody says so.
                self.clients.retain(|_, client| client.node != *node);
                self.cluster.kill(*node).await?;
            }
            ScenarioAction::Drain(node) => self.cluster.drain(*node).await?,
            ScenarioAction::Start(node) => Box::pin(self.cluster.start_again(*node)).await?,
            ScenarioAction::Reload => self.cluster.reload().await?,
        }
        Ok(())
    }

    async fn connect(&mut self, handshake: &ScriptedHandshake) -> Result<(), WhyFailed> {
        let name = &handshake.client;
        let is_open = self.clients.get(name).is_some_and(ScriptedClient::is_open);
        if is_open {
            return Err(format!("{name} is connected already").into());
        }
        let open = self.clients.values().filter(|client| client.is_open());
        if open.count() >= CLIENTS {
            return Err(format!("a scenario has at most {CLIENTS} clients at a time").into());
        }
        let address = self.cluster.address(handshake.node)?.to_owned();
        let request = self.request(handshake, &address)?;
        let connecting = ScriptedClient::connect(&address, handshake.node, request);
        let connected = in_time(self.step_timeout, connecting).await?;
        match (&handshake.outcome, connected) {
            (ExpectedHandshake::Accepted, Ok(client)) => {
                self.clients.insert(name.clone(), client);
                Ok(())
            }
            (ExpectedHandshake::Subprotocol(expected), Ok(client)) => {
                let chosen = client.subprotocol.clone().unwrap_or_default();
                self.clients.insert(name.clone(), client);
                match chosen == *expected {
                    true => Ok(()),
                    false => Err(differ(
                        &format!("subprotocol {expected}"),
                        &format!("subprotocol {chosen}"),
                    )),
                }
            }
            (ExpectedHandshake::Refused { status, .. }, Ok(client)) => {
                self.clients.insert(name.clone(), client);
                Err(differ(&format!("=> {status}"), "the client is accepted"))
            }
            (ExpectedHandshake::Refused { status, reason }, Err(refused)) => {
                let fits = reason
                    .as_ref()
                    .is_none_or(|reason| reason.matches(&refused.reason, &mut self.taken));
                match fits && refused.status == *status {
                    true => Ok(()),
                    false => {
                        let reason = reason.as_ref().map(ToString::to_string).unwrap_or_default();
                        Err(differ(
                            format!("=> {status} {reason}").trim_end(),
                            &shown_refusal(&refused),
                        ))
                    }
                }
            }
            (_, Err(refused)) => Err(differ("the client is accepted", &shown_refusal(&refused))),
        }
    }

    fn request(&self, handshake: &ScriptedHandshake, address: &str) -> anyhow::Result<Request> {
        let target = handshake.target.fill(&self.taken)?;
        let path = match target.starts_with('/') {
            true => String::new(),
            false => format!("/{}", self.project.name),
        };
        let url = format!("ws://{address}{path}{target}");
        let mut request = url
            .as_str()
            .into_client_request()
            .with_context(|| format!("{url} is no URL"))?;
        let headers = request.headers_mut();
        for (name, value) in &handshake.headers {
            headers.append(name, value.fill(&self.taken)?.try_into()?);
        }
        if !handshake.subprotocols.is_empty() {
            let offered = handshake.subprotocols.join(", ");
            headers.insert(SEC_WEBSOCKET_PROTOCOL, offered.try_into()?);
        }
        if let Some((uid, claims)) = &handshake.token {
            let token = signed(self.project, uid, TOKEN_VALID, claims)?;
            headers.insert(AUTHORIZATION, format!("Bearer {token}").try_into()?);
        }
        Ok(request)
    }

    async fn call(&mut self, call: &ScriptedCall) -> Result<(), WhyFailed> {
        let payload = call.payload.to_send(&self.taken)?.into_data().to_vec();
        let answered = self
            .cluster
            .call(call.node, call.method.clone(), payload)
            .await?;
        match (&call.answer, answered) {
            (Ok(expected), Ok(answer)) => {
                let answer = match (expected, String::from_utf8(answer)) {
                    (ScriptedMessage::Binary(_), Ok(text)) => Message::binary(text.into_bytes()),
                    (_, Ok(text)) => Message::text(text),
                    (_, Err(bytes)) => Message::binary(bytes.into_bytes()),
                };
                expected
                    .compare(&answer, &mut self.taken)
                    .map_err(WhyFailed)
            }
            (Err((code, message)), Err(error)) => {
                let came = error.to_string();
                let fits = message
                    .as_ref()
                    .is_none_or(|message| message.matches(&came, &mut self.taken));
                match fits && error.code().as_str() == code {
                    true => Ok(()),
                    false => {
                        let message = message
                            .as_ref()
                            .map(ToString::to_string)
                            .unwrap_or_default();
                        let came = format!("error {} {came}", error.code().as_str());
                        Err(differ(format!("error {code} {message}").trim_end(), &came))
                    }
                }
            }
            (Ok(_), Err(error)) => {
                let came = format!("error {} {error}", error.code().as_str());
                Err(differ("an answer", &came))
            }
            (Err((code, _)), Ok(answer)) => {
                let came = String::from_utf8_lossy(&answer).into_owned();
                Err(differ(&format!("error {code}"), &indented(&came)))
            }
        }
    }

    fn expect(&mut self, expectation: &Expectation) -> Result<(), WhyFailed> {
        match expectation {
            Expectation::Message { client, message } => match self.client(client)?.next() {
                Some(came) => message.compare(&came, &mut self.taken).map_err(WhyFailed),
                None => Err(format!(
                    "nothing has come to {client} that no line before has expected"
                )
                .into()),
            },
            Expectation::Anything { client } => {
                let client = self.client(client)?;
                while client.next().is_some() {}
                Ok(())
            }
            Expectation::Closed {
                client,
                code,
                reason,
            } => {
                let known = self.client(client)?;
                if let Some(next) = known.waiting().first() {
                    let next = shown_after_arrow(next);
                    return Err(format!("before that came {client}<{next}").into());
                }
                let Some((came_code, came)) = known.closed() else {
                    return Err(format!("{client} is not closed").into());
                };
                let fits = reason
                    .as_ref()
                    .is_none_or(|reason| reason.matches(&came, &mut self.taken));
                if !fits || came_code != *code {
                    let reason = reason.as_ref().map(ToString::to_string).unwrap_or_default();
                    let expected = format!("closed {code} {reason}");
                    return Err(differ(
                        expected.trim_end(),
                        format!("closed {came_code} {came}").trim_end(),
                    ));
                }
                self.clients.remove(client);
                Ok(())
            }
            Expectation::Trapped(text) => {
                if self.cluster.traps() <= self.traps {
                    return Err("no event has trapped".into());
                }
                self.traps += 1;
                match self.log.has_trap_with(text) {
                    true => Ok(()),
                    false => Err(format!("no event has trapped and said {text:?}").into()),
                }
            }
        }
    }

    fn client(&mut self, name: &str) -> anyhow::Result<&mut ScriptedClient> {
        let client = self.clients.get_mut(name);
        client.with_context(|| {
            format!("there is no client {name}: `connect {name}` must come before")
        })
    }

    /// Checks that lines have expected everything that the last line has caused.
    fn check_all_expected(&mut self) -> Result<(), ScenarioFailure> {
        let mut unexpected = self.unexpected();
        if self.cluster.traps() > self.traps {
            unexpected.push("trapped".to_owned());
        }
        if unexpected.is_empty() {
            self.clients.retain(|_, client| client.is_open());
            return Ok(());
        }
        let (line, text) = self.last.clone().unwrap_or_default();
        let mut lines = vec!["this came of it, and no line expects it:".to_owned()];
        show_some(&unexpected, &mut lines);
        self.came.clear();
        Err(self.failure(line, &text, WhyFailed(lines)))
    }

    /// What has come to the clients and no line has expected yet, as lines of a scenario.
    fn unexpected(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (name, client) in &self.clients {
            let messages = client.waiting().into_iter();
            lines.extend(messages.map(|message| format!("{name}<{}", shown_after_arrow(&message))));
            if let Some((code, reason)) = client.closed() {
                let closed = format!("{name} closed {code} {reason}");
                lines.push(closed.trim_end().to_owned());
            }
        }
        lines
    }

    fn failure(&mut self, line: usize, text: &str, why: WhyFailed) -> ScenarioFailure {
        let mut lines = vec![format!("  {text}")];
        lines.extend(why.0.into_iter().map(|line| format!("  {line}")));
        if let Some((last, text)) = self.last.as_ref().filter(|(last, _)| *last != line) {
            match self.came.len() {
                0 => lines.push(format!("nothing came of line {last}, {text}")),
                _ => lines.push(format!("what came of line {last}, {text}")),
            }
        }
        show_some(&self.came, &mut lines);
        self.log.show(&mut lines);
        ScenarioFailure { line, lines }
    }
}

/// Adds what has come, indented, unless it is too much.
fn show_some(came: &[String], lines: &mut Vec<String>) {
    let some = came.iter().take(CAME_LINES);
    lines.extend(some.map(|came| format!("  {came}")));
    let more = came.len().saturating_sub(CAME_LINES);
    if more > 0 {
        lines.push(format!("  and {more} more"));
    }
}

fn shown_refusal(refused: &RefusedHandshake) -> String {
    let text = format!(
        "=> {} {}",
        refused.status.as_u16(),
        indented(&refused.reason)
    );
    text.trim_end().to_owned()
}

fn differ(expected: &str, came: &str) -> WhyFailed {
    WhyFailed(vec![
        format!("expected {expected}"),
        format!("came     {came}"),
    ])
}

/// The last lines of the log that an author wants to see.
struct RecentLog {
    plugin: String,
    reader: LogReader,
    lines: VecDeque<String>,
    /// What the events that have trapped have said, as far as no line has expected it.
    traps: Vec<String>,
}

impl RecentLog {
    fn new(plugin: &str) -> RecentLog {
        RecentLog {
            plugin: plugin.to_owned(),
            reader: LogReader::new(),
            lines: VecDeque::new(),
            traps: Vec::new(),
        }
    }

    /// Takes what was logged since the last call.
    fn read(&mut self) {
        loop {
            let line = match self.reader.try_next() {
                Ok(None) => return,
                Err(missed) => format!("({missed} lines are missing: they came too fast)"),
                Ok(Some(record)) => {
                    let is_live = record.message == "plugin loaded" && record.target != LOG_TARGET;
                    let line = shown(&record, &self.plugin, Duration::ZERO, false);
                    let Some(line) = line.filter(|_| !is_live) else {
                        continue;
                    };
                    if record.message.starts_with("an event trapped") {
                        self.traps.push(line.clone());
                    }
                    line
                }
            };
            if self.lines.len() == LOG_LINES {
                self.lines.pop_front();
            }
            self.lines.push_back(line);
        }
    }

    /// Takes the first trap that has said this; an empty text is in each.
    fn has_trap_with(&mut self, text: &str) -> bool {
        self.read();
        let found = self.traps.iter().position(|said| said.contains(text));
        // Of very many traps, not all are logged.
        found.map(|found| self.traps.remove(found)).is_some() || text.is_empty()
    }

    fn show(&mut self, lines: &mut Vec<String>) {
        self.read();
        if !self.lines.is_empty() {
            lines.push("the last lines of the log:".to_owned());
            lines.extend(
                self.lines
                    .iter()
                    .map(|line| format!("  {}", line.replace('\n', "\n  "))),
            );
        }
    }
}
