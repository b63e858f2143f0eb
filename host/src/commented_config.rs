//! The configuration as a file that explains itself: every key with its description and default.

use std::fmt::Write as _;

use documented::DocumentedFields;

use crate::config::{
    AcmeConfig, Config, HttpConfig, KeyvalueConfig, MeshConfig, ProxyConfig, TlsConfig,
    TracingConfig,
};
use crate::limits::{Limits, PluginLimits};
use crate::listener::UnixSocketConfig;

const HEAD: &str = "\
# The configuration of a node: every key with its description and its default. Remove the # before
# a key to set it. Times are written like 250ms, 10s or 2m.
";

/// The names of a section's keys, each with its description.
type Documentation = (&'static [&'static str], &'static [&'static str]);

/// Returns the text of a configuration file that sets nothing and describes everything.
pub fn commented_defaults() -> String {
    // Serialising plain data into a table fails for no value that it can have.
    let values = toml::Table::try_from(Config::default()).unwrap_or_default();
    let mut text = HEAD.to_owned();
    describe_keys(&mut text, &values, documentation::<Config>());
    describe_sections(&mut text, "", &values, documentation::<Config>());
    text
}

/// Describes the keys of a section, without the sections in it.
fn describe_keys(text: &mut String, values: &toml::Table, (names, docs): Documentation) {
    for (name, doc) in names.iter().zip(docs) {
        if let Some(value) = values.get(*name).filter(|value| !value.is_table()) {
            describe(text, doc, &format!("#{name} = {value}"));
        }
    }
}

/// Describes the sections in a section, whose name is `prefix`.
fn describe_sections(
    text: &mut String,
    prefix: &str,
    values: &toml::Table,
    (names, docs): Documentation,
) {
    for (name, doc) in names.iter().zip(docs) {
        if let Some(toml::Value::Table(values)) = values.get(*name) {
            let name = format!("{prefix}{name}");
            describe(text, doc, &format!("[{name}]"));
            describe_keys(text, values, section(&name));
            describe_sections(text, &format!("{name}."), values, section(&name));
        }
    }
}

fn section(name: &str) -> Documentation {
    match name {
        "http" => documentation::<HttpConfig>(),
        "tracing" => documentation::<TracingConfig>(),
        "keyvalue" => documentation::<KeyvalueConfig>(),
        "limits" => documentation::<Limits>(),
        "mesh" => documentation::<MeshConfig>(),
        "plugin" => documentation::<PluginLimits>(),
        "proxy" => documentation::<ProxyConfig>(),
        "tls" => documentation::<TlsConfig>(),
        "tls.acme" => documentation::<AcmeConfig>(),
        "unix_socket" => documentation::<UnixSocketConfig>(),
        _ => (&[], &[]),
    }
}

fn documentation<T: DocumentedFields>() -> Documentation {
    (T::FIELD_NAMES, T::FIELD_DOCS)
}

fn describe(text: &mut String, doc: &str, line: &str) {
    text.push('\n');
    for doc in doc.lines() {
        let _ = writeln!(text, "# {}", doc.trim());
    }
    let _ = writeln!(text, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::entries;

    fn sets_nothing(value: &toml::Value) -> bool {
        value
            .as_table()
            .is_some_and(|section| section.values().all(sets_nothing))
    }

    #[test]
    fn every_key_is_described_and_has_its_default() {
        let text = commented_defaults();
        let is_key = |line: &&str| line.starts_with('#') && !line.starts_with("# ");
        let keys = text.lines().filter(is_key).count();
        let all = entries(&Config::default());
        assert_eq!(keys, all.len(), "{text}");
        let set: String = text
            .lines()
            .map(|line| match is_key(&line) {
                true => format!("{}\n", &line[1..]),
                false => format!("{line}\n"),
            })
            .collect();
        let read: Config = toml::from_str(&set).expect("a configuration");
        assert_eq!(entries(&read), all);
        assert!(!text.contains("# \n"), "a key has no description");
        // As it is, it sets nothing.
        let unset: toml::Table = toml::from_str(&text).expect("a configuration");
        assert!(unset.values().all(sets_nothing), "{unset}");
    }
}
