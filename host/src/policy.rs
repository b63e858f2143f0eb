//! Policies: the choices of a plugin where several behaviours are reasonable. The manifest has them
//! in `[policies]`, and in `refuse`.

use std::time::Duration;

use serde::Deserialize;

use crate::invalid_value::InvalidValue;
use crate::message::Frame;

/// The section `[policies]` of a plugin's manifest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policies {
    /// The policy for a uid that another client already has.
    pub uid: UidPolicy,
    /// The policy for a client whose outbox is full.
    pub overflow: OverflowPolicy,
    /// The policy for a client whose event traps.
    #[serde(alias = "on-trap")]
    pub on_trap: TrapPolicy,
    /// The policy for a client that is refused. In the manifest, `refuse` stands before the tables,
    /// beside the access rules.
    #[serde(skip)]
    pub refuse: RefusePolicy,
    /// The compression of messages, which the manifest has in a section of its own.
    #[serde(skip)]
    pub compression: Option<CompressionPolicy>,
    /// Whether clients may come back after their connection has broken, which the manifest has in a
    /// section of its own.
    #[serde(skip)]
    pub resume: Option<ResumePolicy>,
}

/// The section `[resume]` of a plugin's manifest: a client that speaks `jackfield.v1` and whose
/// connection breaks may come back as the same client. Without it, no client may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResumePolicy {
    /// How long a client is waited for.
    #[serde(with = "humantime_serde")]
    pub window: Duration,
    /// The most messages that are kept for one client.
    pub messages: usize,
    /// The most bytes of the messages that are kept for one client.
    pub bytes: usize,
}

/// The longest time for which a client is waited for.
const RESUME_WINDOW_MAX: Duration = Duration::from_secs(3600);

/// The most messages and bytes that a manifest may keep for one client. Another node must be able to
/// take them over in one frame of a link.
const RESUME_MESSAGES_MAX: usize = 100_000;
const RESUME_BYTES_MAX: usize = 8 << 20;

impl Default for ResumePolicy {
    fn default() -> ResumePolicy {
        ResumePolicy {
            window: Duration::from_secs(30),
            messages: 1_000,
            bytes: 1 << 20,
        }
    }
}

impl ResumePolicy {
    /// Checks the values.
    ///
    /// # Errors
    ///
    /// A value is too small or too large.
    pub fn check(self) -> Result<ResumePolicy, InvalidValue> {
        let wrong = |key: &'static str, why: String| Err(InvalidValue::new(key, why));
        if self.window < Duration::from_millis(100) || self.window > RESUME_WINDOW_MAX {
            let window = humantime::format_duration(self.window);
            return wrong("resume.window", format!("{window} is not from 100ms to 1h"));
        }
        if !(1..=RESUME_MESSAGES_MAX).contains(&self.messages) {
            let messages = self.messages;
            return wrong(
                "resume.messages",
                format!("{messages} is not from 1 to {RESUME_MESSAGES_MAX}"),
            );
        }
        if !(1..=RESUME_BYTES_MAX).contains(&self.bytes) {
            let bytes = self.bytes;
            return wrong(
                "resume.bytes",
                format!("{bytes} is not from 1 to {RESUME_BYTES_MAX}"),
            );
        }
        Ok(self)
    }
}

/// The section `[compression]` of a plugin's manifest. Without it, nothing is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CompressionPolicy {
    /// The size from which messages to clients are compressed, in bytes.
    pub min_bytes: usize,
    /// How hard the node tries: 1 is fast, 9 is small.
    pub level: u32,
}

impl Default for CompressionPolicy {
    fn default() -> CompressionPolicy {
        CompressionPolicy {
            min_bytes: 512,
            level: 1,
        }
    }
}

impl CompressionPolicy {
    /// Whether a message is large enough to be compressed.
    pub fn is_for(self, frame: &Frame) -> bool {
        frame.payload().len() >= self.min_bytes
    }

    /// Compresses a message for clients with this window. Nothing is returned for a message that is
    /// sent as it is.
    pub fn deflate(self, frame: &Frame, window_bits: u8) -> Option<Frame> {
        self.is_for(frame)
            .then(|| frame.deflated(self.level, window_bits))?
    }

    /// Checks the values.
    ///
    /// # Errors
    ///
    /// The level is not from 1 to 9.
    pub fn check(self) -> Result<CompressionPolicy, InvalidValue> {
        match self.level {
            1..=9 => Ok(self),
            level => Err(InvalidValue::new(
                "compression.level",
                format!("{level} is not from 1 (fast) to 9 (small)"),
            )),
        }
    }
}

/// The policy for binding a uid that another client already has.
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

/// The policy for a client whose outbox is full. The sender never waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OverflowPolicy {
    /// The client is closed with 1013.
    #[default]
    Close,
    /// The message that has waited longest is dropped.
    DropOldest,
    /// The new message is dropped.
    DropNewest,
    /// The oldest message for the same target (group, uid, all) is dropped, or the oldest message
    /// if there is none.
    Conflate,
}

/// The policy for a client whose event traps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrapPolicy {
    /// The client is closed with 1011.
    #[default]
    Close,
    /// The client stays connected, and the event is lost.
    Keep,
}

/// The policy for a client that is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusePolicy {
    /// The client gets an HTTP status, which browsers hide from their pages.
    #[default]
    Http,
    /// The client is accepted and closed at once, with 4000 plus the status.
    Close,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_for_clients_that_come_back_have_bounds() {
        let good = ResumePolicy::default();
        assert_eq!(good.check(), Ok(good));
        let window = |window| ResumePolicy { window, ..good };
        let messages = |messages| ResumePolicy { messages, ..good };
        let bytes = |bytes| ResumePolicy { bytes, ..good };
        let millis = Duration::from_millis;
        for (least, most, below, above, key) in [
            (
                window(millis(100)),
                window(RESUME_WINDOW_MAX),
                window(millis(99)),
                window(RESUME_WINDOW_MAX + millis(1)),
                "resume.window",
            ),
            (
                messages(1),
                messages(RESUME_MESSAGES_MAX),
                messages(0),
                messages(RESUME_MESSAGES_MAX + 1),
                "resume.messages",
            ),
            (
                bytes(1),
                bytes(RESUME_BYTES_MAX),
                bytes(0),
                bytes(RESUME_BYTES_MAX + 1),
                "resume.bytes",
            ),
        ] {
            assert!(least.check().is_ok() && most.check().is_ok(), "{key}");
            for wrong in [below, above] {
                assert_eq!(wrong.check().expect_err(key).key, key);
            }
        }
    }
}
