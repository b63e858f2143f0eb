//! Clients: who is there, and the end of their connections.

use crate::host;
use crate::{ClientId, Count, Error, Message};

/// Returns whether this client is connected.
///
/// The answer is `false` for a client that has left, is being closed or never was.
///
/// ```
/// use jackfield_sdk::is_online;
/// use jackfield_sdk::testing::Host;
/// # struct Quiet;
/// # impl jackfield_sdk::Plugin for Quiet {}
///
/// let host = Host::of::<Quiet>();
/// let ada = host.connect("/")?;
/// assert_eq!(host.run(|| is_online(ada.id())), Ok(true));
///
/// ada.leave();
/// assert_eq!(host.run(|| is_online(ada.id())), Ok(false));
/// # Ok::<(), jackfield_sdk::Refuse>(())
/// ```
///
/// # Errors
///
/// The error's [code](crate::ErrorCode) says why:
///
/// - `InvalidArgument`: the client id is malformed.
/// - `Unreachable`, `TimedOut` or `Internal`: the client is on another node, which is silent, does
///   not answer in time, or fails.
///
/// ```
/// use jackfield_sdk::{ClientId, ErrorCode, is_online};
///
/// # jackfield_sdk::testing::Host::new().run(|| {
/// let error = is_online(&ClientId::from("ada")).unwrap_err(); // a uid is no client id
/// assert_eq!(error.code, ErrorCode::InvalidArgument);
/// # });
/// ```
pub fn is_online(client: &ClientId) -> Result<bool, Error> {
    host::is_online(client)
}

/// Returns how many clients this plugin has in the cluster.
///
/// ```
/// use jackfield_sdk::get_all_client_count;
/// use jackfield_sdk::testing::Host;
/// # struct Quiet;
/// # impl jackfield_sdk::Plugin for Quiet {}
///
/// let host = Host::of::<Quiet>();
/// let _ada = host.connect("/")?;
/// let _bob = host.connect("/")?;
///
/// let count = host.run(get_all_client_count).expect("a number");
/// assert_eq!(count.value, 2);
/// assert!(count.missing.is_empty()); // the number is complete
/// # Ok::<(), jackfield_sdk::Refuse>(())
/// ```
///
/// # Errors
///
/// No node returns an error here today. The contract leaves room for one.
pub fn get_all_client_count() -> Result<Count, Error> {
    host::get_all_client_count()
}

/// Closes the connection after what is queued and `last_message` have gone out.
///
/// The client has left from this call on, and its [`on_close`](crate::Plugin::on_close) follows.
/// `code` is 1000 to 1003, 1007 to 1014 or 3000 to 4999, and `reason` has at most 123 bytes.
///
/// ```
/// use jackfield_sdk::testing::Host;
/// use jackfield_sdk::{close_client, is_online};
/// # struct Quiet;
/// # impl jackfield_sdk::Plugin for Quiet {}
///
/// let host = Host::of::<Quiet>();
/// let ada = host.connect("/")?;
///
/// host.run(|| {
///     close_client(ada.id(), 4000, "idle", Some("good night".into())).expect("ada is here");
///     assert_eq!(is_online(ada.id()), Ok(false));
/// });
/// assert_eq!(ada.received(), ["good night".into()]);
/// assert_eq!(ada.closed(), Some((4000, "idle".to_owned())));
/// # Ok::<(), jackfield_sdk::Refuse>(())
/// ```
///
/// # Errors
///
/// The client stays if the error's [code](crate::ErrorCode) is one of these, except that after
/// `TimedOut` it may be closed:
///
/// - `InvalidArgument`: the client id is malformed, `code` may not be sent, or `reason` is too
///   long.
/// - `NotFound`: the client has left, or there never was one with this id.
/// - `Closed`: the client is the one whose `on_close` this is.
/// - `LimitExceeded`: `last_message` is larger than an outbox (1 MiB by default).
/// - `Unreachable`, `TimedOut` or `Internal`: the client is on another node, which is silent, does
///   not answer in time, or fails.
///
/// ```
/// use jackfield_sdk::{ErrorCode, close_client};
/// # struct Quiet;
/// # impl jackfield_sdk::Plugin for Quiet {}
/// # let host = jackfield_sdk::testing::Host::of::<Quiet>();
/// # let client = host.connect("/").expect("everybody is let in").id().clone();
///
/// # host.run(|| {
/// let error = close_client(&client, 1006, "", None).unwrap_err(); // 1006 is never sent
/// assert_eq!(error.code, ErrorCode::InvalidArgument);
/// # });
/// ```
pub fn close_client(
    client: &ClientId,
    code: u16,
    reason: &str,
    last_message: Option<Message>,
) -> Result<(), Error> {
    host::close_client(client, code, reason, last_message)
}

/// Closes every client of the uid, and returns how many there were.
///
/// `code` is 1000 to 1003, 1007 to 1014 or 3000 to 4999, and `reason` has at most 123 bytes.
/// Each client gets what is queued for it and `last_message` first.
///
/// ```
/// use jackfield_sdk::testing::Host;
/// use jackfield_sdk::{bind_uid, close_uid};
/// # struct Quiet;
/// # impl jackfield_sdk::Plugin for Quiet {}
///
/// let host = Host::of::<Quiet>();
/// let ada = host.connect("/")?;
///
/// host.run(|| bind_uid(ada.id(), "ada")).expect("ada is here");
/// let count = host.run(|| close_uid("ada", 4000, "logged out", None));
/// assert_eq!(count.expect("4000 may be sent").value, 1);
/// assert_eq!(ada.closed(), Some((4000, "logged out".to_owned())));
/// # Ok::<(), jackfield_sdk::Refuse>(())
/// ```
///
/// # Errors
///
/// Nobody is closed if the error's [code](crate::ErrorCode) is one of these:
///
/// - `InvalidArgument`: the uid is empty or too long (256 bytes by default), `code` may not be
///   sent, or `reason` is too long.
/// - `LimitExceeded`: `last_message` is larger than an outbox (1 MiB by default).
pub fn close_uid(
    uid: &str,
    code: u16,
    reason: &str,
    last_message: Option<Message>,
) -> Result<Count, Error> {
    host::close_uid(uid, code, reason, last_message)
}

/// Closes every client in the group, and returns how many there were.
///
/// `code` is 1000 to 1003, 1007 to 1014 or 3000 to 4999, and `reason` has at most 123 bytes.
/// Each client gets what is queued for it and `last_message` first.
///
/// ```
/// use jackfield_sdk::testing::Host;
/// use jackfield_sdk::{close_group, join_group};
/// # struct Quiet;
/// # impl jackfield_sdk::Plugin for Quiet {}
///
/// let host = Host::of::<Quiet>();
/// let ada = host.connect("/")?;
///
/// host.run(|| join_group(ada.id(), "table 4")).expect("ada is here");
/// let count = host.run(|| close_group("table 4", 4000, "", Some("game over".into())));
/// assert_eq!(count.expect("4000 may be sent").value, 1);
/// assert_eq!(ada.received(), ["game over".into()]);
/// # Ok::<(), jackfield_sdk::Refuse>(())
/// ```
///
/// # Errors
///
/// Nobody is closed if the error's [code](crate::ErrorCode) is one of these:
///
/// - `InvalidArgument`: the group's name is empty or too long (256 bytes by default), `code` may
///   not be sent, or `reason` is too long.
/// - `LimitExceeded`: `last_message` is larger than an outbox (1 MiB by default).
pub fn close_group(
    group: &str,
    code: u16,
    reason: &str,
    last_message: Option<Message>,
) -> Result<Count, Error> {
    host::close_group(group, code, reason, last_message)
}
