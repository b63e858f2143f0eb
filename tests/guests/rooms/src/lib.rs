//! Login, rooms, private messages: the program of `docs/from-gatewayworker.md`.

use std::slice;

use jackfield_sdk::{
    ClientId, Departure, Error, Level, Message, Plugin, all_pages, bind_uid, get_info,
    get_uids_by_group, join_group, log, send_to_client, send_to_group, send_to_uid, update_info,
};
use serde::Deserialize;
use serde_json::json;

struct Rooms;

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Said {
    Login { name: String, room: String },
    Say { text: String, to: Option<String> },
}

impl Plugin for Rooms {
    fn on_message(client: ClientId, message: Message) {
        let said = message.as_text().map(serde_json::from_str);
        let done = match said {
            Some(Ok(Said::Login { name, room })) => login(&client, &name, &room),
            Some(Ok(Said::Say { text, to })) => say(&client, &text, to),
            _ => return,
        };
        if let Err(error) = done {
            log(Level::Warn, &error.to_string());
        }
    }

    fn on_close(_: ClientId, departure: Departure) {
        if let Some(room) = departure.info.get("room") {
            let logout = json!({ "type": "logout", "name": departure.uid });
            let _ = send_to_group(&[room], logout.to_string(), &[]);
        }
    }
}

jackfield_sdk::export!(Rooms);

fn login(client: &ClientId, name: &str, room: &str) -> Result<(), Error> {
    update_info(client, &[("name", Some(name)), ("room", Some(room))])?;
    bind_uid(client, name)?;
    join_group(client, room)?;
    let login = json!({ "type": "login", "name": name });
    send_to_group(&[room], login.to_string(), &[])?;
    let names = all_pages(|cursor| get_uids_by_group(room, cursor, 1000))?;
    let online = json!({ "type": "online", "names": names });
    send_to_client(client, online.to_string())
}

fn say(client: &ClientId, text: &str, to: Option<String>) -> Result<(), Error> {
    let info = get_info(client)?;
    let (Some(name), Some(room)) = (info.get("name"), info.get("room")) else {
        return Ok(());
    };
    let said = json!({ "type": "say", "from": name, "text": text }).to_string();
    match to {
        Some(to) => send_to_uid(&[to], said)?,
        None => send_to_group(&[room], said, slice::from_ref(client))?,
    };
    Ok(())
}
