//! Answers with the setting that a message names, or with all of them.

use jackfield_sdk::{ClientId, Message, Plugin, config, identify, send_to_client};

struct Settings;

impl Plugin for Settings {
    fn on_message(client: ClientId, message: Message) {
        let name = message.as_text().unwrap_or_default();
        let generation = identify().generation;
        let answer = match name {
            "*" => format!("{generation}: {:?}", config::all()),
            name => format!("{generation}: {:?}", config::get(name)),
        };
        let _ = send_to_client(&client, answer);
    }
}

jackfield_sdk::export!(Settings);
