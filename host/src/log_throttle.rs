//! Log lines that are not written each time: one for what happens thousands of times a second,
//! and one for what is tried again and again.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How often the same is said.
const SAID_EVERY: Duration = Duration::from_secs(10);

/// One thing that happens, perhaps thousands of times a second.
#[derive(Debug, Default)]
pub struct LogThrottle(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    said: Option<Instant>,
    unsaid: u64,
}

impl LogThrottle {
    /// It has happened. If it should be said: how many times it has not been, since the last
    /// time that it was.
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

/// The outcome of what is tried again and again, as it was logged last.
#[derive(Debug, Default)]
pub(crate) struct LastLogged(String);

impl LastLogged {
    /// Whether it is something else than the last time.
    pub(crate) fn is(&mut self, text: &str) -> bool {
        let is_new = self.0 != text;
        if is_new {
            text.clone_into(&mut self.0);
        }
        is_new
    }
}
