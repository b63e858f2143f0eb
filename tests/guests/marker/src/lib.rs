//! Answers each text message `N` with `MARK:GENERATION:N`: who answered, and from which load.
//!
//! Two builds that differ in nothing but their mark, for the tests of reload.

use jackfield_sdk::{ClientId, Message, Plugin, identify, send_to_client};

/// Which build this is.
const MARK: char = if cfg!(feature = "a") {
    'a'
} else if cfg!(feature = "b") {
    'b'
} else {
    '?'
};

struct Marker;

impl Plugin for Marker {
    fn on_message(client: ClientId, message: Message) {
        if let Message::Text(text) = message {
            let generation = identify().generation;
            // The client may have left by now; there is nobody else to tell.
            let _ = send_to_client(&client, format!("{MARK}:{generation}:{text}"));
        }
    }
}

jackfield_sdk::export!(Marker);
