//! What the lines of a scenario say of messages: what is sent, and what must come.
//!
//! After the arrow comes a space and the text, or the text as a string of JSON in quotes, or `0x` and the
//! bytes of a binary message. A text that is an object or an array of JSON is compared by its values.

use anyhow::{Context as _, bail, ensure};
use data_encoding::HEXLOWER_PERMISSIVE;
use serde_json::Value;
use tungstenite::Message;

use super::template::{TakenValues, Template, take_value};
use crate::author::shown_message::{SHOWN, shown_after_arrow, shown_text};

/// The most differences of two JSON values that are shown.
const DIFFERENCES: usize = 10;

/// A message as a line of a scenario says it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum ScriptedMessage {
    /// A text message that is no JSON, or a single value of it.
    Text(Template),
    /// A text message that is an object or an array of JSON. The template is its text.
    Json(Value, Template),
    /// A binary message, as its bytes.
    Binary(Vec<u8>),
}

impl ScriptedMessage {
    /// Reads what follows the arrow of a line.
    ///
    /// # Errors
    ///
    /// It is no message.
    pub(super) fn parse(after_arrow: &str) -> anyhow::Result<ScriptedMessage> {
        if let Some(hex) = after_arrow.strip_prefix("0x") {
            let hex: String = hex.split_whitespace().collect();
            let bytes = HEXLOWER_PERMISSIVE.decode(hex.as_bytes());
            let bytes =
                bytes.context("after `0x` come the bytes, each as two hexadecimal digits")?;
            return Ok(ScriptedMessage::Binary(bytes));
        }
        if after_arrow.starts_with('"') {
            let text: String = serde_json::from_str(after_arrow)
                .context("a quote right after the arrow begins a string of JSON")?;
            return Ok(ScriptedMessage::Text(Template::parse(&text)?));
        }
        match after_arrow.strip_prefix(' ') {
            Some(text) => ScriptedMessage::of_text(text),
            None if after_arrow.is_empty() => ScriptedMessage::of_text(""),
            None => {
                bail!("after the arrow comes a space and the text, a string in quotes, or `0x`")
            }
        }
    }

    /// A text message, which may be JSON.
    ///
    /// # Errors
    ///
    /// A placeholder is wrong.
    pub(super) fn of_text(text: &str) -> anyhow::Result<ScriptedMessage> {
        let template = Template::parse(text)?;
        let value = match serde_json::from_str(text) {
            Ok(value @ (Value::Object(_) | Value::Array(_))) => value,
            _ => return Ok(ScriptedMessage::Text(template)),
        };
        check_texts(&value)?;
        Ok(ScriptedMessage::Json(value, template))
    }

    /// The message to send, with what the placeholders have taken.
    ///
    /// # Errors
    ///
    /// A placeholder has taken nothing yet.
    pub(super) fn to_send(&self, taken: &TakenValues) -> anyhow::Result<Message> {
        Ok(match self {
            ScriptedMessage::Text(text) | ScriptedMessage::Json(_, text) => {
                Message::text(text.fill(taken)?)
            }
            ScriptedMessage::Binary(bytes) => Message::binary(bytes.clone()),
        })
    }

    /// Compares the message with one that came, and lets the placeholders take what varies.
    ///
    /// # Errors
    ///
    /// They differ. The lines say how.
    pub(super) fn compare(
        &self,
        came: &Message,
        taken: &mut TakenValues,
    ) -> Result<(), Vec<String>> {
        match (self, came) {
            (ScriptedMessage::Binary(bytes), Message::Binary(came)) if bytes[..] == came[..] => {
                Ok(())
            }
            (ScriptedMessage::Text(text), Message::Text(came)) => match text.matches(came, taken) {
                true => Ok(()),
                false => Err(text_differences(text, came, taken)),
            },
            (ScriptedMessage::Json(value, text), Message::Text(came)) => {
                let Ok(came) = serde_json::from_str::<Value>(came) else {
                    return Err(text_differences(text, came, taken));
                };
                let mut now = taken.clone();
                let mut differences = Vec::new();
                compare_json(value, &came, "$", &mut now, &mut differences);
                if differences.is_empty() {
                    *taken = now;
                    return Ok(());
                }
                let more = differences.len().saturating_sub(DIFFERENCES);
                differences.truncate(DIFFERENCES);
                if more > 0 {
                    differences.push(format!("and {more} more differences"));
                }
                let mut lines = both(
                    &self.shown(),
                    &shown_after_arrow(&Message::text(came.to_string())),
                );
                lines.append(&mut differences);
                Err(lines)
            }
            _ => Err(both(&self.shown(), &shown_after_arrow(came))),
        }
    }

    /// What follows the arrow.
    fn shown(&self) -> String {
        match self {
            ScriptedMessage::Text(text) => shown_text(&text.to_string()),
            ScriptedMessage::Json(value, _) => shown_text(&value.to_string()),
            ScriptedMessage::Binary(bytes) => shown_after_arrow(&Message::binary(bytes.clone())),
        }
    }
}

fn both(expected: &str, came: &str) -> Vec<String> {
    let (expected, came) = (expected.trim_start(), came.trim_start());
    vec![format!("expected {expected}"), format!("came     {came}")]
}

/// The two texts below each other, where they begin to differ, and what the placeholders stand for.
fn text_differences(expected: &Template, came: &str, taken: &TakenValues) -> Vec<String> {
    let (text, came) = (shown_text(&expected.to_string()), shown_text(came));
    let mut lines = both(&text, &came);
    let same = text.chars().zip(came.chars());
    let same = same.take_while(|(one, other)| one == other).count();
    // A placeholder ends what can be compared so, and a long line is broken by the terminal.
    let ends = text
        .chars()
        .skip(same)
        .collect::<String>()
        .starts_with("${");
    if (2..SHOWN / 10).contains(&same) && !ends {
        let lead = same - usize::from(text.starts_with(' '));
        lines.push(format!("         {}^", " ".repeat(lead)));
    }
    let values = expected
        .names()
        .filter_map(|name| Some((name, taken.get(name)?)));
    lines.extend(values.map(|(name, value)| format!("where    ${{{name}}} is {value}")));
    lines
}

/// Checks the placeholders in the texts of a JSON value.
fn check_texts(value: &Value) -> anyhow::Result<()> {
    match value {
        Value::String(text) => Template::parse(text).map(drop),
        Value::Array(values) => values.iter().try_for_each(check_texts),
        Value::Object(fields) => fields.iter().try_for_each(|(name, value)| {
            ensure!(
                !name.contains("${"),
                "the name of a field cannot have a placeholder: {name:?}"
            );
            check_texts(value)
        }),
        _ => Ok(()),
    }
}

fn compare_json(
    expected: &Value,
    came: &Value,
    path: &str,
    taken: &mut TakenValues,
    differences: &mut Vec<String>,
) {
    let fits =
        match (expected, came) {
            (Value::Object(expected), Value::Object(came)) => {
                for (name, expected) in expected {
                    let path = format!("{path}.{name}");
                    match came.get(name) {
                        Some(came) => compare_json(expected, came, &path, taken, differences),
                        None => differences
                            .push(format!("{path}: expected {expected}, and it is missing")),
                    }
                }
                let more = came
                    .iter()
                    .filter(|(name, _)| !expected.contains_key(*name));
                differences.extend(more.map(|(name, came)| {
                    format!("{path}.{name}: came {came}, and was not expected")
                }));
                return;
            }
            (Value::Array(expected), Value::Array(came)) => {
                for (number, expected) in expected.iter().enumerate() {
                    let path = format!("{path}[{number}]");
                    match came.get(number) {
                        Some(came) => compare_json(expected, came, &path, taken, differences),
                        None => differences
                            .push(format!("{path}: expected {expected}, and it is missing")),
                    }
                }
                for (number, came) in came.iter().enumerate().skip(expected.len()) {
                    differences.push(format!(
                        "{path}[{number}]: came {came}, and was not expected"
                    ));
                }
                return;
            }
            (Value::String(text), came) => match Template::parse(text) {
                Ok(template) => match (template.whole(), came) {
                    (_, Value::String(came)) => template.matches(came, taken),
                    // Alone in its quotes, it stands for any value.
                    (Some(name), came) => take_value(name, &came.to_string(), taken),
                    (None, _) => false,
                },
                Err(_) => false,
            },
            (Value::Number(expected), Value::Number(came)) => {
                expected == came || expected.as_f64() == came.as_f64()
            }
            (expected, came) => expected == came,
        };
    if !fits {
        differences.push(format!("{path}: expected {expected}, came {came}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compare(expected: &str, came: &Message) -> Result<TakenValues, Vec<String>> {
        let mut taken = TakenValues::from([("id".to_owned(), "7a".to_owned())]);
        let expected = ScriptedMessage::parse(expected).expect(expected);
        expected.compare(came, &mut taken).map(|()| taken)
    }

    fn differences(expected: &str, came: &Message) -> Vec<String> {
        compare(expected, came).expect_err(expected)
    }

    #[test]
    fn texts_bytes_and_json_are_compared() {
        for (expected, came) in [
            (" hello", Message::text("hello")),
            ("", Message::text("")),
            (r#""two\nlines""#, Message::text("two\nlines")),
            ("0x00 fF", Message::binary(vec![0, 255])),
            (
                " {\"a\": 1, \"b\": [1, 2]}",
                Message::text("{\"b\":[1.0,2],\"a\":1}"),
            ),
            (
                " {\"a\": \"${any}\"}",
                Message::text("{\"a\":{\"deep\":true}}"),
            ),
            (" [\"to ${id}\"]", Message::text("[\"to 7a\"]")),
        ] {
            assert!(compare(expected, &came).is_ok(), "{expected} {came}");
        }
        let taken = compare(" {\"n\": \"${n}\"}", &Message::text("{\"n\": 7}"));
        assert_eq!(taken.expect("it fits")["n"], "7");
    }

    #[test]
    fn a_difference_reads_well() {
        assert_eq!(
            differences(" ada: helo", &Message::text("ada: hello")),
            [
                "expected ada: helo",
                "came     ada: hello",
                "                 ^"
            ]
        );
        assert_eq!(
            differences(" ${id} left", &Message::text("8b left")),
            [
                "expected ${id} left",
                "came     8b left",
                "where    ${id} is 7a"
            ]
        );
        assert_eq!(
            differences(
                r#" {"a": 1, "b": [1], "c": "x"}"#,
                &Message::text(r#"{"a": 2, "b": [1, 3]}"#)
            )[2..],
            [
                "$.a: expected 1, came 2",
                "$.b[1]: came 3, and was not expected",
                r#"$.c: expected "x", and it is missing"#,
            ]
        );
        let many = format!(" {:?}", vec![1; 20]);
        let lines = differences(&many, &Message::text("[]"));
        assert_eq!(
            lines.last().map(String::as_str),
            Some("and 10 more differences")
        );
        assert_eq!(
            differences("0xff", &Message::text("a\tb")),
            ["expected 0xff", r#"came     "a\tb""#]
        );
    }

    #[test]
    fn what_is_no_message_is_said() {
        for (text, why) in [
            ("hello", "a space and the text"),
            ("0xf", "two hexadecimal digits"),
            ("\"open", "a string of JSON"),
            (" {\"${a}\": 1}", "the name of a field"),
            (" {\"a\": \"${\"}", "begins a placeholder"),
        ] {
            let error = format!("{:#}", ScriptedMessage::parse(text).expect_err(text));
            assert!(error.contains(why), "{error}");
        }
    }
}
