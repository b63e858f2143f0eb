//! Panics when it starts: the generation that runs must go on, and the log must say why.

use jackfield_sdk::{Lifecycle, Plugin};

struct StartTraps;

impl Plugin for StartTraps {}

impl Lifecycle for StartTraps {
    fn on_start() -> Result<(), String> {
        panic!("no configuration");
    }
}

jackfield_sdk::export!(StartTraps, lifecycle);
