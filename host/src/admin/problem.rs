//! Why a call of the API had no effect: one value, told over gRPC as a status with an
//! `ErrorInfo`, and over HTTP as a problem document
//! (RFC 9457, <https://www.rfc-editor.org/rfc/rfc9457>).

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::wire;
use crate::guest::{CallError, CallErrorCode};
use crate::mesh::{self, Reason as Theirs};
use crate::registry;
use crate::router;

/// When an overloaded client or node may be tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Why a call had no effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) reason: Reason,
    pub(super) message: String,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $reason:ident = $text:literal, $code:ident, $status:ident;)*) => {
        /// Which kind of problem.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Reason {
            $($(#[$doc])* $reason,)*
        }

        impl Reason {
            /// All of them.
            pub(super) const ALL: &[Reason] = &[$(Reason::$reason,)*];

            pub(super) fn as_str(self) -> &'static str {
                match self { $(Reason::$reason => $text,)* }
            }

            pub(super) fn status(self) -> StatusCode {
                match self { $(Reason::$reason => StatusCode::$status,)* }
            }

            fn code(self) -> Code {
                match self { $(Reason::$reason => Code::$code,)* }
            }
        }
    };
}

reasons! {
    /// An argument can't be what it claims.
    InvalidArgument = "INVALID_ARGUMENT", InvalidArgument, BAD_REQUEST;
    /// Nobody has that id or uid, or there is no such plugin, function or page.
    NotFound = "NOT_FOUND", NotFound, NOT_FOUND;
    /// The uid is another client's.
    Taken = "TAKEN", AlreadyExists, CONFLICT;
    /// The plugin has no such method, or answers no calls at all.
    UnknownMethod = "UNKNOWN_METHOD", Unimplemented, NOT_FOUND;
    /// It would pass a limit.
    LimitExceeded = "LIMIT_EXCEEDED", FailedPrecondition, UNPROCESSABLE_ENTITY;
    /// A message or a request that is too large.
    TooLarge = "TOO_LARGE", OutOfRange, PAYLOAD_TOO_LARGE;
    /// The client's outbox is full: later, perhaps.
    Overloaded = "OVERLOADED", ResourceExhausted, TOO_MANY_REQUESTS;
    /// The client's node can't be reached, or this one is not ready.
    Unreachable = "UNREACHABLE", Unavailable, SERVICE_UNAVAILABLE;
    /// The client's node did not answer in time; the call may have had its effect.
    TimedOut = "TIMED_OUT", DeadlineExceeded, GATEWAY_TIMEOUT;
    /// No token, or none that is known.
    Unauthenticated = "UNAUTHENTICATED", Unauthenticated, UNAUTHORIZED;
    /// The token does not allow it.
    Denied = "DENIED", PermissionDenied, FORBIDDEN;
    /// Not with this method.
    WrongMethod = "WRONG_METHOD", Unimplemented, METHOD_NOT_ALLOWED;
    /// Not in this format.
    WrongFormat = "WRONG_FORMAT", InvalidArgument, UNSUPPORTED_MEDIA_TYPE;
    /// The node failed to do its part; its log says more.
    Failed = "FAILED", Internal, INTERNAL_SERVER_ERROR;
}

impl Problem {
    pub(super) fn new(reason: Reason, message: impl Into<String>) -> Problem {
        let message = message.into();
        Problem { reason, message }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Problem {
        Problem::new(Reason::InvalidArgument, message)
    }

    fn retry_after(&self) -> Option<Duration> {
        (self.reason == Reason::Overloaded).then_some(RETRY_AFTER)
    }
}

impl From<router::Refused> for Problem {
    fn from(refused: router::Refused) -> Problem {
        use registry::Refused as Here;
        use router::Refused;
        let reason = match &refused {
            Refused::Here(here) => match here {
                Here::NotFound(_) => Reason::NotFound,
                Here::Taken(_) => Reason::Taken,
                Here::Overloaded(_) => Reason::Overloaded,
                Here::LimitExceeded { .. } => Reason::LimitExceeded,
            },
            Refused::There { reason, .. } => match reason {
                Theirs::NotFound => Reason::NotFound,
                Theirs::Taken => Reason::Taken,
                Theirs::LimitExceeded => Reason::LimitExceeded,
                Theirs::Internal | Theirs::Unspecified => Reason::Failed,
            },
            Refused::Unanswered(mesh::Unanswered::NoNode(_)) => Reason::NotFound,
            Refused::Unanswered(mesh::Unanswered::Unreachable(_)) => Reason::Unreachable,
            Refused::Unanswered(mesh::Unanswered::TimedOut(_)) => Reason::TimedOut,
            Refused::MalformedCursor | Refused::Invalid(_) => Reason::InvalidArgument,
            Refused::TooMany(_) => Reason::LimitExceeded,
            Refused::TooLarge { .. } => Reason::TooLarge,
        };
        Problem::new(reason, refused.to_string())
    }
}

impl From<CallError> for Problem {
    fn from(error: CallError) -> Problem {
        let reason = match error.code() {
            CallErrorCode::UnknownMethod => Reason::UnknownMethod,
            CallErrorCode::InvalidArgument => Reason::InvalidArgument,
            CallErrorCode::NotFound => Reason::NotFound,
            CallErrorCode::Denied => Reason::Denied,
            CallErrorCode::LimitExceeded => match error {
                CallError::TooLarge { .. }
                | CallError::There {
                    is_too_large: true, ..
                } => Reason::TooLarge,
                _ => Reason::LimitExceeded,
            },
            CallErrorCode::Overloaded => Reason::Overloaded,
            CallErrorCode::Unavailable => Reason::Unreachable,
            CallErrorCode::Failed => Reason::Failed,
        };
        Problem::new(reason, error.to_string())
    }
}

impl From<Problem> for Status {
    fn from(problem: Problem) -> Status {
        let mut details = ErrorDetails::new();
        details.set_error_info(problem.reason.as_str(), "jackfield", []);
        if let Some(after) = problem.retry_after() {
            details.set_retry_info(Some(after));
        }
        Status::with_error_details(problem.reason.code(), problem.message, details)
    }
}

impl From<Problem> for wire::Error {
    fn from(problem: Problem) -> wire::Error {
        wire::Error {
            reason: problem.reason.as_str().to_owned(),
            message: problem.message,
        }
    }
}

/// A problem document.
#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    reason: &'a str,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.reason.status();
        let reason = self.reason.as_str();
        let document = Document {
            r#type: format!(
                "urn:jackfield:problem:{}",
                reason.to_lowercase().replace('_', "-")
            ),
            title: status.canonical_reason().unwrap_or(reason),
            status: status.as_u16(),
            detail: &self.message,
            reason,
        };
        let mut response = (status, axum::Json(document)).into_response();
        let headers = response.headers_mut();
        let format = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, format);
        if let Some(after) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, after.as_secs().into());
        }
        if self.reason == Reason::Unauthenticated {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
