//! What else a node does for its plugin: calls, timers, the time, and the log.

use std::time::Duration;

use crate::host;
use crate::{CallError, Error, Identity, Level, TimerScope};

/// Calls another plugin of the same node and waits for its answer.
///
/// The callee's manifest must name this plugin under `[calls] allow`. What the method and the
/// payload mean is the callee's to say, in its [`on_call`](crate::CallHandler::on_call).
///
/// ```
/// use jackfield_sdk::testing::Host;
/// use jackfield_sdk::{CallError, CallHandler, Caller, call};
///
/// struct Orders;
///
/// impl CallHandler for Orders {
///     fn on_call(_: Caller, method: &str, payload: Vec<u8>) -> Result<Vec<u8>, CallError> {
///         match method {
///             "open" => Ok([b"opened ", &payload[..]].concat()),
///             _ => Err(CallError::unknown_method(method)),
///         }
///     }
/// }
///
/// let orders = Host::of::<Orders>().plugin_name("orders").allow_calls(&["chat"]);
/// let chat = Host::new().plugin_name("chat");
/// chat.beside(&orders);
///
/// let answer = chat.run(|| call("orders", "open", "7"))?;
/// assert_eq!(answer, b"opened 7");
/// # Ok::<(), CallError>(())
/// ```
///
/// # Errors
///
/// The callee may return any [code](crate::CallErrorCode). The node's own are these:
///
/// - `Unavailable`: no such plugin runs on this node, or it ends.
/// - `UnknownMethod`: the callee exports no `call-handler`.
/// - `Denied`: the callee's manifest does not name this plugin.
/// - `LimitExceeded`: the method and the payload, or the answer, have more bytes than the callee
///   takes (1 MiB by default), or this is a call within four others.
/// - `Overloaded`: none of the callee's instances came free in time (2 seconds by default).
/// - `Failed`: the callee's `on_call` trapped, perhaps after it had its effect.
///
/// ```
/// use jackfield_sdk::{CallErrorCode, call};
///
/// # jackfield_sdk::testing::Host::new().run(|| {
/// let error = call("orders", "open", "7").unwrap_err();
/// assert_eq!(error.code, CallErrorCode::Unavailable); // no such plugin runs here
/// # });
/// ```
pub fn call(plugin: &str, method: &str, payload: impl AsRef<[u8]>) -> Result<Vec<u8>, CallError> {
    host::call(plugin, method, payload.as_ref())
}

/// Sets a timer, in place of one of the same name and scope.
///
/// The timer fires once `after` has passed. With `every` it then fires again and again, that far
/// apart. Each time [`on_timer`](crate::TimerHandler::on_timer) is called. Both times are 10 ms to
/// 366 days, and a fraction of a millisecond is left out. A reload of the plugin does not touch its
/// timers; they end with the plugin.
///
/// ```
/// use std::time::Duration;
///
/// use jackfield_sdk::testing::Host;
/// use jackfield_sdk::{Level, TimerHandler, TimerScope, log, set_timer};
///
/// struct Clock;
///
/// impl TimerHandler for Clock {
///     fn on_timer(name: &str) {
///         log(Level::Info, name);
///     }
/// }
///
/// let (host, minute) = (Host::of::<Clock>(), Duration::from_secs(60));
/// host.run(|| set_timer("say the time", minute, Some(minute), TimerScope::Node))?;
///
/// host.advance(minute * 3);
/// assert_eq!(host.logs().len(), 3);
/// # Ok::<(), jackfield_sdk::Error>(())
/// ```
///
/// # Errors
///
/// No timer is set or replaced if the error's [code](crate::ErrorCode) is one of these:
///
/// - `InvalidArgument`: the name is empty or too long (256 bytes by default), or a time is not
///   10 ms to 366 days.
/// - `LimitExceeded`: the plugin has too many timers (1,000 by default).
///
/// ```
/// use std::time::Duration;
///
/// use jackfield_sdk::{ErrorCode, TimerScope, set_timer};
///
/// # jackfield_sdk::testing::Host::new().run(|| {
/// let error = set_timer("at once", Duration::ZERO, None, TimerScope::Node).unwrap_err();
/// assert_eq!(error.code, ErrorCode::InvalidArgument); // 10 ms is the least
/// # });
/// ```
pub fn set_timer(
    name: &str,
    after: Duration,
    every: Option<Duration>,
    scope: TimerScope,
) -> Result<(), Error> {
    host::set_timer(name, milliseconds(after), every.map(milliseconds), scope)
}

/// Ends a timer, and returns whether there was one.
///
/// No event of the timer begins any more, but one that is under way goes on. A timer that does not
/// repeat is gone once its event has begun. One of the cluster that another node has set may not be
/// known here for a moment.
///
/// ```
/// use std::time::Duration;
///
/// use jackfield_sdk::{TimerScope, cancel_timer, set_timer};
///
/// # jackfield_sdk::testing::Host::new().run(|| {
/// set_timer("egg", Duration::from_secs(240), None, TimerScope::Node)?;
/// assert_eq!(cancel_timer("egg", TimerScope::Cluster)?, false); // that is another one
/// assert_eq!(cancel_timer("egg", TimerScope::Node)?, true);
/// assert_eq!(cancel_timer("egg", TimerScope::Node)?, false);
/// # Ok::<(), jackfield_sdk::Error>(()) }).unwrap();
/// ```
///
/// # Errors
///
/// The error's [code](crate::ErrorCode) is `InvalidArgument` if the name is empty or too long (256
/// bytes by default).
pub fn cancel_timer(name: &str, scope: TimerScope) -> Result<bool, Error> {
    host::cancel_timer(name, scope)
}

/// Returns the time by the node's clock, in milliseconds since 1970.
///
/// Clocks of nodes differ a little. In a test the clock stands at the beginning of 2026, in UTC,
/// and only [`Host::advance`](crate::testing::Host::advance) moves it. So a plugin whose
/// rules have to do with time can be tested if it asks this function, and not `SystemTime`.
///
/// ```
/// use std::time::Duration;
///
/// use jackfield_sdk::testing::Host;
/// use jackfield_sdk::{ClientId, Message, Plugin, TimerHandler, now_ms, reply};
///
/// struct Shop;
///
/// impl Plugin for Shop {
///     fn on_message(_: ClientId, _: Message) {
///         let hour = now_ms() / 3_600_000 % 24;
///         let _ = reply(if hour < 18 { "we are open" } else { "come back tomorrow" });
///     }
/// }
///
/// impl TimerHandler for Shop {} // what `advance` asks for
///
/// let host = Host::of::<Shop>();
/// let ada = host.connect("/")?;
/// ada.say("are you open?");
/// host.advance(Duration::from_secs(18 * 3_600));
/// ada.say("and now?");
/// assert_eq!(ada.received(), ["we are open".into(), "come back tomorrow".into()]);
/// # Ok::<(), jackfield_sdk::Refuse>(())
/// ```
pub fn now_ms() -> u64 {
    host::now_ms()
}

/// Returns which plugin this is, which build of it runs, and on which node.
///
/// ```
/// use jackfield_sdk::identify;
/// use jackfield_sdk::testing::Host;
///
/// let identity = Host::new().plugin_name("chat").run(identify);
/// assert_eq!((&*identity.plugin, identity.generation), ("chat", 1));
/// ```
pub fn identify() -> Identity {
    host::identify()
}

/// Writes one line to the node's log, marked as this plugin's.
///
/// A line has at most 8 KiB, and the rest of it is cut off. An event has 100 lines by default,
/// those on stdout and stderr included, and further ones are dropped.
///
/// ```
/// use jackfield_sdk::testing::Host;
/// use jackfield_sdk::{Level, log};
///
/// let host = Host::new();
/// host.run(|| log(Level::Warn, "the till is empty"));
/// assert_eq!(host.logs(), [(Level::Warn, "the till is empty".to_owned())]);
/// ```
pub fn log(level: Level, message: &str) {
    host::log(level, message)
}

/// More than there can be is too long for a timer anyway.
fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
