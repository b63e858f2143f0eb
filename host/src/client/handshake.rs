//! The handshake: one HTTP request, which becomes a client, a page or a refusal.
//!
//! hyper reads the request. The complete handshake, with `on-connect`, must end within
//! `handshake_timeout`. A connection serves one request, so no connection is idle here. A client is
//! in the registry before its `on-connect` begins. If the client is refused or gives up, it is
//! removed without a trace. `upgrade.rs` defines a valid handshake, and `refusal.rs` defines how a
//! client is refused.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use data_encoding::BASE64;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use percent_encoding::percent_decode_str;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::acceptor::{Acceptor, ConnectionFiles};
use super::admission::{AdmissionPermit, AdmissionRefused};
use super::adoption::{AdoptedClient, Adoption};
use super::entry::{Arriving, Entry, Returning};
use super::extensions::Deflate;
use super::forwarded::client_address;
use super::handshakes::{AnswerPlace, HandshakePermit};
use super::new_connection::{ConnectionSource, NewConnection, ip_or_unspecified};
use super::pages::{self, Body, text};
use super::refusal::{Closing, Refusal, accept_to_close};
use super::stream::ClientSocket;
use super::subprotocol::{self, Offer, ResumeOffer};
use super::upgrade::{self, Good, with_choices};
use crate::access::{CLIENT_CERTIFICATE, Granted, Handshake, NODE_HEADERS};
use crate::plugin::{Answer, Plugin};
use crate::policy::RefusePolicy;
use crate::registry::{Arrival, address_text};

/// The largest head of a request, in bytes. A larger head is answered with 431. Cookies and tokens
/// can be large.
const HEAD_BYTES: usize = 16 << 10;

/// The header for the certificates between a client's and its authority's, which the node does not
/// set (RFC 9440).
const CLIENT_CERTIFICATE_CHAIN: &str = "client-cert-chain";

/// The plugin's name that stands for all pages.
const PAGES: &str = "";

/// The answer to a connection whose place another one needs.
const CUT: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n\
    content-length: 0\r\n\r\n";

const TIMED_OUT: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// Serves one connection up to its upgrade. Without `files`, the client is told that the node is
/// full.
pub(super) async fn shake_hands(
    door: Arc<Acceptor>,
    connection: NewConnection,
    files: Option<ConnectionFiles>,
    mut permit: HandshakePermit,
) {
    let deadline = Instant::now() + door.registry.limits().handshake_timeout;
    let started = Instant::now();
    let counters = door.registry.counters().clone();
    let peer = connection.peer;
    let cut = permit.cut();
    let prepared = tokio::select! {
        // Where nothing comes before the request, whoever is cut is told so below.
        biased;
        prepared = tokio::time::timeout_at(deadline, connection.prepare(&door, &mut permit)) => {
            prepared
        }
        () = cut => return,
    };
    let (read, write, origin) = match prepared {
        Ok(Ok(prepared)) => prepared,
        Ok(Err(error)) => {
            tracing::debug!(?peer, %error, "a connection broke off before its request");
            return;
        }
        Err(_) => return counters.handshakes_timed_out.add_one(),
    };
    let write = Arc::new(write);
    let io = TokioIo::new(ClientSocket {
        read,
        write: write.clone(),
    });
    let progress = Arc::new(Mutex::new(Progress::Reading));
    let permit = Arc::new(permit);
    let origin = Arc::new(origin);
    let service = service_fn(|request| {
        permit.has_read();
        let (door, progress, permit) = (door.clone(), progress.clone(), permit.clone());
        let origin = origin.clone();
        let (files, counters) = (files.as_ref(), &counters);
        async move {
            let (mut response, closing) = match files {
                Some(files) => door.answer(request, &origin, files, &permit).await,
                None => (Refusal::node_is_full().into_response(), None),
            };
            let hundreds = usize::from(response.status().as_u16() / 100);
            if let Some(times) = counters.durations.handshakes.get(hundreds.wrapping_sub(1)) {
                times.record(started.elapsed());
            }
            *progress.lock() = Progress::Answered(closing);
            if response.status() != StatusCode::SWITCHING_PROTOCOLS {
                // By hand, since hyper's own switch says it beside `Connection: Upgrade` too,
                // which many clients do not understand.
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(CONNECTION, close);
            }
            Ok::<_, Infallible>(response)
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .max_buf_size(HEAD_BYTES)
        .header_read_timeout(None)
        .serve_connection(io, service)
        .with_upgrades();
    let served = tokio::select! {
        served = tokio::time::timeout_at(deadline, Box::pin(connection)) => served,
        () = permit.cut() => {
            // Into the middle of another answer it must not fall.
            if matches!(*progress.lock(), Progress::Reading) {
                let _ = write.try_write(CUT);
            }
            return;
        }
    };
    let progress = std::mem::replace(&mut *progress.lock(), Progress::Reading);
    match (served, progress) {
        (Ok(Ok(())), Progress::Answered(Some(closing))) => {
            drop(write);
            tokio::select! {
                () = closing.run(door.registry.limits().close_timeout) => {}
                () = permit.cut() => {}
            }
        }
        (Ok(Ok(())), _) => {}
        (Ok(Err(error)), _) => tracing::debug!(?peer, %error, "a handshake broke off"),
        (Err(_), progress) => {
            counters.handshakes_timed_out.add_one();
            // Into the middle of another answer it must not fall.
            if matches!(progress, Progress::Reading) {
                let _ = write.try_write(TIMED_OUT);
            }
        }
    }
}

/// The progress of a connection in its handshake.
enum Progress {
    /// The answer has not begun yet.
    Reading,
    /// The answer has begun. With a `Closing`, the client is refused by a close frame after the
    /// answer.
    Answered(Option<Closing>),
}

/// An HTTP answer, and the closing that follows if a close frame refuses the client.
type Reply = (Response<Body>, Option<Closing>);

impl Acceptor {
    async fn answer(
        &self,
        mut request: Request<Incoming>,
        source: &ConnectionSource,
        files: &ConnectionFiles,
        permit: &HandshakePermit,
    ) -> Reply {
        if !upgrade::has_good_host(request.version(), request.headers()) {
            let why = "the header Host must be there once, with a host in it\n";
            return (text(StatusCode::BAD_REQUEST, why), None);
        }
        if let Some(certificates) = &source.certificates {
            let uri = request.uri();
            if let Some(page) = certificates.challenge_page(uri.path()) {
                return (text(StatusCode::OK, page), None);
            }
            let redirect = certificates.redirect().filter(|_| !source.is_encrypted);
            if let Some(origin) = redirect {
                return (pages::moved_to(origin, uri), None);
            }
        }
        let address = client_address(&self.proxies.load(), source.address, request.headers());
        if !upgrade::is_asked_for(request.headers()) {
            if !self.takes_place(permit, PAGES, address) {
                return (Refusal::too_many_handshakes().into_response(), None);
            }
            return (self.page(&request).await, None);
        }
        files.asks_for_no_page();
        self.say_certificate(source, request.headers_mut());
        let upgrade = hyper::upgrade::on(&mut request);
        let (parts, body) = request.into_parts();
        match self.plugins.at(parts.uri.path()) {
            None => (self.nothing(), None),
            Some(plugin) => match upgrade::check(&parts, !body.is_end_stream()) {
                Ok(good) => {
                    let from = (address, files.connection.clone(), permit);
                    self.open(plugin, &parts, good, upgrade, from).await
                }
                Err(bad) => (*bad, None),
            },
        }
    }

    /// Says in the request which certificate the client has shown. Nobody else may say it.
    fn say_certificate(&self, source: &ConnectionSource, headers: &mut HeaderMap) {
        let proxies = self.proxies.load();
        // Behind a proxy that only passes TLS on, the client itself writes the headers.
        let is_of_proxy = proxies.trusts(source.address.map(|address| address.ip()));
        let may_say = proxies.client_certificates && is_of_proxy && !source.is_encrypted;
        if !(may_say && says_a_certificate(headers)) {
            headers.remove(CLIENT_CERTIFICATE);
            headers.remove(CLIENT_CERTIFICATE_CHAIN);
        }
        let shown = source.certificate.as_ref().and_then(|certificate| {
            let text = format!(":{}:", BASE64.encode(certificate));
            HeaderValue::try_from(text).ok()
        });
        if let Some(shown) = shown {
            headers.insert(CLIENT_CERTIFICATE, shown);
        }
    }

    /// Answers a request for a page. The path with a plugin's name leads to the plugin's pages, and
    /// so do the plugin's other paths.
    async fn page(&self, request: &Request<Incoming>) -> Response<Body> {
        let path = request.uri().path();
        if path == "/" {
            return self.front_page(request).await;
        }
        let below = path.strip_prefix('/').unwrap_or_default();
        let (name, rest) = match below.split_once('/') {
            Some((name, rest)) => (name, Some(rest)),
            None => (below, None),
        };
        let (plugin, rest) = match self.plugins.get(name) {
            Some(plugin) => (plugin, rest),
            None => match self.plugins.at(path) {
                Some(plugin) => (plugin, None),
                None => return self.nothing(),
            },
        };
        pages::serve(self.plugins.folder(), plugin.name(), rest, request).await
    }

    /// Answers a request for `/`. The answer leads to the page of the plugin whose clients connect
    /// at `/`. If that plugin has no page, the answer lists the pages of the other plugins.
    async fn front_page(&self, request: &Request<Incoming>) -> Response<Body> {
        let folder = self.plugins.folder();
        let plugin = self.plugins.at("/");
        if let Some(plugin) = &plugin
            && pages::has_page(folder, plugin.name()).await
        {
            return pages::serve(folder, plugin.name(), None, request).await;
        }
        let mut known = self.plugins.all();
        known.retain(|plugin| plugin.is_known());
        let mut names: Vec<&str> = known.iter().map(|plugin| plugin.name()).collect();
        names.sort_unstable();
        match (pages::index(folder, &names, request).await, plugin) {
            (Some(index), _) => index,
            (None, Some(plugin)) => pages::serve(folder, plugin.name(), None, request).await,
            (None, None) => self.nothing(),
        }
    }

    /// Takes a place for a plugin that is to answer the request. Returns whether there was one.
    fn takes_place(
        &self,
        permit: &HandshakePermit,
        plugin: &str,
        address: Option<SocketAddr>,
    ) -> bool {
        let place = permit.answer(plugin, ip_or_unspecified(address));
        if place != AnswerPlace::Free {
            self.registry.counters().handshakes_limited.add_one();
        }
        place != AnswerPlace::None
    }

    /// The answer for a path of no known plugin.
    fn nothing(&self) -> Response<Body> {
        match self.plugins.may_be_unknown() {
            true => Refusal::busy(
                StatusCode::SERVICE_UNAVAILABLE,
                "the node has just started\n",
            )
            .into_response(),
            false => text(StatusCode::NOT_FOUND, "no such plugin\n"),
        }
    }

    /// Lets the plugin decide about a client, and returns the answer.
    async fn open(
        &self,
        plugin: Arc<Plugin>,
        parts: &Parts,
        good: Good,
        upgrade: OnUpgrade,
        from: (
            Option<SocketAddr>,
            Arc<OwnedSemaphorePermit>,
            &HandshakePermit,
        ),
    ) -> Reply {
        let Good {
            accepting,
            mut offered,
        } = good;
        let offer = Offer::take(&mut offered);
        match self
            .decide(&plugin, parts, &offered, offer.as_ref(), from)
            .await
        {
            Ok(entry) => {
                let response = with_choices(accepting, entry.subprotocol(), entry.deflate);
                self.let_in(entry, upgrade);
                (response, None)
            }
            Err(refusal) => match plugin.policies().refuse {
                RefusePolicy::Close if refusal.may_close() => {
                    let frame = refusal.close_frame();
                    if offer.is_some() {
                        offered.insert(0, subprotocol::NAME.to_owned());
                    }
                    let response = accept_to_close(accepting, &offered);
                    (response, Some(Closing { upgrade, frame }))
                }
                RefusePolicy::Close | RefusePolicy::Http => (refusal.into_response(), None),
            },
        }
    }

    async fn decide(
        &self,
        plugin: &Arc<Plugin>,
        parts: &Parts,
        offered: &[String],
        offer: Option<&Offer>,
        (address, file, permit): (
            Option<SocketAddr>,
            Arc<OwnedSemaphorePermit>,
            &HandshakePermit,
        ),
    ) -> Result<Entry, Refusal> {
        if !self.takes_place(permit, plugin.name(), address) {
            return Err(Refusal::too_many_handshakes());
        }
        if !plugin.is_open() {
            return Err(Refusal::not_running());
        }
        let handshake = read_handshake(parts, offered, address)?;
        let policies = plugin.policies();
        // What is kept for a client that may come back is bounded as it is sent. Its next connection may
        // have another window, or none.
        let resume = offer.and_then(|offer| offer.resume.as_ref());
        let may_come_back = resume.is_some() || (offer.is_some() && policies.resume.is_some());
        let compression = policies.compression.filter(|_| !may_come_back);
        let deflate = compression.and_then(|_| Deflate::agree(&parts.headers));
        let arrival = Arrival {
            window_bits: deflate.map(|deflate| deflate.window_bits),
            address,
            is_tagged: offer.is_some(),
        };
        let place = match resume {
            None => self.place(address, file)?,
            Some(resume) => {
                let granted = plugin.check_again(&handshake).map_err(|refused| {
                    self.registry.counters().handshakes_refused.add_one();
                    Refusal::of_answer(refused)
                })?;
                let from = (address, file);
                match self
                    .returning(plugin, *resume, granted, arrival, from)
                    .await?
                {
                    Ok(entry) => return Ok(entry),
                    Err(place) => place,
                }
            }
        };
        let arriving = Arriving::new(plugin, &parts.headers, arrival);
        match arriving.on_connect(&handshake).await {
            Ok(Answer::Accepted(accepted)) => {
                self.registry.counters().clients_accepted.add_one();
                Ok(Entry::new(arriving, place, deflate, accepted))
            }
            Ok(refused) => {
                self.registry.counters().handshakes_refused.add_one();
                Err(Refusal::of_answer(refused))
            }
            Err(failure) => Err(Refusal::of_failure(failure)),
        }
    }

    /// Lets a client come back whose session is on this node, or on another one. If there is no such
    /// session, the client is a new one, and has a place on the node.
    async fn returning(
        &self,
        plugin: &Arc<Plugin>,
        offer: ResumeOffer,
        granted: Option<Granted>,
        arrival: Arrival,
        (address, file): (Option<SocketAddr>, Arc<OwnedSemaphorePermit>),
    ) -> Result<Result<Entry, AdmissionPermit>, Refusal> {
        let sessions = &self.resumable;
        // A client may come back twice at the same time. It is adopted once, and then found here.
        let lock = sessions.adopting(offer.client);
        let _adopting = lock.lock().await;
        let found = sessions.request(&offer, plugin.namespace(), granted.as_ref());
        let found = found.await;
        // Whoever had the session has given its place back by now. A client that is adopted has none here.
        let place = self.place(address, file)?;
        if let Some((session, until)) = found {
            return Ok(Ok(Entry::returning(
                Returning::Here(session),
                (place, address),
                until,
            )));
        }
        if sessions.mesh().is_none() {
            return Ok(Err(place));
        }
        let adoption = Adoption {
            plugin: plugin.clone(),
            sessions: sessions.clone(),
            offer,
            granted,
            arrival,
        };
        Ok(match adoption.run().await {
            Some(AdoptedClient { task, until }) => {
                let returning = Returning::Adopted(task, offer.received);
                Ok(Entry::returning(returning, (place, address), until))
            }
            None => Err(place),
        })
    }

    /// Takes a place on the node for a client of this address.
    fn place(
        &self,
        address: Option<SocketAddr>,
        file: Arc<OwnedSemaphorePermit>,
    ) -> Result<AdmissionPermit, Refusal> {
        let ip = address.map(|address| address.ip());
        let admitted = self.admission.admit(&self.registry.limits(), ip, file);
        admitted.map_err(|full| {
            self.registry.counters().handshakes_limited.add_one();
            match full {
                AdmissionRefused::Node => Refusal::node_is_full(),
                AdmissionRefused::Address => Refusal::busy(
                    StatusCode::TOO_MANY_REQUESTS,
                    "too many clients of this address\n",
                ),
                AdmissionRefused::AddressTooFast => Refusal::busy(
                    StatusCode::TOO_MANY_REQUESTS,
                    "too many connects a second from this address\n",
                ),
            }
        })
    }
}

/// The data of a request that the plugin receives. A query that is not UTF-8 is refused: with
/// replaced characters, two different people could look the same.
fn read_handshake(
    parts: &Parts,
    offered: &[String],
    address: Option<SocketAddr>,
) -> Result<Handshake, Refusal> {
    let query = parts.uri.query().unwrap_or_default();
    if percent_decode_str(query).decode_utf8().is_err() {
        let why = "the query is not UTF-8 (RFC 3986: percent-encode it as UTF-8)\n";
        return Err(Refusal::new(StatusCode::BAD_REQUEST, why));
    }
    // The plugin sees its own subprotocols, and no secret with which a client comes back.
    let mut offers = parts.headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    let hides_offers = offers.any(subprotocol::concerns_node);
    let is_shown = |name: &HeaderName| {
        let is_hidden = hides_offers && *name == SEC_WEBSOCKET_PROTOCOL;
        !is_hidden && !name.as_str().starts_with(NODE_HEADERS)
    };
    let own = (hides_offers && !offered.is_empty()).then(|| {
        let name = SEC_WEBSOCKET_PROTOCOL.as_str().to_owned();
        (name, offered.join(", "))
    });
    let headers = parts.headers.iter().filter(|(name, _)| is_shown(name));
    let headers = headers.map(|(name, value)| {
        (
            name.as_str().to_owned(),
            String::from_utf8_lossy(value.as_bytes()).into_owned(),
        )
    });
    let headers = headers.chain(own);
    Ok(Handshake {
        path: parts.uri.path().to_owned(),
        query: form_urlencoded::parse(query.as_bytes())
            .into_owned()
            .collect(),
        headers: headers.collect(),
        remote_address: address_text(address),
        subprotocols: offered.to_vec(),
    })
}

/// Whether a proxy says the certificate of a client. Where a client has shown none, some proxies
/// send an empty one.
fn says_a_certificate(headers: &HeaderMap) -> bool {
    let mut lines = headers.get_all(CLIENT_CERTIFICATE).iter();
    let line = lines.next().map(HeaderValue::as_bytes);
    let encoded = line.and_then(|line| line.strip_prefix(b":")?.strip_suffix(b":"));
    let certificate = encoded.and_then(|encoded| BASE64.decode(encoded).ok());
    lines.next().is_none() && certificate.is_some_and(|certificate| !certificate.is_empty())
}
