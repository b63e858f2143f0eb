//! Sets a timer when its generation comes, and logs each time that it fires, and its end.

use std::time::Duration;

use jackfield_sdk::{Level, Lifecycle, Plugin, TimerHandler, TimerScope, log, set_timer};

const OFTEN: Duration = Duration::from_millis(10);

struct Ticker;

impl Plugin for Ticker {}

impl Lifecycle for Ticker {
    fn on_start() -> Result<(), String> {
        let set = set_timer("tick", OFTEN, Some(OFTEN), TimerScope::Node);
        set.map_err(|error| error.to_string())
    }

    fn on_stop() {
        // Where the plugin ends, too late.
        let _ = set_timer("late", OFTEN, None, TimerScope::Node);
        log(Level::Info, "stopped");
    }
}

impl TimerHandler for Ticker {
    fn on_timer(name: &str) {
        log(Level::Info, name);
    }
}

jackfield_sdk::export!(Ticker, lifecycle, timer_handler);
