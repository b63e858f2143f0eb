//! etcd as a place where nodes learn of each other. Each node stores its address there, renews its
//! lease on it, and watches the entries of the others.
//!
//! This uses only a small part of etcd's API, generated from `proto/etcd`: the usual client library
//! needs a `protoc` for every build. After any error everything is done again; the nodes that were
//! listed stay listed until etcd has answered again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

use self::generated::etcdserverpb::kv_client::KvClient;
use self::generated::etcdserverpb::lease_client::LeaseClient;
use self::generated::etcdserverpb::watch_client::WatchClient;
use self::generated::etcdserverpb::watch_request::RequestUnion;
use self::generated::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseRevokeRequest,
    PutRequest, RangeRequest, WatchCreateRequest, WatchRequest, WatchResponse,
};
use self::generated::mvccpb::Event;
use self::generated::mvccpb::event::EventType;
use super::source::Source;
use super::state::Mesh;
use super::transport_error::unreachable;
use crate::log_throttle::LastLogged;

/// The types of etcd's API, generated in advance; `tests/generated` checks that they are current.
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    dead_code,
    clippy::all
)]
mod generated {
    pub mod mvccpb {
        include!("../../generated/mvccpb.rs");
    }
    pub mod etcdserverpb {
        include!("../../generated/etcdserverpb.rs");
    }
}

/// The prefix of all keys. A key is this prefix and a node's incarnation; its value is an address.
const PREFIX: &str = "jackfield/nodes/";

/// The first key after all keys with `PREFIX`: after `/` comes `0`.
const PREFIX_END: &str = "jackfield/nodes0";

/// How long a node that is gone stays listed.
const LEASE: Duration = Duration::from_secs(5);

/// How often a lease is renewed.
const RENEW: Duration = Duration::from_millis(1500);

/// How long etcd may take to answer.
const TIMEOUT: Duration = Duration::from_secs(3);

/// The pause between two attempts to be listed in etcd.
const RETRY: Duration = Duration::from_secs(1);

impl Mesh {
    /// Keeps this node listed in etcd for as long as the node runs, and dials the listed nodes.
    pub(super) async fn register_in_etcd(self: Arc<Self>, source: String, endpoint: String) {
        let mut news = LastLogged::default();
        while !self.draining.is_cancelled() {
            let Err(ended) = self.list_in_etcd(&source, &endpoint).await else {
                return;
            };
            if news.is(ended.message()) {
                tracing::warn!(source, "not listed there: {}", ended.message());
            }
            let _ = tokio::time::timeout(RETRY, self.draining.cancelled()).await;
        }
    }

    /// Keeps this node listed until an error occurs or the node drains.
    async fn list_in_etcd(self: &Arc<Self>, source: &str, endpoint: &str) -> Result<(), Status> {
        let listing = tokio::time::timeout(TIMEOUT, EtcdListing::begin(endpoint, self));
        let mut listing = listing
            .await
            .map_err(|_| Status::deadline_exceeded("it did not answer in time"))??;
        let source = Source::Listed(source.to_owned());
        let mut renew = tokio::time::interval(RENEW);
        let mut renewed = tokio::time::Instant::now();
        self.want(&source, &listing.addresses());
        self.note_listed(&source, listing.nodes());
        loop {
            tokio::select! {
                watched = listing.watch.message() => {
                    let watched = watched?.ok_or_else(closed)?;
                    if watched.canceled {
                        return Err(Status::aborted(watched.cancel_reason));
                    }
                    watched.events.into_iter().for_each(|event| listing.take(event));
                    self.want(&source, &listing.addresses());
                    self.note_listed(&source, listing.nodes());
                }
                alive = listing.alive.message() => {
                    let alive = alive?.ok_or_else(closed)?;
                    if alive.ttl <= 0 {
                        return Err(Status::aborted("the lease has run out"));
                    }
                    renewed = tokio::time::Instant::now();
                }
                _ = renew.tick() => {
                    if renewed.elapsed() > LEASE {
                        return Err(Status::deadline_exceeded("it has said nothing for a while"));
                    }
                    listing.renew()?;
                }
                () = self.draining.cancelled() => {
                    let id = listing.lease;
                    let revoke = listing.leases.lease_revoke(LeaseRevokeRequest { id });
                    let _ = tokio::time::timeout(TIMEOUT, revoke).await;
                    return Ok(());
                }
            }
        }
    }
}

/// This node's entry in etcd, and the entries of all nodes.
struct EtcdListing {
    leases: LeaseClient<Channel>,
    lease: i64,
    renewals: mpsc::Sender<LeaseKeepAliveRequest>,
    alive: Streaming<LeaseKeepAliveResponse>,
    watch: Streaming<WatchResponse>,
    /// The sender that ends the watch when it is dropped.
    _watching: mpsc::Sender<WatchRequest>,
    /// The addresses of all nodes, by their keys.
    nodes: BTreeMap<Vec<u8>, String>,
}

impl EtcdListing {
    async fn begin(endpoint: &str, mesh: &Mesh) -> Result<EtcdListing, Status> {
        let endpoint = Endpoint::from_shared(format!("http://{endpoint}")).map_err(unreachable)?;
        let channel = endpoint.connect().await.map_err(unreachable)?;
        let mut leases = LeaseClient::new(channel.clone());
        let ttl = i64::try_from(LEASE.as_secs()).unwrap_or(i64::MAX);
        let granted = leases.lease_grant(LeaseGrantRequest { ttl }).await?;
        let lease = granted.into_inner().id;
        let mut keys = KvClient::new(channel.clone());
        keys.put(PutRequest {
            key: format!("{PREFIX}{}", mesh.own()).into_bytes().into(),
            value: mesh.address.clone().into_bytes().into(),
            lease,
        })
        .await?;

        let range = RangeRequest {
            key: PREFIX.as_bytes().into(),
            range_end: PREFIX_END.as_bytes().into(),
        };
        let listed = keys.range(range).await?.into_inner();
        let revision = listed.header.map_or(0, |header| header.revision);
        let nodes = listed
            .kvs
            .into_iter()
            .map(|pair| (pair.key.to_vec(), text(&pair.value)));
        let nodes = nodes.collect();

        // What has changed since the list was made is heard of, too.
        let create = WatchCreateRequest {
            key: PREFIX.as_bytes().into(),
            range_end: PREFIX_END.as_bytes().into(),
            start_revision: revision + 1,
        };
        let (watching, requests) = mpsc::channel(1);
        let request_union = Some(RequestUnion::CreateRequest(create));
        watching
            .send(WatchRequest { request_union })
            .await
            .map_err(|_| closed())?;
        let watch = WatchClient::new(channel)
            .watch(ReceiverStream::new(requests))
            .await?;
        let (renewals, requests) = mpsc::channel(4);
        renewals
            .send(LeaseKeepAliveRequest { id: lease })
            .await
            .map_err(|_| closed())?;
        let alive = leases
            .lease_keep_alive(ReceiverStream::new(requests))
            .await?;
        Ok(EtcdListing {
            leases,
            lease,
            renewals,
            alive: alive.into_inner(),
            watch: watch.into_inner(),
            _watching: watching,
            nodes,
        })
    }

    fn renew(&self) -> Result<(), Status> {
        let renewal = LeaseKeepAliveRequest { id: self.lease };
        self.renewals.try_send(renewal).map_err(|_| closed())
    }

    fn take(&mut self, event: Event) {
        let is_put = event.r#type() == EventType::Put;
        let Some(pair) = event.kv else { return };
        match is_put {
            true => self.nodes.insert(pair.key.to_vec(), text(&pair.value)),
            false => self.nodes.remove(&*pair.key),
        };
    }

    /// The name and the address of each listed node.
    fn nodes(&self) -> impl Iterator<Item = (String, &String)> {
        let nodes = self.nodes.iter();
        nodes.map(|(key, address)| {
            (
                text(key.strip_prefix(PREFIX.as_bytes()).unwrap_or(key)),
                address,
            )
        })
    }

    fn addresses(&self) -> BTreeSet<String> {
        self.nodes.values().cloned().collect()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn closed() -> Status {
    Status::cancelled("it closed the connection")
}
