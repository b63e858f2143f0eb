//! Whether messages go to plugins in turns.

use tokio::process::Command;

/// Whether waiting messages go to a plugin in one call: what `JACKFIELD_TESTS_TURNS` says, which is
/// `off` or nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turns {
    /// They do, as by default.
    On,
    /// Each message has a call of its own.
    Off,
}

impl Turns {
    /// As this run of the tests has it.
    pub fn from_environment() -> Turns {
        match std::env::var("JACKFIELD_TESTS_TURNS").as_deref() {
            Ok("off") => Turns::Off,
            _ => Turns::On,
        }
    }

    /// Lets a node do so.
    pub(crate) fn apply(self, node: &mut Command) {
        if self == Turns::Off {
            node.env("JACKFIELD_PLUGIN__MESSAGES_PER_TURN", "1");
        }
    }
}
