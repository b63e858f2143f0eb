//! silky's example: sessions of a business id at several nodes, and `Echo` asked of any.

use std::fs;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jackfield_tests::{
    Api, Client, Cluster, Node, NodeBuilder, Protocol, Refusal, answer, component, run_curl_lines,
    within,
};
use serde_json::json;

/// Both ways to the API.
const BOTH: [Protocol; 2] = [Protocol::Http, Protocol::Grpc];

#[tokio::test]
async fn echo_reaches_every_session_of_the_business_id_on_all_nodes() -> Result<()> {
    let cluster = wstest(3).await?;
    let mut sessions = Vec::new();
    for (node, path) in [
        (0, "/api/wstest?businessid=100"),
        (1, "/api/wstest?BUSINESSID=100"),
        (1, "/wstest?bussinessId=100"),
    ] {
        sessions.push(cluster[node].client(path).await?);
    }
    let headers = [("BusinessId", "100")];
    sessions.push(Client::connect(cluster[2].address(), "/api/wstest", &headers).await?);
    let path = "/api/wstest?businessId=200";
    let headers = [("businessId", "100")];
    let mut other = Client::connect(cluster[2].address(), path, &headers).await?;

    for node in cluster.nodes() {
        knows(node, "100", sessions.len()).await?;
        knows(node, "200", 1).await?;
        for protocol in BOTH {
            let api = node.calls(protocol)?;
            assert_eq!(echo(&api, "100", "hello").await?, Ok(String::new()));
            let mut ids = Vec::new();
            for session in &mut sessions {
                ids.push(pushed(session, "hello").await?);
            }
            ids.sort();
            ids.dedup();
            assert_eq!(
                ids.len(),
                sessions.len(),
                "each has a session id of its own"
            );
            // Nothing has come to the other one before this.
            echo(&api, "200", "yours").await?.expect("a session");
            pushed(&mut other, "yours").await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_business_id_that_nobody_has_is_not_found_and_named() -> Result<()> {
    let cluster = wstest(2).await?;
    let mut left = cluster[1].client("/api/wstest?businessid=100").await?;
    knows(&cluster[0], "100", 1).await?;
    left.leave().await?;
    knows(&cluster[0], "100", 0).await?;
    for (protocol, status) in BOTH.into_iter().zip(["404", "NotFound"]) {
        let api = cluster[0].calls(protocol)?;
        let refusal = echo(&api, "100", "hello").await?.expect_err("nobody");
        assert_eq!((&*refusal.reason, &*refusal.status), ("NOT_FOUND", status));
        assert_eq!(
            refusal.message,
            "there is no session with the businessId 100"
        );
    }
    Ok(())
}

#[tokio::test]
async fn without_a_business_id_nobody_comes_in() -> Result<()> {
    let cluster = wstest(1).await?;
    for path in ["/api/wstest", "/wstest?businessid="] {
        let told = cluster[0].refusal(path).await?;
        assert_eq!(told.status, 400, "{path}");
        assert!(told.body.contains("businessId"), "{}", told.body);
    }
    Ok(())
}

#[tokio::test]
async fn what_a_session_says_comes_back() -> Result<()> {
    let cluster = wstest(1).await?;
    let mut session = cluster[0].client("/api/wstest?businessid=100").await?;
    session.say("hello").await?;
    pushed(&mut session, "hello").await?;
    Ok(())
}

#[tokio::test]
async fn every_curl_line_is_answered_as_the_page_says() -> Result<()> {
    let cluster = wstest(1).await?;
    let mut session = cluster[0].client("/api/wstest?businessid=100").await?;
    let page = include_str!("../../docs/from-silky.md");
    let api = cluster[0].calls(Protocol::Http)?.address();
    assert_eq!(run_curl_lines(page, api).await?, 2);
    pushed(&mut session, "hello").await?;
    Ok(())
}

/// Nodes with the plugin, as it is shipped.
async fn wstest(nodes: usize) -> Result<Cluster> {
    let manifest = component("wstest")?.with_extension("toml");
    let manifest = fs::read_to_string(manifest).context("its manifest")?;
    let build = |node: NodeBuilder| node.plugin("wstest").manifest("wstest", &manifest);
    Cluster::start(nodes, build).await
}

/// Calls `Echo`: over HTTP as silky's callers post it, with the arguments as the body. The
/// answer is what it returns.
async fn echo(api: &Api, business_id: &str, msg: &str) -> Result<Result<String, Refusal>> {
    let arguments = json!({ "businessId": business_id, "msg": msg }).to_string();
    if api.protocol() == Protocol::Http {
        let path = "/v1/plugins/wstest/call/Echo";
        let response = api.http("POST", path, &[], &arguments).await?;
        return match response.status {
            200 => Ok(Ok(response.body)),
            _ => Ok(Err(answer(&response)?.expect_err("it failed"))),
        };
    }
    let payload = BASE64_STANDARD.encode(arguments);
    let request = json!({ "method": "Echo", "payload": payload });
    let answered = api.call("wstest", "call", request).await?;
    Ok(answered.map(|answer| answer["payload"].as_str().unwrap_or_default().to_owned()))
}

/// The session id in the next message, which must be this one.
async fn pushed(session: &mut Client, msg: &str) -> Result<String> {
    let text = session.next_text().await?;
    let id = text.strip_prefix(&format!("message:{msg},sessionId:"));
    Ok(id
        .with_context(|| format!("{msg} was awaited: {text}"))?
        .to_owned())
}

/// Waits until the node knows of so many sessions.
async fn knows(node: &Node, business_id: &str, sessions: usize) -> Result<()> {
    let api = node.calls(Protocol::Http)?;
    let reached = async {
        loop {
            let request = json!({ "uid": business_id });
            let page = api.call("wstest", "get-client-ids-by-uid", request).await?;
            let known = page.map_or(0, |page| page["items"].as_array().map_or(0, Vec::len));
            if known == sessions {
                return anyhow::Ok(());
            }
        }
    };
    within(&format!("{sessions} sessions of {business_id}"), reached).await
}
