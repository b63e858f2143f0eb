//! Headers that are lists, read as RFC 9110, section 5.6.1, defines them: on one line or on several,
//! with whitespace and empty elements between.

use hyper::header::{HeaderMap, HeaderName};

/// The elements of a list, from all lines of a header.
pub(super) fn elements<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'a [u8]> {
    let lines = headers.get_all(name).into_iter();
    let elements = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    elements
        .map(<[u8]>::trim_ascii)
        .filter(|element| !element.is_empty())
}
