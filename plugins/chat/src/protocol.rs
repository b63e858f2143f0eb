//! What clients and this plugin say to each other: one JSON object a text message.

use jackfield_sdk::{Error, ErrorCode, Message, from_json};
use serde::{Deserialize, Serialize};

/// What a client asks for.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Request {
    /// Comes in; everything below but `Rooms` needs this first.
    Enter {
        name: String,
        room: String,
        key: Option<String>,
    },
    /// Goes to another room.
    Move { room: String },
    /// Takes another name.
    Rename { name: String },
    /// Says something in the room.
    Say { text: String },
    /// Says something to one person.
    Tell { to: String, text: String },
    /// Asks for the people in the room again.
    Who {},
    /// Asks for the rooms.
    Rooms {},
}

impl Request {
    pub(crate) fn parse(message: &Message) -> Result<Request, Problem> {
        let text = message
            .as_text()
            .ok_or_else(|| Problem::new(Code::Malformed, "Send text messages, not binary ones."))?;
        from_json(text)
            .map_err(|error| Problem::new(Code::Malformed, format!("That is no request: {error}.")))
    }

    /// The value of `do`.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Request::Enter { .. } => "enter",
            Request::Move { .. } => "move",
            Request::Rename { .. } => "rename",
            Request::Say { .. } => "say",
            Request::Tell { .. } => "tell",
            Request::Who {} => "who",
            Request::Rooms {} => "rooms",
        }
    }
}

/// What a client hears. `at` is in milliseconds since 1970, by the node's clock.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(crate) enum Event<'a> {
    /// You are in this room now, under this name.
    Entered { name: &'a str, room: &'a str },
    /// All who are in the room; `total` is more than the names where those are too many.
    People {
        room: &'a str,
        names: &'a [String],
        total: u64,
    },
    /// This person is in the room.
    Came { name: &'a str, room: &'a str },
    /// This person is not in the room.
    Left { name: &'a str, room: &'a str },
    /// This person has another name now.
    Renamed {
        from: &'a str,
        to: &'a str,
        room: &'a str,
    },
    /// Said in the room. Its number is none where it could not be kept.
    Said {
        from: &'a str,
        room: &'a str,
        text: &'a str,
        at: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        number: Option<i64>,
    },
    /// Said in the room before you came, the last of it.
    Earlier { room: &'a str, said: &'a [Said] },
    /// Said to one person; the sender gets it as well.
    Told {
        from: &'a str,
        to: &'a str,
        text: &'a str,
        at: u64,
    },
    /// The rooms that have people in them.
    Rooms { rooms: &'a [RoomCount] },
    /// A request was not done; `do` says which one where that could be read.
    Error {
        #[serde(rename = "do", skip_serializing_if = "Option::is_none")]
        asked: Option<&'a str>,
        code: Code,
        message: &'a str,
    },
}

/// A message that was said in a room.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Said {
    pub(crate) number: i64,
    pub(crate) from: String,
    pub(crate) text: String,
    pub(crate) at: u64,
}

#[derive(Serialize)]
pub(crate) struct RoomCount {
    pub(crate) name: String,
    pub(crate) people: u64,
}

/// Why a request was not done, for the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Code {
    Malformed,
    Empty,
    TooLong,
    BadCharacter,
    Taken,
    NotEntered,
    AlreadyEntered,
    NotHere,
    Yourself,
    Busy,
    Failed,
}

/// Why a request was not done: a code for the program, a sentence for the person.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) code: Code,
    pub(crate) message: String,
    /// For the node's log alone, where it is not the client's doing.
    pub(crate) cause: Option<Error>,
}

impl Problem {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Problem {
        Problem {
            code,
            message: message.into(),
            cause: None,
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        let (code, message) = match error.code {
            ErrorCode::Overloaded | ErrorCode::Unreachable | ErrorCode::TimedOut => (
                Code::Busy,
                "That did not get through. Try again in a moment.",
            ),
            _ => (
                Code::Failed,
                "That did not work, through no fault of yours.",
            ),
        };
        Problem {
            code,
            message: message.to_owned(),
            cause: Some(error),
        }
    }
}
