//! The functions of the contract, by their names; `wit/` is their reference.
//!
//! Each takes what its user has and answers an [`Error`] where the contract does. Examples run
//! against the in-memory stand-in, see [`testing::Host`](crate::testing).

use std::time::Duration;

use crate::host;
use crate::types::{
    CallError, ClientId, Count, Error, Identity, Info, Level, Message, Page, Reach, TimerScope,
};

/// Sends to all clients of this plugin in the cluster, but those in `exclude`.
///
/// ```
/// # jackfield_sdk::testing::Host::new().run(|| {
/// let reach = jackfield_sdk::send_to_all("the shop opens", &[])?;
/// assert_eq!(reach.clients, 0); // nobody is here yet
/// # Ok::<(), jackfield_sdk::Error>(()) }).unwrap();
/// ```
pub fn send_to_all(message: impl Into<Message>, exclude: &[ClientId]) -> Result<Reach, Error> {
    host::send_to_all(message.into(), exclude)
}

/// Sends to one client; ok means its outbox has the message, or the link to its node.
pub fn send_to_client(client: &ClientId, message: impl Into<Message>) -> Result<(), Error> {
    host::send_to_client(client, message.into())
}

/// Sends to every client of each of these uids, once each.
pub fn send_to_uid<S: AsRef<str>>(uids: &[S], message: impl Into<Message>) -> Result<Reach, Error> {
    host::send_to_uid(&owned(uids), message.into())
}

/// Sends to the members of these groups but those in `exclude`; a member of several gets the
/// message once.
///
/// ```
/// # jackfield_sdk::testing::Host::new().run(|| {
/// let reach = jackfield_sdk::send_to_group(&["red", "blue"], "go", &[])?;
/// assert_eq!(reach.clients, 0);
/// # Ok::<(), jackfield_sdk::Error>(()) }).unwrap();
/// ```
pub fn send_to_group<S: AsRef<str>>(
    groups: &[S],
    message: impl Into<Message>,
    exclude: &[ClientId],
) -> Result<Reach, Error> {
    host::send_to_group(&owned(groups), message.into(), exclude)
}

/// Gives the client this uid in place of the one it had.
pub fn bind_uid(client: &ClientId, uid: &str) -> Result<(), Error> {
    host::bind_uid(client, uid)
}

/// Takes the client's uid away; with `uid` given, only if it is that one. Says whether one
/// was taken away.
pub fn unbind_uid(client: &ClientId, uid: Option<&str>) -> Result<bool, Error> {
    host::unbind_uid(client, uid)
}

/// Whether any client has this uid.
pub fn is_uid_online(uid: &str) -> Result<bool, Error> {
    host::is_uid_online(uid)
}

/// The client's uid, if it has one.
pub fn get_uid_by_client_id(client: &ClientId) -> Result<Option<String>, Error> {
    host::get_uid_by_client_id(client)
}

/// The clients with this uid, 1 to 1,000 a page.
pub fn get_client_ids_by_uid(
    uid: &str,
    cursor: Option<&str>,
    limit: u32,
) -> Result<Page<ClientId>, Error> {
    host::get_client_ids_by_uid(uid, cursor, limit).map(ids)
}

/// All uids that some client has, 1 to 1,000 a page.
pub fn get_all_uids(cursor: Option<&str>, limit: u32) -> Result<Page<String>, Error> {
    host::get_all_uids(cursor, limit)
}

/// Puts the client into the group.
pub fn join_group(client: &ClientId, group: &str) -> Result<(), Error> {
    host::join_group(client, group)
}

/// Takes the client out of the group.
pub fn leave_group(client: &ClientId, group: &str) -> Result<(), Error> {
    host::leave_group(client, group)
}

/// Dissolves the group; its members stay connected. Counts them.
pub fn ungroup(group: &str) -> Result<Count, Error> {
    host::ungroup(group)
}

/// How many clients are in the group.
pub fn get_client_count_by_group(group: &str) -> Result<Count, Error> {
    host::get_client_count_by_group(group)
}

/// The clients in the group, 1 to 1,000 a page.
pub fn get_client_ids_by_group(
    group: &str,
    cursor: Option<&str>,
    limit: u32,
) -> Result<Page<ClientId>, Error> {
    host::get_client_ids_by_group(group, cursor, limit).map(ids)
}

/// The uids in the group, 1 to 1,000 a page; members without a uid do not show.
pub fn get_uids_by_group(
    group: &str,
    cursor: Option<&str>,
    limit: u32,
) -> Result<Page<String>, Error> {
    host::get_uids_by_group(group, cursor, limit)
}

/// How many different uids are in the group.
pub fn get_uid_count_by_group(group: &str) -> Result<Count, Error> {
    host::get_uid_count_by_group(group)
}

/// All groups that have members, 1 to 1,000 a page.
pub fn get_all_groups(cursor: Option<&str>, limit: u32) -> Result<Page<String>, Error> {
    host::get_all_groups(cursor, limit)
}

/// Whether this client is connected.
pub fn is_online(client: &ClientId) -> Result<bool, Error> {
    host::is_online(client)
}

/// How many clients this plugin has in the cluster.
pub fn get_all_client_count() -> Result<Count, Error> {
    host::get_all_client_count()
}

/// Closes the connection after what is queued and `last_message` have gone out.
///
/// `code` is 1000 to 1003, 1007 to 1014 or 3000 to 4999, `reason` at most 123 bytes.
pub fn close_client(
    client: &ClientId,
    code: u16,
    reason: &str,
    last_message: Option<Message>,
) -> Result<(), Error> {
    host::close_client(client, code, reason, last_message)
}

/// Closes every client of the uid; counts them.
pub fn close_uid(
    uid: &str,
    code: u16,
    reason: &str,
    last_message: Option<Message>,
) -> Result<Count, Error> {
    host::close_uid(uid, code, reason, last_message)
}

/// Closes every client in the group; counts them.
pub fn close_group(
    group: &str,
    code: u16,
    reason: &str,
    last_message: Option<Message>,
) -> Result<Count, Error> {
    host::close_group(group, code, reason, last_message)
}

/// The client's info.
pub fn get_info(client: &ClientId) -> Result<Info, Error> {
    host::get_info(client)
}

/// Replaces the client's info.
pub fn set_info(client: &ClientId, info: &Info) -> Result<(), Error> {
    host::set_info(client, info)
}

/// Sets each key to its value, and deletes those given as none; answers the whole info.
pub fn update_info(client: &ClientId, changes: &[(&str, Option<&str>)]) -> Result<Info, Error> {
    host::update_info(client, changes)
}

/// Calls another plugin of the same node and waits for its answer; the callee's manifest must
/// name this plugin under `[calls] allow`.
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

/// Sets a timer, in place of one of the same name and scope: it fires after this time and then,
/// with `every`, that often, each time by [`on_timer`](crate::TimerHandler::on_timer).
///
/// Times are 10 ms to 366 days; a fraction of a millisecond is left out.
///
/// ```
/// use std::time::Duration;
///
/// use jackfield_sdk::{TimerScope, set_timer};
///
/// # jackfield_sdk::testing::Host::new().run(|| {
/// let minute = Duration::from_secs(60);
/// set_timer("say the time", minute, Some(minute), TimerScope::Node)?;
/// # Ok::<(), jackfield_sdk::Error>(()) }).unwrap();
/// ```
pub fn set_timer(
    name: &str,
    after: Duration,
    every: Option<Duration>,
    scope: TimerScope,
) -> Result<(), Error> {
    host::set_timer(name, milliseconds(after), every.map(milliseconds), scope)
}

/// Ends a timer: no event of it begins any more. Says whether there was one.
///
/// ```
/// use jackfield_sdk::{TimerScope, cancel_timer};
///
/// # jackfield_sdk::testing::Host::new().run(|| {
/// assert_eq!(cancel_timer("say the time", TimerScope::Node)?, false);
/// # Ok::<(), jackfield_sdk::Error>(()) }).unwrap();
/// ```
pub fn cancel_timer(name: &str, scope: TimerScope) -> Result<bool, Error> {
    host::cancel_timer(name, scope)
}

/// What runs, and where.
pub fn identify() -> Identity {
    host::identify()
}

/// One line for the node's log, marked as this plugin's.
pub fn log(level: Level, message: &str) {
    host::log(level, message)
}

/// Walks a paged list to its end.
///
/// ```
/// use jackfield_sdk::{all_pages, get_all_groups};
///
/// # jackfield_sdk::testing::Host::new().run(|| {
/// let groups = all_pages(|cursor| get_all_groups(cursor, 100))?;
/// assert!(groups.is_empty());
/// # Ok::<(), jackfield_sdk::Error>(()) }).unwrap();
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
