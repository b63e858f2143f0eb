//! Presence: everybody in the room knows who is there.

use std::time::Duration;

use jackfield_sdk::{
    Accept, ClientId, Departure, Handshake, Message, Plugin, Refuse, TimerHandler, TimerScope,
    all_pages, cancel_timer, get_uids_by_group, is_uid_online, reply, send_to_client,
    send_to_group, set_timer, to_json,
};
use serde::Serialize;

/// Whoever comes back within this time has not left: a page that is loaded again takes less.
const GRACE: Duration = Duration::from_secs(5);

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Event<'a> {
    Here { names: Vec<String> },
    Joined { name: &'a str },
    Left { name: &'a str },
}

struct Presence;

impl Plugin for Presence {
    fn on_connect(client: ClientId, handshake: Handshake) -> Result<Accept, Refuse> {
        let name = handshake.query("name").filter(|name| !name.is_empty());
        let name = name.ok_or(Refuse::new(400, "say ?name="))?;
        let _ = cancel_timer(name, TimerScope::Cluster);
        if is_uid_online(name) == Ok(false) {
            tell(&Event::Joined { name });
        }
        let _ = send_to_client(&client, here());
        Ok(Accept::new().uid(name).group("room"))
    }

    fn on_message(_: ClientId, _: Message) {
        let _ = reply(here());
    }

    fn on_close(_: ClientId, departure: Departure) {
        let name = departure.uid.unwrap_or_default();
        if is_uid_online(&name) == Ok(true) {
            return; // they have another window open
        }
        // Of the cluster, since they may come back to another node.
        if set_timer(&name, GRACE, None, TimerScope::Cluster).is_err() {
            tell(&Event::Left { name: &name }); // too many are leaving at once
        }
    }
}

impl TimerHandler for Presence {
    fn on_timer(name: &str) {
        if is_uid_online(name) == Ok(false) {
            tell(&Event::Left { name });
        }
    }
}

fn here() -> String {
    let names = all_pages(|cursor| get_uids_by_group("room", cursor, 1_000));
    let names = names.unwrap_or_default();
    to_json(&Event::Here { names })
}

fn tell(event: &Event<'_>) {
    let _ = send_to_group(&["room"], to_json(event), &[]);
}

jackfield_sdk::export!(Presence, timer_handler);

#[cfg(test)]
mod tests {
    use super::*;
    use jackfield_sdk::testing::Host;

    #[test]
    fn who_comes_back_soon_has_not_left() -> Result<(), Refuse> {
        let host = Host::of::<Presence>();
        let ada = host.connect("/presence?name=ada")?;
        let bob = host.connect("/presence?name=bob")?;
        assert_eq!(
            ada.received(),
            [
                r#"{"event":"here","names":[]}"#.into(),
                r#"{"event":"joined","name":"bob"}"#.into(),
            ]
        );
        assert_eq!(
            bob.received(),
            [r#"{"event":"here","names":["ada"]}"#.into()]
        );

        bob.leave();
        host.advance(Duration::from_secs(4));
        let bob = host.connect("/presence?name=bob")?;
        host.advance(GRACE);
        assert_eq!(
            ada.received(),
            [r#"{"event":"joined","name":"bob"}"#.into()],
            "and nothing of his leaving"
        );

        bob.leave();
        host.advance(GRACE);
        assert_eq!(ada.received(), [r#"{"event":"left","name":"bob"}"#.into()]);
        Ok(())
    }
}
