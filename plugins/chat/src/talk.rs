//! What people say, in a room and to one another.

use jackfield_sdk::{ClientId, now_ms, send_to_group, send_to_uid, to_json};

use crate::answer;
use crate::history;
use crate::people::Person;
use crate::protocol::{Code, Event, Problem};

/// To everybody in the room, the speaker included: all see one order.
pub(crate) fn say(person: &Person, text: &str) -> Result<(), Problem> {
    let at = now_ms();
    let event = Event::Said {
        from: &person.name,
        room: &person.room,
        text,
        at,
        number: history::keep(&person.room, &person.name, text, at),
    };
    send_to_group(&[&person.room], to_json(&event), &[])?;
    Ok(())
}

/// To one person, wherever they are, and then back to the speaker, who so knows that it
/// arrived.
pub(crate) fn tell(
    client: &ClientId,
    person: &Person,
    to: &str,
    text: &str,
) -> Result<(), Problem> {
    if to == person.name {
        return Err(Problem::new(Code::Yourself, "That is you."));
    }
    let event = Event::Told {
        from: &person.name,
        to,
        text,
        at: now_ms(),
    };
    let reach = send_to_uid(&[to], to_json(&event))?;
    if reach.clients == 0 {
        return Err(undelivered(
            to,
            reach.dropped > 0 || !reach.missing.is_empty(),
        ));
    }
    answer(client, &event);
    Ok(())
}

fn undelivered(to: &str, perhaps_here: bool) -> Problem {
    if perhaps_here {
        Problem::new(
            Code::Busy,
            format!("{to} could not be reached. Try again in a moment."),
        )
    } else {
        Problem::new(Code::NotHere, format!("Nobody here is called {to}."))
    }
}
