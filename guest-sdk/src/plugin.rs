//! What a plugin's author implements.

use crate::{Accept, CallError, Caller, ClientId, Departure, Handshake, Message, Refuse};

/// A `Plugin` says what happens when a client comes, speaks and leaves.
///
/// The functions take no `self`. A node runs several instances of a plugin at once and may end
/// any of them, so what an event must leave behind goes into uids, groups and info. The events of
/// one client come in order and never overlap.
///
/// ```
/// use jackfield_sdk::testing::Host;
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
///
/// let ada = Host::of::<Lobby>().connect("/lobby?name=ada")?;
/// ada.say("hello");
/// assert_eq!(ada.received(), ["hello".into()]);
/// # Ok::<(), Refuse>(())
/// ```
pub trait Plugin {
    /// Decides about a client that asks to come in, before anything has been answered.
    ///
    /// The client exists from here on, and what is sent to it is delivered right after the
    /// upgrade. A refused client leaves without an [`on_close`](Plugin::on_close). The default
    /// lets everybody in.
    ///
    /// ```
    /// use jackfield_sdk::testing::Host;
    /// use jackfield_sdk::{Accept, ClientId, Handshake, Plugin, Refuse, send_to_client};
    ///
    /// struct Door;
    ///
    /// impl Plugin for Door {
    ///     fn on_connect(client: ClientId, handshake: Handshake) -> Result<Accept, Refuse> {
    ///         let name = handshake.query("name").ok_or(Refuse::new(400, "say ?name="))?;
    ///         let _ = send_to_client(&client, format!("welcome, {name}"));
    ///         Ok(Accept::new().uid(name))
    ///     }
    /// }
    ///
    /// let host = Host::of::<Door>();
    /// assert_eq!(host.connect("/").unwrap_err().status, 400);
    ///
    /// let ada = host.connect("/?name=Ada")?;
    /// assert_eq!(ada.received(), ["welcome, Ada".into()]);
    /// # Ok::<(), Refuse>(())
    /// ```
    ///
    /// # Errors
    ///
    /// A [`Refuse`] turns the client away: its HTTP request is answered with the status and the
    /// reason.
    fn on_connect(client: ClientId, handshake: Handshake) -> Result<Accept, Refuse> {
        let _ = (client, handshake);
        Ok(Accept::new())
    }

    /// Handles one whole message of a client.
    ///
    /// The client's next message waits for this call. The default drops the message.
    ///
    /// ```
    /// use jackfield_sdk::testing::Host;
    /// use jackfield_sdk::{ClientId, Message, Plugin, send_to_client};
    ///
    /// struct Shout;
    ///
    /// impl Plugin for Shout {
    ///     fn on_message(client: ClientId, message: Message) {
    ///         let Some(text) = message.as_text() else { return };
    ///         let _ = send_to_client(&client, text.to_uppercase());
    ///     }
    /// }
    ///
    /// let ada = Host::of::<Shout>().connect("/")?;
    /// ada.say("hello");
    /// ada.say(vec![1, 2]); // binary: nothing happens
    /// assert_eq!(ada.received(), ["HELLO".into()]);
    /// # Ok::<(), jackfield_sdk::Refuse>(())
    /// ```
    fn on_message(client: ClientId, message: Message) {
        let _ = (client, message);
    }

    /// Learns that a client has left, and how it was when it left.
    ///
    /// The node calls this exactly once for each accepted client while the client's node lives.
    /// Calls on `client` itself return [`ErrorCode::Closed`](crate::ErrorCode::Closed). The
    /// default does nothing.
    ///
    /// ```
    /// use jackfield_sdk::testing::Host;
    /// use jackfield_sdk::{ClientId, Departure, ErrorCode, Plugin, send_to_all, send_to_client};
    ///
    /// struct Room;
    ///
    /// impl Plugin for Room {
    ///     fn on_close(client: ClientId, departure: Departure) {
    ///         let error = send_to_client(&client, "bye").unwrap_err();
    ///         assert_eq!(error.code, ErrorCode::Closed);
    ///         let _ = send_to_all(format!("one has left: {}", departure.reason), &[]);
    ///     }
    /// }
    ///
    /// let host = Host::of::<Room>();
    /// let ada = host.connect("/")?;
    /// let bob = host.connect("/")?;
    /// ada.leave_with(4000, "dinner");
    /// assert_eq!(bob.received(), ["one has left: dinner".into()]);
    /// # Ok::<(), jackfield_sdk::Refuse>(())
    /// ```
    fn on_close(client: ClientId, departure: Departure) {
        let _ = (client, departure);
    }
}

/// A `Lifecycle` is called when a generation of the plugin comes to a node, and when it has ended
/// there.
///
/// A generation is one loaded build of the plugin. The trait is exported by
/// `export!(Name, lifecycle)`.
///
/// ```
/// use jackfield_sdk::testing::Host;
/// use jackfield_sdk::{Level, Lifecycle, Plugin, log};
///
/// struct Chat;
///
/// impl Plugin for Chat {}
///
/// impl Lifecycle for Chat {
///     fn on_start() -> Result<(), String> {
///         log(Level::Info, "taking over");
///         Ok(())
///     }
/// }
///
/// jackfield_sdk::export!(Chat, lifecycle);
///
/// let host = Host::of::<Chat>();
/// host.start()?;
/// assert_eq!(host.logs(), [(Level::Info, "taking over".to_owned())]);
/// # Ok::<(), String>(())
/// ```
pub trait Lifecycle {
    /// Checks that this generation can take over, before it does.
    ///
    /// The node calls this once per load, in one of the instances, before any other event. The
    /// default takes over.
    ///
    /// ```
    /// use jackfield_sdk::testing::Host;
    /// use jackfield_sdk::{Lifecycle, config};
    ///
    /// struct Chat;
    ///
    /// impl Lifecycle for Chat {
    ///     fn on_start() -> Result<(), String> {
    ///         config::get("greeting").map(drop).ok_or("greeting is not set".to_owned())
    ///     }
    /// }
    ///
    /// assert_eq!(Host::of::<Chat>().start(), Err("greeting is not set".to_owned()));
    /// let host = Host::of::<Chat>().config(&[("greeting", "hello")]);
    /// assert_eq!(host.start(), Ok(()));
    /// ```
    ///
    /// # Errors
    ///
    /// An error refuses this generation: the running one goes on, and the text stands in the
    /// node's log.
    fn on_start() -> Result<(), String> {
        Ok(())
    }

    /// Learns that the generation's last event on this node has ended.
    ///
    /// The generation was replaced, its file was removed, or the node ends. The default does
    /// nothing.
    ///
    /// ```
    /// use jackfield_sdk::testing::Host;
    /// use jackfield_sdk::{Level, Lifecycle, log};
    ///
    /// struct Chat;
    ///
    /// impl Lifecycle for Chat {
    ///     fn on_stop() {
    ///         log(Level::Info, "that was it");
    ///     }
    /// }
    ///
    /// let host = Host::of::<Chat>();
    /// host.stop();
    /// assert_eq!(host.logs(), [(Level::Info, "that was it".to_owned())]);
    /// ```
    fn on_stop() {}
}

/// A `CallHandler` answers calls from backends and from other plugins of the same node.
///
/// Plugins may call if the manifest names them under `[calls] allow`. The trait is exported by
/// `export!(Name, call_handler)`.
///
/// ```
/// use jackfield_sdk::testing::Host;
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
///
/// let backend = Caller::Api("billing".to_owned());
/// let answer = Host::of::<Chat>().call(backend, "announce", "a parcel")?;
/// assert_eq!(answer, b"0"); // ada is not here
/// # Ok::<(), CallError>(())
/// ```
pub trait CallHandler {
    /// Answers one call: what the method and the payload mean is the plugin's to say.
    ///
    /// A call belongs to no client and runs at the same time as other events. What it does
    /// stays, whether its answer is heard or not. The default knows no method.
    ///
    /// ```
    /// use jackfield_sdk::testing::Host;
    /// use jackfield_sdk::{CallError, CallErrorCode, CallHandler, Caller, get_all_client_count};
    ///
    /// struct Chat;
    ///
    /// impl CallHandler for Chat {
    ///     fn on_call(caller: Caller, method: &str, _: Vec<u8>) -> Result<Vec<u8>, CallError> {
    ///         match (method, caller) {
    ///             ("count", Caller::Api(_)) => match get_all_client_count() {
    ///                 Ok(count) => Ok(count.value.to_string().into()),
    ///                 Err(error) => Err(CallError::new(CallErrorCode::Failed, error.message)),
    ///             },
    ///             ("count", Caller::Plugin(name)) => {
    ///                 Err(CallError::new(CallErrorCode::Denied, format!("not for {name}")))
    ///             }
    ///             _ => Err(CallError::unknown_method(method)),
    ///         }
    ///     }
    /// }
    ///
    /// let host = Host::of::<Chat>();
    /// let backend = || Caller::Api("billing".to_owned());
    /// assert_eq!(host.call(backend(), "count", "")?, b"0");
    ///
    /// let error = host.call(backend(), "cuont", "").unwrap_err();
    /// assert_eq!(error.code, CallErrorCode::UnknownMethod);
    /// # Ok::<(), CallError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The caller gets the [`CallError`] as it is. Any code may be returned, and
    /// [`CallErrorCode`](crate::CallErrorCode) says what each of them means. The default returns
    /// `UnknownMethod`.
    fn on_call(caller: Caller, method: &str, payload: Vec<u8>) -> Result<Vec<u8>, CallError> {
        let _ = (caller, payload);
        Err(CallError::unknown_method(method))
    }
}

/// A `TimerHandler` is called when a [timer](crate::set_timer) fires.
///
/// The trait is exported by `export!(Name, timer_handler)`.
///
/// ```
/// use std::time::Duration;
///
/// use jackfield_sdk::testing::Host;
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
///
/// let host = Host::of::<Egg>();
/// let ada = host.connect("/")?;
/// ada.say("cook");
/// host.advance(Duration::from_secs(240));
/// assert_eq!(ada.received(), ["the egg is ready".into()]);
/// # Ok::<(), jackfield_sdk::Refuse>(())
/// ```
pub trait TimerHandler {
    /// Handles one firing of the timer of this name.
    ///
    /// A firing belongs to no client and runs at the same time as other events, but not as
    /// another one of the same timer: the firings that a long one overlaps are left out. The
    /// default does nothing.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use jackfield_sdk::testing::Host;
    /// use jackfield_sdk::{Level, TimerHandler, TimerScope, log, set_timer};
    ///
    /// struct Quiz;
    ///
    /// impl TimerHandler for Quiz {
    ///     fn on_timer(name: &str) {
    ///         match name.strip_prefix("time is up for ") {
    ///             Some(player) => log(Level::Info, player),
    ///             None => log(Level::Warn, "whose timer is that?"),
    ///         }
    ///     }
    /// }
    ///
    /// let (host, second) = (Host::of::<Quiz>(), Duration::from_secs(1));
    /// host.run(|| set_timer("time is up for ada", second, None, TimerScope::Node))?;
    /// host.advance(second);
    /// assert_eq!(host.logs(), [(Level::Info, "ada".to_owned())]);
    /// # Ok::<(), jackfield_sdk::Error>(())
    /// ```
    fn on_timer(name: &str) {
        let _ = name;
    }
}
