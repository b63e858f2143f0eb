//! What a plugin's author implements.

use crate::types::{Accept, CallError, Caller, ClientId, Departure, Handshake, Message, Refuse};

/// The logic of a plugin: what happens when a client comes, speaks and leaves.
///
/// The functions take no `self`: a node runs several instances of a plugin at once and may
/// end any of them, so what an event must leave behind goes into uids, groups and info.
///
/// ```
/// use jackfield_sdk::{Accept, ClientId, Handshake, Message, Plugin, Refuse, send_to_group};
///
/// struct Lobby;
///
/// impl Plugin for Lobby {
///     fn on_connect(_: ClientId, handshake: Handshake) -> Result<Accept, Refuse> {
///         let name = handshake.query("name").ok_or(Refuse::new(400, "say ?name="))?;
///         Ok(Accept::new().uid(name).group("lobby"))
///     }
///
///     fn on_message(_: ClientId, message: Message) {
///         let _ = send_to_group(&["lobby"], message, &[]);
///     }
/// }
/// ```
pub trait Plugin {
    /// A client asks to come in; nothing has been answered yet. The default lets it in.
    ///
    /// The client exists from here on; what is sent to it is delivered right after the
    /// upgrade. A refused client leaves without an [`on_close`](Plugin::on_close).
    fn on_connect(client: ClientId, handshake: Handshake) -> Result<Accept, Refuse> {
        let _ = (client, handshake);
        Ok(Accept::new())
    }

    /// A whole message of the client; its next one waits for this call. The default drops it.
    fn on_message(client: ClientId, message: Message) {
        let _ = (client, message);
    }

    /// The client has left; called exactly once for each accepted client while its node
    /// lives. Calls on `client` itself answer [`ErrorCode::Closed`](crate::ErrorCode::Closed).
    fn on_close(client: ClientId, departure: Departure) {
        let _ = (client, departure);
    }
}

/// Called when a generation of the plugin comes to a node and leaves it; exported by
/// `export!(Name, lifecycle)`.
pub trait Lifecycle {
    /// This generation is about to take over. An error refuses it: the running one goes on,
    /// and the text stands in the node's log.
    fn on_start() -> Result<(), String> {
        Ok(())
    }

    /// The generation's last event on this node has ended.
    fn on_stop() {}
}

/// Called by backends, and by those plugins of the same node that the manifest names under
/// `[calls] allow`; exported by `export!(Name, call_handler)`.
///
/// ```
/// use jackfield_sdk::{CallError, CallErrorCode, CallHandler, Caller, send_to_uid};
///
/// struct Chat;
///
/// impl CallHandler for Chat {
///     fn on_call(_: Caller, method: &str, payload: Vec<u8>) -> Result<Vec<u8>, CallError> {
///         match method {
///             "announce" => match send_to_uid(&["ada"], payload) {
///                 Ok(reach) => Ok(reach.clients.to_string().into()),
///                 Err(error) => Err(CallError::new(CallErrorCode::Failed, error.to_string())),
///             },
///             _ => Err(CallError::unknown_method(method)),
///         }
///     }
/// }
/// ```
pub trait CallHandler {
    /// Somebody calls; what the method and the payload mean is the plugin's to say. The default
    /// knows no method.
    ///
    /// It belongs to no client and runs at the same time as other events. What it does stays,
    /// whether its answer is heard or not.
    fn on_call(caller: Caller, method: &str, payload: Vec<u8>) -> Result<Vec<u8>, CallError> {
        let _ = (caller, payload);
        Err(CallError::unknown_method(method))
    }
}

/// Called when a [timer](crate::set_timer) fires; exported by `export!(Name, timer_handler)`.
///
/// ```
/// use std::time::Duration;
///
/// use jackfield_sdk::{
///     ClientId, Message, Plugin, TimerHandler, TimerScope, send_to_all, set_timer,
/// };
///
/// struct Egg;
///
/// impl Plugin for Egg {
///     fn on_message(_: ClientId, _: Message) {
///         let _ = set_timer("egg", Duration::from_secs(240), None, TimerScope::Node);
///     }
/// }
///
/// impl TimerHandler for Egg {
///     fn on_timer(name: &str) {
///         let _ = send_to_all(format!("the {name} is ready"), &[]);
///     }
/// }
/// ```
pub trait TimerHandler {
    /// A timer of this name fires. The default does nothing.
    ///
    /// It belongs to no client and runs at the same time as other events, but not as another
    /// one of the same timer: the firings that a long one overlaps are left out.
    fn on_timer(name: &str) {
        let _ = name;
    }
}
