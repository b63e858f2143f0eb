//! Scenarios: what scripted clients send, and what must come, as the lines of a file say it.
//!
//! A file has one scenario or several. It is text, at most 1 MiB, and each scenario has at most 10,000
//! lines and 5 nodes.

use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail, ensure};

use super::scenario_words::{close_code, first_word, named, node, number_of, on_node};
use super::scripted_handshake::{ScriptedHandshake, handshake};
use super::scripted_message::ScriptedMessage;
use super::template::Template;
use crate::file;

/// The largest file, in bytes.
const FILE_BYTES: u64 = 1 << 20;

/// The most lines of a scenario that do something.
const STEPS: usize = 10_000;

/// The most nodes of a scenario.
const NODES: usize = 5;

/// The longest time by which one line moves the clock: ten years.
const ADVANCE_MAX: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// The most clients of a scenario at a time.
pub(super) const CLIENTS: usize = 200;

/// The time of day at which a scenario begins, unless it says another one: 2026-01-01, in seconds since 1970.
const BEGINS_AT: u64 = 1_767_225_600;

/// What a line may be.
const LINES: &str = "a line is `connect CLIENT`, `CLIENT> MESSAGE`, `CLIENT< MESSAGE`, `CLIENT closed CODE`, \
     `close CLIENT`, `drop CLIENT`, `advance TIME`, `call METHOD PAYLOAD => ANSWER`, `kill node N`, \
     `drain node N`, `start node N`, `reload`, `trapped`, `scenario TITLE`, `nodes N`, `clock TIME`, or a \
     comment after `#`";

/// A scenario: nodes, and what happens on them, line by line.
#[derive(Debug)]
pub(super) struct Scenario {
    /// The title within its file; empty if the file begins with it.
    pub(super) title: String,
    pub(super) nodes: usize,
    /// The time of day at which the clock stands at the beginning.
    pub(super) clock: SystemTime,
    pub(super) steps: Vec<ScenarioStep>,
}

/// A line of a scenario that does something, or expects something.
#[derive(Debug)]
pub(super) struct ScenarioStep {
    /// The number of the line, from 1 on.
    pub(super) line: usize,
    pub(super) text: String,
    pub(super) kind: StepKind,
}

/// What a line of a scenario does or expects.
#[derive(Debug)]
pub(super) enum StepKind {
    /// What the line does to the nodes.
    Do(ScenarioAction),
    /// What the line expects of what was done before.
    Expect(Expectation),
}

/// What a line does to the nodes.
#[derive(Debug)]
pub(super) enum ScenarioAction {
    Connect(Box<ScriptedHandshake>),
    Send {
        client: String,
        message: ScriptedMessage,
    },
    Close {
        client: String,
        code: Option<u16>,
        reason: String,
    },
    /// The connection is cut, without a close frame.
    Drop {
        client: String,
    },
    Advance(Duration),
    Call(Box<ScriptedCall>),
    Kill(usize),
    Drain(usize),
    Start(usize),
    Reload,
}

/// What must have come.
#[derive(Debug)]
pub(super) enum Expectation {
    Message {
        client: String,
        message: ScriptedMessage,
    },
    /// Whatever has come to the client.
    Anything { client: String },
    Closed {
        client: String,
        code: u16,
        reason: Option<Template>,
    },
    /// An event of the plugin has trapped, and said this.
    Trapped(String),
}

/// A call of a backend, and its answer.
#[derive(Debug)]
pub(super) struct ScriptedCall {
    pub(super) node: usize,
    pub(super) method: String,
    pub(super) payload: ScriptedMessage,
    /// The answer, or the code and the message of the error.
    pub(super) answer: Result<ScriptedMessage, (String, Option<Template>)>,
}

/// Reads the scenarios of a file.
///
/// # Errors
///
/// The file cannot be read, or a line of it is wrong. The error begins with the file and the line.
pub(super) fn read_scenarios(path: &Path) -> anyhow::Result<Vec<Scenario>> {
    let text = file::read_text(path, FILE_BYTES).with_context(|| format!("{}", path.display()))?;
    let mut scenarios = vec![Scenario::new("")];
    for (number, line) in text.lines().enumerate() {
        let (line, number) = (line.trim_end_matches('\r'), number + 1);
        let added = add(&mut scenarios, number, line);
        added.with_context(|| format!("{}:{number}: `{}`", path.display(), line.trim()))?;
    }
    scenarios.retain(|scenario| !scenario.steps.is_empty() || !scenario.title.is_empty());
    let empty = scenarios.iter().find(|scenario| scenario.steps.is_empty());
    if let Some(empty) = empty {
        bail!(
            "{}: the scenario `{}` has no lines",
            path.display(),
            empty.title
        );
    }
    ensure!(
        !scenarios.is_empty(),
        "{}: there is no scenario in it: {LINES}",
        path.display()
    );
    Ok(scenarios)
}

impl Scenario {
    fn new(title: &str) -> Scenario {
        Scenario {
            title: title.to_owned(),
            nodes: 1,
            clock: SystemTime::UNIX_EPOCH + Duration::from_secs(BEGINS_AT),
            steps: Vec::new(),
        }
    }
}

impl Scenario {
    /// The most clients that are connected at a time.
    pub(super) fn clients(&self) -> usize {
        let connects =
            |step: &&ScenarioStep| matches!(step.kind, StepKind::Do(ScenarioAction::Connect(_)));
        self.steps.iter().filter(connects).count().clamp(1, CLIENTS)
    }
}

fn add(scenarios: &mut Vec<Scenario>, number: usize, line: &str) -> anyhow::Result<()> {
    let trimmed = line.trim_start();
    if trimmed.is_empty() || trimmed.starts_with('#') {
        return Ok(());
    }
    if let Some(title) = line.strip_prefix("scenario ") {
        scenarios.push(Scenario::new(title.trim()));
        return Ok(());
    }
    let scenario = scenarios.last_mut().context("a scenario")?;
    if line.starts_with([' ', '\t']) {
        let last = scenario.steps.last_mut().map(|step| &mut step.kind);
        let Some(StepKind::Do(ScenarioAction::Connect(handshake))) = last else {
            bail!("only a line below `connect` is indented, and says more of the handshake");
        };
        return handshake.add_option(trimmed.trim_end());
    }
    if let Some(nodes) = line.strip_prefix("nodes ") {
        ensure!(
            scenario.steps.is_empty(),
            "`nodes` stands before all that happens"
        );
        scenario.nodes = number_of(nodes, "nodes")?;
        ensure!(
            (1..=NODES).contains(&scenario.nodes),
            "a scenario has 1 to {NODES} nodes"
        );
        return Ok(());
    }
    if let Some(clock) = line.strip_prefix("clock ") {
        ensure!(
            scenario.steps.is_empty(),
            "`clock` stands before all that happens"
        );
        scenario.clock = humantime::parse_rfc3339(clock.trim())
            .context("`clock` has a time of day like 2026-01-01T08:30:00Z")?;
        return Ok(());
    }
    let kind = step(line, scenario.nodes)?;
    ensure!(
        scenario.steps.len() < STEPS,
        "a scenario has at most {STEPS} lines"
    );
    scenario.steps.push(ScenarioStep {
        line: number,
        text: line.trim_end().to_owned(),
        kind,
    });
    Ok(())
}

fn step(line: &str, nodes: usize) -> anyhow::Result<StepKind> {
    if let Some((client, arrow, after)) = with_arrow(line) {
        let client = client.to_owned();
        return Ok(match (arrow, after) {
            ('<', "...") => StepKind::Expect(Expectation::Anything { client }),
            ('<', _) => {
                let message = ScriptedMessage::parse(after)?;
                StepKind::Expect(Expectation::Message { client, message })
            }
            _ => {
                let message = ScriptedMessage::parse(after)?;
                StepKind::Do(ScenarioAction::Send { client, message })
            }
        });
    }
    let line = line.trim_end();
    let (word, rest) = first_word(line);
    Ok(StepKind::Do(match word {
        "connect" => ScenarioAction::Connect(Box::new(handshake(rest, nodes)?)),
        "close" => {
            let (client, rest) = first_word(rest);
            let (code, reason) = first_word(rest);
            let code = (!code.is_empty()).then(|| close_code(code)).transpose()?;
            let client = named(client)?;
            ScenarioAction::Close {
                client,
                code,
                reason: reason.to_owned(),
            }
        }
        "drop" => ScenarioAction::Drop {
            client: named(rest)?,
        },
        "advance" => {
            let time = humantime::parse_duration(rest)
                .context("`advance` has a time like 30s, 5m, 1h or 250ms")?;
            ensure!(time <= ADVANCE_MAX, "the clock moves by ten years at most");
            ScenarioAction::Advance(time)
        }
        "call" => ScenarioAction::Call(Box::new(call(rest, nodes)?)),
        "kill" => ScenarioAction::Kill(node(rest, nodes)?),
        "drain" => ScenarioAction::Drain(node(rest, nodes)?),
        "start" => ScenarioAction::Start(node(rest, nodes)?),
        "reload" if rest.is_empty() => ScenarioAction::Reload,
        "trapped" => return Ok(StepKind::Expect(Expectation::Trapped(rest.to_owned()))),
        client => match first_word(rest) {
            ("closed", rest) => {
                let (code, reason) = first_word(rest);
                let reason = (!reason.is_empty()).then(|| Template::parse(reason));
                return Ok(StepKind::Expect(Expectation::Closed {
                    client: named(client)?,
                    code: close_code(code)?,
                    reason: reason.transpose()?,
                }));
            }
            _ => bail!("{LINES}"),
        },
    }))
}

/// The client, the arrow and what follows it, of a line that has them.
fn with_arrow(line: &str) -> Option<(&str, char, &str)> {
    let at = line.find(['<', '>'])?;
    let (client, rest) = line.split_at(at);
    named(client).ok()?;
    let arrow = rest.chars().next()?;
    Some((client, arrow, &rest[1..]))
}

fn call(text: &str, nodes: usize) -> anyhow::Result<ScriptedCall> {
    let (asked, answer) = text
        .split_once(" =>")
        .context("write it as `call METHOD PAYLOAD => ANSWER`")?;
    let (node, rest) = on_node(asked.trim(), nodes)?;
    let (method, payload) = first_word(rest);
    ensure!(!method.is_empty(), "after `call` comes the method");
    let answer = answer.trim();
    let answer = match first_word(answer) {
        ("error", rest) => {
            let (code, message) = first_word(rest);
            ensure!(
                !code.is_empty(),
                "after `error` comes its code, such as not-found"
            );
            let message = (!message.is_empty()).then(|| Template::parse(message));
            Err((code.to_owned(), message.transpose()?))
        }
        _ => Ok(value(answer)?),
    };
    Ok(ScriptedCall {
        node,
        method: method.to_owned(),
        payload: value(payload)?,
        answer,
    })
}

/// A payload: what would follow an arrow, where a text needs no space.
fn value(text: &str) -> anyhow::Result<ScriptedMessage> {
    match text.starts_with("0x") || text.starts_with('"') {
        true => ScriptedMessage::parse(text),
        false => ScriptedMessage::of_text(text),
    }
}

#[cfg(test)]
mod tests {
    use super::super::scripted_handshake::ExpectedHandshake;
    use super::*;

    fn read(text: &str) -> anyhow::Result<Vec<Scenario>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("it.scenario");
        std::fs::write(&path, text)?;
        read_scenarios(&path)
    }

    #[test]
    fn a_file_has_scenarios_with_nodes_a_clock_and_lines() {
        let text = "# two\n\nnodes 3\nclock 2026-02-01T00:00:00Z\nconnect ada on node 3 /x?y=${z} => 401 no tea\n\
             \x20 token ada a=b c=1\n\theader X-Tea: green: ${any}\nada>hello\n";
        assert!(read(text).is_err(), "an arrow without a space");
        let text = text.replace(
            "ada>hello",
            "ada> hello\nscenario another: one\nbob<...\r\nbob closed 1000\n",
        );
        let scenarios = read(&text).expect("scenarios");
        let [first, second] = &scenarios[..] else {
            panic!("{scenarios:?}");
        };
        assert_eq!((first.nodes, second.nodes), (3, 1));
        assert_eq!((&*first.title, &*second.title), ("", "another: one"));
        let begins = humantime::parse_rfc3339("2026-01-01T00:00:00Z").expect("a time");
        assert_eq!(second.clock, begins);
        assert_eq!(first.clock, begins + Duration::from_secs(31 * 24 * 3600));
        let StepKind::Do(ScenarioAction::Connect(handshake)) = &first.steps[0].kind else {
            panic!("{first:?}");
        };
        assert_eq!(handshake.target.to_string(), "/x?y=${z}");
        assert_eq!((handshake.node, handshake.headers.len()), (3, 1));
        let claims = ["a=b", "c=1"].map(str::to_owned).to_vec();
        assert_eq!(handshake.token, Some(("ada".to_owned(), claims)));
        let is_refused = matches!(
            handshake.outcome,
            ExpectedHandshake::Refused {
                status: 401,
                reason: Some(_)
            }
        );
        assert!(is_refused && handshake.client == "ada");
        assert_eq!(
            (first.steps[1].line, &*first.steps[1].text),
            (8, "ada> hello")
        );
        let kinds = (&second.steps[0].kind, &second.steps[1].kind);
        assert!(matches!(
            kinds,
            (
                StepKind::Expect(Expectation::Anything { .. }),
                StepKind::Expect(Expectation::Closed {
                    code: 1000,
                    reason: None,
                    ..
                })
            )
        ));
    }

    #[test]
    fn a_line_that_is_wrong_is_named_with_what_it_may_be() {
        for (line, why) in [
            ("conect ada", "a line is `connect CLIENT`"),
            ("ada < hello", "a line is `connect CLIENT`"),
            ("ada>hello", "a space and the text"),
            ("connect", "no name of a client"),
            ("connect 7up", "no name of a client"),
            ("connect close", "none of the words"),
            ("connect ada x", "begins with `/`"),
            ("connect ada ?a b", "a path has no spaces"),
            ("connect ada => tea", "the status of a refusal"),
            ("connect ada => 200", "the status of a refusal"),
            (
                "connect ada on node 2",
                "there is no node 2: the scenario has 1",
            ),
            ("connect ada on tea", "write it as `node N`"),
            ("close ada 999", "from 1000 to 4999"),
            ("ada closed tea", "from 1000 to 4999"),
            ("advance", "`advance` has a time like 30s"),
            ("advance 11years", "ten years at most"),
            ("call echo hello", "`call METHOD PAYLOAD => ANSWER`"),
            ("call echo => error", "after `error` comes its code"),
            ("kill 1", "write it as `node N`"),
            ("kill node tea", "after `node` comes a number"),
            ("reload now", "a line is"),
            ("  header a: b", "only a line below `connect`"),
            ("connect ada\nnodes 2", "`nodes` stands before"),
            (
                "connect ada\nclock 2026-01-01T00:00:00Z",
                "`clock` stands before",
            ),
            ("nodes 6", "1 to 5 nodes"),
            ("clock noon", "like 2026-01-01T08:30:00Z"),
            ("connect ada\n  cookie tea", "below `connect` stand"),
            ("connect ada\n  header tea", "`header NAME: VALUE`"),
            ("connect ada\n  header a b: c", "the name of the header"),
            ("ada< ${", "begins a placeholder"),
            ("scenario tea", "has no lines"),
            ("", "there is no scenario in it"),
        ] {
            let error = format!("{:#}", read(line).expect_err(line));
            assert!(error.contains(why), "{line}: {error}");
            let place = format!("it.scenario:{}: `", line.lines().count());
            let is_whole = line.is_empty() || line.starts_with("scenario");
            assert!(is_whole || error.contains(&place), "{line}: {error}");
        }
    }
}
