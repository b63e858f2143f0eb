//! The API's port: its limited number of unauthenticated connections, and the caller of each
//! request.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{Extensions, HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use tokio::net::TcpListener;

use super::api::Api;
use super::problem::{Problem, Reason};
use super::tokens::ApiCaller;
use crate::pending_connections::{GuardedConnection, PendingConnections, Unauthenticated};

/// The most connections that have made no allowed call yet. Beyond that, the oldest one is closed,
/// so that idle connections keep no caller out.
const PENDING: usize = 256;

/// The listener of the API's port.
pub(super) struct ApiListener {
    listener: TcpListener,
    pending: PendingConnections,
}

impl ApiListener {
    /// Creates a listener with at most `files` connections.
    pub(super) fn new(listener: TcpListener, files: usize) -> ApiListener {
        let pending = PENDING.min(files / 2);
        ApiListener {
            listener,
            pending: PendingConnections::unproved("api", pending, files - pending),
        }
    }

    /// Accepts the next connection. While the system has no file left, this tries again.
    pub(super) async fn accept(&mut self) -> GuardedConnection {
        let (stream, _) = axum::serve::Listener::accept(&mut self.listener).await;
        self.pending.accept(stream)
    }
}

/// The connection that a request came from.
#[derive(Clone)]
pub(super) struct ConnectionOrigin(Arc<Unauthenticated>);

impl ConnectionOrigin {
    /// The origin of the requests of a connection.
    pub(super) fn of(connection: &GuardedConnection) -> ConnectionOrigin {
        ConnectionOrigin(connection.authentication().clone())
    }
}

/// The caller of a request over either protocol, or the reason why the caller is unknown.
#[derive(Clone)]
struct Identified(Result<Arc<ApiCaller>, Problem>);

/// Identifies the caller of a request, once for both protocols. A handler that needs a caller
/// rejects the request if there is none.
pub(super) async fn identify(
    State(api): State<Arc<Api>>,
    ConnectInfo(ConnectionOrigin(authentication)): ConnectInfo<ConnectionOrigin>,
    mut request: Request,
    next: Next,
) -> Response {
    let caller = api.identify(&request);
    if caller.is_ok() {
        authentication.proved();
    }
    request.extensions_mut().insert(Identified(caller));
    next.run(request).await
}

impl Api {
    fn identify(&self, request: &Request) -> Result<Arc<ApiCaller>, Problem> {
        let headers = request.headers();
        // A page that the operator's own browser shows reaches loopback, too.
        if self.tokens.is_empty() {
            let host = host_of(request);
            if is_of_another_page(headers, &host) {
                let message = "without tokens, no page of a browser may call but this port's own: \
                               set --api-tokens";
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

    /// The caller of a request. A request without a known caller is an error and is counted.
    pub(super) fn caller(&self, extensions: &Extensions) -> Result<Arc<ApiCaller>, Problem> {
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

/// Whether the caller of a request is known.
pub(super) fn is_identified(extensions: &Extensions) -> bool {
    let identified = extensions.get::<Identified>();
    identified.is_some_and(|Identified(caller)| caller.is_ok())
}

/// The host that a request is for, as its sender names it.
enum RequestHost {
    Named(Authority),
    /// The request names no valid host.
    Unreadable,
    /// The request has no host. No browser sends such a request.
    Missing,
}

fn host_of(request: &Request) -> RequestHost {
    let header = request.headers().get(header::HOST);
    match (request.uri().authority(), header) {
        (Some(authority), _) => RequestHost::Named(authority.clone()),
        (None, Some(host)) => {
            Authority::try_from(host.as_bytes()).map_or(RequestHost::Unreadable, RequestHost::Named)
        }
        (None, None) => RequestHost::Missing,
    }
}

/// Whether a browser says that a page of another site sends the request, and not the user or a page
/// of this port. A page of this port has the request's own host as its origin, with or without TLS.
fn is_of_another_page(headers: &HeaderMap, host: &RequestHost) -> bool {
    let is_own_site = |site: &HeaderValue| site == "same-origin" || site == "none";
    let is_own_origin = |origin: &HeaderValue| match host {
        RequestHost::Named(host) => {
            *origin == format!("http://{host}") || *origin == format!("https://{host}")
        }
        RequestHost::Unreadable | RequestHost::Missing => false,
    };
    let sites = headers.get_all("sec-fetch-site");
    let origins = headers.get_all(header::ORIGIN);
    !(sites.iter().all(is_own_site) && origins.iter().all(is_own_origin))
}

/// Whether `host` is a name of this machine that nobody else can assign. A page whose own domain
/// name resolves to this machine could read all answers, and no browser reports that (DNS
/// rebinding).
fn is_this_machine(host: &RequestHost) -> bool {
    let host = match host {
        RequestHost::Named(authority) => authority.host().trim_matches(['[', ']']),
        RequestHost::Unreadable => return false,
        RequestHost::Missing => return true,
    };
    let is_loopback = |address: IpAddr| address.is_loopback();
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(is_loopback)
}

/// The authenticated caller, as an argument of a handler.
pub(super) struct Authenticated(pub(super) Arc<ApiCaller>);

impl FromRequestParts<Arc<Api>> for Authenticated {
    type Rejection = Problem;

    async fn from_request_parts(
        parts: &mut Parts,
        api: &Arc<Api>,
    ) -> Result<Authenticated, Problem> {
        api.caller(&parts.extensions).map(Authenticated)
    }
}
