//! An echo that traps, as the setting `traps` says: at each message that ends with `0` (`tenth`), at
//! all messages (`messages`), or also when a client comes in (`all`). With `slow`, it takes a while for
//! each message instead.

use std::time::{Duration, Instant};

use jackfield_sdk::{Accept, ClientId, Handshake, Message, Plugin, Refuse, config, reply};

const WHILE: Duration = Duration::from_millis(10);

struct Flaky;

fn traps() -> String {
    config::get("traps").unwrap_or_default()
}

impl Plugin for Flaky {
    fn on_connect(_: ClientId, _: Handshake) -> Result<Accept, Refuse> {
        assert_ne!(traps(), "all", "a client");
        Ok(Accept::new())
    }

    fn on_message(_: ClientId, message: Message) {
        let is_tenth = message.as_text().is_some_and(|text| text.ends_with('0'));
        match &*traps() {
            "tenth" => assert!(!is_tenth, "a tenth message"),
            "messages" | "all" => panic!("a message"),
            "slow" => {
                let began = Instant::now();
                while began.elapsed() < WHILE {}
            }
            _ => {}
        }
        let _ = reply(message);
    }
}

jackfield_sdk::export!(Flaky);
