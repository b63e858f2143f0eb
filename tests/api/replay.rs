//! Idempotency keys: a send that is tried again is not sent again.

use anyhow::Result;
use jackfield_tests::{Node, answer, text};
use serde_json::json;

use super::BOTH;

#[tokio::test]
async fn a_key_sends_once() -> Result<()> {
    let node = Node::start_alone("console").await?;
    for protocol in BOTH {
        let mut ada = node.console(&[("uid", "ada"), ("group", "g")]).await?;
        let api = node.calls(protocol)?;
        let id = ada.id().to_owned();
        let sends = [
            ("send-to-all", json!({})),
            ("send-to-client", json!({ "client": id })),
            ("send-to-uid", json!({ "uids": ["ada"] })),
            ("send-to-group", json!({ "groups": ["g"] })),
        ];
        for (function, to) in sends {
            let mut request = to.clone();
            request["message"] = json!({ "text": function });
            request["idempotency_key"] = json!(format!("{protocol:?} {function}"));
            let first = api.ok("console", function, request.clone()).await?;
            let again = api.ok("console", function, request.clone()).await?;
            assert_eq!(first, again);
            request["message"] = json!({ "text": "another" });
            let refusal = api.refused("console", function, request).await?;
            assert_eq!(refusal.reason, "INVALID_ARGUMENT");
            assert!(refusal.message.contains("another request"), "{refusal:?}");
            assert_eq!(ada.next().await?, text(function));
        }
        // What failed under a key may be tried again.
        let mut request = json!({ "uids": ["eve"], "message": { "text": "m" } });
        request["idempotency_key"] = json!(format!("{protocol:?} eve"));
        let refusal = api
            .refused("console", "send-to-uid", request.clone())
            .await?;
        assert_eq!(refusal.reason, "NOT_FOUND");
        let bind = json!({ "client": id, "uid": "eve" });
        api.ok("console", "bind-uid", bind).await?;
        api.ok("console", "send-to-uid", request).await?;
        assert_eq!(ada.next().await?, text("m"));
        ada.leave().await?;
    }
    Ok(())
}

#[tokio::test]
async fn over_http_the_key_may_be_a_header() -> Result<()> {
    let node = Node::start_alone("console").await?;
    let mut ada = node.console(&[]).await?;
    let api = node.calls(BOTH[0])?;
    let headers = [
        ("content-type", "application/json"),
        ("idempotency-key", "k1"),
    ];
    let path = "/v1/plugins/console/send-to-all";
    for message in ["once", "once"] {
        let body = json!({ "message": { "text": message } }).to_string();
        let response = api.http("POST", path, &headers, &body).await?;
        assert_eq!(answer(&response)?.expect("sent")["clients"], 1);
    }
    let last = json!({ "message": { "text": "last" } });
    api.ok("console", "send-to-all", last).await?;
    assert_eq!(ada.next().await?, text("once"));
    assert_eq!(ada.next().await?, text("last"));
    Ok(())
}

/// Who sends a key believes that a second time does nothing: where that is not so, it is refused.
#[tokio::test]
async fn a_key_that_does_nothing_is_refused() -> Result<()> {
    let node = Node::start_alone("console").await?;
    let mut ada = node.console(&[("uid", "ada")]).await?;
    let api = node.calls(BOTH[0])?;
    let send = json!({ "uids": ["ada"], "message": { "text": "m" } });
    let keyed = |name: &str| {
        let mut keyed = send.clone();
        keyed[name] = json!("k2");
        keyed
    };
    let keyed = [keyed("idempotency_key"), keyed("idempotencyKey")];
    let batch = json!({ "operations": [] });
    let join = json!({ "client": ada.id(), "group": "g" });
    for (path, body, keys, named) in [
        ("/v1/batch", &batch, &["k"][..], "takes no idempotency-key"),
        (
            "/v1/plugins/console/call/echo",
            &batch,
            &["k"],
            "takes no idempotency-key",
        ),
        (
            "/v1/plugins/console/join-group",
            &join,
            &["k"],
            "takes no idempotency-key",
        ),
        ("/v1/plugins/console/send-to-uid", &send, &[""], "is empty"),
        (
            "/v1/plugins/console/send-to-uid",
            &send,
            &["a", "a"],
            "is there twice",
        ),
        (
            "/v1/plugins/console/send-to-uid",
            &keyed[0],
            &["k1"],
            "another idempotency key",
        ),
        (
            "/v1/plugins/console/send-to-uid",
            &keyed[1],
            &["k1"],
            "another idempotency key",
        ),
    ] {
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(keys.iter().map(|key| ("idempotency-key", *key)));
        let response = api.http("POST", path, &headers, &body.to_string()).await?;
        let refusal = answer(&response)?.expect_err(path);
        assert!(refusal.message.contains(named), "{path}: {refusal:?}");
    }
    assert!(ada.heard().await?.is_empty());
    Ok(())
}
