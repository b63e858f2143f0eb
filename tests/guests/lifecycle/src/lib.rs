//! Logs when its generation comes and goes, and answers every message with whether the
//! instance that handles it is the one that was started. The message `sleep` sleeps for an hour.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jackfield_sdk::{ClientId, Level, Lifecycle, Message, Plugin, log, send_to_client};

/// A node starts a generation in one of its instances: the others have their own of these.
static STARTED_HERE: AtomicBool = AtomicBool::new(false);

struct Cycle;

impl Plugin for Cycle {
    fn on_message(client: ClientId, message: Message) {
        if message.as_text() == Some("sleep") {
            log(Level::Info, "asleep");
            std::thread::sleep(Duration::from_secs(3600));
        }
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
        // Long enough for the node to look whether the event may go on.
        std::thread::sleep(Duration::from_millis(50));
        log(Level::Info, "stopped");
    }
}

jackfield_sdk::export!(Cycle, lifecycle);
