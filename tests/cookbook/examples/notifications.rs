//! Notifications: a backend tells a person something, now or when they come.

use std::convert::Infallible;

use jackfield_sdk::keyvalue::{self, UpdateError};
use jackfield_sdk::{
    Accept, CallError, CallErrorCode, CallHandler, Caller, ClientId, Handshake, Message, Plugin,
    Refuse, bind_uid, from_json, get_uid_by_client_id, reply, send_to_client, send_to_uid, to_json,
};
use serde::{Deserialize, Serialize};

/// So many that somebody has not read are kept; the oldest go first.
const KEPT: usize = 100;

#[derive(Clone, Deserialize, Serialize)]
struct Notification {
    number: u64,
    text: String,
}

/// What is kept for one person. Numbers go on when all are read.
#[derive(Default, Deserialize, Serialize)]
struct Unread {
    last: u64,
    list: Vec<Notification>,
}

#[derive(Deserialize)]
struct Notify {
    to: String,
    text: String,
}

#[derive(Deserialize)]
struct Read {
    read: u64,
}

struct Notifications;

impl CallHandler for Notifications {
    fn on_call(_: Caller, method: &str, payload: Vec<u8>) -> Result<Vec<u8>, CallError> {
        if method != "notify" {
            return Err(CallError::unknown_method(method));
        }
        let Notify { to, text } = from_json(payload)?;
        let failed = |why: String| CallError::new(CallErrorCode::Failed, why);
        let unread = update(&to, |unread| {
            unread.last += 1;
            unread.list.push(Notification {
                number: unread.last,
                text: text.clone(),
            });
            let old = unread.list.len().saturating_sub(KEPT);
            unread.list.drain(..old);
        });
        let unread = unread.map_err(|error| failed(error.to_string()))?;
        let reach = send_to_uid(&[to], to_json(&unread.list.last()));
        let reach = reach.map_err(|error| failed(error.message))?;
        Ok(to_json(&reach.clients).into())
    }
}

impl Plugin for Notifications {
    fn on_connect(client: ClientId, handshake: Handshake) -> Result<Accept, Refuse> {
        let uid = handshake.uid.ok_or(Refuse::new(401, "bring a token"))?;
        // First the uid: what is told meanwhile comes twice rather than never.
        bind_uid(&client, &uid).map_err(|error| Refuse::new(503, error.message))?;
        let unread = keyvalue::open("unread").and_then(|bucket| bucket.get_json::<Unread>(&uid));
        let unread = unread.map_err(|error| Refuse::new(503, error.message))?;
        for notification in unread.unwrap_or_default().list {
            let _ = send_to_client(&client, to_json(&notification));
        }
        Ok(Accept::new().uid(uid))
    }

    fn on_message(client: ClientId, message: Message) {
        let Ok(Read { read }) = message.json() else {
            return;
        };
        let Ok(Some(uid)) = get_uid_by_client_id(&client) else {
            return;
        };
        let kept = update(&uid, |unread| unread.list.retain(|each| each.number > read));
        if kept.is_err() {
            let _ = reply(to_json("try again"));
        }
    }
}

fn update(
    uid: &str,
    mut change: impl FnMut(&mut Unread),
) -> Result<Unread, UpdateError<Infallible>> {
    keyvalue::open("unread")?.update_json(uid, |unread: Option<Unread>| {
        let mut unread = unread.unwrap_or_default();
        change(&mut unread);
        Ok(unread)
    })
}

jackfield_sdk::export!(Notifications, call_handler);

#[cfg(test)]
mod tests {
    use super::*;
    use jackfield_sdk::testing::Host;

    #[test]
    fn what_came_while_they_were_away_waits_until_it_is_read() {
        let host = Host::of::<Notifications>();
        let host = host.manifest("notifications.toml").expect("a manifest");
        let notify = |text: &str| {
            let shop = Caller::Api("shop".to_owned());
            host.call(shop, "notify", format!(r#"{{"to":"ada","text":"{text}"}}"#))
        };
        // As the node does for a client with a token.
        let uid = Some("ada".to_owned());
        let ada = Handshake {
            uid,
            ..Handshake::get("/notifications")
        };
        let [first, second] = [
            r#"{"number":1,"text":"paid"}"#,
            r#"{"number":2,"text":"sent"}"#,
        ];

        assert_eq!(notify("paid"), Ok(b"0".to_vec()), "she is not there");
        let window = host.connect_with(ada.clone()).expect("a uid");
        assert_eq!(window.received(), [first.into()]);
        assert_eq!(notify("sent"), Ok(b"1".to_vec()));
        assert_eq!(window.received(), [second.into()]);

        window.say(r#"{"read":1}"#);
        let other = host.connect_with(ada).expect("a uid");
        assert_eq!(other.received(), [second.into()]);
        assert_eq!(
            host.connect("/notifications").expect_err("no token").status,
            401
        );
    }
}
