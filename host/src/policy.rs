//! What a plugin wants done where more than one thing is right: `[policies]` of its manifest, and
//! its `refuse`.

use serde::Deserialize;

/// `[policies]` of a plugin's manifest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policies {
    /// When a uid is bound that another client has.
    pub uid: UidPolicy,
    /// When a client's outbox is full.
    pub overflow: OverflowPolicy,
    /// When an event of a client traps.
    #[serde(alias = "on-trap")]
    pub on_trap: TrapPolicy,
    /// When a client is refused. It stands before the manifest's tables, beside what is asked of
    /// a client.
    #[serde(skip)]
    pub refuse: RefusePolicy,
}

/// When a uid is bound that another client has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UidPolicy {
    /// Both have it.
    #[default]
    Many,
    /// The one that had it is closed with 4001.
    KickOld,
    /// The new one does not get it.
    RejectNew,
}

/// When a client's outbox is full. The sender never waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OverflowPolicy {
    /// The client is closed with 1013.
    #[default]
    Close,
    /// What has waited longest is dropped.
    DropOldest,
    /// The new message is dropped.
    DropNewest,
    /// What waits for the same target (group, uid, all) is dropped; without it, the oldest.
    Conflate,
}

/// When an event of a client traps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrapPolicy {
    /// The client is closed with 1011.
    #[default]
    Close,
    /// It stays; the event is lost.
    Keep,
}

/// When a client is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusePolicy {
    /// It is answered with an HTTP status, which browsers keep from their pages.
    #[default]
    Http,
    /// It is let in and closed at once, with 4000 and the status.
    Close,
}
