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
use tonic::{Code, Status, Streaming};

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
use super::unlist::unlist;
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
        let mut leases = Vec::new();
        let listed = async {
            loop {
                let ended = self.list_in_etcd(&source, &endpoint, &mut leases).await;
                if news.is(ended.message()) {
                    tracing::warn!(source, "not listed there: {}", ended.message());
                }
                tokio::time::sleep(RETRY).await;
            }
        };
        self.draining.run_until_cancelled(listed).await;
        // A connection of its own: the one before may be broken, and the entry is still there.
        unlist(|| revoke(&endpoint, &leases)).await;
    }

    /// Keeps this node listed until an error occurs, and returns the error. `leases` are those
    /// that may still keep its entry.
    async fn list_in_etcd(
        self: &Arc<Self>,
        source: &str,
        endpoint: &str,
        leases: &mut Vec<i64>,
    ) -> Status {
        let listing = EtcdListing::begin(endpoint, self, leases);
        let mut listing = match tokio::time::timeout(TIMEOUT, listing).await {
            Ok(Ok(listing)) => listing,
            Ok(Err(status)) => return status,
            Err(_) => return Status::deadline_exceeded("it did not answer in time"),
        };
        let source = Source::Listed(source.to_owned());
        let mut renew = tokio::time::interval(RENEW);
        let mut renewed = tokio::time::Instant::now();
        self.want(&source, &listing.addresses());
        self.note_listed(&source, listing.nodes());
        loop {
            tokio::select! {
                watched = listing.watch.message() => {
                    let watched = match watched {
                        Ok(Some(watched)) => watched,
                        Ok(None) => return closed(),
                        Err(status) => return status,
                    };
                    if watched.canceled {
                        return Status::aborted(watched.cancel_reason);
                    }
                    watched.events.into_iter().for_each(|event| listing.take(event));
                    self.want(&source, &listing.addresses());
                    self.note_listed(&source, listing.nodes());
                }
                alive = listing.alive.message() => match alive {
                    Ok(Some(alive)) if alive.ttl <= 0 => {
                        return Status::aborted("the lease has run out");
                    }
                    Ok(Some(_)) => renewed = tokio::time::Instant::now(),
                    Ok(None) => return closed(),
                    Err(status) => return status,
                },
                _ = renew.tick() => {
                    if renewed.elapsed() > LEASE {
                        return Status::deadline_exceeded("it has said nothing for a while");
                    }
                    if let Err(status) = listing.renew() {
                        return status;
                    }
                }
            }
        }
    }
}

/// Ends leases, and with them this node's entry.
async fn revoke(endpoint: &str, ids: &[i64]) -> Result<(), Status> {
    if ids.is_empty() {
        return Ok(());
    }
    let mut leases = LeaseClient::new(connect(endpoint).await?);
    for id in ids.iter().copied() {
        match leases.lease_revoke(LeaseRevokeRequest { id }).await {
            Err(status) if status.code() != Code::NotFound => return Err(status),
            // One that has run out has taken its entry along.
            _ => {}
        }
    }
    Ok(())
}

async fn connect(endpoint: &str) -> Result<Channel, Status> {
    let endpoint = Endpoint::from_shared(format!("http://{endpoint}")).map_err(unreachable)?;
    endpoint.connect().await.map_err(unreachable)
}

/// This node's entry in etcd, and the entries of all nodes.
struct EtcdListing {
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
    async fn begin(
        endpoint: &str,
        mesh: &Mesh,
        leases: &mut Vec<i64>,
    ) -> Result<EtcdListing, Status> {
        let channel = connect(endpoint).await?;
        let mut lease_client = LeaseClient::new(channel.clone());
        let ttl = i64::try_from(LEASE.as_secs()).unwrap_or(i64::MAX);
        let granted = lease_client.lease_grant(LeaseGrantRequest { ttl });
        let lease = granted.await?.into_inner().id;
        leases.push(lease);
        let mut keys = KvClient::new(channel.clone());
        keys.put(PutRequest {
            key: format!("{PREFIX}{}", mesh.own()).into_bytes().into(),
            value: mesh.address.clone().into_bytes().into(),
            lease,
        })
        .await?;
        // The entry is this lease's now, and no former one's.
        leases.retain(|other| *other == lease);

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
        let alive = lease_client
            .lease_keep_alive(ReceiverStream::new(requests))
            .await?;
        Ok(EtcdListing {
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
