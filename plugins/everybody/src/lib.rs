//! Everybody hears everybody, by client id: bin-x/websocket's chat, and the program of
//! `docs/from-bin-x.md`.

use jackfield_sdk::{Accept, ClientId, Departure, Handshake, Message, Plugin, Refuse, send_to_all};

/// The plugin.
pub struct Everybody;

impl Plugin for Everybody {
    fn on_connect(client: ClientId, _: Handshake) -> Result<Accept, Refuse> {
        let _ = send_to_all(format!("{client} has come"), &[]);
        Ok(Accept::new())
    }

    fn on_message(client: ClientId, message: Message) {
        let Some(text) = message.as_text() else {
            return;
        };
        let _ = send_to_all(format!("{client}: {text}"), &[]);
    }

    fn on_close(client: ClientId, _: Departure) {
        let _ = send_to_all(format!("{client} has left"), &[]);
    }
}

jackfield_sdk::export!(Everybody);
