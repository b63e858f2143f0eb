//! What was said in a room: the last `KEPT` messages, for whoever comes in.
//!
//! Rooms are anybody's to open, so the space for what is said in them is given out beforehand:
//! `RINGS` of `KEPT` messages each, and a room's name says which is its. Rooms of one ring share
//! it, and with few rooms each has its own. Each message has a number, which the bucket counts in
//! one step for all nodes, and a slot that it takes from the message `KEPT` before it.
//! A message is kept before it is sent, so that whoever comes in at that moment is shown it, or
//! hears it, or both; by its number they know that it is one.
//!
//! The chat goes on without: a bucket that fails is said in the log, and nobody is refused.

use std::cell::Cell;

use jackfield_sdk::keyvalue::{self, Bucket, Error};
use jackfield_sdk::{ClientId, Level, from_json, log, to_json};

use crate::answer;
use crate::protocol::{Event, Said};

/// Messages of a room that are kept: what a screen or two can show, and no more than the keys
/// that one call can ask for.
pub(crate) const KEPT: i64 = 50;

/// With so many, the longest messages fit in what a plugin may keep (`keyvalue_bytes`).
const RINGS: u64 = 100;

/// The bucket, which `chat.toml` grants.
const BUCKET: &str = "history";

/// Keeps a message and answers its number; none, if it could not be kept.
pub(crate) fn keep(room: &str, from: &str, text: &str, at: u64) -> Option<i64> {
    let kept = keyvalue::open(BUCKET).and_then(|bucket| {
        let ring = ring(room);
        let number = bucket.increment(&format!("n#{ring}"), 1)?;
        let said = Said {
            number,
            from: from.to_owned(),
            text: text.to_owned(),
            at,
        };
        bucket.set(&slot(number, ring), to_json(&(room, &said)))?;
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
    let ring = ring(room);
    let slots: Vec<_> = (0..KEPT).map(|number| slot(number, ring)).collect();
    let values = bucket.get_many(&slots)?.into_iter().flatten();
    // What a later version has written, and this one can't read, is not there.
    let mut all: Vec<(String, Said)> = values.filter_map(|value| from_json(value).ok()).collect();
    // A message that could not be kept has left an older one in its slot.
    if let Some(last) = all.iter().map(|(_, said)| said.number).max() {
        all.retain(|(of, said)| of == room && said.number > last - KEPT);
    }
    let mut said: Vec<_> = all.into_iter().map(|(_, said)| said).collect();
    said.sort_by_key(|said| said.number);
    Ok(said)
}

/// A room's ring, the same at every node: FNV-1a over its name.
fn ring(room: &str) -> u64 {
    let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    room.bytes().fold(0xcbf2_9ce4_8422_2325, fnv) % RINGS
}

/// The key of a message.
fn slot(number: i64, ring: u64) -> String {
    format!("{}#{ring}", number.rem_euclid(KEPT))
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
