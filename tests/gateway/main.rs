//! Gateways: nodes that hold clients whose plugins run at other nodes.
//!
//! Nodes are processes, one of which is a gateway and the others its workers; what fails there is
//! real: signals, files that are taken away. That an event came once and in order is known by
//! its number in the answers.

mod api;
mod load;
mod served;
mod workers;

use anyhow::Result;
use jackfield_tests::{Node, NodeBuilder, Register};

/// A gateway, and nodes that run its plugins.
struct Split {
    register: Register,
    gateway: Node,
    workers: Vec<Node>,
}

impl Split {
    /// One with so many workers, each built by `build`, once all know each other.
    async fn start(workers: usize, build: impl Fn(NodeBuilder) -> NodeBuilder) -> Result<Split> {
        Split::with_config(workers, "", build).await
    }

    /// The same; all of them have this configuration.
    async fn with_config(
        workers: usize,
        config: &str,
        build: impl Fn(NodeBuilder) -> NodeBuilder,
    ) -> Result<Split> {
        let build = |node: NodeBuilder| build(node.config(config));
        Split::with_gateway_config(workers, config, build).await
    }

    /// The same; only the gateway has this configuration.
    async fn with_gateway_config(
        workers: usize,
        config: &str,
        build: impl Fn(NodeBuilder) -> NodeBuilder,
    ) -> Result<Split> {
        let register = Register::start().await?;
        let gateway = Node::builder().gateway().config(config);
        let gateway = gateway.registered_at(&[&register]).start().await?;
        let mut split = Split {
            register,
            gateway,
            workers: Vec::new(),
        };
        for _ in 0..workers {
            let worker = build(Node::builder().alone());
            let worker = worker.registered_at(&[&split.register]).start().await?;
            split.workers.push(worker);
        }
        for node in split.workers.iter().chain([&split.gateway]) {
            node.wait_for_peers(workers).await?;
        }
        for worker in &split.workers {
            split.gateway.wait_for_plugins_of(worker).await?;
        }
        Ok(split)
    }

    /// One worker that runs `console`.
    async fn console() -> Result<Split> {
        Split::start(1, |node| node.plugin("console")).await
    }
}
