//! Groups: which clients belong together.

use super::ids;
use crate::host;
use crate::{ClientId, Count, Error, Page};

/// Puts the client into the group.
///
/// A group comes into being with its first member. It is no error to join again.
///
/// ```
/// use jackfield_sdk::{get_client_ids_by_group, join_group};
/// # struct Quiet;
/// # impl jackfield_sdk::Plugin for Quiet {}
/// # let host = jackfield_sdk::testing::Host::of::<Quiet>();
/// # let client = host.connect("/").expect("everybody is let in").id().clone();
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
/// # let host = jackfield_sdk::testing::Host::of::<Quiet>();
/// # let client = host.connect("/").expect("everybody is let in").id().clone();
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
/// # let host = jackfield_sdk::testing::Host::of::<Quiet>();
/// # let client = host.connect("/").expect("everybody is let in").id().clone();
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
/// # let host = jackfield_sdk::testing::Host::of::<Quiet>();
/// # let client = host.connect("/").expect("everybody is let in").id().clone();
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
/// The first call has no cursor, and each further call has the last page's [`next`](crate::Page::next).
/// [`all_pages`](crate::all_pages) walks the whole list.
///
/// ```
/// use jackfield_sdk::testing::Host;
/// use jackfield_sdk::{Error, get_client_ids_by_group, join_group};
/// # struct Quiet;
/// # impl jackfield_sdk::Plugin for Quiet {}
///
/// let host = Host::of::<Quiet>();
/// # let connect = || host.connect("/").expect("everybody is let in");
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
/// last page's [`next`](crate::Page::next). [`all_pages`](crate::all_pages) walks the whole list.
///
/// ```
/// use jackfield_sdk::testing::Host;
/// use jackfield_sdk::{Error, bind_uid, get_uids_by_group, join_group};
/// # struct Quiet;
/// # impl jackfield_sdk::Plugin for Quiet {}
///
/// let host = Host::of::<Quiet>();
/// # let connect = || host.connect("/").expect("everybody is let in");
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
/// let host = Host::of::<Quiet>();
/// # let connect = || host.connect("/").expect("everybody is let in");
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
/// The first call has no cursor, and each further call has the last page's [`next`](crate::Page::next).
/// [`all_pages`](crate::all_pages) walks the whole list.
///
/// ```
/// use jackfield_sdk::{get_all_groups, join_group, leave_group};
/// # struct Quiet;
/// # impl jackfield_sdk::Plugin for Quiet {}
/// # let host = jackfield_sdk::testing::Host::of::<Quiet>();
/// # let client = host.connect("/").expect("everybody is let in").id().clone();
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
