//! The ids of clients, which are others in each run: wherever messages have them, they are translated.

use std::collections::HashMap;

/// Ids, each with the one that stands for it elsewhere. All have the same length.
#[derive(Default)]
pub(super) struct ClientIds {
    ids: HashMap<Vec<u8>, String>,
    length: usize,
}

impl ClientIds {
    /// Adds an id, and what stands for it.
    pub(super) fn add(&mut self, id: &str, translated: &str) {
        self.length = id.len();
        self.ids
            .insert(id.as_bytes().to_vec(), translated.to_owned());
    }

    /// What stands for an id.
    pub(super) fn get(&self, id: &str) -> Option<&String> {
        self.ids.get(id.as_bytes())
    }

    /// A text in which other ids stand for these.
    pub(super) fn translate(&self, text: &str) -> String {
        let translated = self.translate_bytes(text.as_bytes());
        // Ids are ASCII, so a text stays one.
        String::from_utf8(translated).unwrap_or_else(|_| text.to_owned())
    }

    /// Bytes in which other ids stand for these.
    pub(super) fn translate_bytes(&self, bytes: &[u8]) -> Vec<u8> {
        let mut translated = Vec::with_capacity(bytes.len());
        // How many of the bytes before this one can be part of an id.
        let (mut from, mut run) = (0, 0);
        for (at, byte) in bytes.iter().enumerate() {
            run = match byte.is_ascii_alphanumeric() {
                true => run + 1,
                false => 0,
            };
            if self.length == 0 || run < self.length {
                continue;
            }
            let begin = at + 1 - self.length;
            if let Some(other) = self.ids.get(&bytes[begin..=at]) {
                translated.extend_from_slice(&bytes[from..begin]);
                translated.extend_from_slice(other.as_bytes());
                (from, run) = (at + 1, 0);
            }
        }
        translated.extend_from_slice(&bytes[from..]);
        translated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_wherever_they_stand() {
        let mut ids = ClientIds::default();
        assert_eq!(ids.translate("abc1"), "abc1");
        ids.add("abc1", "xyz9");
        ids.add("abc2", "abc1");
        for (text, expected) in [
            ("abc1", "xyz9"),
            ("abc2", "abc1"),
            (
                "{\"to\":\"abc1\",\"é\":\"abc2\"}",
                "{\"to\":\"xyz9\",\"é\":\"abc1\"}",
            ),
            ("userabc1 abc1abc2", "userxyz9 xyz9abc1"),
            ("abc3 ab-c1", "abc3 ab-c1"),
            ("", ""),
        ] {
            assert_eq!(ids.translate(text), expected);
        }
        assert_eq!(ids.translate_bytes(b"\0abc1\xff"), b"\0xyz9\xff");
    }
}
