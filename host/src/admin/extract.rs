//! The parameters in the path and in the query of a request.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;

use super::api::Api;
use super::problem::Problem;

/// The parameters in the path of a request.
pub(super) struct Path<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<Api>> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Path<T>, Problem> {
        let path = axum::extract::Path::from_request_parts(parts, api).await;
        path.map(|axum::extract::Path(path)| Path(path))
            .map_err(|error| Problem::invalid(format!("the path: {}", error.body_text())))
    }
}

/// Parses a query, which must be UTF-8. If invalid bytes were replaced, two different names could
/// become the same.
pub(super) fn parameters(query: Option<&str>) -> Result<form_urlencoded::Parse<'_>, Problem> {
    let query = query.unwrap_or_default();
    match percent_decode_str(query).decode_utf8() {
        Ok(_) => Ok(form_urlencoded::parse(query.as_bytes())),
        Err(_) => Err(Problem::invalid(
            "the query is not UTF-8: percent-encode it as UTF-8",
        )),
    }
}
