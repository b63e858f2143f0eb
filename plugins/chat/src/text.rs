//! Names, rooms and messages as people type them: what is tidied up, and what is refused.

use crate::protocol::{Code, Problem};

/// Names and rooms, in characters: what a narrow list can show.
pub(crate) const MAX_NAME_CHARS: usize = 32;
/// Messages, in characters: a long paragraph.
pub(crate) const MAX_MESSAGE_CHARS: usize = 2_000;
/// Keys, in characters; fewer could be guessed.
pub(crate) const KEY_CHARS: std::ops::RangeInclusive<usize> = 16..=64;

/// A person's name, without spaces around it and with single ones inside.
pub(crate) fn name(typed: &str) -> Result<String, Problem> {
    label("A name", typed)
}

/// A room's name, by the same rules.
pub(crate) fn room(typed: &str) -> Result<String, Problem> {
    label("A room's name", typed)
}

/// A message; it may have several lines.
pub(crate) fn message(typed: &str) -> Result<String, Problem> {
    let text = typed.trim();
    check_length("A message", text, MAX_MESSAGE_CHARS)?;
    if text
        .chars()
        .any(|c| c.is_control() && !matches!(c, '\n' | '\t'))
    {
        return Err(Problem::new(
            Code::BadCharacter,
            "A message can't have control characters.",
        ));
    }
    Ok(text.to_owned())
}

/// The secret by which a person who comes back is known.
pub(crate) fn key(given: &str) -> Result<String, Problem> {
    if !KEY_CHARS.contains(&given.len()) || !given.chars().all(|c| c.is_ascii_graphic()) {
        let rule = format!(
            "A key has {} to {} printable ASCII characters.",
            KEY_CHARS.start(),
            KEY_CHARS.end()
        );
        return Err(Problem::new(Code::Malformed, rule));
    }
    Ok(given.to_owned())
}

fn label(what: &str, typed: &str) -> Result<String, Problem> {
    let label = typed
        .split(char::is_whitespace)
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ");
    check_length(what, &label, MAX_NAME_CHARS)?;
    // Looked for in what was typed: a line break is whitespace too.
    if typed.chars().any(|c| c.is_control() || is_invisible(c)) {
        let message = format!("{what} can't have control or invisible characters.");
        return Err(Problem::new(Code::BadCharacter, message));
    }
    Ok(label)
}

fn check_length(what: &str, text: &str, max: usize) -> Result<(), Problem> {
    if text.is_empty() {
        return Err(Problem::new(
            Code::Empty,
            format!("{what} needs at least one character."),
        ));
    }
    if text.chars().count() > max {
        return Err(Problem::new(
            Code::TooLong,
            format!("{what} has at most {max} characters."),
        ));
    }
    Ok(())
}

/// Characters that show nothing or turn what follows around: two names that look the same
/// would not be the same.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code<T: std::fmt::Debug>(result: Result<T, Problem>) -> Code {
        result.expect_err("should be refused").code
    }

    #[test]
    fn names_are_tidied() {
        assert_eq!(
            name("  Ada \u{a0} Lovelace ").expect("a name"),
            "Ada Lovelace"
        );
        assert_eq!(room("茶室").expect("a room"), "茶室");
    }

    #[test]
    fn lengths_count_characters_and_not_bytes() {
        assert!(name(&"é".repeat(32)).is_ok());
        assert_eq!(code(name(&"e".repeat(33))), Code::TooLong);
        assert!(message(&"ü".repeat(2_000)).is_ok());
        assert_eq!(code(message(&"u".repeat(2_001))), Code::TooLong);
        assert_eq!(code(name(" \t ")), Code::Empty);
        assert_eq!(code(message(" \n ")), Code::Empty);
    }

    #[test]
    fn what_cant_be_seen_is_refused() {
        for typed in [
            "A\u{0}da",
            "A\nda",
            "A\u{7f}da",
            "Ad\u{200b}a",
            "\u{202e}adA",
        ] {
            assert_eq!(code(name(typed)), Code::BadCharacter, "{typed:?}");
        }
        assert_eq!(code(message("ring\u{7}")), Code::BadCharacter);
        assert_eq!(
            message("two\n\tlines\n").expect("a message"),
            "two\n\tlines"
        );
    }

    #[test]
    fn keys_are_long_enough_to_be_secrets() {
        assert!(key("0123456789abcdef").is_ok());
        assert_eq!(code(key("short")), Code::Malformed);
        assert_eq!(code(key(&"k".repeat(65))), Code::Malformed);
        assert_eq!(code(key("0123456789abcde\n")), Code::Malformed);
    }
}
