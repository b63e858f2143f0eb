//! Chat: rooms, names, who is here, private messages.
//!
//! A person's name is their uid, so the node itself keeps names unique; a room is a group;
//! which room a person is in stands in the client's info; what was said last in a room is in a
//! key-value bucket. Nothing is kept in this component's memory: any instance of any generation
//! can handle any event.
//!
//! The protocol is described in `README.md` beside this crate.

mod history;
mod people;
mod protocol;
mod rooms;
mod talk;
mod text;

use jackfield_sdk::{
    ClientId, Departure, Error, ErrorCode, Level, Message, Plugin, log, send_to_client, to_json,
};
use people::Person;
use protocol::{Event, Problem, Request};

/// The plugin.
pub struct Chat;

impl Plugin for Chat {
    fn on_message(client: ClientId, message: Message) {
        let request = match Request::parse(&message) {
            Ok(request) => request,
            Err(problem) => return tell_problem(&client, None, &problem),
        };
        let asked = request.name();
        if let Err(problem) = perform(&client, request) {
            tell_problem(&client, Some(asked), &problem);
        }
    }

    fn on_close(_: ClientId, departure: Departure) {
        if let Some(person) = Person::departed(&departure)
            && let Err(error) = rooms::announce(&person.name, &person.room)
        {
            log(
                Level::Warn,
                &format!("nobody was told that a person left: {error}"),
            );
        }
    }
}

jackfield_sdk::export!(Chat);

fn perform(client: &ClientId, request: Request) -> Result<(), Problem> {
    match request {
        Request::Enter { name, room, key } => {
            let key = key.map(|key| text::key(&key)).transpose()?;
            people::enter(
                client,
                &text::name(&name)?,
                &text::room(&room)?,
                key.as_deref(),
            )
        }
        Request::Move { room } => {
            people::move_to(client, &Person::here(client)?, &text::room(&room)?)
        }
        Request::Rename { name } => {
            people::rename(client, &Person::here(client)?, &text::name(&name)?)
        }
        Request::Say { text } => talk::say(&Person::here(client)?, &text::message(&text)?),
        Request::Tell { to, text } => talk::tell(
            client,
            &Person::here(client)?,
            &text::name(&to)?,
            &text::message(&text)?,
        ),
        Request::Who {} => Ok(rooms::show_people(client, &Person::here(client)?.room)?),
        Request::Rooms {} => Ok(rooms::show_rooms(client)?),
    }
}

fn tell_problem(client: &ClientId, asked: Option<&'static str>, problem: &Problem) {
    match &problem.cause {
        // The client left while we were at work: `on_close` follows and sees to the rest.
        Some(Error {
            code: ErrorCode::NotFound | ErrorCode::Closed,
            ..
        }) => return,
        Some(error) => log(
            Level::Warn,
            &format!("{} failed: {error}", asked.unwrap_or("a request")),
        ),
        None => {}
    }
    answer(
        client,
        &Event::Error {
            asked,
            code: problem.code,
            message: &problem.message,
        },
    );
}

/// Sends to the client whose event this is. Not getting through is no failure of the event:
/// who has left needs no answer, and a full outbox is the node's to handle, by its policy.
fn answer(client: &ClientId, event: &Event) {
    let _ = send_to_client(client, to_json(event));
}
