//! The functions of the contract, by their names; `wit/` is their reference.
//!
//! Each takes what its user has and answers an [`Error`] where the contract does. Examples run
//! against the in-memory stand-in, see [`testing::Host`](crate::testing).

mod clients;
mod groups;
mod infos;
mod runtime;
mod send;
mod uids;

use crate::{ClientId, Error, Page};

pub use clients::*;
pub use groups::*;
pub use infos::*;
pub use runtime::*;
pub use send::*;
pub use uids::*;

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
/// # let host = jackfield_sdk::testing::Host::of::<Quiet>();
/// # let client = host.connect("/").expect("everybody is let in").id().clone();
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
