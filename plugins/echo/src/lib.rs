//! The smallest plugin: every message goes back to its sender.

use jackfield_sdk::{ClientId, Message, Plugin, send_to_client};

struct Echo;

impl Plugin for Echo {
    fn on_message(client: ClientId, message: Message) {
        // The client may have left by now; an echo has nobody else to tell.
        let _ = send_to_client(&client, message);
    }
}

jackfield_sdk::export!(Echo);
