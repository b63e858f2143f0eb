//! The words of which the lines of a scenario are made: nodes, names, codes.

use anyhow::{Context as _, ensure};

/// The longest name of a client, in bytes.
const CLIENT_BYTES: usize = 64;

/// The words with which a line begins that is not about one client. No client has such a name.
const WORDS: [&str; 17] = [
    "advance",
    "call",
    "clock",
    "close",
    "closed",
    "connect",
    "drain",
    "drop",
    "header",
    "kill",
    "nodes",
    "reload",
    "scenario",
    "start",
    "subprotocol",
    "token",
    "trapped",
];

/// The node of `on node N`, which is the first one if it is not named, and what follows.
///
/// # Errors
///
/// There is no such node.
pub(super) fn on_node(text: &str, nodes: usize) -> anyhow::Result<(usize, &str)> {
    let Some(rest) = text.strip_prefix("on ") else {
        return Ok((1, text));
    };
    let rest = rest.trim_start();
    let (word, after) = first_word(rest);
    let (number, after) = first_word(after);
    Ok((node(&format!("{word} {number}"), nodes)?, after))
}

/// The number of a node of the scenario, which has so many, after the word `node`.
///
/// # Errors
///
/// It is no number, or there is no such node.
pub(super) fn node(text: &str, nodes: usize) -> anyhow::Result<usize> {
    let number = text
        .strip_prefix("node ")
        .context("write it as `node N`, with the number of a node")?;
    let number = number_of(number, "node")?;
    ensure!(
        (1..=nodes).contains(&number),
        "there is no node {number}: the scenario has {nodes} (`nodes N`, at its head, says how many)"
    );
    Ok(number)
}

/// The number that follows this word.
///
/// # Errors
///
/// It is no number.
pub(super) fn number_of(text: &str, word: &str) -> anyhow::Result<usize> {
    let number = text.trim().parse();
    number.with_context(|| format!("after `{word}` comes a number"))
}

/// A code that a close frame can have.
///
/// # Errors
///
/// It is no such code.
pub(super) fn close_code(text: &str) -> anyhow::Result<u16> {
    let code = text
        .parse()
        .ok()
        .filter(|code| (1000..=4999).contains(code));
    code.with_context(|| format!("{text:?} is no close code: it is a number from 1000 to 4999"))
}

/// The name of a client.
///
/// # Errors
///
/// No client can have this name.
pub(super) fn named(client: &str) -> anyhow::Result<String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let is_name = client.starts_with(|first: char| first.is_ascii_alphabetic())
        && client.len() <= CLIENT_BYTES
        && client.bytes().all(fits);
    ensure!(
        is_name && !WORDS.contains(&client),
        "{client:?} is no name of a client: it begins with a letter, has a-z, A-Z, 0-9, - and _, at most \
         {CLIENT_BYTES} of them, and is none of the words with which lines begin"
    );
    Ok(client.to_owned())
}

/// The first word of a text, and what follows it.
pub(super) fn first_word(text: &str) -> (&str, &str) {
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    (word, rest.trim_start())
}
