//! Refuses to start, with a reason: the generation that runs must go on, and the log must
//! have the reason.

use jackfield_sdk::{Lifecycle, Plugin};

struct StartRefuses;

impl Plugin for StartRefuses {}

impl Lifecycle for StartRefuses {
    fn on_start() -> Result<(), String> {
        Err("the database is down".to_owned())
    }
}

jackfield_sdk::export!(StartRefuses, lifecycle);
