//! The smallest plugin: every message goes back to its sender.

use jackfield_sdk::{ClientId, Message, Plugin, reply};

struct Echo;

impl Plugin for Echo {
    fn on_message(_: ClientId, message: Message) {
        // The client may have left by now; an echo has nobody else to tell.
        let _ = reply(message);
    }
}

jackfield_sdk::export!(Echo);
