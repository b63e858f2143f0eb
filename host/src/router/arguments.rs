//! What callers pass, checked: a guest and a backend are told the same about it.

use std::time::{Duration, Instant};

use super::refused::Refused;
use crate::id::ClientId;
use crate::limits::{PAGE_ITEMS, TARGETS_A_SEND, TIMER_MAX, TIMER_MIN};
use crate::message::{CLOSE_REASON_BYTES, Frame, may_be_sent};
use crate::registry::{Close, Closer, Ending, Schedule};

/// Clients that a delivery leaves out.
pub fn excluded(ids: &[String]) -> Result<Vec<ClientId>, Refused> {
    check_count("clients to exclude", ids.len())?;
    ids.iter().map(|id| client_id(id)).collect()
}

/// A client id.
pub fn client_id(text: &str) -> Result<ClientId, Refused> {
    text.parse().map_err(|malformed| {
        let shown: String = text.chars().take(64).collect();
        invalid(format!("{shown:?} is {malformed}"))
    })
}

/// How many items a page has.
pub fn page_limit(limit: u32) -> Result<usize, Refused> {
    match limit as usize {
        limit @ 1..=PAGE_ITEMS => Ok(limit),
        limit => Err(invalid(format!(
            "limit is {limit}, but a page has 1 to {PAGE_ITEMS} items"
        ))),
    }
}

/// When a timer fires, from now on.
pub fn schedule(after_ms: u64, every_ms: Option<u64>) -> Result<Schedule, Refused> {
    let after = timer_time("after-ms", after_ms)?;
    let every = every_ms.map(|ms| timer_time("every-ms", ms)).transpose()?;
    let at = Instant::now() + after;
    Ok(Schedule { at, every })
}

fn timer_time(what: &str, ms: u64) -> Result<Duration, Refused> {
    let time = Duration::from_millis(ms);
    if (TIMER_MIN..=TIMER_MAX).contains(&time) {
        return Ok(time);
    }
    let (min, max) = (TIMER_MIN.as_millis(), TIMER_MAX.as_millis());
    Err(invalid(format!(
        "{what} is {ms}, but must be {min} to {max}"
    )))
}

/// The end of a connection that a plugin, or who speaks for it, has asked for.
pub fn ending(code: u16, reason: String, last_message: Option<Frame>) -> Result<Ending, Refused> {
    if !may_be_sent(code) {
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

pub(super) fn check_count(what: &str, count: usize) -> Result<(), Refused> {
    if count > TARGETS_A_SEND {
        return Err(Refused::TooMany(format!(
            "{count} {what}, more than {TARGETS_A_SEND} (a call's most)"
        )));
    }
    Ok(())
}

pub(super) fn invalid(message: String) -> Refused {
    Refused::Invalid(message)
}
