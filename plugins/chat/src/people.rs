//! A person: one client with a name (its uid) and a room (in its info, and as its group).
//!
//! The node decides who has a name, in one step, so two people who ask for it at once on
//! two instances can't both have it. Info and group change within events of the client
//! itself, which never overlap.

use jackfield_sdk::{
    ClientId, Departure, Error, ErrorCode, Message, bind_uid, close_client, get_client_ids_by_uid,
    get_info, get_uid_by_client_id, join_group, leave_group, send_to_group, to_json, unbind_uid,
    update_info,
};

use crate::answer;
use crate::history;
use crate::protocol::{Code, Event, Problem};
use crate::rooms;

/// The info key that holds a person's room.
const ROOM: &str = "room";
/// The info key that holds the secret by which a person who comes back is known.
const KEY: &str = "key";
/// The close code for a connection whose person came back on another: the code that the
/// node's own policy `kick-old` uses.
const CAME_BACK: u16 = 4001;

pub(crate) struct Person {
    pub(crate) name: String,
    pub(crate) room: String,
}

impl Person {
    /// The person that this client is, once it has entered.
    pub(crate) fn here(client: &ClientId) -> Result<Person, Problem> {
        let name = get_uid_by_client_id(client)?;
        let room = get_info(client)?.remove(ROOM);
        match (name, room) {
            (Some(name), Some(room)) => Ok(Person { name, room }),
            _ => Err(Problem::new(
                Code::NotEntered,
                "Enter first: {\"do\":\"enter\",\"name\":…,\"room\":…}.",
            )),
        }
    }

    /// The person that a client was.
    pub(crate) fn departed(departure: &Departure) -> Option<Person> {
        let name = departure.uid.clone()?;
        let room = departure.info.get(ROOM)?.clone();
        Some(Person { name, room })
    }
}

/// Whether the person of this name is in this room.
pub(crate) fn is_in(name: &str, room: &str) -> Result<bool, Error> {
    let Some(client) = holder(name)? else {
        return Ok(false);
    };
    Ok(info_entry(&client, ROOM)?.is_some_and(|entry| entry == room))
}

pub(crate) fn enter(
    client: &ClientId,
    name: &str,
    room: &str,
    key: Option<&str>,
) -> Result<(), Problem> {
    if Person::here(client).is_ok() {
        return Err(Problem::new(
            Code::AlreadyEntered,
            "You are in already: use `move` or `rename`.",
        ));
    }
    take_name(client, name, key)?;
    come_in(client, name, room, key).map_err(|error| {
        step_back(client, name, room);
        error.into()
    })
}

pub(crate) fn move_to(client: &ClientId, person: &Person, room: &str) -> Result<(), Problem> {
    if person.room != room {
        update_info(client, &[(ROOM, Some(room))])?;
        let left = leave_group(client, &person.room);
        // Told even if the client has just gone: its `on_close` knows of the new room alone.
        rooms::announce(&person.name, &person.room)?;
        left?;
    }
    Ok(arrive(client, &person.name, room)?)
}

pub(crate) fn rename(client: &ClientId, person: &Person, name: &str) -> Result<(), Problem> {
    bind(client, name)?;
    let event = Event::Renamed {
        from: &person.name,
        to: name,
        room: &person.room,
    };
    send_to_group(&[&person.room], to_json(&event), &[])?;
    // Somebody may have taken the old name, and come here, before that was sent.
    Ok(rooms::look_again(&person.name, &person.room)?)
}

/// Binds the name, from an own former connection if that still holds it: a connection that
/// broke is noticed by the node only after a while, and its person should not wait for that.
fn take_name(client: &ClientId, name: &str, key: Option<&str>) -> Result<(), Problem> {
    match (bind(client, name), key) {
        (
            Err(Problem {
                code: Code::Taken, ..
            }),
            Some(key),
        ) => {
            close_former(name, key)?;
            bind(client, name)
        }
        (bound, _) => bound,
    }
}

fn bind(client: &ClientId, name: &str) -> Result<(), Problem> {
    bind_uid(client, name).map_err(|error| match error.code {
        ErrorCode::Taken => Problem::new(
            Code::Taken,
            format!("Somebody here is called {name}. Choose another name."),
        ),
        _ => error.into(),
    })
}

fn close_former(name: &str, key: &str) -> Result<(), Problem> {
    let Some(former) = holder(name)? else {
        return Ok(());
    };
    if info_entry(&former, KEY)?.is_none_or(|entry| entry != key) {
        return Ok(());
    }
    // It may be gone by now, which is as good.
    let _ = close_client(
        &former,
        CAME_BACK,
        "you came back on another connection",
        None::<Message>,
    );
    Ok(())
}

fn come_in(client: &ClientId, name: &str, room: &str, key: Option<&str>) -> Result<(), Error> {
    update_info(client, &[(ROOM, Some(room)), (KEY, key)])?;
    arrive(client, name, room)
}

/// `entered` goes out before the room is joined: nothing said in the room comes before it.
fn arrive(client: &ClientId, name: &str, room: &str) -> Result<(), Error> {
    answer(client, &Event::Entered { name, room });
    join_group(client, room)?;
    rooms::show_people(client, room)?;
    history::show(client, room);
    rooms::announce(name, room)
}

/// Leaves no half-entered person behind. What fails here fails because the client has left.
fn step_back(client: &ClientId, name: &str, room: &str) {
    let _ = leave_group(client, room);
    let _ = update_info(client, &[(ROOM, None), (KEY, None)]);
    let _ = unbind_uid(client, Some(name));
    let _ = rooms::announce(name, room);
}

/// The client that has this name; the policy `reject-new` allows one.
fn holder(name: &str) -> Result<Option<ClientId>, Error> {
    Ok(get_client_ids_by_uid(name, None, 1)?.items.pop())
}

/// An entry of another client's info: none too when that client has just left.
fn info_entry(client: &ClientId, key: &str) -> Result<Option<String>, Error> {
    match get_info(client) {
        Ok(mut info) => Ok(info.remove(key)),
        Err(Error {
            code: ErrorCode::NotFound | ErrorCode::Closed,
            ..
        }) => Ok(None),
        Err(error) => Err(error),
    }
}
