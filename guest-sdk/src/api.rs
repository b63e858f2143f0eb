//! The functions of the contract, by their names; `wit/` is their reference.
//!
//! Each takes what its user has and answers an [`Error`] where the contract does. Examples run
//! against the in-memory stand-in, see [`testing::Host`](crate::testing).

use std::time::Duration;

use crate::host;
use crate::types::{
    CallError, ClientId, Count, Error, Identity, Info, Level, Message, Page, Reach, TimerScope,
};

/// Sends a message to all clients of this plugin in the cluster, except those in `exclude`.
///
/// A send takes effect at once and never waits. It is no error if nobody is there.
///
/// ```
/// use jackfield_sdk::send_to_all;
/// use jackfield_sdk::testing::Host;
/// # struct Quiet;
/// # impl jackfield_sdk::Plugin for Quiet {}
///
/// let host = Host::new();
/// let ada = host.connect::<Quiet>()?;
/// let bob = host.connect::<Quiet>()?;
///
/// let reach = host.run(|| send_to_all("the shop opens", &[bob.id().clone()]));
///
/// assert_eq!(reach.expect("bob's id is well-formed").clients, 1);
/// assert_eq!(ada.received(), ["the shop opens".into()]);
/// assert!(bob.received().is_empty());
/// # Ok::<(), jackfield_sdk::Refuse>(())
/// ```
///
/// # Errors
///
/// Nobody gets the message if the error's [code](crate::ErrorCode) is one of these:
///
/// - `InvalidArgument`: an id in `exclude` is malformed.
/// - `LimitExceeded`: the message is larger than an outbox (1 MiB by default), `exclude` has more
///   than 1,000 ids, or the event has sent too often (10,000 times by default).
pub fn send_to_all(message: impl Into<Message>, exclude: &[ClientId]) -> Result<Reach, Error> {
    host::send_to_all(message.into(), exclude)
}

/// Sends a message to one client.
///
/// `Ok` means that the client's outbox has the message. For a client of another node, it means
/// that the link to that node has it: only that node learns whether the client has left
/// meanwhile or is too slow.
///
/// ```
/// use jackfield_sdk::testing::Host;
/// use jackfield_sdk::{ErrorCode, send_to_client};
/// # struct Quiet;
/// # impl jackfield_sdk::Plugin for Quiet {}
///
/// let host = Host::new();
/// let ada = host.connect::<Quiet>()?;
///
/// host.run(|| send_to_client(ada.id(), "hello")).expect("ada is here");
/// assert_eq!(ada.received(), ["hello".into()]);
///
/// ada.leave();
/// let error = host.run(|| send_to_client(ada.id(), "hello?")).unwrap_err();
/// assert_eq!(error.code, ErrorCode::NotFound);
/// # Ok::<(), jackfield_sdk::Refuse>(())
/// ```
///
/// # Errors
///
/// The client does not get the message if the error's [code](crate::ErrorCode) is one of these:
///
/// - `InvalidArgument`: the client id is malformed.
/// - `NotFound`: the client has left, its node has gone, or there never was such a client.
/// - `Closed`: the client is the one whose `on_close` this is.
/// - `Overloaded`: the client's outbox is full.
/// - `Unreachable`: the link to the client's node is full.
/// - `LimitExceeded`: the message is larger than an outbox (1 MiB by default), or the event has
///   sent too often (10,000 times by default).
pub fn send_to_client(client: &ClientId, message: impl Into<Message>) -> Result<(), Error> {
    host::send_to_client(client, message.into())
}

/// Sends a message to the client whose event this is.
///
/// It is as `send_to_client` with the id that the event brought, and takes less.
///
/// ```
/// use jackfield_sdk::testing::Host;
/// use jackfield_sdk::{ClientId, Message, Plugin, reply};
///
/// struct Echo;
///
/// impl Plugin for Echo {
///     fn on_message(_: ClientId, message: Message) {
///         let _ = reply(message); // the client may have left by now
///     }
/// }
///
/// let ada = Host::new().connect::<Echo>()?;
/// ada.say("hello");
/// assert_eq!(ada.received(), ["hello".into()]);
/// # Ok::<(), jackfield_sdk::Refuse>(())
/// ```
///
/// # Errors
///
/// The client does not get the message if the error's [code](crate::ErrorCode) is one of these:
///
/// - `InvalidArgument`: the event is no client's. It is a call, a timer, or `on_start`.
/// - `NotFound`: the client has left, or its node has gone.
/// - `Closed`: this is the client's `on_close`.
/// - `Overloaded`: the client's outbox is full.
/// - `Unreachable`: the link to the client's node is full.
/// - `LimitExceeded`: the message is larger than an outbox (1 MiB by default), or the event has
///   sent too often (10,000 times by default).
pub fn reply(message: impl Into<Message>) -> Result<(), Error> {
    host::reply(message.into())
}

/// Sends a message to every client of each of these uids, once each.
///
/// It is no error if nobody is there.
///
/// ```
/// use jackfield_sdk::testing::Host;
/// use jackfield_sdk::{Error, bind_uid, send_to_uid};
/// # struct Quiet;
/// # impl jackfield_sdk::Plugin for Quiet {}
///
/// let host = Host::new();
/// # let connect = || host.connect::<Quiet>().expect("everybody is let in");
/// let (phone, laptop) = (connect(), connect());
///
/// host.run(|| {
///     bind_uid(phone.id(), "ada")?;
///     bind_uid(laptop.id(), "ada")?;
///     let reach = send_to_uid(&["ada", "bob"], "dinner is ready")?;
///     assert_eq!(reach.clients, 2); // bob is not here
///     Ok::<(), Error>(())
/// })?;
/// assert_eq!(phone.received(), ["dinner is ready".into()]);
/// assert_eq!(laptop.received(), ["dinner is ready".into()]);
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
///
/// Nobody gets the message if the error's [code](crate::ErrorCode) is one of these:
///
/// - `InvalidArgument`: a uid is empty, or is longer than a name may be (256 bytes by default).
/// - `LimitExceeded`: the message is larger than an outbox (1 MiB by default), there are more than
///   1,000 uids, or the event has sent too often (10,000 times by default).
pub fn send_to_uid<S: AsRef<str>>(uids: &[S], message: impl Into<Message>) -> Result<Reach, Error> {
    host::send_to_uid(&owned(uids), message.into())
}

/// Sends a message to the members of these groups, except those in `exclude`.
///
/// A member of several of the groups gets the message once. An empty group is no error.
///
/// ```
/// use jackfield_sdk::testing::Host;
/// use jackfield_sdk::{Error, join_group, send_to_group};
/// # struct Quiet;
/// # impl jackfield_sdk::Plugin for Quiet {}
///
/// let host = Host::new();
/// # let connect = || host.connect::<Quiet>().expect("everybody is let in");
/// let (ada, bob) = (connect(), connect());
///
/// host.run(|| {
///     join_group(ada.id(), "red")?;
///     join_group(ada.id(), "blue")?;
///     join_group(bob.id(), "blue")?;
///     send_to_group(&["red", "blue"], "go", &[bob.id().clone()])
/// })?;
/// assert_eq!(ada.received(), ["go".into()]); // once
/// assert!(bob.received().is_empty());
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
///
/// Nobody gets the message if the error's [code](crate::ErrorCode) is one of these:
///
/// - `InvalidArgument`: a group's name is empty or too long (256 bytes by default), or an id in
///   `exclude` is malformed.
/// - `LimitExceeded`: the message is larger than an outbox (1 MiB by default), there are more than
///   1,000 groups or ids, or the event has sent too often (10,000 times by default).
pub fn send_to_group<S: AsRef<str>>(
    groups: &[S],
    message: impl Into<Message>,
    exclude: &[ClientId],
) -> Result<Reach, Error> {
    host::send_to_group(&owned(groups), message.into(), exclude)
}

/// Gives the client this uid, in place of the one it had.
///
/// It is no error to bind the same uid again. Other clients with the uid keep it, unless the
/// plugin's policy says otherwise: `kick-old` closes them with 4001, and `reject-new` refuses the
/// new one.
///
/// ```
/// use jackfield_sdk::{bind_uid, get_uid_by_client_id};
/// # struct Quiet;
/// # impl jackfield_sdk::Plugin for Quiet {}
/// # let host = jackfield_sdk::testing::Host::new();
/// # let client = host.connect::<Quiet>().expect("everybody is let in").id().clone();
///
/// # host.run(|| {
/// bind_uid(&client, "guest")?;
/// bind_uid(&client, "ada")?;
/// assert_eq!(get_uid_by_client_id(&client)?.as_deref(), Some("ada"));
/// # Ok::<(), jackfield_sdk::Error>(()) }).unwrap();
/// ```
///
/// # Errors
///
/// The client keeps the uid it had if the error's [code](crate::ErrorCode) is one of these, except
/// that after `TimedOut` it may have the new one:
///
/// - `InvalidArgument`: the client id is malformed, or the uid is empty or too long (256 bytes by
///   default).
/// - `NotFound`: the client has left, or there never was one with this id.
/// - `Closed`: the client is the one whose `on_close` this is.
/// - `Taken`: another client has the uid, and the plugin's policy is `reject-new`.
/// - `LimitExceeded`: the uid has too many clients (1,000 by default).
/// - `Unreachable`, `TimedOut` or `Internal`: the client is on another node, which is silent, does
///   not answer in time, or fails.
///
/// ```
/// use jackfield_sdk::testing::{Host, UidPolicy};
/// use jackfield_sdk::{ErrorCode, bind_uid};
/// # struct Quiet;
/// # impl jackfield_sdk::Plugin for Quiet {}
///
/// let host = Host::new().uid_policy(UidPolicy::RejectNew);
/// let old = host.connect::<Quiet>()?;
/// let new = host.connect::<Quiet>()?;
///
/// host.run(|| bind_uid(old.id(), "ada")).expect("nobody has it");
/// let error = host.run(|| bind_uid(new.id(), "ada")).unwrap_err();
/// assert_eq!(error.code, ErrorCode::Taken);
/// # Ok::<(), jackfield_sdk::Refuse>(())
/// ```
pub fn bind_uid(client: &ClientId, uid: &str) -> Result<(), Error> {
    host::bind_uid(client, uid)
}

/// Takes the client's uid away, and returns whether one was taken away.
///
/// If `uid` is given, the client loses its uid only if it is that one.
///
/// ```
/// use jackfield_sdk::{bind_uid, unbind_uid};
/// # struct Quiet;
/// # impl jackfield_sdk::Plugin for Quiet {}
/// # let host = jackfield_sdk::testing::Host::new();
/// # let client = host.connect::<Quiet>().expect("everybody is let in").id().clone();
///
/// # host.run(|| {
/// bind_uid(&client, "ada")?;
/// assert_eq!(unbind_uid(&client, Some("bob"))?, false); // it is another one
/// assert_eq!(unbind_uid(&client, None)?, true);
/// assert_eq!(unbind_uid(&client, None)?, false); // it has none any more
/// # Ok::<(), jackfield_sdk::Error>(()) }).unwrap();
/// ```
///
/// # Errors
///
/// The error's [code](crate::ErrorCode) says why:
///
/// - `InvalidArgument`: the client id is malformed, or `uid` is empty or too long (256 bytes by
///   default).
/// - `NotFound`: the client has left, or there never was one with this id.
/// - `Closed`: the client is the one whose `on_close` this is.
/// - `Unreachable`, `TimedOut` or `Internal`: the client is on another node, which is silent, does
///   not answer in time, or fails.
pub fn unbind_uid(client: &ClientId, uid: Option<&str>) -> Result<bool, Error> {
    host::unbind_uid(client, uid)
}

/// Returns whether any client in the cluster has this uid.
///
/// The answer is `false` as soon as the last one has gone.
///
/// ```
/// use jackfield_sdk::testing::Host;
/// use jackfield_sdk::{bind_uid, is_uid_online};
/// # struct Quiet;
/// # impl jackfield_sdk::Plugin for Quiet {}
///
/// let host = Host::new();
/// let ada = host.connect::<Quiet>()?;
///
/// host.run(|| bind_uid(ada.id(), "ada")).expect("ada is here");
/// assert_eq!(host.run(|| is_uid_online("ada")), Ok(true));
///
/// ada.leave();
/// assert_eq!(host.run(|| is_uid_online("ada")), Ok(false));
/// # Ok::<(), jackfield_sdk::Refuse>(())
/// ```
///
/// # Errors
///
/// The error's [code](crate::ErrorCode) is `InvalidArgument` if the uid is empty or too long (256
/// bytes by default).
pub fn is_uid_online(uid: &str) -> Result<bool, Error> {
    host::is_uid_online(uid)
}

/// Returns the client's uid, if it has one.
///
/// A client without a uid is `Ok(None)`, which is not the same as an unknown client.
///
/// ```
/// use jackfield_sdk::{bind_uid, get_uid_by_client_id};
/// # struct Quiet;
/// # impl jackfield_sdk::Plugin for Quiet {}
/// # let host = jackfield_sdk::testing::Host::new();
/// # let client = host.connect::<Quiet>().expect("everybody is let in").id().clone();
///
/// # host.run(|| {
/// assert_eq!(get_uid_by_client_id(&client)?, None);
/// bind_uid(&client, "ada")?;
/// assert_eq!(get_uid_by_client_id(&client)?.as_deref(), Some("ada"));
/// # Ok::<(), jackfield_sdk::Error>(()) }).unwrap();
/// ```
///
/// # Errors
///
/// The error's [code](crate::ErrorCode) says why:
///
/// - `InvalidArgument`: the client id is malformed.
/// - `NotFound`: the client has left, or there never was one with this id.
/// - `Closed`: the client is the one whose `on_close` this is; its uid is in the
///   [`Departure`](crate::Departure).
/// - `Unreachable`, `TimedOut` or `Internal`: the client is on another node, which is silent, does
///   not answer in time, or fails.
pub fn get_uid_by_client_id(client: &ClientId) -> Result<Option<String>, Error> {
    host::get_uid_by_client_id(client)
}

/// Lists the clients with this uid, 1 to 1,000 on a page.
///
/// The first call has no cursor, and each further call has the last page's [`next`](Page::next).
/// [`all_pages`] walks the whole list.
///
/// ```
/// use jackfield_sdk::{bind_uid, get_client_ids_by_uid};
/// # struct Quiet;
/// # impl jackfield_sdk::Plugin for Quiet {}
/// # let host = jackfield_sdk::testing::Host::new();
/// # let client = host.connect::<Quiet>().expect("everybody is let in").id().clone();
///
/// # host.run(|| {
/// bind_uid(&client, "ada")?;
/// let page = get_client_ids_by_uid("ada", None, 100)?;
/// assert_eq!(page.items, [client]);
/// assert_eq!(page.next, None); // there is no other page
/// # Ok::<(), jackfield_sdk::Error>(()) }).unwrap();
/// ```
///
/// # Errors
///
/// The error's [code](crate::ErrorCode) is `InvalidArgument` if the uid is empty or too long (256
/// bytes by default), if `limit` is not 1 to 1,000, or if no page of this list gave out `cursor`.
pub fn get_client_ids_by_uid(
    uid: &str,
    cursor: Option<&str>,
    limit: u32,
) -> Result<Page<ClientId>, Error> {
    host::get_client_ids_by_uid(uid, cursor, limit).map(ids)
}

/// Lists all uids that some client has, each once, 1 to 1,000 on a page.
///
/// The first call has no cursor, and each further call has the last page's [`next`](Page::next).
/// [`all_pages`] walks the whole list.
///
/// ```
/// use jackfield_sdk::{ErrorCode, bind_uid, get_all_uids};
/// # struct Quiet;
/// # impl jackfield_sdk::Plugin for Quiet {}
/// # let host = jackfield_sdk::testing::Host::new();
/// # let client = host.connect::<Quiet>().expect("everybody is let in").id().clone();
///
/// # host.run(|| {
/// bind_uid(&client, "ada")?;
/// assert_eq!(get_all_uids(None, 1_000)?.items, ["ada"]);
///
/// let error = get_all_uids(None, 1_001).unwrap_err();
/// assert_eq!(error.code, ErrorCode::InvalidArgument);
/// # Ok::<(), jackfield_sdk::Error>(()) }).unwrap();
/// ```
///
/// # Errors
///
/// The error's [code](crate::ErrorCode) is `InvalidArgument` if `limit` is not 1 to 1,000, or if no
/// page of this list gave out `cursor`.
pub fn get_all_uids(cursor: Option<&str>, limit: u32) -> Result<Page<String>, Error> {
    host::get_all_uids(cursor, limit)
}

/// Puts the client into the group.
///
/// A group comes into being with its first member. It is no error to join again.
///
/// ```
/// use jackfield_sdk::{get_client_ids_by_group, join_group};
/// # struct Quiet;
/// # impl jackfield_sdk::Plugin for Quiet {}
/// # let host = jackfield_sdk::testing::Host::new();
/// # let client = host.connect::<Quiet>().expect("everybody is let in").id().clone();
///
/// # host.run(|| {
/// join_group(&client, "lobby")?;
/// assert_eq!(get_client_ids_by_group("lobby", None, 100)?.items, [client]);
/// # Ok::<(), jackfield_sdk::Error>(()) }).unwrap();
/// ```
///
/// # Errors
///
/// The error's [code](crate::ErrorCode) says why:
///
/// - `InvalidArgument`: the client id is malformed, or the group's name is empty or too long (256
///   bytes by default).
/// - `NotFound`: the client has left, or there never was one with this id.
/// - `Closed`: the client is the one whose `on_close` this is.
/// - `LimitExceeded`: the client is in too many groups (1,000 by default).
/// - `Unreachable`, `TimedOut` or `Internal`: the client is on another node, which is silent, does
///   not answer in time, or fails.
pub fn join_group(client: &ClientId, group: &str) -> Result<(), Error> {
    host::join_group(client, group)
}

/// Takes the client out of the group.
///
/// It is no error if the client is not in it.
///
/// ```
/// use jackfield_sdk::{get_client_count_by_group, join_group, leave_group};
/// # struct Quiet;
/// # impl jackfield_sdk::Plugin for Quiet {}
/// # let host = jackfield_sdk::testing::Host::new();
/// # let client = host.connect::<Quiet>().expect("everybody is let in").id().clone();
///
/// # host.run(|| {
/// join_group(&client, "lobby")?;
/// leave_group(&client, "lobby")?;
/// leave_group(&client, "lobby")?; // it is not in it any more
/// assert_eq!(get_client_count_by_group("lobby")?.value, 0);
/// # Ok::<(), jackfield_sdk::Error>(()) }).unwrap();
/// ```
///
/// # Errors
///
/// The error's [code](crate::ErrorCode) says why:
///
/// - `InvalidArgument`: the client id is malformed, or the group's name is empty or too long (256
///   bytes by default).
/// - `NotFound`: the client has left, or there never was one with this id.
/// - `Closed`: the client is the one whose `on_close` this is.
/// - `Unreachable`, `TimedOut` or `Internal`: the client is on another node, which is silent, does
///   not answer in time, or fails.
pub fn leave_group(client: &ClientId, group: &str) -> Result<(), Error> {
    host::leave_group(client, group)
}

/// Dissolves the group, and returns how many members it had.
///
/// The members stay connected.
///
/// ```
/// use jackfield_sdk::{get_all_groups, is_online, join_group, ungroup};
/// # struct Quiet;
/// # impl jackfield_sdk::Plugin for Quiet {}
/// # let host = jackfield_sdk::testing::Host::new();
/// # let client = host.connect::<Quiet>().expect("everybody is let in").id().clone();
///
/// # host.run(|| {
/// join_group(&client, "lobby")?;
/// assert_eq!(ungroup("lobby")?.value, 1);
/// assert!(get_all_groups(None, 100)?.items.is_empty());
/// assert!(is_online(&client)?);
/// # Ok::<(), jackfield_sdk::Error>(()) }).unwrap();
/// ```
///
/// # Errors
///
/// The error's [code](crate::ErrorCode) is `InvalidArgument` if the group's name is empty or too
/// long (256 bytes by default).
pub fn ungroup(group: &str) -> Result<Count, Error> {
    host::ungroup(group)
}

/// Returns how many clients are in the group.
///
/// ```
/// use jackfield_sdk::{get_client_count_by_group, join_group};
/// # struct Quiet;
/// # impl jackfield_sdk::Plugin for Quiet {}
/// # let host = jackfield_sdk::testing::Host::new();
/// # let client = host.connect::<Quiet>().expect("everybody is let in").id().clone();
///
/// # host.run(|| {
/// assert_eq!(get_client_count_by_group("lobby")?.value, 0); // an empty group is no error
/// join_group(&client, "lobby")?;
/// assert_eq!(get_client_count_by_group("lobby")?.value, 1);
/// # Ok::<(), jackfield_sdk::Error>(()) }).unwrap();
/// ```
///
/// # Errors
///
/// The error's [code](crate::ErrorCode) is `InvalidArgument` if the group's name is empty or too
/// long (256 bytes by default).
pub fn get_client_count_by_group(group: &str) -> Result<Count, Error> {
    host::get_client_count_by_group(group)
}

/// Lists the clients in the group, 1 to 1,000 on a page.
///
/// The first call has no cursor, and each further call has the last page's [`next`](Page::next).
/// [`all_pages`] walks the whole list.
///
/// ```
/// use jackfield_sdk::testing::Host;
/// use jackfield_sdk::{Error, get_client_ids_by_group, join_group};
/// # struct Quiet;
/// # impl jackfield_sdk::Plugin for Quiet {}
///
/// let host = Host::new();
/// # let connect = || host.connect::<Quiet>().expect("everybody is let in");
/// let (ada, bob) = (connect(), connect());
///
/// host.run(|| {
///     join_group(ada.id(), "lobby")?;
///     join_group(bob.id(), "lobby")?;
///     let first = get_client_ids_by_group("lobby", None, 1)?;
///     let last = get_client_ids_by_group("lobby", first.next.as_deref(), 1)?;
///     assert_eq!((first.items.len(), last.items.len()), (1, 1));
///     assert_ne!(first.items, last.items);
///     assert_eq!(last.next, None);
///     Ok::<(), Error>(())
/// })?;
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
///
/// The error's [code](crate::ErrorCode) is `InvalidArgument` if the group's name is empty or too
/// long (256 bytes by default), if `limit` is not 1 to 1,000, or if no page of this list gave out
/// `cursor`.
pub fn get_client_ids_by_group(
    group: &str,
    cursor: Option<&str>,
    limit: u32,
) -> Result<Page<ClientId>, Error> {
    host::get_client_ids_by_group(group, cursor, limit).map(ids)
}

/// Lists the uids in the group, each once, 1 to 1,000 on a page.
///
/// Members without a uid do not show. The first call has no cursor, and each further call has the
/// last page's [`next`](Page::next). [`all_pages`] walks the whole list.
///
/// ```
/// use jackfield_sdk::testing::Host;
/// use jackfield_sdk::{Error, bind_uid, get_uids_by_group, join_group};
/// # struct Quiet;
/// # impl jackfield_sdk::Plugin for Quiet {}
///
/// let host = Host::new();
/// # let connect = || host.connect::<Quiet>().expect("everybody is let in");
/// let (ada, stranger) = (connect(), connect());
///
/// host.run(|| {
///     bind_uid(ada.id(), "ada")?;
///     join_group(ada.id(), "lobby")?;
///     join_group(stranger.id(), "lobby")?;
///     assert_eq!(get_uids_by_group("lobby", None, 100)?.items, ["ada"]);
///     Ok::<(), Error>(())
/// })?;
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
///
/// The error's [code](crate::ErrorCode) is `InvalidArgument` if the group's name is empty or too
/// long (256 bytes by default), if `limit` is not 1 to 1,000, or if no page of this list gave out
/// `cursor`.
pub fn get_uids_by_group(
    group: &str,
    cursor: Option<&str>,
    limit: u32,
) -> Result<Page<String>, Error> {
    host::get_uids_by_group(group, cursor, limit)
}

/// Returns how many different uids are in the group.
///
/// ```
/// use jackfield_sdk::testing::Host;
/// use jackfield_sdk::{Error, bind_uid, get_uid_count_by_group, join_group};
/// # struct Quiet;
/// # impl jackfield_sdk::Plugin for Quiet {}
///
/// let host = Host::new();
/// # let connect = || host.connect::<Quiet>().expect("everybody is let in");
/// let (phone, laptop) = (connect(), connect());
///
/// host.run(|| {
///     for client in [phone.id(), laptop.id()] {
///         bind_uid(client, "ada")?;
///         join_group(client, "lobby")?;
///     }
///     assert_eq!(get_uid_count_by_group("lobby")?.value, 1); // two clients, one person
///     Ok::<(), Error>(())
/// })?;
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
///
/// The error's [code](crate::ErrorCode) is `InvalidArgument` if the group's name is empty or too
/// long (256 bytes by default).
pub fn get_uid_count_by_group(group: &str) -> Result<Count, Error> {
    host::get_uid_count_by_group(group)
}

/// Lists all groups that have members, 1 to 1,000 on a page.
///
/// The first call has no cursor, and each further call has the last page's [`next`](Page::next).
/// [`all_pages`] walks the whole list.
///
/// ```
/// use jackfield_sdk::{get_all_groups, join_group, leave_group};
/// # struct Quiet;
/// # impl jackfield_sdk::Plugin for Quiet {}
/// # let host = jackfield_sdk::testing::Host::new();
/// # let client = host.connect::<Quiet>().expect("everybody is let in").id().clone();
///
/// # host.run(|| {
/// join_group(&client, "red")?;
/// join_group(&client, "blue")?;
/// leave_group(&client, "red")?; // it was the last member
/// assert_eq!(get_all_groups(None, 100)?.items, ["blue"]);
/// # Ok::<(), jackfield_sdk::Error>(()) }).unwrap();
/// ```
///
/// # Errors
///
/// The error's [code](crate::ErrorCode) is `InvalidArgument` if `limit` is not 1 to 1,000, or if no
/// page of this list gave out `cursor`.
pub fn get_all_groups(cursor: Option<&str>, limit: u32) -> Result<Page<String>, Error> {
    host::get_all_groups(cursor, limit)
}

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
/// let host = Host::new();
/// let ada = host.connect::<Quiet>()?;
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
/// let host = Host::new();
/// let _ada = host.connect::<Quiet>()?;
/// let _bob = host.connect::<Quiet>()?;
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
/// let host = Host::new();
/// let ada = host.connect::<Quiet>()?;
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
/// # let host = jackfield_sdk::testing::Host::new();
/// # let client = host.connect::<Quiet>().expect("everybody is let in").id().clone();
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
/// let host = Host::new();
/// let ada = host.connect::<Quiet>()?;
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
/// let host = Host::new();
/// let ada = host.connect::<Quiet>()?;
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

/// Returns the client's info.
///
/// The info is empty if nothing was set, which is not the same as an unknown client.
///
/// ```
/// use jackfield_sdk::{Info, get_info, set_info};
/// # struct Quiet;
/// # impl jackfield_sdk::Plugin for Quiet {}
/// # let host = jackfield_sdk::testing::Host::new();
/// # let client = host.connect::<Quiet>().expect("everybody is let in").id().clone();
///
/// # host.run(|| {
/// assert!(get_info(&client)?.is_empty());
/// set_info(&client, &Info::from([("seat".to_owned(), "7".to_owned())]))?;
/// assert_eq!(get_info(&client)?["seat"], "7");
/// # Ok::<(), jackfield_sdk::Error>(()) }).unwrap();
/// ```
///
/// # Errors
///
/// The error's [code](crate::ErrorCode) says why:
///
/// - `InvalidArgument`: the client id is malformed.
/// - `NotFound`: the client has left, or there never was one with this id.
/// - `Closed`: the client is the one whose `on_close` this is; its info is in the
///   [`Departure`](crate::Departure).
/// - `Unreachable`, `TimedOut` or `Internal`: the client is on another node, which is silent, does
///   not answer in time, or fails.
pub fn get_info(client: &ClientId) -> Result<Info, Error> {
    host::get_info(client)
}

/// Replaces the whole of the client's info.
///
/// ```
/// use jackfield_sdk::{Info, get_info, set_info};
/// # struct Quiet;
/// # impl jackfield_sdk::Plugin for Quiet {}
/// # let host = jackfield_sdk::testing::Host::new();
/// # let client = host.connect::<Quiet>().expect("everybody is let in").id().clone();
///
/// # host.run(|| {
/// set_info(&client, &Info::from([("seat".to_owned(), "7".to_owned())]))?;
/// set_info(&client, &Info::from([("name".to_owned(), "Ada".to_owned())]))?;
/// assert!(get_info(&client)?.keys().eq(["name"])); // the seat is gone
/// # Ok::<(), jackfield_sdk::Error>(()) }).unwrap();
/// ```
///
/// # Errors
///
/// The info stays as it was if the error's [code](crate::ErrorCode) is one of these, except that
/// after `TimedOut` it may be replaced:
///
/// - `InvalidArgument`: the client id is malformed.
/// - `NotFound`: the client has left, or there never was one with this id.
/// - `Closed`: the client is the one whose `on_close` this is.
/// - `LimitExceeded`: the keys and values have too many bytes (4,096 together by default).
/// - `Unreachable`, `TimedOut` or `Internal`: the client is on another node, which is silent, does
///   not answer in time, or fails.
///
/// ```
/// use jackfield_sdk::{ErrorCode, Info, set_info};
/// # struct Quiet;
/// # impl jackfield_sdk::Plugin for Quiet {}
/// # let host = jackfield_sdk::testing::Host::new();
/// # let client = host.connect::<Quiet>().expect("everybody is let in").id().clone();
///
/// # host.run(|| {
/// let info = Info::from([("poem".to_owned(), "o".repeat(4_096))]); // and 4 for the key
/// let error = set_info(&client, &info).unwrap_err();
/// assert_eq!(error.code, ErrorCode::LimitExceeded);
/// # });
/// ```
pub fn set_info(client: &ClientId, info: &Info) -> Result<(), Error> {
    host::set_info(client, info)
}

/// Merges changes into the client's info, and returns the whole info after it.
///
/// A key with a value is set to it, and a key with `None` is deleted.
///
/// ```
/// use jackfield_sdk::update_info;
/// # struct Quiet;
/// # impl jackfield_sdk::Plugin for Quiet {}
/// # let host = jackfield_sdk::testing::Host::new();
/// # let client = host.connect::<Quiet>().expect("everybody is let in").id().clone();
///
/// # host.run(|| {
/// update_info(&client, &[("name", Some("Ada")), ("seat", Some("7"))])?;
/// let info = update_info(&client, &[("seat", None), ("bid", Some("100"))])?;
/// assert!(info.keys().eq(["bid", "name"]));
/// # Ok::<(), jackfield_sdk::Error>(()) }).unwrap();
/// ```
///
/// # Errors
///
/// The info stays as it was if the error's [code](crate::ErrorCode) is one of these, except that
/// after `TimedOut` it may be changed:
///
/// - `InvalidArgument`: the client id is malformed.
/// - `NotFound`: the client has left, or there never was one with this id.
/// - `Closed`: the client is the one whose `on_close` this is.
/// - `LimitExceeded`: the keys and values would have too many bytes (4,096 together by default).
/// - `Unreachable`, `TimedOut` or `Internal`: the client is on another node, which is silent, does
///   not answer in time, or fails.
pub fn update_info(client: &ClientId, changes: &[(&str, Option<&str>)]) -> Result<Info, Error> {
    host::update_info(client, changes)
}

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
/// let orders = Host::new().plugin_name("orders").allow_calls(&["chat"]);
/// let chat = Host::new().plugin_name("chat");
/// chat.beside::<Orders>(&orders);
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
/// let (host, minute) = (Host::new(), Duration::from_secs(60));
/// host.run(|| set_timer("say the time", minute, Some(minute), TimerScope::Node))?;
///
/// host.advance::<Clock>(minute * 3);
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

/// Walks a paged list to its end, and returns all of its items.
///
/// `page` is called with the cursor of each page in turn. The nodes that a page names as
/// [`missing`](Page::missing) are not passed on: whoever must know whether the list is complete
/// walks it page by page.
///
/// ```
/// use jackfield_sdk::{all_pages, get_all_groups, join_group};
/// # struct Quiet;
/// # impl jackfield_sdk::Plugin for Quiet {}
/// # let host = jackfield_sdk::testing::Host::new();
/// # let client = host.connect::<Quiet>().expect("everybody is let in").id().clone();
///
/// # host.run(|| {
/// for group in ["red", "green", "blue"] {
///     join_group(&client, group)?;
/// }
/// let groups = all_pages(|cursor| get_all_groups(cursor, 2))?; // two pages
/// assert_eq!(groups.len(), 3);
/// # Ok::<(), jackfield_sdk::Error>(()) }).unwrap();
/// ```
///
/// # Errors
///
/// The walk ends with the first error that `page` returns.
///
/// ```
/// use jackfield_sdk::{ErrorCode, all_pages, get_all_groups};
///
/// # jackfield_sdk::testing::Host::new().run(|| {
/// let error = all_pages(|cursor| get_all_groups(cursor, 0)).unwrap_err();
/// assert_eq!(error.code, ErrorCode::InvalidArgument); // a page has 1 to 1,000 items
/// # });
/// ```
pub fn all_pages<T>(
    mut page: impl FnMut(Option<&str>) -> Result<Page<T>, Error>,
) -> Result<Vec<T>, Error> {
    let mut items = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let part = page(cursor.as_deref())?;
        items.extend(part.items);
        match part.next {
            Some(next) => cursor = Some(next),
            None => return Ok(items),
        }
    }
}

/// More than there can be is too long for a timer anyway.
fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn owned<S: AsRef<str>>(names: &[S]) -> Vec<String> {
    names.iter().map(|name| name.as_ref().to_owned()).collect()
}

fn ids(page: Page<String>) -> Page<ClientId> {
    Page {
        items: page.items.into_iter().map(ClientId::from).collect(),
        next: page.next,
        missing: page.missing,
    }
}
