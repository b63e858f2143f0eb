//! Chat history: whoever comes gets the last lines, and whoever comes back those that they missed.

use std::convert::Infallible;

use jackfield_sdk::keyvalue::{self, Error, UpdateError};
use jackfield_sdk::{
    Accept, ClientId, Handshake, Level, Message, Plugin, Refuse, get_uid_by_client_id, join_group,
    log, reply, send_to_client, send_to_group, to_json,
};
use serde::{Deserialize, Serialize};

/// All lines are one value, of 64 KiB at most: so many lines of that size fit.
const LINES: usize = 50;
const TEXT_BYTES: usize = 500;

#[derive(Clone, Deserialize, Serialize)]
struct Line {
    number: u64,
    name: String,
    text: String,
}

struct History;

impl Plugin for History {
    fn on_connect(client: ClientId, handshake: Handshake) -> Result<Accept, Refuse> {
        let name = handshake.query("name").filter(|name| !name.is_empty());
        let name = name.ok_or(Refuse::new(400, "say ?name="))?;
        let seen = handshake.query("seen").and_then(|seen| seen.parse().ok());
        // First the group: a line that is said meanwhile comes twice rather than never.
        join_group(&client, "room").map_err(|error| Refuse::new(503, error.message))?;
        let lines = lines().map_err(|error| Refuse::new(503, error.message))?;
        for line in lines.iter().filter(|line| line.number > seen.unwrap_or(0)) {
            let _ = send_to_client(&client, to_json(line));
        }
        Ok(Accept::new().uid(name))
    }

    fn on_message(client: ClientId, message: Message) {
        let Some(text) = message.as_text() else {
            return;
        };
        let Ok(Some(name)) = get_uid_by_client_id(&client) else {
            return;
        };
        if text.len() > TEXT_BYTES {
            let _ = reply(to_json(&format!("a line has {TEXT_BYTES} bytes at most")));
            return;
        }
        match add(&name, text) {
            Ok(line) => drop(send_to_group(&["room"], to_json(&line), &[])),
            Err(error) => {
                log(Level::Error, &error.to_string());
                let _ = reply(to_json("your line is not kept: try again"));
            }
        }
    }
}

fn lines() -> Result<Vec<Line>, Error> {
    let lines = keyvalue::open("history")?.get_json("room")?;
    Ok(lines.unwrap_or_default())
}

/// Gives a line its number, and keeps it.
fn add(name: &str, text: &str) -> Result<Line, UpdateError<Infallible>> {
    let (name, text) = (name.to_owned(), text.to_owned());
    let mut line = Line {
        number: 0,
        name,
        text,
    };
    keyvalue::open("history")?.update_json("room", |lines: Option<Vec<Line>>| {
        let mut lines = lines.unwrap_or_default();
        line.number = lines.last().map_or(1, |last| last.number + 1);
        lines.push(line.clone());
        Ok(lines.split_off(lines.len().saturating_sub(LINES)))
    })?;
    Ok(line)
}

jackfield_sdk::export!(History);

#[cfg(test)]
mod tests {
    use super::*;
    use jackfield_sdk::testing::Host;

    #[test]
    fn who_comes_back_gets_what_they_missed() {
        let host = Host::of::<History>();
        let host = host.manifest("history.toml").expect("a manifest");
        let ada = host.connect("/history?name=ada").expect("a name");
        for number in 1..=60 {
            ada.say(format!("line {number}"));
        }
        assert_eq!(ada.received().len(), 60);

        let bob = host.connect("/history?name=bob").expect("a name");
        let lines = bob.received();
        assert_eq!(lines.len(), LINES);
        assert_eq!(
            lines[0].as_text(),
            Some(r#"{"number":11,"name":"ada","text":"line 11"}"#)
        );
        bob.leave();

        ada.say("are you there?");
        let bob = host.connect("/history?name=bob&seen=60").expect("a name");
        let line = r#"{"number":61,"name":"ada","text":"are you there?"}"#;
        assert_eq!(bob.received(), [line.into()]);

        bob.say("x".repeat(TEXT_BYTES + 1));
        assert_eq!(bob.received(), [r#""a line has 500 bytes at most""#.into()]);
        assert_eq!(ada.received().len(), 1, "her own line alone");
    }
}
