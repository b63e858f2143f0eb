//! Settings: texts in a manifest that its plugin reads by `wasi:config/store`.
//!
//! ```toml
//! [config]
//! greeting = "hello"
//! api_key = { file = "chat.key" }
//! ```
//!
//! A setting has a name and a text, and does not change after its generation was loaded. The text
//! of a file is a secret: no log line, error or `Debug` output contains it. All settings together
//! have at most `CONFIG_BYTES`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use crate::file;
use crate::invalid_value::InvalidValue;
use crate::limits::CONFIG_BYTES;
use sha2::{Digest as _, Sha256};

/// The settings of a plugin, by name.
#[derive(Default)]
pub(crate) struct Settings(BTreeMap<String, String>);

impl Settings {
    /// Reads the settings of a manifest. The paths of their files are relative to `folder`.
    ///
    /// # Errors
    ///
    /// A value is no text, its file cannot be read or is empty, or all settings together are too
    /// long.
    pub(crate) fn read(written: &toml::Table, folder: &Path) -> Result<Settings, InvalidValue> {
        let mut settings = BTreeMap::new();
        let mut bytes = 0;
        for (name, value) in written {
            let wrong = |why: String| InvalidValue::new("config", format!("{name:?} {why}"));
            let value = text(value, folder).map_err(|error| wrong(error.0))?;
            bytes += name.len() + value.len();
            if bytes > CONFIG_BYTES {
                return Err(wrong(format!(
                    "is too much: all names and values together have {CONFIG_BYTES} bytes at most"
                )));
            }
            settings.insert(name.clone(), value);
        }
        Ok(Settings(settings))
    }

    /// The text of the setting `name`.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// All settings, each with its name and its text.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, text)| (name.as_str(), text.as_str()))
    }

    /// Adds the settings to a digest, so that another content of a file makes another generation.
    pub(crate) fn digest(&self, digest: &mut Sha256) {
        for (name, value) in &self.0 {
            for text in [name, value] {
                digest.update((text.len() as u64).to_le_bytes());
                digest.update(text);
            }
        }
    }
}

/// Why a setting has no value: the end of a sentence that begins with its name.
#[derive(Debug)]
struct SettingError(String);

impl<T: Into<String>> From<T> for SettingError {
    fn from(why: T) -> SettingError {
        SettingError(why.into())
    }
}

/// The text of one value, or a description of what is wrong with the value.
fn text(value: &toml::Value, folder: &Path) -> Result<String, SettingError> {
    match value {
        toml::Value::String(text) => Ok(text.clone()),
        toml::Value::Table(table) => match (table.len(), table.get("file")) {
            (1, Some(toml::Value::String(file))) => secret(&folder.join(file)),
            _ => Err("is a table, and only { file = \"…\" } is one".into()),
        },
        // Guessing its text would make 1.0 and 1.00 the same.
        other => {
            let kind = other.type_str();
            Err(format!("is no text but {kind}: write it in quotes").into())
        }
    }
}

/// The text of a file, without the line break that an editor or `echo` leaves at its end.
fn secret(path: &Path) -> Result<String, SettingError> {
    let unreadable =
        |error| SettingError(format!("cannot be read from {}: {error}", path.display()));
    let text = file::read_text(path, CONFIG_BYTES as u64).map_err(unreadable)?;
    // An empty secret is one that everybody knows.
    if text.trim().is_empty() {
        return Err(format!(
            "is empty in {}; perhaps its copy has only begun",
            path.display()
        )
        .into());
    }
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

/// Shows only the names, since the values may be secrets.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, folder: &Path) -> Result<Settings, String> {
        let table = toml::from_str(text).expect(text);
        Settings::read(&table, folder).map_err(|error| error.to_string())
    }

    #[test]
    fn text_and_files_are_read_and_secrets_are_not_shown() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("key"), "s3cret\r\n").expect("a file");
        let settings =
            read("a = 'x'\nkey = { file = 'key' }", folder.path()).expect("good settings");
        assert_eq!(
            (settings.get("a"), settings.get("key")),
            (Some("x"), Some("s3cret"))
        );
        assert_eq!(format!("{settings:?}"), "{\"a\", \"key\"}");
    }

    #[test]
    fn another_content_is_another_digest() {
        let digest = |text| {
            let mut digest = Sha256::new();
            let settings = read(text, Path::new("")).expect(text);
            settings.digest(&mut digest);
            digest.finalize()
        };
        assert_ne!(digest("ab = 'c'"), digest("a = 'bc'"));
        assert_eq!(digest("a = '1'\nb = '2'"), digest("b = '2'\na = '1'"));
    }

    #[test]
    fn there_is_so_much_of_it() {
        let fits = format!("a = '{}'", "x".repeat(CONFIG_BYTES - 1));
        assert!(read(&fits, Path::new("")).is_ok());
        let error = read(&format!("{fits}\nb = ''"), Path::new("")).expect_err("a byte too many");
        assert!(error.contains("\"b\" is too much"), "{error}");

        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("key"), "x".repeat(CONFIG_BYTES + 1)).expect("a file");
        let error = read("a = { file = 'key' }", folder.path()).expect_err("too large");
        assert!(error.contains("has 65537 bytes"), "{error}");

        std::fs::write(folder.path().join("key"), "\n").expect("a file");
        let error = read("a = { file = 'key' }", folder.path()).expect_err("empty");
        assert!(error.contains("is empty in"), "{error}");
    }
}
