//! Typing indicator: the others see who is writing.

use jackfield_sdk::{
    Accept, ClientId, Departure, Error, Handshake, Message, Plugin, Refuse, get_info,
    get_uid_by_client_id, now_ms, send_to_group, to_json, update_info,
};
use serde::{Deserialize, Serialize};

/// The others hear of one client's typing at most this often.
const AGAIN_MS: u64 = 2_000;

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "lowercase")]
enum Request {
    Type,
    Say { text: String },
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Event<'a> {
    Types { name: &'a str },
    Stopped { name: &'a str },
    Said { name: &'a str, text: &'a str },
}

struct Typing;

impl Plugin for Typing {
    fn on_connect(_: ClientId, handshake: Handshake) -> Result<Accept, Refuse> {
        let name = handshake.query("name").filter(|name| !name.is_empty());
        let name = name.ok_or(Refuse::new(400, "say ?name="))?;
        Ok(Accept::new().uid(name).group("room"))
    }

    fn on_message(client: ClientId, message: Message) {
        let Ok(request) = message.json() else { return };
        let Ok(Some(name)) = get_uid_by_client_id(&client) else {
            return;
        };
        match request {
            Request::Type => {
                if may_tell(&client) == Ok(true) {
                    tell(&Event::Types { name: &name }, client);
                }
            }
            Request::Say { text } => {
                let _ = update_info(&client, &[("typed at", None)]);
                tell(
                    &Event::Said {
                        name: &name,
                        text: &text,
                    },
                    client,
                );
            }
        }
    }

    fn on_close(client: ClientId, departure: Departure) {
        if departure.info.contains_key("typed at") {
            let name = departure.uid.unwrap_or_default();
            tell(&Event::Stopped { name: &name }, client);
        }
    }
}

/// Whether it is time to tell the others, and remembers that they are told.
fn may_tell(client: &ClientId) -> Result<bool, Error> {
    let now = now_ms();
    let info = get_info(client)?;
    let last = info.get("typed at").and_then(|at| at.parse::<u64>().ok());
    if last.is_some_and(|last| now < last + AGAIN_MS) {
        return Ok(false);
    }
    update_info(client, &[("typed at", Some(&now.to_string()))])?;
    Ok(true)
}

fn tell(event: &Event<'_>, but: ClientId) {
    let _ = send_to_group(&["room"], to_json(event), &[but]);
}

jackfield_sdk::export!(Typing);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use jackfield_sdk::TimerHandler;
    use jackfield_sdk::testing::Host;

    /// Without timers, but a test may move the time of those that have some.
    impl TimerHandler for Typing {}

    #[test]
    fn the_others_see_it_at_most_every_two_seconds() -> Result<(), Refuse> {
        let host = Host::of::<Typing>();
        let ada = host.connect("/typing?name=ada")?;
        let bob = host.connect("/typing?name=bob")?;
        let types = r#"{"event":"types","name":"ada"}"#;

        for _ in 0..10 {
            ada.say(r#"{"do":"type"}"#);
        }
        assert_eq!(bob.received(), [types.into()]);
        host.advance(Duration::from_millis(AGAIN_MS));
        ada.say(r#"{"do":"type"}"#);
        assert_eq!(bob.received(), [types.into()]);

        ada.say(r#"{"do":"say","text":"tea?"}"#);
        ada.say(r#"{"do":"type"}"#); // the next line, at once
        let said = r#"{"event":"said","name":"ada","text":"tea?"}"#.into();
        assert_eq!(bob.received(), [said, types.into()]);
        ada.leave();
        assert_eq!(
            bob.received(),
            [r#"{"event":"stopped","name":"ada"}"#.into()]
        );
        Ok(())
    }
}
