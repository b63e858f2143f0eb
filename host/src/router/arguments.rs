//! Checks of the arguments of calls. Guests and backends get the same errors.

use std::time::{Duration, Instant};

use super::refused::RouterError;
use crate::close_code::CloseCode;
use crate::id::ClientId;
use crate::limits::{PAGE_ITEMS, TARGETS_A_SEND, TIMER_MAX, TIMER_MIN};
use crate::message::{CLOSE_REASON_BYTES, Frame};
use crate::registry::{Close, Closer, Ending, Schedule};

/// Parses the ids of clients that a delivery leaves out.
///
/// # Errors
///
/// There are too many ids, or one of them is malformed.
pub fn excluded(ids: &[String]) -> Result<Vec<ClientId>, RouterError> {
    check_count("clients to exclude", ids.len())?;
    ids.iter().map(|id| client_id(id)).collect()
}

/// Parses a client id.
///
/// # Errors
///
/// The text is no client id.
pub fn client_id(text: &str) -> Result<ClientId, RouterError> {
    text.parse().map_err(|malformed| {
        let shown: String = text.chars().take(64).collect();
        invalid(format!("{shown:?} is {malformed}"))
    })
}

/// Checks the number of items that a page may have.
///
/// # Errors
///
/// The number is 0, or higher than `PAGE_ITEMS`.
pub fn page_limit(limit: u32) -> Result<usize, RouterError> {
    match limit as usize {
        limit @ 1..=PAGE_ITEMS => Ok(limit),
        limit => Err(invalid(format!(
            "limit is {limit}, but a page has 1 to {PAGE_ITEMS} items"
        ))),
    }
}

/// The schedule of a timer that is set now.
///
/// # Errors
///
/// A time is shorter than `TIMER_MIN` or longer than `TIMER_MAX`.
pub fn schedule(
    now: Instant,
    after_ms: u64,
    every_ms: Option<u64>,
) -> Result<Schedule, RouterError> {
    let after = timer_time("after-ms", after_ms)?;
    let every = every_ms.map(|ms| timer_time("every-ms", ms)).transpose()?;
    let at = now + after;
    Ok(Schedule { at, every })
}

fn timer_time(what: &str, ms: u64) -> Result<Duration, RouterError> {
    let time = Duration::from_millis(ms);
    if (TIMER_MIN..=TIMER_MAX).contains(&time) {
        return Ok(time);
    }
    let (min, max) = (TIMER_MIN.as_millis(), TIMER_MAX.as_millis());
    Err(invalid(format!(
        "{what} is {ms}, but must be {min} to {max}"
    )))
}

/// The ending of a connection that a plugin or a backend closes.
///
/// # Errors
///
/// The code must not be sent in a close frame, or the reason is too long for one.
pub fn ending(
    code: CloseCode,
    reason: String,
    last_message: Option<Frame>,
) -> Result<Ending, RouterError> {
    if !code.may_be_sent() {
        let allowed = "1000 to 1003, 1007 to 1014 and 3000 to 4999";
        return Err(invalid(format!(
            "{code} is no close code that may be sent: {allowed} are"
        )));
    }
    if reason.len() > CLOSE_REASON_BYTES {
        let bytes = reason.len();
        return Err(invalid(format!(
            "the reason has {bytes} bytes, more than the {CLOSE_REASON_BYTES} of a close frame"
        )));
    }
    let close = Close {
        code,
        reason,
        by: Closer::Plugin,
    };
    Ok(Ending::new(close, last_message))
}

pub(super) fn check_count(what: &str, count: usize) -> Result<(), RouterError> {
    if count > TARGETS_A_SEND {
        return Err(RouterError::TooMany(format!(
            "{count} {what}, more than {TARGETS_A_SEND} (a call's most)"
        )));
    }
    Ok(())
}

pub(super) fn invalid(message: String) -> RouterError {
    RouterError::Invalid(message)
}
