//! What a command prints: tables and texts for people, JSON for programs.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use comfy_table::{ContentArrangement, Table, TableStyle};
use serde_json::Value;

pub(super) use crate::stdout::print;

/// Prints an answer as JSON.
pub(super) fn print_json(answer: &Value) -> anyhow::Result<()> {
    let json = serde_json::to_string_pretty(answer)?;
    print(&format!("{}\n", without_c1(&json)))
}

/// JSON in which the control characters above ASCII are escaped, too: a terminal would take them for
/// orders.
pub(super) fn without_c1(json: &str) -> String {
    let is_c1 = |char| ('\u{7f}'..='\u{9f}').contains(&char);
    let mut escaped = String::with_capacity(json.len());
    for char in json.chars() {
        match is_c1(char) {
            true => escaped += &format!("\\u{:04x}", u32::from(char)),
            false => escaped.push(char),
        }
    }
    escaped
}

/// A table with these columns. It is never broken to the width of a terminal: programs like `grep`
/// read it, too.
pub(super) fn table(columns: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(TableStyle::new())
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(columns);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

/// Prints a table to the standard output.
pub(super) fn print_table(table: &Table) -> anyhow::Result<()> {
    print(&format!("{}\n", table.trim_fmt()))
}

/// Prints a field with its name, for the state of one thing.
pub(super) fn field(name: &str, value: &str) -> anyhow::Result<()> {
    print(&format!("{:<12}{value}\n", format!("{name}:")))
}

/// A value of an answer as text. What is not there is `-`.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => visible(text),
        value => value.to_string(),
    }
}

/// A text whose control characters are replaced: what a client has chosen must not steer the
/// terminal of whoever reads it.
pub(super) fn visible(text: &str) -> String {
    let visible = |char: char| match char.is_control() {
        true => char::REPLACEMENT_CHARACTER,
        false => char,
    };
    text.chars().map(visible).collect()
}

/// The first digits of a digest, which are enough to name a build.
pub(super) fn short_digest(digest: &Value) -> String {
    text(digest).chars().take(12).collect()
}

/// A time in milliseconds since 1970, as the time that has passed since.
pub(super) fn ago(ms: &Value) -> String {
    let Some(ms) = ms.as_u64() else {
        return "-".to_owned();
    };
    let then = UNIX_EPOCH + Duration::from_millis(ms);
    let passed = SystemTime::now().duration_since(then).unwrap_or_default();
    let units = [("d", 86_400), ("h", 3_600), ("m", 60)];
    let seconds = passed.as_secs();
    let unit = units.iter().find(|(_, length)| seconds >= 2 * length);
    match unit {
        Some((name, length)) => format!("{}{name}", seconds / length),
        None => format!("{seconds}s"),
    }
}

/// A time in milliseconds since 1970, in UTC.
pub(super) fn time(ms: &Value) -> String {
    let Some(ms) = ms.as_u64() else {
        return "-".to_owned();
    };
    let then = UNIX_EPOCH + Duration::from_millis(ms);
    humantime::format_rfc3339_seconds(then).to_string()
}

/// The items of a list. What is no list has none.
pub(super) fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// The items of a list as text, with commas between them.
pub(super) fn joined(list: &Value) -> String {
    let items: Vec<String> = items(list).map(text).collect();
    match items.is_empty() {
        true => "-".to_owned(),
        false => items.join(", "),
    }
}
