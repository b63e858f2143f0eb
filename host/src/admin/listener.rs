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

use super::api::Api;
use super::problem::{Problem, Reason};
use super::tokens::Caller;
use crate::pending_connections::{Connection, PendingConnections, Unauthenticated};

/// Connections that have made no call that was allowed. Beyond: the oldest is cut, so that idle
/// ones keep nobody out.
const STRANGERS: usize = 256;

/// The API's port.
pub(super) struct ApiListener {
    listener: TcpListener,
    strangers: PendingConnections,
}

impl ApiListener {
    /// With so many connections (`files`) at most.
    pub(super) fn new(listener: TcpListener, files: usize) -> ApiListener {
        let strangers = STRANGERS.min(files / 2);
        ApiListener {
            listener,
            strangers: PendingConnections::unproved("api", strangers, files - strangers),
        }
    }
}

impl axum::serve::Listener for ApiListener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let (stream, from) = axum::serve::Listener::accept(&mut self.listener).await;
        (self.strangers.accept(stream), from)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Whose connection it is.
#[derive(Clone)]
pub(super) struct ConnectionOrigin(Arc<Unauthenticated>);

impl Connected<IncomingStream<'_, ApiListener>> for ConnectionOrigin {
    fn connect_info(stream: IncomingStream<'_, ApiListener>) -> ConnectionOrigin {
        ConnectionOrigin(stream.io().stranger().clone())
    }
}

/// Who asks, over either protocol.
#[derive(Clone)]
struct Identified(Result<Arc<Caller>, Problem>);

/// Finds out who asks, once for both protocols; those who need to know refuse.
pub(super) async fn identify(
    State(api): State<Arc<Api>>,
    ConnectInfo(ConnectionOrigin(stranger)): ConnectInfo<ConnectionOrigin>,
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
            let host = host_of(request);
            if is_of_another_page(headers, &host) {
                let message = "without tokens, no page of a browser may call but this port's own, \
                               /docs: set --api-tokens";
                return Err(Problem::new(Reason::Denied, message));
            }
            if !is_this_machine(&host) {
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

/// Which host a request is for, as its sender calls it.
enum Host {
    Named(Authority),
    /// What is there names no host.
    Unreadable,
    /// No browser leaves it out.
    Missing,
}

fn host_of(request: &Request) -> Host {
    let header = request.headers().get(header::HOST);
    match (request.uri().authority(), header) {
        (Some(authority), _) => Host::Named(authority.clone()),
        (None, Some(host)) => {
            Authority::try_from(host.as_bytes()).map_or(Host::Unreadable, Host::Named)
        }
        (None, None) => Host::Missing,
    }
}

/// Whether a browser says that a page asks, and not its user or this port's own page. A page of
/// this port has `http://` and the request's own host as its origin, since the port speaks no TLS.
fn is_of_another_page(headers: &HeaderMap, host: &Host) -> bool {
    let is_own_site = |site: &HeaderValue| site == "same-origin" || site == "none";
    let is_own_origin = |origin: &HeaderValue| match host {
        Host::Named(host) => *origin == format!("http://{host}"),
        Host::Unreadable | Host::Missing => false,
    };
    let sites = headers.get_all("sec-fetch-site");
    let origins = headers.get_all(header::ORIGIN);
    !(sites.iter().all(is_own_site) && origins.iter().all(is_own_origin))
}

/// Whether it is this machine by a name that nobody else can give out: a page whose own name
/// leads here reads what it likes, and no browser says so (DNS rebinding).
fn is_this_machine(host: &Host) -> bool {
    let host = match host {
        Host::Named(authority) => authority.host().trim_matches(['[', ']']),
        Host::Unreadable => return false,
        Host::Missing => return true,
    };
    let is_loopback = |address: IpAddr| address.is_loopback();
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(is_loopback)
}

/// Who asks, as an argument.
pub(super) struct Authenticated(pub(super) Arc<Caller>);

impl FromRequestParts<Arc<Api>> for Authenticated {
    type Rejection = Problem;

    async fn from_request_parts(
        parts: &mut Parts,
        api: &Arc<Api>,
    ) -> Result<Authenticated, Problem> {
        api.caller(&parts.extensions).map(Authenticated)
    }
}
