//! Game loop: clients say where they want to go, and twenty times a second the world moves.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use jackfield_sdk::keyvalue::{self, UpdateError};
use jackfield_sdk::{
    Accept, ClientId, Departure, Handshake, Level, Lifecycle, Message, Plugin, Refuse,
    TimerHandler, TimerScope, get_uid_by_client_id, log, send_to_group, set_timer, to_json,
};
use serde::{Deserialize, Serialize};

const STEP: Duration = Duration::from_millis(50);
const SIZE: i32 = 100;
const PLAYERS: usize = 200;

#[derive(Default, Deserialize, Serialize)]
struct Player {
    x: i32,
    y: i32,
    dx: i32,
    dy: i32,
}

/// The whole of it is one value of a bucket, so that each change sees all others.
type World = BTreeMap<String, Player>;

#[derive(Deserialize)]
struct Steer {
    dx: i32,
    dy: i32,
}

struct Game;

impl Plugin for Game {
    fn on_connect(_: ClientId, handshake: Handshake) -> Result<Accept, Refuse> {
        let name = handshake.query("name").filter(|name| !name.is_empty());
        let name = name.ok_or(Refuse::new(400, "say ?name="))?;
        let entered = update(|mut world| {
            if world.len() >= PLAYERS && !world.contains_key(name) {
                return Err("the game is full");
            }
            world.entry(name.to_owned()).or_default();
            Ok(world)
        });
        entered.map_err(|error| Refuse::new(503, error.to_string()))?;
        Ok(Accept::new().uid(name).group("game"))
    }

    fn on_message(client: ClientId, message: Message) {
        let Ok(Steer { dx, dy }) = message.json() else {
            return;
        };
        let Ok(Some(name)) = get_uid_by_client_id(&client) else {
            return;
        };
        change(|world| {
            if let Some(player) = world.get_mut(&name) {
                (player.dx, player.dy) = (dx.clamp(-1, 1), dy.clamp(-1, 1));
            }
        });
    }

    fn on_close(_: ClientId, departure: Departure) {
        let name = departure.uid.unwrap_or_default();
        change(|world| {
            world.remove(&name);
        });
    }
}

impl Lifecycle for Game {
    fn on_start() -> Result<(), String> {
        let set = set_timer("step", STEP, Some(STEP), TimerScope::Cluster);
        set.map_err(|error| error.to_string())
    }
}

impl TimerHandler for Game {
    fn on_timer(_: &str) {
        let stepped = update(|mut world| {
            for player in world.values_mut() {
                player.x = (player.x + player.dx).rem_euclid(SIZE);
                player.y = (player.y + player.dy).rem_euclid(SIZE);
            }
            if world.is_empty() {
                Err("nobody plays")
            } else {
                Ok(world)
            }
        });
        match stepped {
            Ok(world) => drop(send_to_group(&["game"], to_json(&world), &[])),
            Err(UpdateError::Refused(_)) => {}
            Err(UpdateError::Failed(error)) => log(Level::Error, &error.message),
        }
    }
}

fn change(mut change: impl FnMut(&mut World)) {
    let changed = update(|mut world| {
        change(&mut world);
        Ok::<_, Infallible>(world)
    });
    if let Err(error) = changed {
        log(Level::Error, &error.to_string());
    }
}

fn update<E>(mut change: impl FnMut(World) -> Result<World, E>) -> Result<World, UpdateError<E>> {
    keyvalue::open("game")?.update_json("world", |world| change(Option::unwrap_or_default(world)))
}

jackfield_sdk::export!(Game, lifecycle, timer_handler);

#[cfg(test)]
mod tests {
    use super::*;
    use jackfield_sdk::testing::Host;

    #[test]
    fn the_world_moves_by_itself() {
        let host = Host::of::<Game>()
            .manifest("game.toml")
            .expect("a manifest");
        host.start().expect("the timer is set");
        let ada = host.connect("/game?name=ada").expect("a name");
        ada.say(r#"{"dx":-9,"dy":1}"#); // faster than is allowed
        host.advance(STEP * 3);
        let worlds = ada.received();
        assert_eq!(worlds.len(), 3);
        assert_eq!(
            worlds[0].as_text(),
            Some(r#"{"ada":{"x":99,"y":1,"dx":-1,"dy":1}}"#)
        );
        assert_eq!(
            worlds[2].as_text(),
            Some(r#"{"ada":{"x":97,"y":3,"dx":-1,"dy":1}}"#)
        );

        ada.leave();
        let bob = host.connect("/game?name=bob").expect("a name");
        host.advance(STEP);
        assert_eq!(
            bob.received(),
            [r#"{"bob":{"x":0,"y":0,"dx":0,"dy":0}}"#.into()]
        );
    }
}
