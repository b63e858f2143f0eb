//! Answers each text message `N` with `MARK:GENERATION:N`: who answered, and from which load.
//! `join` puts its client into a group, and `publish N` answers the whole group.
//!
//! Two builds that differ in nothing but their mark, for the tests of reload.

use jackfield_sdk::{
    ClientId, Message, Plugin, identify, join_group, send_to_client, send_to_group,
};

const GROUP: &str = "everybody";

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
            let answer = format!("{MARK}:{generation}:{text}");
            // The client may have left by now; there is nobody else to tell.
            let _ = match &*text {
                "join" => join_group(&client, GROUP).and_then(|()| send_to_client(&client, answer)),
                publish if publish.starts_with("publish ") => {
                    send_to_group(&[GROUP], answer, &[]).map(drop)
                }
                _ => send_to_client(&client, answer),
            };
        }
    }
}

jackfield_sdk::export!(Marker);
