//! Who is in which room, told so that what everybody has been told ends up true.
//!
//! Events of different people run at the same time, so what one of them has seen may have
//! changed before it is told, and two may tell in the wrong order. Therefore whoever tells
//! something looks again after telling, and tells again if it is no longer so. Each change
//! is followed by a telling, and the last telling about a person is followed by a look that
//! agrees with it: nobody stays in a list after leaving, and nobody is missing from one.

use std::cmp::Reverse;

use jackfield_sdk::{
    ClientId, Error, get_all_groups, get_client_count_by_group, get_uid_count_by_group,
    get_uids_by_group, send_to_group, to_json,
};

use crate::answer;
use crate::people::is_in;
use crate::protocol::{Event, RoomCount};

/// How often one event looks again. Each further round needs somebody else's change between
/// a telling and a look, microseconds apart.
const MAX_LOOKS: usize = 16;
/// Names in a list of people: a page of the node's own list.
const MAX_NAMES: u32 = 1_000;
/// Rooms in a list of rooms: each costs a call.
const MAX_ROOMS: u32 = 200;

/// Tells the room whether this person is in it.
pub(crate) fn announce(name: &str, room: &str) -> Result<(), Error> {
    tell_and_look_again(
        || is_in(name, room),
        |&here| tell_presence(name, room, here),
    )
}

/// Tells the room about this person if they are in it after all, where it has just been told
/// that they are not.
pub(crate) fn look_again(name: &str, room: &str) -> Result<(), Error> {
    if is_in(name, room)? {
        announce(name, room)
    } else {
        Ok(())
    }
}

/// Tells the client who is in the room that it has joined.
pub(crate) fn show_people(client: &ClientId, room: &str) -> Result<(), Error> {
    tell_and_look_again(
        || People::read(room),
        |people| {
            answer(
                client,
                &Event::People {
                    room,
                    names: &people.names,
                    total: people.total,
                },
            );
            Ok(())
        },
    )
}

/// Tells the client which rooms there are, the fullest first.
pub(crate) fn show_rooms(client: &ClientId) -> Result<(), Error> {
    let mut rooms = Vec::new();
    for name in get_all_groups(None, MAX_ROOMS)?.items {
        let people = get_client_count_by_group(&name)?.value;
        // The last one may have left between the two calls.
        if people > 0 {
            rooms.push(RoomCount { name, people });
        }
    }
    rooms.sort_by(|a, b| (Reverse(a.people), &a.name).cmp(&(Reverse(b.people), &b.name)));
    answer(client, &Event::Rooms { rooms: &rooms });
    Ok(())
}

#[derive(PartialEq)]
struct People {
    names: Vec<String>,
    total: u64,
}

impl People {
    fn read(room: &str) -> Result<People, Error> {
        let page = get_uids_by_group(room, None, MAX_NAMES)?;
        let mut names = page.items;
        names.sort();
        let total = match page.next {
            None => names.len() as u64,
            Some(_) => get_uid_count_by_group(room)?.value,
        };
        Ok(People { names, total })
    }
}

fn tell_presence(name: &str, room: &str, here: bool) -> Result<(), Error> {
    let event = if here {
        Event::Came { name, room }
    } else {
        Event::Left { name, room }
    };
    send_to_group(&[room], to_json(&event), &[]).map(drop)
}

/// Tells what is so until what was told last is what is so.
fn tell_and_look_again<T: PartialEq>(
    mut look: impl FnMut() -> Result<T, Error>,
    mut tell: impl FnMut(&T) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut seen = look()?;
    for _ in 0..MAX_LOOKS {
        tell(&seen)?;
        let now = look()?;
        if now == seen {
            break;
        }
        seen = now;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    #[test]
    fn what_changes_while_it_is_told_is_told_again() {
        let (state, told) = (Cell::new(0), RefCell::new(Vec::new()));
        let tell = |&seen: &i32| {
            told.borrow_mut().push(seen);
            state.set((state.get() + 1).min(2));
            Ok(())
        };
        tell_and_look_again(|| Ok(state.get()), tell).expect("told");
        assert_eq!(told.into_inner(), [0, 1, 2]);
    }

    #[test]
    fn what_never_rests_is_given_up_at_last() {
        let (state, rounds) = (Cell::new(0), Cell::new(0));
        let tell = |_: &i32| {
            rounds.set(rounds.get() + 1);
            state.set(state.get() + 1);
            Ok(())
        };
        tell_and_look_again(|| Ok(state.get()), tell).expect("told");
        assert_eq!(rounds.get(), MAX_LOOKS);
    }
}
