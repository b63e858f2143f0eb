//! One room: everybody hears everybody, by name, until a backend closes it.

use std::time::Duration;

use jackfield_sdk::{
    Accept, CallError, CallErrorCode, CallHandler, Caller, ClientId, Departure, Error, Handshake,
    Message, Plugin, Refuse, TimerHandler, TimerScope, close_group, from_json,
    get_uid_by_client_id, keyvalue, send_to_client, send_to_group, set_timer, to_json,
};

/// The plugin.
pub struct Lobby;

impl Plugin for Lobby {
    fn on_connect(client: ClientId, handshake: Handshake) -> Result<Accept, Refuse> {
        let name = handshake.query("name").filter(|name| !name.is_empty());
        let name = name.ok_or(Refuse::new(400, "say ?name="))?;
        let visits = keyvalue::open("default").and_then(|visits| visits.increment(name, 1));
        let visits = visits.map_err(|error| Refuse::new(503, error.message))?;
        let _ = send_to_client(&client, format!("welcome, {name}: visit {visits}"));
        Ok(Accept::new().uid(name).group("lobby"))
    }

    fn on_message(client: ClientId, message: Message) {
        let Some(text) = message.as_text() else {
            return;
        };
        let Ok(Some(name)) = get_uid_by_client_id(&client) else {
            return;
        };
        let _ = send_to_group(&["lobby"], format!("{name}: {text}"), &[client]);
    }

    fn on_close(_: ClientId, departure: Departure) {
        let name = departure.uid.unwrap_or_default();
        let _ = send_to_group(&["lobby"], format!("{name} has left"), &[]);
    }
}

impl CallHandler for Lobby {
    fn on_call(_: Caller, method: &str, payload: Vec<u8>) -> Result<Vec<u8>, CallError> {
        if method != "close" {
            return Err(CallError::unknown_method(method));
        }
        let seconds: u32 = from_json(payload)?;
        let failed = |error: Error| CallError::new(CallErrorCode::Failed, error.message);
        let after = Duration::from_secs(seconds.into());
        set_timer("close", after, None, TimerScope::Cluster).map_err(failed)?;
        let told = format!("the lobby closes in {seconds} s");
        let reach = send_to_group(&["lobby"], told, &[]).map_err(failed)?;
        Ok(to_json(&reach.clients).into())
    }
}

impl TimerHandler for Lobby {
    fn on_timer(_: &str) {
        let _ = close_group("lobby", 4000, "the lobby is closed", None);
    }
}

jackfield_sdk::export!(Lobby, call_handler, timer_handler);

#[cfg(test)]
mod tests {
    use jackfield_sdk::testing::Host;

    use super::*;

    #[test]
    fn a_backend_closes_the_lobby() {
        let host: Host<Lobby> = Host::of().buckets(&["default"]);
        let ada = host.connect("/lobby?name=ada").expect("a name");
        let shop = Caller::Api("shop".to_owned());
        assert_eq!(host.call(shop, "close", "10"), Ok(b"1".to_vec()));
        let told = [
            "welcome, ada: visit 1".into(),
            "the lobby closes in 10 s".into(),
        ];
        assert_eq!(ada.received(), told);

        host.advance(Duration::from_secs(9));
        assert_eq!(ada.closed(), None);
        host.advance(Duration::from_secs(1));
        let closed = Some((4000, "the lobby is closed".to_owned()));
        assert_eq!(ada.closed(), closed);
    }
}
