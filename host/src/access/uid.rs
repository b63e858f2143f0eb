//! A uid that the request itself contains: the business id of silky.

use std::fmt;

use serde::Deserialize;

use super::handshake::Handshake;
use super::subprotocols::is_token;
use crate::invalid_value::InvalidValue;

/// The name that silky uses for this uid, and the spelling that silky's clients use.
const BUSINESS_ID: [&str; 2] = ["businessId", "bussinessId"];

/// The rule `require_uid`: the query parameter or the header with the uid. Names are compared
/// without regard to case, and the query takes precedence.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RequireUid {
    query: Option<String>,
    header: Option<String>,
}

impl RequireUid {
    pub(super) fn checked(&self) -> Result<&RequireUid, InvalidValue> {
        let wrong = |why: &str| Err(InvalidValue::new("require_uid", why));
        match (&self.query, &self.header) {
            (None, None) => wrong("it names neither a query parameter nor a header"),
            (Some(query), _) if query.is_empty() => wrong("the name under query is empty"),
            (_, Some(header)) if !is_token(header) => wrong("the name under header fits none"),
            _ => Ok(self),
        }
    }

    pub(super) fn find<'a>(&self, handshake: &'a Handshake) -> Option<&'a str> {
        let in_query = self
            .query
            .as_ref()
            .and_then(|name| value(&handshake.query, name));
        let in_headers = || {
            self.header
                .as_ref()
                .and_then(|name| value(&handshake.headers, name))
        };
        in_query.or_else(in_headers)
    }
}

/// The text that a client receives if its request contains no uid.
impl fmt::Display for RequireUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.query, &self.header) {
            (Some(query), None) => write!(f, "the query parameter {query}")?,
            (None, Some(header)) => write!(f, "the header {header}")?,
            (Some(query), Some(header)) if query == header => {
                write!(f, "{query}, in the query or as a header,")?;
            }
            (query, header) => {
                let [query, header] = [query, header].map(|name| name.as_deref().unwrap_or("-"));
                write!(f, "the query parameter {query} or the header {header}")?;
            }
        }
        f.write_str(" is missing, empty, or not UTF-8")
    }
}

/// The first value with this name that is not blank and was valid UTF-8.
fn value<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let is_named = |found: &str| {
        let is = |name: &str| found.eq_ignore_ascii_case(name);
        is(name) || (name.eq_ignore_ascii_case(BUSINESS_ID[0]) && is(BUSINESS_ID[1]))
    };
    let mut values = pairs.iter().filter(|(found, _)| is_named(found));
    // What a header has that is not UTF-8 has been replaced: two people must not become one.
    let says = |value: &str| !value.trim().is_empty() && !value.contains('\u{fffd}');
    let (_, value) = values.find(|(_, value)| says(value))?;
    Some(value)
}
