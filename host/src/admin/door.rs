//! The door: a port with a bounded number of strangers, and who each request is of.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{Extensions, HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use axum::serve::IncomingStream;
use tokio::net::TcpListener;

use super::operations::Api;
use super::problem::{Problem, Reason};
use super::tokens::Caller;
use crate::mesh::{Connection, Stranger, Strangers};

/// Connections that have made no call that was allowed. Beyond: the oldest is cut, so that idle
/// ones keep nobody out.
const STRANGERS: usize = 256;

/// The API's port.
pub(super) struct Door {
    listener: TcpListener,
    strangers: Strangers,
}

impl Door {
    /// With so many connections (`files`) at most.
    pub(super) fn new(listener: TcpListener, files: usize) -> Door {
        let strangers = STRANGERS.min(files / 2);
        Door {
            listener,
            strangers: Strangers::unproved("api", strangers, files - strangers),
        }
    }
}

impl axum::serve::Listener for Door {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let (stream, from) = axum::serve::Listener::accept(&mut self.listener).await;
        (self.strangers.welcome(stream), from)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Whose connection it is.
#[derive(Clone)]
pub(super) struct From(Arc<Stranger>);

impl Connected<IncomingStream<'_, Door>> for From {
    fn connect_info(stream: IncomingStream<'_, Door>) -> From {
        From(stream.io().stranger().clone())
    }
}

/// Who asks, over either protocol.
#[derive(Clone)]
struct Identified(Result<Arc<Caller>, Problem>);

/// Finds out who asks, once for both protocols; those who need to know refuse.
pub(super) async fn identify(
    State(api): State<Arc<Api>>,
    ConnectInfo(From(stranger)): ConnectInfo<From>,
    mut request: Request,
    next: Next,
) -> Response {
    let caller = api.identify(&request);
    if caller.is_ok() {
        stranger.proved();
    }
    request.extensions_mut().insert(Identified(caller));
    next.run(request).await
}

impl Api {
    fn identify(&self, request: &Request) -> Result<Arc<Caller>, Problem> {
        let headers = request.headers();
        // A page that the operator's own browser shows reaches loopback, too.
        if self.tokens.is_empty() {
            if is_of_another_page(headers) {
                let message = "without tokens, pages of browsers may not call: set --api-tokens";
                return Err(Problem::new(Reason::Denied, message));
            }
            if !is_for_this_machine(request) {
                let message = "without tokens, only 127.0.0.1, ::1 and localhost are answered, \
                               not another name for them: set --api-tokens";
                return Err(Problem::new(Reason::Denied, message));
            }
        }
        let authorization = headers.get(header::AUTHORIZATION);
        self.tokens
            .caller(authorization.map(|value| value.as_bytes()))
    }

    /// Who asks, where that must be somebody.
    pub(super) fn caller(&self, extensions: &Extensions) -> Result<Arc<Caller>, Problem> {
        let identified = extensions.get::<Identified>().cloned();
        let caller = identified
            .map(|Identified(caller)| caller)
            .unwrap_or_else(|| Err(Problem::new(Reason::Failed, "nobody knows who asks")));
        if caller.is_err() {
            self.view.registry().counters().api_denied.add_one();
        }
        caller
    }
}

/// Whether a browser says that a page asks, and not its user or this port's own page.
fn is_of_another_page(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site");
    let is_own = |site: &HeaderValue| site == "same-origin" || site == "none";
    headers.contains_key(header::ORIGIN) || site.is_some_and(|site| !is_own(site))
}

/// Whether it asks for this machine by a name that nobody else can give out: a page whose own
/// name leads here reads what it likes, and no browser says so (DNS rebinding).
fn is_for_this_machine(request: &Request) -> bool {
    let host = request.headers().get(header::HOST);
    let authority = match (request.uri().authority(), host) {
        (Some(authority), _) => authority.clone(),
        (None, Some(host)) => match Authority::try_from(host.as_bytes()) {
            Ok(authority) => authority,
            Err(_) => return false,
        },
        // No browser's.
        (None, None) => return true,
    };
    let host = authority.host().trim_matches(['[', ']']);
    let is_loopback = |address: IpAddr| address.is_loopback();
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(is_loopback)
}

/// Who asks, as an argument.
pub(super) struct Known(pub(super) Arc<Caller>);

impl FromRequestParts<Arc<Api>> for Known {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Known, Problem> {
        api.caller(&parts.extensions).map(Known)
    }
}
