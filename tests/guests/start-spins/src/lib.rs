//! Says so and never gets through its start: what waits for it must not wait for long.

use jackfield_sdk::{Level, Lifecycle, Plugin, log};

struct StartSpins;

impl Plugin for StartSpins {}

impl Lifecycle for StartSpins {
    fn on_start() -> Result<(), String> {
        log(Level::Info, "spinning");
        loop {
            std::hint::spin_loop();
        }
    }
}

jackfield_sdk::export!(StartSpins, lifecycle);
