//! Sets a timer for each message and handles it, and forgets to export that it does.

use std::time::Duration;

use jackfield_sdk::{ClientId, Message, Plugin, TimerHandler, TimerScope, set_timer};

struct Deaf;

impl Plugin for Deaf {
    fn on_message(_: ClientId, _: Message) {
        let _ = set_timer("tea", Duration::from_millis(10), None, TimerScope::Node);
    }
}

impl TimerHandler for Deaf {
    fn on_timer(_: &str) {}
}

jackfield_sdk::export!(Deaf);
