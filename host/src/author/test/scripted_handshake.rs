//! A client of a scenario that connects: what it asks for, and what must come of it.

use anyhow::{Context as _, bail, ensure};
use http::{HeaderName, HeaderValue};

use super::scenario_words::{first_word, named, on_node};
use super::template::Template;

/// A client that connects, and what must come of it.
#[derive(Debug)]
pub(super) struct ScriptedHandshake {
    pub(super) client: String,
    /// The number of the node, from 1 on.
    pub(super) node: usize,
    /// The path and the query; a query alone follows the path of the plugin.
    pub(super) target: Template,
    pub(super) headers: Vec<(HeaderName, Template)>,
    pub(super) subprotocols: Vec<String>,
    /// The uid of the token, and its other claims, each as `NAME=VALUE`.
    pub(super) token: Option<(String, Vec<String>)>,
    pub(super) outcome: ExpectedHandshake,
}

/// What must come of a handshake.
#[derive(Debug)]
pub(super) enum ExpectedHandshake {
    /// The client is accepted, with whatever subprotocol.
    Accepted,
    /// The client is accepted with this subprotocol.
    Subprotocol(String),
    /// The client is refused, with this reason if one is named.
    Refused {
        status: u16,
        reason: Option<Template>,
    },
}

/// Reads what follows `connect`, in a scenario with so many nodes.
///
/// # Errors
///
/// It is wrong. The error says what it may be.
pub(super) fn handshake(text: &str, nodes: usize) -> anyhow::Result<ScriptedHandshake> {
    let (text, outcome) = match text.split_once(" =>") {
        Some((text, outcome)) => (text, expected_handshake(outcome.trim())?),
        None => (text, ExpectedHandshake::Accepted),
    };
    let (client, rest) = first_word(text.trim());
    let (node, target) = on_node(rest, nodes)?;
    ensure!(
        target.is_empty() || target.starts_with(['/', '?']),
        "after the client comes its path, which begins with `/`, or its query, which begins with `?`"
    );
    ensure!(
        !target.contains(char::is_whitespace),
        "a path has no spaces: write them as %20"
    );
    Ok(ScriptedHandshake {
        client: named(client)?,
        node,
        target: Template::parse(target)?,
        headers: Vec::new(),
        subprotocols: Vec::new(),
        token: None,
        outcome,
    })
}

fn expected_handshake(text: &str) -> anyhow::Result<ExpectedHandshake> {
    let (word, rest) = first_word(text);
    if word == "subprotocol" {
        return Ok(ExpectedHandshake::Subprotocol(rest.to_owned()));
    }
    let status = word
        .parse()
        .ok()
        .filter(|status| (300..=599).contains(status));
    let status = status.context(
        "after `=>` comes the status of a refusal, such as 401, with its reason or without; or \
         `subprotocol NAME`",
    )?;
    let reason = (!rest.is_empty())
        .then(|| Template::parse(rest))
        .transpose()?;
    Ok(ExpectedHandshake::Refused { status, reason })
}

impl ScriptedHandshake {
    /// Reads a line below `connect`.
    ///
    /// # Errors
    ///
    /// It is wrong. The error says what it may be.
    pub(super) fn add_option(&mut self, line: &str) -> anyhow::Result<()> {
        match first_word(line) {
            ("header", rest) => {
                let header = rest
                    .split_once(':')
                    .context("write it as `header NAME: VALUE`")?;
                let name =
                    HeaderName::try_from(header.0.trim()).context("the name of the header")?;
                let value = header.1.trim();
                HeaderValue::try_from(value).context("the value of the header")?;
                self.headers.push((name, Template::parse(value)?));
            }
            ("subprotocol", rest) if !rest.is_empty() => self.subprotocols.push(rest.to_owned()),
            ("token", rest) if !rest.is_empty() => {
                let mut words = rest.split_whitespace().map(str::to_owned);
                let uid = words.next().unwrap_or_default();
                self.token = Some((uid, words.collect()));
            }
            _ => bail!(
                "below `connect` stand `header NAME: VALUE`, `subprotocol NAME` and `token UID NAME=VALUE`"
            ),
        }
        Ok(())
    }
}
