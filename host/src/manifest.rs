//! The manifest: an optional `NAME.toml` beside `NAME.wasm`.
//!
//! ```toml
//! routes = ["/ws", "/api/rooms/*"]
//!
//! [limits]
//! memory_bytes = 33554432
//! event_timeout = "500ms"
//!
//! [policies]
//! uid = "kick-old"
//! overflow = "drop-oldest"
//! on_trap = "keep"
//!
//! [calls]
//! allow = ["chat"]
//!
//! [keyvalue]
//! buckets = ["default"]
//!
//! [http]
//! allow = ["https://api.example.com"]
//!
//! [resume]
//! window = "30s"
//!
//! [rollout]
//! percent = 5
//! uids = ["ada"]
//! promote_after = "1h"
//! ```
//!
//! The keys that decide which clients may connect are shown in `access.rs`, and the settings that
//! the plugin can read in `settings.rs`.
//!
//! A limit that the manifest does not set has its value from `[plugin]` in the node's
//! configuration. Unknown keys are errors: a mistyped limit must not be ignored silently.

mod allow;
mod buckets;
mod reach;
mod rollout;
mod routes;
mod rules;
mod settings;

use std::path::Path;

use serde::Deserialize;

use self::allow::WrittenHttp;
use self::buckets::WrittenBuckets;
use self::rollout::RolloutSection;
use crate::access::{Access, Jwt, RequireUid, Requirements};
use crate::invalid_value::InvalidValue;
use crate::limits::{Limits, PluginLimits, WrongLimit};
use crate::policy::{CompressionPolicy, Policies, RefusePolicy, ResumePolicy};
use crate::rollout::Rollout;

pub(crate) use self::allow::{AllowedAddresses, AllowedHosts, RequestTarget};
pub(crate) use self::buckets::Buckets;
pub(crate) use self::reach::{named_files, reach};
pub(crate) use self::rollout::rollout;
pub(crate) use self::routes::{Routes, fits_a_path, name_in};
pub(crate) use self::rules::{FormerRules, Rule, Rules};
pub(crate) use self::settings::Settings;

/// The checked content of a manifest.
#[derive(Debug)]
pub(crate) struct Manifest {
    pub(crate) limits: PluginLimits,
    pub(crate) policies: Policies,
    /// The names of the plugins that may call this plugin.
    pub(crate) callers: Vec<String>,
    pub(crate) routes: Routes,
    pub(crate) access: Access,
    /// The rules about clients, as the manifest writes them. `None` means that there is no
    /// manifest, or an empty one.
    pub(crate) rules: Option<Rules>,
    pub(crate) settings: Settings,
    /// The key-value buckets that the plugin may use, if `[keyvalue]` grants any.
    pub(crate) buckets: Option<Buckets>,
    /// The hosts that the plugin may send requests to, if `[http]` grants any.
    pub(crate) http: Option<AllowedHosts>,
    /// The clients that the build is for at first, if it is not for all.
    pub(crate) rollout: Option<Rollout>,
}

/// A manifest as it is written, before its values are checked.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WrittenManifest {
    routes: Vec<String>,
    origins: Vec<String>,
    require_origin: bool,
    subprotocols: Vec<String>,
    require_subprotocol: bool,
    require_client_certificate: bool,
    #[serde(deserialize_with = "rules::or_false")]
    require_uid: Option<RequireUid>,
    #[serde(deserialize_with = "rules::or_false")]
    jwt: Option<Jwt>,
    refuse: RefusePolicy,
    limits: toml::Table,
    policies: Policies,
    calls: Calls,
    config: toml::Table,
    keyvalue: Option<WrittenBuckets>,
    http: Option<WrittenHttp>,
    compression: Option<CompressionPolicy>,
    resume: Option<ResumePolicy>,
    rollout: Option<RolloutSection>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Calls {
    allow: Vec<String>,
}

impl Manifest {
    /// Parses a manifest's `text`, if there is any, on top of the node's `defaults`. The files that
    /// it names are read; their paths are relative to `folder`.
    ///
    /// # Errors
    ///
    /// The text is no manifest, a value in it is not permitted, or a file that it names cannot be
    /// used.
    pub(crate) fn parse(
        text: Option<&str>,
        folder: &Path,
        defaults: &PluginLimits,
    ) -> Result<Manifest, ManifestError> {
        let something = text.filter(|text| !text.trim().is_empty());
        let rules = something.map(Rules::read).transpose();
        let text = text.unwrap_or_default();
        let malformed = |error| ManifestError::malformed(text, &error);
        let rules = rules.map_err(malformed)?;
        let written: WrittenManifest = toml::from_str(text).map_err(malformed)?;
        let access = Requirements {
            origins: written.origins,
            require_origin: written.require_origin,
            subprotocols: written.subprotocols,
            require_subprotocol: written.require_subprotocol,
            require_client_certificate: written.require_client_certificate,
            require_uid: written.require_uid,
            jwt: written.jwt,
        };
        let mut limits = toml::Table::try_from(defaults)
            .map_err(|error| ManifestError::Limit(error.to_string()))?;
        limits.extend(written.limits);
        let limits: PluginLimits = limits
            .try_into()
            .map_err(|error: toml::de::Error| ManifestError::Limit(error.message().to_owned()))?;
        limits
            .check()
            .map_err(|wrong| ManifestError::Limit(wrong.to_string()))?;
        let callers = written.calls.allow;
        if let Some(wrong) = callers.iter().find(|name| !fits_a_path(name)) {
            return Err(ManifestError::Caller(wrong.clone()));
        }
        Ok(Manifest {
            http: written.http.as_ref().map(AllowedHosts::parse).transpose()?,
            limits,
            policies: Policies {
                refuse: written.refuse,
                compression: written
                    .compression
                    .map(CompressionPolicy::check)
                    .transpose()?,
                resume: written.resume.map(ResumePolicy::check).transpose()?,
                ..written.policies
            },
            callers,
            routes: Routes::parse(&written.routes)?,
            access: Access::new(&access, folder)?,
            rules,
            settings: Settings::read(&written.config, folder)?,
            buckets: written.keyvalue.map(Buckets::parse).transpose()?,
            rollout: written.rollout.map(RolloutSection::check).transpose()?,
        })
    }

    /// Checks that the manifest's limits fit each other and the limits of the `node`.
    ///
    /// # Errors
    ///
    /// An instance has too little memory for the data that it may get, or an event has too little
    /// time for a call that it may wait for.
    pub(crate) fn check_with(&self, node: &Limits, takes_calls: bool) -> Result<(), ManifestError> {
        let limits = &self.limits;
        let check = || {
            limits.check_holds("message_bytes", node.message_bytes)?;
            if takes_calls {
                limits.check_holds("call_bytes", limits.call_bytes)?;
            }
            if self.buckets.is_some() {
                limits.check_holds("keyvalue_value_bytes", limits.keyvalue_value_bytes)?;
                limits.check_waits_for("keyvalue_timeout", limits.keyvalue_timeout)?;
            }
            if self.http.is_some() {
                limits.check_waits_for("http_timeout", limits.http_timeout)?;
            }
            Ok(())
        };
        check().map_err(|wrong: WrongLimit| ManifestError::Limit(wrong.to_string()))
    }
}

/// The reason why a manifest can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The manifest is not valid TOML, or its keys have wrong types or names.
    #[error("line {line}: {message}")]
    Malformed {
        /// The number of the wrong line. The text of the line is left out, since it may contain a
        /// secret.
        line: usize,
        /// A description of the mistake.
        message: String,
    },
    /// A limit is unknown, or has a value that it can't have.
    #[error("[limits]: {0}")]
    Limit(String),
    /// A name under `[calls] allow` is no plugin's name.
    #[error("[calls]: {0:?} under allow is no plugin's name")]
    Caller(String),
    /// Another key has a value that it can't have.
    #[error(transparent)]
    Value(#[from] InvalidValue),
}

impl ManifestError {
    fn malformed(text: &str, error: &toml::de::Error) -> ManifestError {
        let at = error.span().map_or(0, |span| span.start);
        let before = text.bytes().take(at);
        ManifestError::Malformed {
            line: 1 + before.filter(|byte| *byte == b'\n').count(),
            message: error.message().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzzing::fuzz;
    use crate::policy::{OverflowPolicy, TrapPolicy, UidPolicy};
    use std::time::Duration;

    #[test]
    fn what_it_does_not_set_stays_as_it_was() {
        let defaults = PluginLimits {
            instances: 7,
            ..PluginLimits::default()
        };
        let text = "[limits]\nevent_timeout = '20ms'\n[policies]\nuid = 'kick-old'\n\
                    [calls]\nallow = ['chat', 'shop-2']";
        let manifest =
            Manifest::parse(Some(text), Path::new(""), &defaults).expect("a good manifest");
        let limits = PluginLimits {
            event_timeout: Duration::from_millis(20),
            ..defaults
        };
        assert_eq!(manifest.limits, limits);
        let policies = Policies {
            uid: UidPolicy::KickOld,
            ..Policies::default()
        };
        assert_eq!(manifest.policies, policies);
        assert_eq!(manifest.callers, ["chat", "shop-2"]);
        assert_eq!(manifest.policies.overflow, OverflowPolicy::Close);
        assert_eq!(manifest.policies.on_trap, TrapPolicy::Close);
    }

    #[test]
    fn what_stands_where_it_is_wrong_is_not_shown() {
        for text in [
            "[config]\nkey = 's3cret",
            "[config]\nkey = s3cret",
            "[config]\nkey = { text = 's3cret' }",
            "[config]\nkey = ['s3cret']",
        ] {
            let error = Manifest::parse(Some(text), Path::new(""), &PluginLimits::default());
            let error = error.expect_err(text).to_string();
            assert!(!error.contains("s3cret"), "{error}");
            assert!(
                error.contains("line 2") || error.contains("\"key\""),
                "{error}"
            );
        }
    }

    #[test]
    fn what_it_says_wrong_is_named() {
        for (text, named) in [
            ("[limit]", "limit"),
            ("[limits]\nmemory = 1", "memory"),
            ("[limits]\nevent_timeout = 5", "invalid type"),
            ("[limits]\ninstances = 0", "instances is 0"),
            ("[limits]\ncpu_weight = 0", "cpu_weight is 0"),
            (
                "[limits]\nprobation_failures = 0",
                "probation_failures is 0, but must be 1 at least",
            ),
            (
                "[limits]\nprobation_failure_percent = 101",
                "probation_failure_percent is 101, more than the 100 possible",
            ),
            ("[limits]\ncpu_weight = 10001", "cpu_weight is 10001"),
            (
                "[limits]\ntotal_memory_bytes = 1000",
                "total_memory_bytes is 1000 for all instances together",
            ),
            (
                "[limits]\nmemory_bytes = 999999999",
                "memory_bytes is 999999999",
            ),
            ("[policies]\nuid = 'kick'", "kick"),
            ("[policies]\nuids = 'many'", "uids"),
            ("refuse = 'silently'", "silently"),
            ("[policies]\nrefuse = 'close'", "refuse"),
            ("[limits]\ncall_bytes = 9999999", "call_bytes is 9999999"),
            ("[calls]\nallowed = ['chat']", "allowed"),
            ("[calls]\nallow = 'chat'", "invalid type"),
            ("[calls]\nallow = ['chat.wasm']", "\"chat.wasm\""),
            ("route = ['/ws']", "route"),
            (
                "[compression]\nlevel = 10",
                "compression.level: 10 is not from 1 (fast) to 9 (small)",
            ),
            ("[compression]\nlevel = 0", "compression.level: 0"),
            ("[compression]\nwindow = 15", "window"),
            ("[rollout]", "rollout: it is for nobody"),
            ("[rollout]\npercent = 101", "rollout.percent: 101"),
            ("[rollout]\npercent = '5%'", "invalid type"),
            ("[rollout]\nshare = 5", "share"),
            ("[rollout]\nuids = ['']", "rollout.uids"),
            (
                "[rollout]\npercent = 5\npromote_after = '40days'",
                "rollout.promote_after",
            ),
            ("[limits]\nmessages_per_turn = 0", "messages_per_turn is 0"),
            (
                "[limits]\nmessages_per_turn = 65",
                "messages_per_turn is 65",
            ),
            (
                "[config]\na = 1.50",
                "config: \"a\" is no text but float: write it in quotes",
            ),
            ("[config]\na = { path = 'a' }", "config: \"a\" is a table"),
            (
                "[config]\na = { file = '/no/key' }",
                "config: \"a\" cannot be read from /no/key",
            ),
            ("config = 'a'", "invalid type"),
            ("[keyvalue]\nbucket = ['a']", "bucket"),
            ("[keyvalue]\nbuckets = ['a:b']", "keyvalue.buckets: \"a:b\""),
            ("[keyvalue]\nbuckets = ['']", "keyvalue.buckets: \"\""),
            (
                "[limits]\nkeyvalue_value_bytes = 1048577",
                "keyvalue_value_bytes is 1048577",
            ),
            ("[http]\nallowed = ['https://a']", "allowed"),
            ("[http]\nallow = ['a']", "http.allow: \"a\""),
            (
                "[http]\nallow_private = ['https://a/']",
                "http.allow_private: \"https://a/\"",
            ),
            ("[limits]\nhttp_timeout = '0s'", "http_timeout is 0"),
            ("[limits]\nhttp_timeout = '2h'", "http_timeout is 7200s"),
            ("[limits]\nhttp_requests = 1025", "http_requests is 1025"),
            ("[limits]\nkeyvalue_timeout = '0s'", "keyvalue_timeout is 0"),
            ("routes = '/ws'", "invalid type"),
            ("routes = ['ws']", "routes: \"ws\""),
            ("origins = ['example.com']", "origins: \"example.com\""),
            ("subprotocols = ['a b']", "subprotocols: \"a b\""),
            (
                "require_subprotocol = true",
                "require_subprotocol: there are no",
            ),
            ("require_uid = {}", "require_uid: it names neither"),
            (
                "require_uid = { query = '' }",
                "require_uid: the name under query",
            ),
            (
                "require_uid = { header = 'a b' }",
                "require_uid: the name under header",
            ),
            ("require_uid = { cookie = 'a' }", "cookie"),
            ("[jwt]", "jwt: name one of"),
            (
                "[jwt]\nkey_file = 'a'\nsecret_file = 'b'",
                "jwt: name one of",
            ),
            (
                "[jwt]\nkey_file = '/no/key'",
                "jwt.key_file: /no/key cannot be read",
            ),
            ("[jwt]\nkey = 'a'", "key"),
            (
                "[jwt]\nkey_file = 'a'\nleeway = '2h'",
                "jwt.leeway: is 7200s",
            ),
            (
                "[jwt]\nkey_file = 'a'\nuid_claim = ''",
                "jwt.uid_claim: is empty",
            ),
            ("[jwt]\nkey_file = 'a'\nquery = ['']", "jwt.query: is empty"),
            (
                "require_uid = { query = 'a' }\n[jwt]\nkey_file = 'a'",
                "require_uid: [jwt] says already",
            ),
        ] {
            let error = Manifest::parse(Some(text), Path::new(""), &PluginLimits::default())
                .expect_err(text);
            assert!(error.to_string().contains(named), "{text}: {error}");
        }
    }

    #[test]
    fn limits_that_leave_another_no_room_are_named_with_it() {
        let node = Limits::default();
        let check = |text: &str, takes_calls| {
            let manifest = Manifest::parse(Some(text), Path::new(""), &PluginLimits::default());
            manifest
                .expect(text)
                .check_with(&node, takes_calls)
                .map_err(|error| error.to_string())
        };
        let tight = "[limits]\nmemory_bytes = 3145728\ncall_bytes = 1048576";
        let store = "[limits]\nmemory_bytes = 3145728\nkeyvalue_value_bytes = 1048576";
        let short = "[limits]\nevent_timeout = '1s'\nwait_timeout = '1s'";
        for (text, takes_calls, named) in [
            (
                "[limits]\nmemory_bytes = 2097152",
                false,
                "message_bytes (65536)",
            ),
            (tight, true, "call_bytes (1048576)"),
            (
                &format!("{store}\n[keyvalue]"),
                false,
                "keyvalue_value_bytes (1048576)",
            ),
            (
                &format!("{short}\n[keyvalue]"),
                false,
                "keyvalue_timeout (1s)",
            ),
            (&format!("{short}\n[http]"), false, "http_timeout (4s)"),
        ] {
            let error = check(text, takes_calls).expect_err(text);
            assert!(error.contains(named), "{text}: {error}");
            assert!(error.contains("memory_bytes is") || error.contains("wait_timeout is"));
        }
        // What a plugin does not have asks for no room.
        for text in [tight, store, short] {
            assert_eq!(check(text, false), Ok(()), "{text}");
        }
    }

    #[test]
    fn whatever_it_says_is_taken_whole_or_refused_with_a_reason() {
        let parse = |text: &str| {
            let folder = Path::new("/no/folder");
            Manifest::parse(Some(text), folder, &PluginLimits::default())
        };
        let mut good = 0;
        fuzz("manifests", 5_000, |bytes| {
            let text = String::from_utf8_lossy(bytes);
            let lines = 1 + text.matches('\n').count();
            match parse(&text) {
                Ok(manifest) => {
                    good += 1;
                    assert_eq!(manifest.limits.check(), Ok(()));
                    let routes = manifest.routes.written();
                    let again = Routes::parse(&routes).expect("good routes");
                    assert_eq!(again.written(), routes);
                    assert!(manifest.callers.iter().all(|caller| fits_a_path(caller)));
                    let table: toml::Table = toml::from_str(&text).expect("TOML");
                    let limits = table.get("limits").and_then(toml::Value::as_table);
                    let used = toml::Table::try_from(&manifest.limits).expect("a table");
                    for (name, value) in limits.into_iter().flatten() {
                        // A time may be written in several ways.
                        let is_used = used[name] == *value || value.is_str();
                        assert!(is_used, "{name} is not {value}");
                    }
                }
                Err(error) => {
                    let said = error.to_string();
                    assert!(!said.is_empty());
                    if let ManifestError::Malformed { line, message } = error {
                        assert!((1..=lines).contains(&line), "line {line} of {lines}");
                        assert!(!message.is_empty());
                    }
                }
            }
        });
        assert!(good > 50, "{good}");
    }

    #[test]
    fn a_key_that_there_is_not_is_named() {
        // Each name that is in some manifest, with a letter more, in each section.
        let sections = [
            "",
            "[limits]",
            "[policies]",
            "[calls]",
            "[keyvalue]",
            "[http]",
            "[compression]",
        ];
        for name in ["routes", "memory_bytes", "uid", "allow", "buckets", "level"] {
            for section in sections {
                let text = format!("{section}\n{name}x = 1");
                let manifest =
                    Manifest::parse(Some(&text), Path::new(""), &PluginLimits::default());
                let error = manifest.expect_err(&text).to_string();
                assert!(error.contains(&format!("{name}x")), "{text}: {error}");
            }
        }
    }
}
