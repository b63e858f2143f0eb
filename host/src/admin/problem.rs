//! Errors of API calls. Both protocols share one error value: gRPC sends it as a status with an
//! `ErrorInfo`, and HTTP sends it as a problem document (RFC 9457,
//! <https://www.rfc-editor.org/rfc/rfc9457>).

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::wire;
use crate::guest::{CallError, CallErrorCode};
use crate::mesh::{self, Reason as Theirs};
use crate::plugin::RollbackError;
use crate::registry;
use crate::router;

/// The time after which an overloaded client or node may be tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The error of a failed API call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) reason: Reason,
    pub(super) message: String,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $reason:ident = $text:literal, $code:ident, $status:ident;)*) => {
        /// The kind of an API error.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Reason {
            $($(#[$doc])* $reason,)*
        }

        impl Reason {
            /// All reasons for an API error.
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
    /// An argument of the request is not valid.
    InvalidArgument = "INVALID_ARGUMENT", InvalidArgument, BAD_REQUEST;
    /// No client has this id or uid, or the plugin, function or page does not exist.
    NotFound = "NOT_FOUND", NotFound, NOT_FOUND;
    /// Another client already has the uid.
    Taken = "TAKEN", AlreadyExists, CONFLICT;
    /// The plugin has no such method, or it answers no calls at all.
    UnknownMethod = "UNKNOWN_METHOD", Unimplemented, NOT_FOUND;
    /// The operation would exceed a limit.
    LimitExceeded = "LIMIT_EXCEEDED", FailedPrecondition, UNPROCESSABLE_ENTITY;
    /// A message or a request is too large.
    TooLarge = "TOO_LARGE", OutOfRange, PAYLOAD_TOO_LARGE;
    /// A client, a plugin or the node is overloaded, for example because an outbox is full. A later
    /// call may succeed.
    Overloaded = "OVERLOADED", ResourceExhausted, TOO_MANY_REQUESTS;
    /// The client's node cannot be reached, or this node is not ready.
    Unreachable = "UNREACHABLE", Unavailable, SERVICE_UNAVAILABLE;
    /// The client's node did not answer in time. The call may still have had its effect.
    TimedOut = "TIMED_OUT", DeadlineExceeded, GATEWAY_TIMEOUT;
    /// The request has no token, or none that is known.
    Unauthenticated = "UNAUTHENTICATED", Unauthenticated, UNAUTHORIZED;
    /// The token does not allow this call.
    Denied = "DENIED", PermissionDenied, FORBIDDEN;
    /// The path does not accept the method of the request.
    WrongMethod = "WRONG_METHOD", Unimplemented, METHOD_NOT_ALLOWED;
    /// The body of the request has the wrong format.
    WrongFormat = "WRONG_FORMAT", InvalidArgument, UNSUPPORTED_MEDIA_TYPE;
    /// The node failed to process the call. The node's log says more.
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

impl From<router::RouterError> for Problem {
    fn from(refused: router::RouterError) -> Problem {
        use registry::Refused as Here;
        use router::RouterError;
        let reason = match &refused {
            RouterError::Here(here) => match here {
                Here::NotFound(_) => Reason::NotFound,
                Here::Taken(_) => Reason::Taken,
                Here::Overloaded(_) => Reason::Overloaded,
                Here::LimitExceeded { .. } => Reason::LimitExceeded,
            },
            RouterError::There { reason, .. } => match reason {
                Theirs::NotFound => Reason::NotFound,
                Theirs::Taken => Reason::Taken,
                Theirs::LimitExceeded => Reason::LimitExceeded,
                Theirs::Internal | Theirs::Unspecified => Reason::Failed,
            },
            RouterError::Unanswered(mesh::Unanswered::NoNode(_)) => Reason::NotFound,
            RouterError::Unanswered(mesh::Unanswered::Unreachable(_)) => Reason::Unreachable,
            RouterError::Unanswered(mesh::Unanswered::TimedOut(_)) => Reason::TimedOut,
            RouterError::MalformedCursor | RouterError::Invalid(_) => Reason::InvalidArgument,
            RouterError::TooMany(_) => Reason::LimitExceeded,
            RouterError::TooLarge { .. } => Reason::TooLarge,
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

impl From<RollbackError> for Problem {
    fn from(error: RollbackError) -> Problem {
        let reason = match &error {
            RollbackError::Unknown(_) => Reason::NotFound,
            RollbackError::NotHere
            | RollbackError::Gateway
            | RollbackError::Runs
            | RollbackError::Canary(_) => Reason::InvalidArgument,
            RollbackError::Busy | RollbackError::Overloaded => Reason::Overloaded,
            RollbackError::Load(_) | RollbackError::Overtaken => Reason::Failed,
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

/// A problem document, as RFC 9457 defines it.
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
