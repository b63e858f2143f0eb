//! What the contract's arguments must be, and the errors for what they are not.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::{ClientId, Error, ErrorCode, Message};

/// Bytes of a close frame's reason: a control frame has 125 bytes, two of them for the code.
const CLOSE_REASON_BYTES: usize = 123;

/// Client ids are Crockford's base 32 in lower case.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const ID_CHARS: usize = 26;

/// Uids, groups or excluded clients that one call may name.
const TARGETS_A_SEND: usize = 1_000;

/// Milliseconds of a timer: 10 of them to 366 days.
const TIMER_MS: RangeInclusive<u64> = 10..=366 * 24 * 60 * 60 * 1_000;

/// How a connection is to be ended, checked.
pub(super) struct Close<'a> {
    pub(super) code: u16,
    pub(super) reason: &'a str,
    pub(super) last_message: Option<Message>,
}

impl<'a> Close<'a> {
    pub(super) fn new(
        code: u16,
        reason: &'a str,
        last_message: Option<Message>,
    ) -> Result<Close<'a>, Error> {
        if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
            return Err(invalid(format!(
                "code: {code} may not be sent; 1000 to 1003, 1007 to 1014 and 3000 to 4999 may"
            )));
        }
        if reason.len() > CLOSE_REASON_BYTES {
            let bytes = reason.len();
            return Err(invalid(format!(
                "reason: {bytes} bytes are more than {CLOSE_REASON_BYTES}"
            )));
        }
        Ok(Close {
            code,
            reason,
            last_message,
        })
    }
}

/// Whether it could be a client's id at all.
pub(super) fn check_id(client: &ClientId) -> Result<(), Error> {
    let text = client.as_str().as_bytes();
    // 26 characters hold 130 bits, an id has 128: the first one carries three.
    let well_formed = text.len() == ID_CHARS
        && text[0] <= b'7'
        && text.iter().all(|byte| ALPHABET.contains(byte));
    if well_formed {
        return Ok(());
    }
    Err(invalid(format!(
        "client id: `{client}` is not one; they are {ID_CHARS} characters as a node gave them out"
    )))
}

pub(super) fn check_ids(clients: &[ClientId]) -> Result<(), Error> {
    clients.iter().try_for_each(check_id)
}

/// A call names so many uids, groups or clients to exclude at most.
pub(super) fn check_count(what: &str, count: usize) -> Result<(), Error> {
    check_limit(what, count, TARGETS_A_SEND)
}

/// Nothing is counted here: `wanted` is what there would be.
pub(super) fn check_limit(name: &str, wanted: usize, most: usize) -> Result<(), Error> {
    if wanted > most {
        let message = format!("{name}: {wanted} are more than {most}");
        return Err(error(ErrorCode::LimitExceeded, message));
    }
    Ok(())
}

pub(super) fn timer_time(what: &str, ms: u64) -> Result<Duration, Error> {
    if TIMER_MS.contains(&ms) {
        return Ok(Duration::from_millis(ms));
    }
    let (min, max) = (TIMER_MS.start(), TIMER_MS.end());
    Err(invalid(format!("{what}: {ms} is not {min} to {max}")))
}

pub(super) fn invalid(message: String) -> Error {
    error(ErrorCode::InvalidArgument, message)
}

pub(super) fn error(code: ErrorCode, message: String) -> Error {
    Error { code, message }
}

/// Half of an id: the number in 13 characters.
pub(super) fn digits(number: u64) -> String {
    (0..13)
        .rev()
        .map(|place| char::from(ALPHABET[(number >> (5 * place) & 31) as usize]))
        .collect()
}
