//! Rate of change: however often things move, the clients hear of it five times a second.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use jackfield_sdk::keyvalue::{self, UpdateError};
use jackfield_sdk::{
    Accept, ClientId, Handshake, Level, Lifecycle, Message, Plugin, Refuse, TimerHandler,
    TimerScope, get_uid_by_client_id, log, send_to_group, set_timer, to_json,
};
use serde::{Deserialize, Serialize};

const INTERVAL: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, Deserialize, Serialize)]
struct Position {
    x: f64,
    y: f64,
}

/// The last position of whoever has moved since the clients heard of it.
type Moves = BTreeMap<String, Position>;

struct Rate;

impl Plugin for Rate {
    fn on_connect(_: ClientId, handshake: Handshake) -> Result<Accept, Refuse> {
        let name = handshake.query("name").filter(|name| !name.is_empty());
        let name = name.ok_or(Refuse::new(400, "say ?name="))?;
        Ok(Accept::new().uid(name).group("map"))
    }

    fn on_message(client: ClientId, message: Message) {
        let Ok(position) = message.json::<Position>() else {
            return;
        };
        let Ok(Some(name)) = get_uid_by_client_id(&client) else {
            return;
        };
        let moved = update(|mut moves| {
            moves.insert(name.clone(), position);
            Ok::<_, Infallible>(moves)
        });
        if let Err(error) = moved {
            log(Level::Warn, &format!("a move is lost: {error}"));
        }
    }
}

impl Lifecycle for Rate {
    fn on_start() -> Result<(), String> {
        let set = set_timer("tell", INTERVAL, Some(INTERVAL), TimerScope::Node);
        set.map_err(|error| error.to_string())
    }
}

impl TimerHandler for Rate {
    fn on_timer(_: &str) {
        let mut taken = Moves::new();
        let emptied = update(|moves| {
            taken = moves;
            if taken.is_empty() {
                Err("nothing has moved")
            } else {
                Ok(Moves::new())
            }
        });
        match emptied {
            Ok(_) => drop(send_to_group(&["map"], to_json(&taken), &[])),
            Err(UpdateError::Refused(_)) => {}
            Err(UpdateError::Failed(error)) => log(Level::Warn, &error.message),
        }
    }
}

fn update<E>(mut change: impl FnMut(Moves) -> Result<Moves, E>) -> Result<Moves, UpdateError<E>> {
    keyvalue::open("moves")?.update_json("map", |moves| change(Option::unwrap_or_default(moves)))
}

jackfield_sdk::export!(Rate, lifecycle, timer_handler);

#[cfg(test)]
mod tests {
    use super::*;
    use jackfield_sdk::testing::Host;

    #[test]
    fn many_moves_are_one_message() {
        let host = Host::of::<Rate>()
            .manifest("rate.toml")
            .expect("a manifest");
        host.start().expect("the timer is set");
        let ada = host.connect("/rate?name=ada").expect("a name");
        let bob = host.connect("/rate?name=bob").expect("a name");

        for x in 0..100 {
            ada.say(format!(r#"{{"x":{x},"y":0}}"#));
        }
        bob.say(r#"{"x":1,"y":1}"#);
        assert!(bob.received().is_empty());
        host.advance(INTERVAL);
        let moves = r#"{"ada":{"x":99.0,"y":0.0},"bob":{"x":1.0,"y":1.0}}"#;
        assert_eq!(bob.received(), [moves.into()]);
        assert_eq!(ada.received(), [moves.into()]);

        host.advance(INTERVAL * 10);
        assert!(bob.received().is_empty(), "nothing has moved");
    }
}
