//! What the stand-in does of a manifest.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fmt, fs};

use serde::Deserialize;

use super::{Host, Limits, UidPolicy};
use crate::{Handshake, Refuse};

/// A name for a uid that old clients write in either way; a node takes both.
const BUSINESS_ID: [&str; 2] = ["businessId", "bussinessId"];

/// A `ManifestError` says why a manifest cannot be used, and in which line.
#[derive(Clone, PartialEq, Eq)]
pub struct ManifestError {
    /// The message has the file's name, and the line that is wrong.
    pub message: String,
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// The message is written as it is, since it has several lines and a test's `expect` shows it.
impl fmt::Debug for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ManifestError {}

impl<P> Host<P> {
    /// Reads the plugin's manifest, so that the test runs under what is deployed.
    ///
    /// The path is relative to the package's folder, in which `cargo test` runs. The plugin's
    /// name is the file's, as on a node. The host does what these keys say:
    ///
    /// - `uid` under `[policies]`, as [`uid_policy`](Host::uid_policy) does.
    /// - `[config]`, as [`config`](Host::config) does. A setting whose `file` is not there is left
    ///   out, since secrets are seldom where tests run: set it with `config`.
    /// - `buckets` under `[keyvalue]`, as [`buckets`](Host::buckets) does.
    /// - `allow` under `[calls]`, as [`allow_calls`](Host::allow_calls) does.
    /// - `require_uid`, for a handshake whose `uid` the test has not set.
    /// - `[limits]`, those of [`Limits`] that a manifest may have: `sends_per_event`, `call_bytes`,
    ///   `timers`, `keyvalue_key_bytes`, `keyvalue_value_bytes`, `keyvalue_bytes` and
    ///   `log_lines_per_event`.
    ///
    /// All other keys are ignored, and so is a key that no manifest has: `jackfield check` finds
    /// those.
    ///
    /// ```no_run
    /// use jackfield_sdk::testing::Host;
    /// # struct Auction;
    ///
    /// let host = Host::of::<Auction>().manifest("auction.toml")?.config(&[("api_key", "test")]);
    /// # Ok::<(), jackfield_sdk::testing::ManifestError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The file cannot be read, its text is no TOML, or a key that the host knows has a value that
    /// it cannot have. The error has the line.
    pub fn manifest(self, path: impl AsRef<Path>) -> Result<Host<P>, ManifestError> {
        let path = path.as_ref();
        let text = fs::read_to_string(path).map_err(|error| wrong(path.display(), error))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let host = self.apply(&text, folder, &path.display().to_string())?;
        let name = path.file_stem().unwrap_or_default();
        Ok(host.plugin_name(name.to_string_lossy()))
    }

    /// Reads a manifest from its text, as [`manifest`](Host::manifest) reads one from a file.
    ///
    /// The plugin's name stays as it is.
    ///
    /// ```
    /// use jackfield_sdk::testing::Host;
    /// use jackfield_sdk::{Plugin, config};
    ///
    /// struct Quiet;
    /// impl Plugin for Quiet {}
    ///
    /// let text = "
    ///     require_uid = { query = 'name' }
    ///     [policies]
    ///     uid = 'reject-new'
    ///     [config]
    ///     greeting = 'hello'
    /// ";
    /// let host = Host::of::<Quiet>().manifest_text(text)?;
    /// assert_eq!(host.run(|| config::get("greeting")).as_deref(), Some("hello"));
    /// assert_eq!(host.connect("/").unwrap_err().status, 400);
    /// assert!(host.connect("/?name=ada").is_ok());
    /// assert_eq!(host.connect("/?name=ada").unwrap_err().status, 409);
    /// # Ok::<(), jackfield_sdk::testing::ManifestError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The text is no TOML, or a key that the host knows has a value that it cannot have. The error
    /// has the line.
    ///
    /// ```
    /// use jackfield_sdk::testing::Host;
    ///
    /// let error = Host::new().manifest_text("[policies]\nuid = 'kick'").unwrap_err();
    /// assert!(error.message.contains("line 2"));
    /// ```
    pub fn manifest_text(self, text: &str) -> Result<Host<P>, ManifestError> {
        self.apply(text, Path::new(""), "the manifest")
    }

    fn apply(self, text: &str, folder: &Path, name: &str) -> Result<Host<P>, ManifestError> {
        let manifest: Manifest = toml::from_str(text).map_err(|error| wrong(name, error))?;
        let mut node = self.node.borrow_mut();
        node.uid_policy = manifest.policies.uid;
        node.callers = manifest.calls.allow;
        node.require_uid = match manifest.require_uid {
            RequireUidKey::Rule(rule) => Some(rule),
            RequireUidKey::Off(false) => None,
            RequireUidKey::Off(true) => {
                return Err(wrong(
                    name,
                    "require_uid is true, and can be a table or false",
                ));
            }
        };
        manifest.limits.apply(&mut node.limits);
        for (name, value) in manifest.config {
            if let Some(text) = value.text(folder) {
                node.settings.insert(name, text);
            }
        }
        for name in manifest.keyvalue.buckets {
            node.buckets.entry(name).or_default();
        }
        drop(node);
        Ok(self)
    }
}

fn wrong(name: impl fmt::Display, error: impl fmt::Display) -> ManifestError {
    let message = format!("{name}: {error}");
    ManifestError {
        message: message.trim_end().to_owned(),
    }
}

/// The keys that the stand-in knows.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Manifest {
    require_uid: RequireUidKey,
    limits: LimitKeys,
    policies: PolicyKeys,
    calls: CallKeys,
    config: BTreeMap<String, Setting>,
    keyvalue: KeyValueKeys,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PolicyKeys {
    uid: UidPolicy,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CallKeys {
    allow: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct KeyValueKeys {
    buckets: Vec<String>,
}

/// The limits that a manifest may have, each where it has it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct LimitKeys {
    sends_per_event: Option<usize>,
    call_bytes: Option<usize>,
    timers: Option<usize>,
    keyvalue_key_bytes: Option<usize>,
    keyvalue_value_bytes: Option<usize>,
    keyvalue_bytes: Option<usize>,
    log_lines_per_event: Option<usize>,
}

impl LimitKeys {
    fn apply(self, limits: &mut Limits) {
        for (limit, value) in [
            (&mut limits.sends_per_event, self.sends_per_event),
            (&mut limits.call_bytes, self.call_bytes),
            (&mut limits.timers, self.timers),
            (&mut limits.keyvalue_key_bytes, self.keyvalue_key_bytes),
            (&mut limits.keyvalue_value_bytes, self.keyvalue_value_bytes),
            (&mut limits.keyvalue_bytes, self.keyvalue_bytes),
            (&mut limits.log_lines_per_event, self.log_lines_per_event),
        ] {
            *limit = value.unwrap_or(*limit);
        }
    }
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "a setting is a text in quotes, or { file = \"…\" }"
)]
enum Setting {
    Text(String),
    File { file: PathBuf },
}

impl Setting {
    /// The text, without the end of line at a file's end.
    fn text(self, folder: &Path) -> Option<String> {
        match self {
            Setting::Text(text) => Some(text),
            Setting::File { file } => {
                let text = fs::read_to_string(folder.join(file)).ok()?;
                let text = text.strip_suffix('\n').unwrap_or(&text);
                Some(text.strip_suffix('\r').unwrap_or(text).to_owned())
            }
        }
    }
}

/// `require_uid = false` says that there is no rule.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "require_uid is { header = \"…\", query = \"…\" }, one of the two, or false"
)]
enum RequireUidKey {
    Rule(RequireUid),
    Off(bool),
}

impl Default for RequireUidKey {
    fn default() -> RequireUidKey {
        RequireUidKey::Off(false)
    }
}

/// Where a handshake has the client's uid.
#[derive(Deserialize)]
pub(super) struct RequireUid {
    query: Option<String>,
    header: Option<String>,
}

impl RequireUid {
    /// Finds the uid, unless the test has set one.
    pub(super) fn apply(&self, handshake: &mut Handshake) -> Result<(), Refuse> {
        if handshake.uid.is_none() {
            let in_query = value(&handshake.query, self.query.as_deref());
            let uid = in_query.or_else(|| value(&handshake.headers, self.header.as_deref()));
            handshake.uid = Some(uid.ok_or_else(|| self.refuse())?);
        }
        Ok(())
    }

    fn refuse(&self) -> Refuse {
        let query = self
            .query
            .iter()
            .map(|name| format!("the query parameter {name}"));
        let header = self.header.iter().map(|name| format!("the header {name}"));
        let names: Vec<_> = query.chain(header).collect();
        Refuse::new(400, format!("{} is missing or empty", names.join(" or ")))
    }
}

/// The first value of this name, in whatever case, that is not blank.
fn value(pairs: &[(String, String)], name: Option<&str>) -> Option<String> {
    let name = name?;
    let is_named = |found: &str| {
        let is = |name: &str| found.eq_ignore_ascii_case(name);
        is(name) || (name.eq_ignore_ascii_case(BUSINESS_ID[0]) && is(BUSINESS_ID[1]))
    };
    let mut values = pairs.iter().filter(|(found, _)| is_named(found));
    let (_, value) = values.find(|(_, value)| !value.trim().is_empty())?;
    Some(value.clone())
}
