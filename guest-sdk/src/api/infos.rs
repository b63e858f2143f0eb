//! Infos: what is kept about a client.

use crate::host;
use crate::{ClientId, Error, Info};

/// Returns the client's info.
///
/// The info is empty if nothing was set, which is not the same as an unknown client.
///
/// ```
/// use jackfield_sdk::{Info, get_info, set_info};
/// # struct Quiet;
/// # impl jackfield_sdk::Plugin for Quiet {}
/// # let host = jackfield_sdk::testing::Host::of::<Quiet>();
/// # let client = host.connect("/").expect("everybody is let in").id().clone();
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
/// # let host = jackfield_sdk::testing::Host::of::<Quiet>();
/// # let client = host.connect("/").expect("everybody is let in").id().clone();
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
/// # let host = jackfield_sdk::testing::Host::of::<Quiet>();
/// # let client = host.connect("/").expect("everybody is let in").id().clone();
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
/// # let host = jackfield_sdk::testing::Host::of::<Quiet>();
/// # let client = host.connect("/").expect("everybody is let in").id().clone();
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
