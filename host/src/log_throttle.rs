//! Limits for repeated log lines: one for events that occur thousands of times a second, and one
//! for actions that are repeated again and again.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The shortest time between two log lines about the same event.
const SAID_EVERY: Duration = Duration::from_secs(10);

/// A limit for the log lines about one event, which may occur thousands of times a second.
#[derive(Debug, Default)]
pub struct LogThrottle(Mutex<ThrottleState>);

#[derive(Debug, Default)]
struct ThrottleState {
    said: Option<Instant>,
    unsaid: u64,
}

impl LogThrottle {
    /// Records that the event has occurred. If the event should be logged now, the result is the
    /// number of events that were not logged since the last time.
    pub fn happened(&self) -> Option<u64> {
        let mut state = self.0.lock();
        if state.said.is_some_and(|said| said.elapsed() < SAID_EVERY) {
            state.unsaid += 1;
            return None;
        }
        state.said = Some(Instant::now());
        Some(std::mem::take(&mut state.unsaid))
    }
}

/// The outcome of a repeated action, as it was logged last.
#[derive(Debug, Default)]
pub(crate) struct LastLogged(String);

impl LastLogged {
    /// Whether this outcome differs from the last one.
    pub(crate) fn is(&mut self, text: &str) -> bool {
        let is_new = self.0 != text;
        if is_new {
            text.clone_into(&mut self.0);
        }
        is_new
    }
}
