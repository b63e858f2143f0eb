//! Messages on one line, as scenarios have them.

use data_encoding::HEXLOWER_PERMISSIVE;
use serde_json::Value;
use tungstenite::Message;

/// The most characters of a message that are shown.
pub(super) const SHOWN: usize = 1_000;

/// A message that came, as a line of a scenario has it after the arrow.
pub(super) fn shown_after_arrow(message: &Message) -> String {
    match message {
        Message::Text(text) => shown_text(text),
        other => {
            let bytes = other.clone().into_data();
            let shown = &bytes[..bytes.len().min(SHOWN / 2)];
            let more = if shown.len() < bytes.len() { "…" } else { "" };
            format!("0x{}{more}", HEXLOWER_PERMISSIVE.encode(shown))
        }
    }
}

/// The whole of a message, for a comparison.
pub(super) fn shown_message(message: &Message) -> String {
    match message {
        Message::Text(text) if text.starts_with("0x") => Value::from(text.as_str()).to_string(),
        Message::Text(text) => text.as_str().to_owned(),
        other => format!(
            "0x{}",
            HEXLOWER_PERMISSIVE.encode(&other.clone().into_data())
        ),
    }
}

/// A text, as a line has it after the arrow: in quotes if it would not be seen as it is.
pub(super) fn shown_text(text: &str) -> String {
    let shown: String = text.chars().take(SHOWN).collect();
    let more = if shown.len() < text.len() { "…" } else { "" };
    let is_plain = !shown.contains(char::is_control) && shown.trim_end() == shown;
    match is_plain {
        true if shown.is_empty() => String::new(),
        true => format!(" {shown}{more}"),
        false => format!("{}{more}", Value::from(shown)),
    }
}
