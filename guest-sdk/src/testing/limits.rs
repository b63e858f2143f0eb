//! What a node's configuration and a plugin's manifest bound, and the policy of uids.

use serde::Deserialize;

/// A `UidPolicy` says what happens when a uid is bound that another client has.
///
/// On a node it is `uid` under `[policies]` in a plugin's manifest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UidPolicy {
    /// Both clients have the uid.
    #[default]
    Many,
    /// The client that had the uid is closed with 4001.
    KickOld,
    /// The new client does not get the uid.
    RejectNew,
}

/// `Limits` bound what a plugin keeps and does.
///
/// The default is a node's defaults.
///
/// ```
/// use jackfield_sdk::testing::Limits;
///
/// let limits = Limits { timers: 2, ..Limits::default() };
/// assert_eq!((limits.timers, limits.name_bytes), (2, 256));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A uid, or a group's or a timer's name, has at most this many bytes: 256 by default.
    ///
    /// Beyond it, calls return `invalid-argument`.
    pub name_bytes: usize,
    /// One uid has at most this many clients: 1,000 by default, and any number if this is 0.
    ///
    /// Beyond it, `bind_uid` returns `limit-exceeded`. Under the other policies than
    /// [`UidPolicy::Many`] a uid has one client anyway.
    pub clients_per_uid: usize,
    /// One client is in at most this many groups: 1,000 by default.
    ///
    /// Beyond it, `join_group` returns `limit-exceeded`.
    pub groups_per_client: usize,
    /// The keys and values of one client's info have at most this many bytes: 4,096 by default.
    ///
    /// Beyond it, `set_info` and `update_info` return `limit-exceeded`.
    pub info_bytes: usize,
    /// One message, with its frame's header, has at most this many bytes: 1 MiB by default.
    ///
    /// Beyond it, calls return `limit-exceeded`.
    pub outbox_bytes: usize,
    /// One event has at most this many calls that send: 10,000 by default.
    ///
    /// Beyond it, they return `limit-exceeded`.
    pub sends_per_event: usize,
    /// One call to the plugin, method and payload together, and its answer have at most this
    /// many bytes each: 1 MiB by default.
    ///
    /// Beyond it, the call returns `limit-exceeded`.
    pub call_bytes: usize,
    /// The plugin has at most this many timers: 1,000 by default.
    ///
    /// Beyond it, `set_timer` returns `limit-exceeded`.
    pub timers: usize,
    /// A key in the plugin's buckets has at most this many bytes: 256 by default.
    ///
    /// Beyond it, the bucket's functions return an error.
    pub keyvalue_key_bytes: usize,
    /// A value in the plugin's buckets has at most this many bytes: 64 KiB by default.
    ///
    /// Beyond it, the bucket's functions return an error.
    pub keyvalue_value_bytes: usize,
    /// All of the plugin's keys and values, with 64 bytes more for each key, have at most this
    /// many bytes: 64 MiB by default.
    ///
    /// Beyond it, the bucket's functions return an error.
    pub keyvalue_bytes: usize,
    /// One event logs at most this many lines: 100 by default.
    ///
    /// Further lines are dropped.
    pub log_lines_per_event: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            name_bytes: 256,
            clients_per_uid: 1_000,
            groups_per_client: 1_000,
            info_bytes: 4_096,
            outbox_bytes: 1 << 20,
            sends_per_event: 10_000,
            call_bytes: 1 << 20,
            timers: 1_000,
            keyvalue_key_bytes: 256,
            keyvalue_value_bytes: 64 << 10,
            keyvalue_bytes: 64 << 20,
            log_lines_per_event: 100,
        }
    }
}
