//! Errors of requests, as the error codes of `wasi:http`.

use wasmtime_wasi_http::Error;

use crate::limits::HTTP_HEAD_BYTES;

/// An error that `wasi:http` has no code for; `why` is its text.
pub(super) fn internal_error(why: String) -> Error {
    Error::InternalError(Some(why))
}

/// Converts an error of a connection to the error code of `wasi:http` that fits best.
pub(super) fn to_wasi_error(error: hyper::Error) -> Error {
    if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        Error::ConnectionTerminated
    } else if error.is_parse_too_large() {
        Error::HttpResponseHeaderSectionSize(u32::try_from(HTTP_HEAD_BYTES).ok())
    } else if error.is_timeout() {
        Error::HttpResponseTimeout
    } else {
        internal_error(format!("the answer is no HTTP, or broke off: {error}"))
    }
}
