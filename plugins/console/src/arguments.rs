//! The arguments of the operations, decoded once. A name that an operation does not take is
//! an error, so that a typo is seen.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jackfield_sdk::{ClientId, Error, Info, Level, Message, TimerScope};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::request::invalid;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OfClient {
    pub(crate) client: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ToAll {
    pub(crate) text: Option<String>,
    pub(crate) binary: Option<String>,
    #[serde(default, deserialize_with = "one_or_many")]
    pub(crate) exclude: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ToClient {
    pub(crate) client: Option<String>,
    pub(crate) text: Option<String>,
    pub(crate) binary: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reply {
    pub(crate) text: Option<String>,
    pub(crate) binary: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Spin {
    pub(crate) ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ToUids {
    #[serde(alias = "uids", deserialize_with = "one_or_many")]
    pub(crate) uid: Vec<String>,
    pub(crate) text: Option<String>,
    pub(crate) binary: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ToGroups {
    #[serde(alias = "groups", deserialize_with = "one_or_many")]
    pub(crate) group: Vec<String>,
    pub(crate) text: Option<String>,
    pub(crate) binary: Option<String>,
    #[serde(default, deserialize_with = "one_or_many")]
    pub(crate) exclude: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClientUid {
    pub(crate) client: Option<String>,
    pub(crate) uid: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClientMaybeUid {
    pub(crate) client: Option<String>,
    pub(crate) uid: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OfUid {
    pub(crate) uid: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UidPage {
    pub(crate) uid: String,
    pub(crate) cursor: Option<String>,
    #[serde(default = "page_limit")]
    pub(crate) limit: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AnyPage {
    pub(crate) cursor: Option<String>,
    #[serde(default = "page_limit")]
    pub(crate) limit: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClientGroup {
    pub(crate) client: Option<String>,
    pub(crate) group: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OfGroup {
    pub(crate) group: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GroupPage {
    pub(crate) group: String,
    pub(crate) cursor: Option<String>,
    #[serde(default = "page_limit")]
    pub(crate) limit: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CloseClient {
    pub(crate) client: Option<String>,
    #[serde(default = "normal_closure")]
    pub(crate) code: u16,
    #[serde(default)]
    pub(crate) reason: String,
    pub(crate) text: Option<String>,
    pub(crate) binary: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CloseUid {
    pub(crate) uid: String,
    #[serde(default = "normal_closure")]
    pub(crate) code: u16,
    #[serde(default)]
    pub(crate) reason: String,
    pub(crate) text: Option<String>,
    pub(crate) binary: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CloseGroup {
    pub(crate) group: String,
    #[serde(default = "normal_closure")]
    pub(crate) code: u16,
    #[serde(default)]
    pub(crate) reason: String,
    pub(crate) text: Option<String>,
    pub(crate) binary: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClientInfo {
    pub(crate) client: Option<String>,
    pub(crate) info: Info,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClientChanges {
    pub(crate) client: Option<String>,
    pub(crate) info: BTreeMap<String, Option<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ToPlugin {
    pub(crate) plugin: String,
    pub(crate) method: String,
    #[serde(default)]
    pub(crate) payload: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogLine {
    #[serde(default)]
    pub(crate) level: LevelName,
    pub(crate) text: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Print {
    pub(crate) text: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Repeat {
    pub(crate) times: u32,
    pub(crate) request: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Panic {
    #[serde(default = "panic_message")]
    pub(crate) message: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EatMemory {
    pub(crate) bytes: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GrowMemory {
    pub(crate) bytes: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Exit {
    #[serde(default = "failure")]
    pub(crate) code: i32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sleep {
    #[serde(default = "one_second")]
    pub(crate) ms: u64,
    pub(crate) log: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetTimer {
    pub(crate) name: String,
    pub(crate) after_ms: u64,
    pub(crate) every_ms: Option<u64>,
    #[serde(default)]
    pub(crate) scope: ScopeName,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OfTimer {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) scope: ScopeName,
}

/// The message of a send: `text`, or `binary` in base64.
pub(crate) fn message(text: Option<String>, binary: Option<String>) -> Result<Message, Error> {
    last_message(text, binary)?
        .ok_or_else(|| invalid("the message is missing: give `text`, or `binary` in base64"))
}

/// The last message of a close, which may be left out.
pub(crate) fn last_message(
    text: Option<String>,
    binary: Option<String>,
) -> Result<Option<Message>, Error> {
    match (text, binary) {
        (None, None) => Ok(None),
        (Some(text), None) => Ok(Some(Message::Text(text))),
        (None, Some(encoded)) => match BASE64_STANDARD.decode(&encoded) {
            Ok(bytes) => Ok(Some(Message::Binary(bytes))),
            Err(error) => Err(invalid(format!("`binary` is not base64: {error}"))),
        },
        (Some(_), Some(_)) => Err(invalid("a message is `text` or `binary`, not both")),
    }
}

pub(crate) fn clients(ids: Vec<String>) -> Vec<ClientId> {
    ids.into_iter().map(ClientId::from).collect()
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LevelName {
    Trace,
    Debug,
    #[default]
    Info,
    Warn,
    Error,
}

impl From<LevelName> for Level {
    fn from(name: LevelName) -> Level {
        match name {
            LevelName::Trace => Level::Trace,
            LevelName::Debug => Level::Debug,
            LevelName::Info => Level::Info,
            LevelName::Warn => Level::Warn,
            LevelName::Error => Level::Error,
        }
    }
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ScopeName {
    #[default]
    Node,
    Cluster,
}

impl From<ScopeName> for TimerScope {
    fn from(name: ScopeName) -> TimerScope {
        match name {
            ScopeName::Node => TimerScope::Node,
            ScopeName::Cluster => TimerScope::Cluster,
        }
    }
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a string or an array of strings")]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(name) => vec![name],
        OneOrMany::Many(names) => names,
    })
}

fn page_limit() -> u32 {
    100
}

fn normal_closure() -> u16 {
    1000
}

fn panic_message() -> String {
    "asked to panic".to_owned()
}

fn failure() -> i32 {
    1
}

fn one_second() -> u64 {
    1_000
}
