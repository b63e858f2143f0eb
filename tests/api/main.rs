//! The API: what backends ask of a node, over HTTP and over gRPC. Each test that is about a
//! function runs once for each.

mod batch;
mod calls;
mod documented;
mod events;
mod flood;
mod functions;
mod fuzz;
mod grpc;
mod http;
mod live;
mod metrics;
mod operator;
mod page;
mod proxied;
mod replay;
mod tokens;

use anyhow::Result;
use jackfield_tests::{Cluster, Protocol};

/// Both ways to the API.
const BOTH: [Protocol; 2] = [Protocol::Http, Protocol::Grpc];

/// Nodes with the plugin `console`.
async fn consoles(nodes: usize) -> Result<Cluster> {
    Cluster::start(nodes, |node| node.plugin("console")).await
}
