//! Sends: to all, to one client, to uids and to groups.

use super::owned;
use crate::host;
use crate::{ClientId, Error, Message, Reach};

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
/// let host = Host::of::<Quiet>();
/// let ada = host.connect("/")?;
/// let bob = host.connect("/")?;
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
/// let host = Host::of::<Quiet>();
/// let ada = host.connect("/")?;
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
/// let ada = Host::of::<Echo>().connect("/")?;
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
/// let host = Host::of::<Quiet>();
/// # let connect = || host.connect("/").expect("everybody is let in");
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
/// let host = Host::of::<Quiet>();
/// # let connect = || host.connect("/").expect("everybody is let in");
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
