//! Backends call plugins: the payload goes in and comes out as it is, and what goes wrong has
//! a reason.

use anyhow::Result;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jackfield_tests::{Api, Node, Protocol, answer, text};
use serde_json::{Value, json};

use super::BOTH;

/// Calls a method, and answers its payload, or the error's reason and message.
async fn call(
    api: &Api,
    plugin: &str,
    method: &str,
    payload: &[u8],
) -> Result<Result<Vec<u8>, (String, String)>> {
    let payload = BASE64_STANDARD.encode(payload);
    let request = json!({ "method": method, "payload": payload });
    Ok(match api.call(plugin, "call", request).await? {
        Ok(answer) => {
            let payload = answer["payload"].as_str().unwrap_or_default();
            Ok(BASE64_STANDARD.decode(payload)?)
        }
        Err(refusal) => Err((refusal.reason, refusal.message)),
    })
}

#[tokio::test]
async fn a_method_is_called_and_acts_for_whoever_it_is_about() -> Result<()> {
    let node = Node::start_alone("console").await?;
    for protocol in BOTH {
        let mut ada = node.console(&[("uid", "ada")]).await?;
        let api = node.calls(protocol)?;
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(call(&api, "console", "echo", &bytes).await?, Ok(bytes));
        assert_eq!(call(&api, "console", "echo", b"").await?, Ok(Vec::new()));
        let send = json!({ "do": "send-to-uid", "uid": "ada", "text": "from a backend" });
        let done = call(&api, "console", "do", send.to_string().as_bytes()).await?;
        let done: Value = serde_json::from_slice(&done.expect("sent"))?;
        assert_eq!(done["ok"]["clients"], 1, "{done}");
        assert_eq!(ada.next().await?, text("from a backend"));
        ada.leave().await?;
    }
    Ok(())
}

#[tokio::test]
async fn what_a_plugin_takes_and_an_outbox_holds_the_api_takes_as_well() -> Result<()> {
    let node = Node::builder()
        .alone()
        .plugin("console")
        .config("[limits]\noutbox_bytes = 8388608")
        .manifest("console", "[limits]\ncall_bytes = 8388608")
        .start()
        .await?;
    let mut ada = node.console(&[]).await?;
    let message = "m".repeat(5 << 20);
    let payload = vec![0xff; 7 << 20];
    for protocol in BOTH {
        let api = node.calls(protocol)?;
        let send = json!({ "message": { "text": message } });
        assert_eq!(api.ok("console", "send-to-all", send).await?["clients"], 1);
        assert!(ada.next().await? == text(&message));
        // The plugin has it, and its answer is small.
        let called = call(&api, "console", "nothing", &payload).await?;
        assert_eq!(called.expect_err("no such method").0, "UNKNOWN_METHOD");
    }
    let api = node.calls(Protocol::Http)?;
    let payload = "x".repeat(7 << 20);
    let response = api.http("POST", "/v1/plugins/console/call/echo", &[], &payload);
    let response = response.await?;
    assert!(response.status == 200 && *response.body == *payload);
    Ok(())
}

#[tokio::test]
async fn over_http_a_payload_is_the_body() -> Result<()> {
    let node = Node::start_alone("console").await?;
    let api = node.calls(Protocol::Http)?;
    let path = "/v1/plugins/console/call/echo";
    let response = api.http("POST", path, &[], "as it is {").await?;
    assert_eq!((response.status, &*response.body), (200, "as it is {"));
    assert_eq!(response.headers["content-type"], "application/octet-stream");
    let response = api
        .http("POST", "/v1/plugins/console/call/nothing", &[], "")
        .await?;
    let refusal = answer(&response)?.expect_err("no such method");
    assert_eq!(
        (&*refusal.status, &*refusal.reason),
        ("404", "UNKNOWN_METHOD")
    );
    let response = api.http("GET", path, &[], "").await?;
    assert_eq!(response.status, 405);
    let large = "x".repeat((4 << 20) + 1);
    let response = api.http("POST", path, &[], &large).await?;
    assert_eq!(response.status, 413);
    Ok(())
}

#[tokio::test]
async fn what_goes_wrong_has_a_reason() -> Result<()> {
    let node = Node::builder()
        .alone()
        .plugin("console")
        .plugin("echo")
        .manifest(
            "console",
            "[limits]\nevent_timeout = '200ms'\ncall_bytes = 100000\n",
        )
        .start()
        .await?;
    for protocol in BOTH {
        let api = node.calls(protocol)?;
        for (code, reason) in [
            ("unknown-method", "UNKNOWN_METHOD"),
            ("invalid-argument", "INVALID_ARGUMENT"),
            ("not-found", "NOT_FOUND"),
            ("denied", "DENIED"),
            ("limit-exceeded", "LIMIT_EXCEEDED"),
            ("overloaded", "OVERLOADED"),
            ("unavailable", "UNREACHABLE"),
            ("failed", "FAILED"),
        ] {
            let (told, message) = call(&api, "console", "fail", code.as_bytes())
                .await?
                .expect_err(code);
            assert_eq!(told, reason);
            assert!(message.contains("asked to fail"), "{message}");
        }
        let large = vec![b'x'; 100_001];
        for (plugin, method, payload, reason) in [
            ("console", "made-up", &b""[..], "UNKNOWN_METHOD"),
            ("echo", "echo", b"", "UNKNOWN_METHOD"),
            ("nothing", "echo", b"", "NOT_FOUND"),
            ("console", "echo", &large, "TOO_LARGE"),
            ("console", "bytes", b"100001", "TOO_LARGE"),
            ("console", "do", br#"{"do":"spin"}"#, "FAILED"),
            ("console", "do", br#"{"do":"panic"}"#, "FAILED"),
        ] {
            let refused = call(&api, plugin, method, payload).await?;
            let (told, message) = refused.expect_err(method);
            assert_eq!(told, reason, "{plugin} {method}: {message}");
        }
        // What trapped took its instance with it, and nothing else.
        assert_eq!(
            call(&api, "console", "echo", b"again").await?,
            Ok(b"again".to_vec())
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_call_knows_whose_token_it_is() -> Result<()> {
    let (node, _file) = super::tokens::guarded(super::tokens::TOKENS).await?;
    for protocol in BOTH {
        let api = node.calls(protocol)?.with_token("send-token");
        assert_eq!(
            call(&api, "console", "caller", b"").await?,
            Ok(b"api send".to_vec())
        );
    }
    let response = node
        .calls(Protocol::Http)?
        .with_token("read-token")
        .http("POST", "/v1/plugins/console/call/echo", &[], "")
        .await?;
    assert_eq!(response.status, 403);
    Ok(())
}
