//! Uids: who a client is.

use super::ids;
use crate::host;
use crate::{ClientId, Error, Page};

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
/// # let host = jackfield_sdk::testing::Host::of::<Quiet>();
/// # let client = host.connect("/").expect("everybody is let in").id().clone();
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
/// let host = Host::of::<Quiet>().uid_policy(UidPolicy::RejectNew);
/// let old = host.connect("/")?;
/// let new = host.connect("/")?;
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
/// # let host = jackfield_sdk::testing::Host::of::<Quiet>();
/// # let client = host.connect("/").expect("everybody is let in").id().clone();
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
/// let host = Host::of::<Quiet>();
/// let ada = host.connect("/")?;
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
/// # let host = jackfield_sdk::testing::Host::of::<Quiet>();
/// # let client = host.connect("/").expect("everybody is let in").id().clone();
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
/// The first call has no cursor, and each further call has the last page's [`next`](crate::Page::next).
/// [`all_pages`](crate::all_pages) walks the whole list.
///
/// ```
/// use jackfield_sdk::{bind_uid, get_client_ids_by_uid};
/// # struct Quiet;
/// # impl jackfield_sdk::Plugin for Quiet {}
/// # let host = jackfield_sdk::testing::Host::of::<Quiet>();
/// # let client = host.connect("/").expect("everybody is let in").id().clone();
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
/// The first call has no cursor, and each further call has the last page's [`next`](crate::Page::next).
/// [`all_pages`](crate::all_pages) walks the whole list.
///
/// ```
/// use jackfield_sdk::{ErrorCode, bind_uid, get_all_uids};
/// # struct Quiet;
/// # impl jackfield_sdk::Plugin for Quiet {}
/// # let host = jackfield_sdk::testing::Host::of::<Quiet>();
/// # let client = host.connect("/").expect("everybody is let in").id().clone();
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
