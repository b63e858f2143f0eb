//! The API behind nginx, set up as `docs/api.md` shows it.
//!
//! That nothing is held back is known by asking for more only after something has come.

use anyhow::{Context as _, Result};
use jackfield_tests::{Api, Nginx, Node, Protocol};
use serde_json::json;

const PAGE: &str = include_str!("../../docs/api.md");

async fn behind(node: &Node, with: &str) -> Result<Nginx> {
    let replaced = [("127.0.0.1:8081", node.api_address())];
    Nginx::start_as_documented(PAGE, with, &replaced).await
}

#[tokio::test]
async fn events_come_through_a_proxy_as_they_happen() -> Result<()> {
    for (protocol, with) in [
        (Protocol::Http, "proxy_pass"),
        (Protocol::Grpc, "grpc_pass"),
    ] {
        let node = Node::start_alone("console").await?;
        let nginx = behind(&node, with).await?;
        let api = Api::at(nginx.address(), protocol)?;
        let mut events = api.watch(&[]).await?;
        for _ in 0..3 {
            let mut ada = node.console(&[]).await?;
            let event = events.next().await?.context("an event")?;
            assert_eq!(event["client_connected"]["client"], ada.id());
            ada.leave_with(4000, "bye").await?;
            let event = events.next().await?.context("an event")?;
            assert!(event["client_closed"].is_object(), "{event}");
        }
        let count = api.ok("console", "get-all-client-count", json!({})).await?;
        assert_eq!(count["value"], 0);
    }
    Ok(())
}

/// A proxy that compresses and stores what it can, and speaks either version of HTTP to the node.
#[tokio::test]
async fn a_stream_says_something_before_anything_happens() -> Result<()> {
    let node = Node::start_alone("console").await?;
    for version in ["1.0", "1.1"] {
        let http = format!(
            "gzip on; gzip_types *; gzip_proxied any; gzip_min_length 0;
             proxy_cache_path cache keys_zone=cache:1m;
             server {{
                 listen 80;
                 proxy_cache cache; proxy_cache_valid any 1h; proxy_http_version {version};
                 location / {{ proxy_pass http://{}; }}
             }}",
            node.api_address()
        );
        let nginx = Nginx::start(&http).await?;
        let api = Api::at(nginx.address(), Protocol::Http)?;
        // One after the other: the second must not get what was stored of the first.
        for encoding in ["identity", "gzip"] {
            let request = format!(
                "GET /v1/events HTTP/1.1\r\nhost: localhost\r\naccept-encoding: {encoding}\r\n\r\n"
            );
            let mut stream = api.begin(&request).await?;
            let head = stream.response().await?;
            assert_eq!(head.status, 200, "{head:?}");
            assert_eq!(head.headers["cache-control"], "no-store, no-transform");
            // The first chunk: its length, and some of it.
            let length = stream.line().await?.context("a chunk")?;
            assert_ne!(usize::from_str_radix(&length, 16)?, 0);
            if encoding == "identity" {
                assert_eq!(stream.line().await?.as_deref(), Some(": watching"));
            }
        }
    }
    Ok(())
}
