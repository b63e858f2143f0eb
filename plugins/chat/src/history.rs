//! What was said in a room: the last `KEPT` messages, for whoever comes in.
//!
//! Each message of a room has a number, which the bucket counts in one step for all nodes, and
//! a slot that it takes from the message `KEPT` before it: a room has as many slots and no more.
//! A message is kept before it is sent, so that whoever comes in at that moment is shown it, or
//! hears it, or both; by its number they know that it is one.
//!
//! The chat goes on without: a bucket that fails is said in the log, and nobody is refused.

use std::cell::Cell;

use jackfield_sdk::keyvalue::{self, Bucket, Error};
use jackfield_sdk::{ClientId, Level, log};
use serde::{Deserialize, Serialize};

use crate::answer;
use crate::protocol::Event;

/// Messages of a room that are kept: what a screen or two can show, and no more than the keys
/// that one call can ask for.
pub(crate) const KEPT: i64 = 50;

/// The bucket, which `chat.toml` grants.
const BUCKET: &str = "history";

/// A message that was said in a room.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Said {
    pub(crate) number: i64,
    pub(crate) from: String,
    pub(crate) text: String,
    pub(crate) at: u64,
}

/// Keeps a message and answers its number; none, if it could not be kept.
pub(crate) fn keep(room: &str, from: &str, text: &str, at: u64) -> Option<i64> {
    let kept = keyvalue::open(BUCKET).and_then(|bucket| {
        let number = bucket.increment(&format!("n#{room}"), 1)?;
        let said = Said {
            number,
            from: from.to_owned(),
            text: text.to_owned(),
            at,
        };
        // Strings and numbers alone: there is nothing that JSON can't say.
        let value = serde_json::to_vec(&said).expect("it is JSON");
        bucket.set(&slot(number, room), value)?;
        Ok(number)
    });
    heard(kept)
}

/// Shows the client what was said in the room, if anything was.
pub(crate) fn show(client: &ClientId, room: &str) {
    let said = keyvalue::open(BUCKET).and_then(|bucket| read(&bucket, room));
    if let Some(said) = heard(said)
        && !said.is_empty()
    {
        let said = &said;
        answer(client, &Event::Earlier { room, said });
    }
}

/// The last messages, in their order.
fn read(bucket: &Bucket, room: &str) -> Result<Vec<Said>, Error> {
    let slots: Vec<_> = (0..KEPT).map(|number| slot(number, room)).collect();
    let values = bucket.get_many(&slots)?.into_iter().flatten();
    // What a later version has written, and this one can't read, is not there.
    let mut said: Vec<Said> = values
        .filter_map(|value| serde_json::from_slice(&value).ok())
        .collect();
    said.sort_by_key(|said| said.number);
    // A message that could not be kept has left an older one in its slot.
    if let Some(last) = said.last().map(|last| last.number) {
        said.retain(|said| said.number > last - KEPT);
    }
    Ok(said)
}

/// The key of a message: a room's name may have any character, and stands last.
fn slot(number: i64, room: &str) -> String {
    format!("{}#{room}", number.rem_euclid(KEPT))
}

/// What it is; a failure is logged, the first one in a row.
fn heard<T>(answer: Result<T, Error>) -> Option<T> {
    // A thread's, as a guest has one: natively each test has its own.
    thread_local!(static HAS_TOLD: Cell<bool> = const { Cell::new(false) });
    match answer {
        Ok(answer) => {
            HAS_TOLD.set(false);
            Some(answer)
        }
        Err(error) => {
            if !HAS_TOLD.replace(true) {
                log(
                    Level::Warn,
                    &format!("nothing is kept of what is said: {error}"),
                );
            }
            None
        }
    }
}
