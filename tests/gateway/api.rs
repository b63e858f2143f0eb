//! A gateway's API: backends may ask any node.

use anyhow::Result;
use jackfield_tests::{Protocol, within};
use serde_json::json;

use super::Split;

#[tokio::test]
async fn functions_and_calls_work_at_a_node_without_the_plugin() -> Result<()> {
    let split = Split::start(2, |node| node.plugin("console")).await?;
    let mut ada = split
        .gateway
        .console(&[("uid", "ada"), ("group", "tea")])
        .await?;
    for protocol in [Protocol::Grpc, Protocol::Http] {
        let api = split.gateway.calls(protocol)?;
        let sent = json!({ "uids": ["ada"], "message": { "text": "m" } });
        let reached = api.ok("console", "send-to-uid", sent).await?;
        assert_eq!(
            reached["clients"]
                .as_u64()
                .or(reached["clients"].as_str().and_then(|n| n.parse().ok())),
            Some(1),
            "{reached}"
        );
        assert_eq!(ada.next().await?.to_text()?, "m");
        let uid = api
            .ok("console", "is-uid-online", json!({ "uid": "ada" }))
            .await?;
        assert_eq!(uid["online"], true);
        let of_nobody = async {
            loop {
                let asked = json!({ "uid": "ada" });
                let refused = api.refused("nobody", "is-uid-online", asked).await?;
                // It may not have heard of all others yet.
                if refused.reason != "UNREACHABLE" {
                    return anyhow::Ok(refused.reason);
                }
            }
        };
        assert_eq!(within("an answer", of_nobody).await?, "NOT_FOUND");
    }
    Ok(())
}

#[tokio::test]
async fn a_call_is_answered_by_a_worker() -> Result<()> {
    let split = Split::console().await?;
    let call = async |method: &str, payload: &str| {
        let path = format!("/v1/plugins/console/call/{method}");
        let api = split.gateway.calls(Protocol::Http)?;
        api.http("POST", &path, &[], payload).await
    };
    let answered = call("echo", "hello").await?;
    assert_eq!((answered.status, &*answered.body), (200, "hello"));
    assert_eq!(call("nonsense", "").await?.status, 404);
    // Refused by the worker, where the limit is, in its words.
    let long = "x".repeat(1 << 20);
    let refused = call("echo", &long).await?;
    assert_eq!(refused.status, 413);
    assert!(refused.body.contains("call_bytes"), "{}", refused.body);
    Ok(())
}

#[tokio::test]
async fn without_a_worker_a_call_is_unavailable() -> Result<()> {
    let mut split = Split::console().await?;
    split.workers.remove(0).stop().await?;
    split.gateway.wait_for_peers(0).await?;
    let api = split.gateway.calls(Protocol::Http)?;
    let refused = api
        .http("POST", "/v1/plugins/console/call/echo", &[], "m")
        .await?;
    assert_eq!(refused.status, 503);
    Ok(())
}
