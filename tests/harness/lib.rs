//! What the black-box tests share: a node in a process of its own, clients on real sockets,
//! and components built from source.
//!
//! Each test owns its node, its folder and its ports. Nothing here sleeps: presence waits
//! with a deadline, and absence is shown by what must come after it.

mod apart;
mod api;
mod authority;
mod client;
mod cluster;
mod collector;
mod command;
mod components;
mod console;
mod counters;
mod deadline;
mod etcd;
mod folder;
mod frame;
mod log;
mod mounts;
mod namespace;
mod nginx;
mod node;
mod oci_registry;
mod page;
mod pebble;
mod process;
mod prometheus;
mod proxy;
mod proxy_server;
mod raw;
mod redis;
mod reliable;
pub mod remote;
pub mod sections;
mod turns;
mod wire;

pub use api::{Answer, Api, Events, Protocol, Refusal, answer};
pub use authority::{Authority, CertificateFile, tls_connect, tls_over};
pub use client::{Client, End, Transport, binary, refusal_status, text};
pub use cluster::{Barrier, Cluster, Register};
pub use collector::{CollectedSpan, Collector};
pub use command::{
    Output, node_command, run_node_binary, run_node_binary_after, run_node_binary_in,
};
pub use components::{binary_path, component, is_skipped, js_client};
pub use console::{Console, comparable, count, error_code, query, reach};
pub use counters::Counters;
pub use deadline::{DEADLINE, within};
pub use etcd::Etcd;
pub use folder::PluginFolder;
pub use frame::{Frame, OpCode};
pub use log::{Log, LogLine};
pub use mounts::{Mounts, on_own_mounts};
pub use nginx::Nginx;
pub use node::{Node, NodeBuilder, Stopped};
pub use oci_registry::{COMPONENT_CONFIG, OciRegistry, REGISTRY_USER};
pub use page::run_curl_lines;
pub use pebble::Pebble;
pub use prometheus::{Prometheus, promtool};
pub use proxy::Proxy;
pub use proxy_server::ProxyServer;
pub use raw::{Raw, Response, upgrade_request};
pub use redis::Redis;
pub use reliable::ReliableClient;
pub use turns::Turns;
pub use wire::{Carried, Faults, Place, Wire, on_wire};
