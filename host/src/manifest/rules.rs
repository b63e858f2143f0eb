//! The rules by which a manifest refuses clients. A reload must not lose them by accident.
//!
//! A manifest may be incomplete, because a copy is under way or because a disk is full. The rest of
//! it may still be a valid manifest, and one that accepts every client. So a rule of the running
//! plugin is removed only by an explicit entry (`jwt = false`), and never by leaving it out.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use toml::{Table, Value};

/// One rule: its dotted key in a manifest, and the text that removes the rule.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) key: &'static str,
    pub(crate) undo: &'static str,
    holds: fn(&Value) -> bool,
}

/// Every key by which a manifest refuses clients.
const RULES: [Rule; 9] = [
    Rule {
        key: "jwt",
        undo: "jwt = false",
        holds: Value::is_table,
    },
    Rule {
        key: "jwt.audience",
        undo: "audience = \"\" under [jwt]",
        holds: is_text,
    },
    Rule {
        key: "jwt.issuer",
        undo: "issuer = \"\" under [jwt]",
        holds: is_text,
    },
    Rule {
        key: "origins",
        undo: "origins = []",
        holds: |value| value.as_array().is_some_and(|origins| !origins.is_empty()),
    },
    Rule {
        key: "policies.uid",
        undo: "uid = \"many\" under [policies]",
        holds: |value| value.as_str() != Some("many"),
    },
    Rule {
        key: "require_client_certificate",
        undo: "require_client_certificate = false",
        holds: is_true,
    },
    Rule {
        key: "require_origin",
        undo: "require_origin = false",
        holds: is_true,
    },
    Rule {
        key: "require_subprotocol",
        undo: "require_subprotocol = false",
        holds: is_true,
    },
    Rule {
        key: "require_uid",
        undo: "require_uid = false",
        holds: Value::is_table,
    },
];

fn is_text(value: &Value) -> bool {
    value.as_str().is_some_and(|text| !text.is_empty())
}

fn is_true(value: &Value) -> bool {
    value.as_bool() == Some(true)
}

/// The rules that a manifest mentions; for each, whether it is in force, and its value.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Rules(BTreeMap<&'static str, (bool, Value)>);

/// The rules of the last generation of a plugin.
#[derive(Debug)]
pub(crate) struct FormerRules {
    pub(crate) generation: u64,
    /// The rules in its manifest; `None` means that there was no manifest.
    pub(crate) rules: Option<Rules>,
}

impl Rules {
    /// Reads the rules from a manifest's text.
    ///
    /// # Errors
    ///
    /// The text is no TOML.
    pub(crate) fn read(text: &str) -> Result<Rules, toml::de::Error> {
        let table: Table = toml::from_str(text)?;
        let said = RULES.iter().filter_map(|rule| {
            let value = find(&table, rule.key)?;
            Some((rule.key, ((rule.holds)(value), value.clone())))
        });
        Ok(Rules(said.collect()))
    }

    /// The rules that were in force by `former` and that these rules do not mention.
    pub(crate) fn lost(&self, former: &Rules) -> Vec<&'static Rule> {
        let held = |rule: &&Rule| former.holds(rule.key);
        let is_lost = |rule: &&Rule| {
            let parent = rule.key.split_once('.').map(|(parent, _)| parent);
            // Where there is no rule, or another one is lost, there is none of its details.
            let has_parent =
                parent.is_none_or(|parent| !former.0.contains_key(parent) || self.holds(parent));
            has_parent && !self.0.contains_key(rule.key)
        };
        RULES.iter().filter(held).filter(is_lost).collect()
    }

    /// The rules that were in force by `former`, and that are other ones by these rules, or none. What
    /// nobody has just written must not let in more clients.
    pub(crate) fn changed(&self, former: &Rules) -> Vec<&'static Rule> {
        let is_changed =
            |rule: &&Rule| former.holds(rule.key) && self.0.get(rule.key) != former.0.get(rule.key);
        RULES.iter().filter(is_changed).collect()
    }

    fn holds(&self, key: &str) -> bool {
        self.0.get(key).is_some_and(|(holds, _)| *holds)
    }
}

fn find<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    match key.split_once('.') {
        None => table.get(key),
        Some((section, key)) => table.get(section)?.as_table()?.get(key),
    }
}

/// Reads a rule that is a table; `false` means that there is no such rule.
///
/// # Errors
///
/// The value is neither a table nor `false`.
pub(crate) fn or_false<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct OrFalse<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for OrFalse<T> {
        type Value = Option<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a table or false")
        }

        fn visit_bool<E: Error>(self, value: bool) -> Result<Option<T>, E> {
            match value {
                false => Ok(None),
                true => Err(E::custom("invalid type: true, expected a table or false")),
            }
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Option<T>, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map)).map(Some)
        }
    }

    deserializer.deserialize_any(OrFalse(PhantomData))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(former: &str, text: &str) -> Vec<&'static str> {
        let read = |text| Rules::read(text).expect("TOML");
        let lost = read(text).lost(&read(former));
        lost.into_iter().map(|rule| rule.key).collect()
    }

    const ALL: &str = "origins = ['https://a.example']\nrequire_origin = true\n\
        require_client_certificate = true\n\
        require_subprotocol = true\nrequire_uid = { query = 'a' }\n[policies]\nuid = 'kick-old'\n\
        [jwt]\nkey_file = 'a'\nissuer = 'b'\naudience = 'c'\n";

    #[test]
    fn a_rule_that_is_another_one_has_changed() {
        let read = |text: &str| Rules::read(text).expect("rules");
        let strict = read("origins = ['https://a.example']\n[jwt]\nissuer = 'a'");
        let changed = |text: &str| {
            let changed = read(text).changed(&strict).into_iter();
            changed.map(|rule| rule.key).collect::<Vec<_>>()
        };
        assert!(changed("origins = ['https://a.example']\n[jwt]\nissuer = 'a'").is_empty());
        assert_eq!(changed(""), ["jwt", "jwt.issuer", "origins"]);
        assert_eq!(
            changed("jwt = false\norigins = ['https://a.example']"),
            ["jwt", "jwt.issuer"]
        );
        let wider = "origins = ['https://a.example', '*']\n[jwt]\nissuer = 'a'";
        assert_eq!(changed(wider), ["origins"]);
        // What it demands in addition is no harm.
        assert!(
            read("require_origin = true")
                .changed(&Rules::default())
                .is_empty()
        );
    }

    #[test]
    fn a_manifest_that_is_cut_off_anywhere_has_lost_what_is_missing() {
        for (at, _) in ALL.char_indices().skip(1) {
            // What is no TOML is an error of its own.
            let Ok(rules) = Rules::read(&ALL[..at]) else {
                continue;
            };
            let all = Rules::read(ALL).expect("TOML");
            // Only the very end, a line's end, may be missing.
            assert_eq!(rules.lost(&all).is_empty(), at >= ALL.len() - 1, "{at}");
        }
    }

    #[test]
    fn what_is_left_out_is_lost_and_what_is_taken_back_is_not() {
        assert_eq!(lost(ALL, ALL), [""; 0]);
        let nothing = lost(ALL, "# nothing");
        assert_eq!(
            nothing,
            [
                "jwt",
                "origins",
                "policies.uid",
                "require_client_certificate",
                "require_origin",
                "require_subprotocol",
                "require_uid"
            ]
        );
        let taken_back = "origins = []\nrequire_origin = false\nrequire_subprotocol = false\n\
            require_client_certificate = false\nrequire_uid = false\njwt = false\n[policies]\nuid = 'many'";
        assert_eq!(lost(ALL, taken_back), [""; 0]);
        assert_eq!(
            lost(ALL, &format!("{taken_back}\n")),
            lost(taken_back, "# nothing")
        );
    }

    #[test]
    fn details_of_a_rule_are_lost_one_by_one() {
        let key = "[jwt]\nkey_file = 'a'\n";
        let issuer = format!("{key}issuer = 'b'\n");
        assert_eq!(lost(&issuer, key), ["jwt.issuer"]);
        assert_eq!(lost(&issuer, &format!("{key}issuer = ''")), [""; 0]);
        assert_eq!(lost(&issuer, "jwt = false"), [""; 0]);
        assert_eq!(lost(&issuer, "[jwt]"), ["jwt.issuer"]);
        assert_eq!(lost(key, &issuer), [""; 0]);
        assert_eq!(lost("jwt = false", "# nothing"), [""; 0]);
    }
}
