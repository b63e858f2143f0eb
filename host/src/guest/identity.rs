//! The identity of a plugin's generation, for log lines and counters.

use std::sync::Arc;
use std::time::Instant;

use crate::counters::Counters;
use crate::log_throttle::LogThrottle;
use crate::rate_limiter::RateLimiter;

/// What a log line has beside its text, in bytes, approximately.
const LINE_BYTES: usize = 160;

/// The plugin and the generation that log lines name, and the counters of the node.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// The name of the plugin.
    pub(crate) plugin: Arc<str>,
    /// The number of the plugin's generation.
    pub(crate) generation: u64,
    /// The counters of the node.
    pub(crate) counters: Arc<Counters>,
    /// The allowance for the generation's log lines.
    pub(crate) log: Arc<LogAllowance>,
}

/// The allowance for the log lines of one generation, in bytes per second.
#[derive(Debug)]
pub(crate) struct LogAllowance {
    rate: RateLimiter,
    dropped: LogThrottle,
}

impl LogAllowance {
    /// Creates a full allowance. The rate 0 means no limit.
    pub(crate) fn new(bytes_per_second: u32) -> LogAllowance {
        LogAllowance {
            rate: RateLimiter::new(bytes_per_second, Instant::now()),
            dropped: LogThrottle::default(),
        }
    }
}

impl Identity {
    /// Returns whether a line with a text of so many bytes may be logged. If it may not, the line is
    /// counted, and the log says so every ten seconds.
    pub(crate) fn may_log(&self, text_bytes: usize) -> bool {
        let bytes = u32::try_from(LINE_BYTES + text_bytes).unwrap_or(u32::MAX);
        if self.log.rate.take(bytes, Instant::now()).is_ok() {
            return true;
        }
        self.counters.log_lines_dropped.add_one();
        if let Some(unsaid) = self.log.dropped.happened() {
            let (plugin, generation) = (&*self.plugin, self.generation);
            tracing::warn!(
                plugin,
                generation,
                unsaid,
                "log lines of a plugin are dropped: it logs more than log_bytes_per_second"
            );
        }
        false
    }
}
