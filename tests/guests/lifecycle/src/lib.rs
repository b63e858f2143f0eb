//! Logs when its generation comes and goes, and answers every message with whether the
//! instance that handles it is the one that was started.

use std::sync::atomic::{AtomicBool, Ordering};

use jackfield_sdk::{ClientId, Level, Lifecycle, Message, Plugin, log, send_to_client};

/// A node starts a generation in one of its instances: the others have their own of these.
static STARTED_HERE: AtomicBool = AtomicBool::new(false);

struct Cycle;

impl Plugin for Cycle {
    fn on_message(client: ClientId, _: Message) {
        let answer = if STARTED_HERE.load(Ordering::Relaxed) {
            "started here"
        } else {
            "started elsewhere"
        };
        // The client may have left by now; there is nobody else to tell.
        let _ = send_to_client(&client, answer);
    }
}

impl Lifecycle for Cycle {
    fn on_start() -> Result<(), String> {
        STARTED_HERE.store(true, Ordering::Relaxed);
        log(Level::Info, "started");
        Ok(())
    }

    fn on_stop() {
        log(Level::Info, "stopped");
    }
}

jackfield_sdk::export!(Cycle, lifecycle);
