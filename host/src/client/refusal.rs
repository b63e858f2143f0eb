//! Refusals: how a client is told that it may not connect.
//!
//! Usually the answer is an HTTP status, which browsers hide from their pages. If the plugin's
//! manifest has `refuse = "close"`, the handshake is accepted instead, and the first frame closes
//! the connection with the code 4000 plus the status. Such a client never belongs to the plugin.
//! The connection counts as a handshake until the client has gone, but for `close_timeout` at most.

use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::upgrade::OnUpgrade;
use hyper::{Response, StatusCode};
use tokio::io::AsyncWriteExt as _;

use super::pages::{Body, text};
use super::stream::upgraded;
use super::upgrade::with_choices;
use crate::access::carries_token;
use crate::close_code::CloseCode;
use crate::message::{CLOSE_REASON_BYTES, Frame};
use crate::plugin::{Answer, Failure};

/// The refusal of a client, with its HTTP status and its reason.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    reason: String,
    header: Option<(HeaderName, HeaderValue)>,
    /// Whether only an HTTP status may refuse the client, whatever the manifest says. A page of a
    /// foreign origin, for example, must not read the reason.
    is_http_only: bool,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, reason: impl Into<String>) -> Refusal {
        Refusal {
            status,
            reason: reason.into(),
            header: None,
            is_http_only: false,
        }
    }

    /// Refuses a client that may try again after one second.
    pub(super) fn busy(status: StatusCode, reason: &str) -> Refusal {
        Refusal {
            header: Some((RETRY_AFTER, HeaderValue::from_static("1"))),
            ..Refusal::new(status, reason)
        }
    }

    /// Refuses a client because the node accepts no more clients at the moment.
    pub(super) fn node_is_full() -> Refusal {
        Refusal::busy(StatusCode::SERVICE_UNAVAILABLE, "the node is full\n")
    }

    /// Refuses a client because its plugin has all the handshakes under way that it may have. A close
    /// frame would need one more.
    pub(super) fn too_many_handshakes() -> Refusal {
        let why = "too many handshakes are under way\n";
        Refusal {
            is_http_only: true,
            ..Refusal::busy(StatusCode::SERVICE_UNAVAILABLE, why)
        }
    }

    /// Refuses a client without a valid token.
    pub(super) fn unauthorized(reason: &str) -> Refusal {
        Refusal {
            header: Some((WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
            ..Refusal::new(StatusCode::UNAUTHORIZED, format!("{reason}\n"))
        }
    }

    /// Refuses a page whose origin may not connect.
    pub(super) fn of_origin(reason: &str) -> Refusal {
        Refusal {
            is_http_only: true,
            ..Refusal::new(StatusCode::FORBIDDEN, format!("{reason}\n"))
        }
    }

    /// Refuses a client whose `on-connect` failed.
    /// The refusal of a client that its manifest or its plugin turns away.
    pub(super) fn of_answer(answer: Answer) -> Refusal {
        match answer {
            Answer::Unauthorized { reason } => Refusal::unauthorized(&reason),
            Answer::OriginDenied { reason } => Refusal::of_origin(&reason),
            Answer::Refused { status, reason } => {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN);
                Refusal::new(status, reason)
            }
            // Whoever is accepted is not refused.
            Answer::Accepted(_) => Refusal::new(StatusCode::FORBIDDEN, String::new()),
        }
    }

    pub(super) fn of_failure(failure: Failure) -> Refusal {
        match failure {
            Failure::Trapped(_) => {
                Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the server failed\n")
            }
            Failure::Overloaded => Refusal::busy(StatusCode::SERVICE_UNAVAILABLE, "too busy\n"),
            Failure::Paused(_) => {
                Refusal::busy(StatusCode::SERVICE_UNAVAILABLE, "the service fails\n")
            }
            Failure::TooLarge => Refusal::new(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "the request is too large to go to another node\n",
            ),
            Failure::Absent | Failure::Lost => Refusal::not_running(),
        }
    }

    /// Refuses a client whose plugin runs on no node.
    pub(super) fn not_running() -> Refusal {
        Refusal::busy(StatusCode::SERVICE_UNAVAILABLE, "the plugin does not run\n")
    }

    /// Whether a close frame may carry this refusal.
    pub(super) fn may_close(&self) -> bool {
        !self.is_http_only
    }

    /// Converts the refusal into an HTTP answer.
    pub(super) fn into_response(self) -> Response<Body> {
        let mut response = text(self.status, self.reason);
        response.headers_mut().extend(self.header);
        response
    }

    /// The close frame that carries this refusal.
    pub(super) fn close_frame(&self) -> Frame {
        let reason = self.reason.trim_end();
        let reason = &reason[..reason.floor_char_boundary(CLOSE_REASON_BYTES)];
        Frame::close(CloseCode::refusal(self.status.as_u16()), reason)
    }
}

/// The handshake's answer to a client that is closed at once. No message is sent in the
/// subprotocol, but a browser aborts the connection if it has offered subprotocols and the answer
/// names none of them.
pub(super) fn accept_to_close(accepting: Response<Body>, offered: &[String]) -> Response<Body> {
    // A token goes back only where there is nothing else: proxies may log the answer's headers.
    let plain = offered.iter().find(|name| !carries_token(name));
    let spoken = plain.or(offered.first()).map(String::as_str);
    with_choices(accepting, spoken, None)
}

/// A connection that is closed right after its upgrade.
pub(super) struct Closing {
    pub(super) upgrade: OnUpgrade,
    pub(super) frame: Frame,
}

impl Closing {
    /// Sends the close frame, and waits until the client has gone, or until `timeout` has passed.
    pub(super) async fn run(self, timeout: Duration) {
        let farewell = async {
            let (mut stream, _) = upgraded(self.upgrade).await?;
            stream.write_all(self.frame.as_bytes()).await.ok()?;
            stream.flush().await.ok()?;
            // The end of our half: the client need not wait for it. What it still sends is read,
            // since bytes left unread would make the kernel reset the connection, and the client
            // would lose the close frame.
            drop(stream.write);
            tokio::io::copy(&mut stream.read, &mut tokio::io::sink())
                .await
                .ok()
        };
        let _ = tokio::time::timeout(timeout, farewell).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_cut_between_letters() {
        for (reason, said) in [
            ("no\n".to_owned(), "no".to_owned()),
            ("\n".to_owned(), String::new()),
            ("x".repeat(123), "x".repeat(123)),
            ("x".repeat(124), "x".repeat(123)),
            ("é".repeat(62), "é".repeat(61)),
            ("🦀".repeat(31), "🦀".repeat(30)),
        ] {
            let refusal = Refusal::new(StatusCode::IM_A_TEAPOT, reason);
            assert_eq!(
                refusal.close_frame(),
                Frame::close(CloseCode::refusal(418), &said)
            );
        }
    }
}
