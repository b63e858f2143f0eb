//! One room: everybody hears everybody, by name.

use jackfield_sdk::{
    Accept, ClientId, Departure, Handshake, Message, Plugin, Refuse, get_uid_by_client_id,
    send_to_group,
};

/// The plugin.
pub struct Lobby;

impl Plugin for Lobby {
    fn on_connect(_: ClientId, handshake: Handshake) -> Result<Accept, Refuse> {
        let name = handshake.query("name").filter(|name| !name.is_empty());
        let name = name.ok_or(Refuse::new(400, "say ?name="))?;
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

jackfield_sdk::export!(Lobby);

#[cfg(test)]
mod tests {
    use jackfield_sdk::testing::Host;

    use super::*;

    /// A node with the plugin, under the manifest that is deployed.
    fn host() -> Host<Lobby> {
        Host::of().manifest("{{name}}.toml").expect("a manifest")
    }

    #[test]
    fn the_others_hear_who_speaks_and_who_leaves() {
        let host = host();
        let ada = host.connect("/{{name}}?name=ada").expect("a name");
        let bob = host.connect("/{{name}}?name=bob").expect("a name");
        ada.say("hello");
        ada.leave();
        assert_eq!(bob.received(), ["ada: hello".into(), "ada has left".into()]);
        assert!(ada.received().is_empty());
    }

    #[test]
    fn nobody_comes_in_without_a_name() {
        let refused = host().connect("/{{name}}?name=").unwrap_err();
        assert_eq!((refused.status, &*refused.reason), (400, "say ?name="));
    }
}
