//! HTTP's own: paths, methods, formats, the description and the page that shows it.

use anyhow::Result;
use jackfield_tests::{Api, Node, answer};
use serde_json::{Value, json};

use super::BOTH;

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

async fn api() -> Result<(Node, Api)> {
    let node = Node::start_alone("console").await?;
    let api = node.calls(BOTH[0])?;
    Ok((node, api))
}

#[tokio::test]
async fn what_only_reads_may_be_got_with_its_fields_in_the_query() -> Result<()> {
    let (node, api) = api().await?;
    let _ada = node.console(&[("uid", "ada l."), ("group", "g")]).await?;
    let path = "/v1/plugins/console";
    for (query, expected) in [
        ("is-uid-online?uid=ada%20l.", json!({ "online": true })),
        ("is-uid-online?uid=bob", json!({ "online": false })),
        (
            "get-all-groups?limit=5",
            json!({ "items": ["g"], "missing": [] }),
        ),
        ("get-all-client-count", json!({ "value": 1, "missing": [] })),
    ] {
        let response = api.http("GET", &format!("{path}/{query}"), &[], "").await?;
        assert_eq!(answer(&response)?, Ok(expected), "{query}");
    }
    for (query, status) in [
        ("is-uid-online?uid=", 400),
        ("is-uid-online?name=ada", 400),
        ("is-uid-online?uid=%D5%C5", 400),
        ("is-uid-online?uid=ada%20l.&uid=bob", 400),
        ("get-all-groups?limit=many", 400),
        ("ungroup?group=g", 405),
        ("is-uid-on?uid=ada", 404),
    ] {
        let response = api.http("GET", &format!("{path}/{query}"), &[], "").await?;
        assert_eq!(response.status, status, "{query}");
        assert!(answer(&response)?.is_err());
    }
    Ok(())
}

#[tokio::test]
async fn a_request_that_is_none_gets_a_problem_document() -> Result<()> {
    let (_node, api) = api().await?;
    let function = "/v1/plugins/console/send-to-all";
    let large = format!("{{\"x\":\"{}\"}}", "x".repeat(4 << 20));
    for (method, path, body, status, named) in [
        ("POST", function, "", 400, "no JSON"),
        ("POST", function, "{", 400, "no JSON"),
        ("POST", function, "[]", 400, "no JSON object"),
        ("POST", function, "null", 400, "no JSON object"),
        ("POST", function, r#"{"mesage":{}}"#, 400, "mesage"),
        (
            "POST",
            function,
            r#"{"message":{"text":7}}"#,
            400,
            "send_to_all.message.text",
        ),
        (
            "POST",
            function,
            r#"{"message":{"text":"a","binary":"AA=="}}"#,
            400,
            "the request",
        ),
        (
            "POST",
            function,
            r#"{"message":{"binary":"!"}}"#,
            400,
            "the request",
        ),
        (
            "POST",
            function,
            r#"{"plugin":"chat","message":{"text":"m"}}"#,
            400,
            "another plugin",
        ),
        ("POST", function, &large, 413, "4194304"),
        (
            "POST",
            "/v1/batch",
            r#"{"operations":[{},{"send_to_uid":{"plugin":"console","uids":"ada"}}]}"#,
            400,
            "operations[1].send_to_uid.uids",
        ),
        ("POST", "/v1/plugins/console/call/%FF", "", 400, "UTF-8"),
        ("GET", "/v1/plugins/%FF/is-uid-online", "", 400, "UTF-8"),
        ("GET", "/v1/events?plugin=%FF", "", 400, "UTF-8"),
        ("PUT", "/live", "", 405, "method"),
        ("PUT", function, "{}", 405, "POST it"),
        ("GET", function, "", 405, "POST it"),
        ("POST", "/v1/plugins/console/operate", "{}", 404, "operate"),
        (
            "POST",
            "/v1/plugins/nothing/send-to-all",
            r#"{"message":{"text":"m"}}"#,
            404,
            "nothing",
        ),
        ("GET", "/v1/events?plugins=console", "", 400, "plugins"),
        ("GET", "/v2", "", 404, "nothing at this path"),
        ("DELETE", "/v1/batch", "", 405, "method"),
    ] {
        let response = api.http(method, path, &JSON, body).await?;
        assert_eq!(response.status, status, "{method} {path} {response:?}");
        let refusal = answer(&response)?.expect_err("a problem");
        assert!(
            refusal.message.contains(named),
            "{method} {path} {refusal:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_head_reads_and_changes_nothing() -> Result<()> {
    let (node, api) = api().await?;
    let mut ada = node.console(&[("uid", "ada")]).await?;
    let ask = async |method: &str, function: &str| {
        let body = r#"{"uids":["ada"],"message":{"text":"m"}}"#;
        let request = format!(
            "{method} /v1/plugins/console/{function} HTTP/1.1\r\nhost: localhost\r\n\
             content-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        api.exchange(&request).await
    };
    let read = ask("HEAD", "is-uid-online?uid=ada").await?;
    assert!(read.starts_with("HTTP/1.1 200 "), "{read}");
    assert!(read.ends_with("\r\n\r\n"), "{read}");
    for method in ["HEAD", "GET", "PUT", "OPTIONS"] {
        let refused = ask(method, "send-to-uid").await?;
        assert!(refused.starts_with("HTTP/1.1 405 "), "{refused}");
        assert!(refused.contains("allow: POST\r\n"), "{refused}");
    }
    let refused = ask("DELETE", "is-uid-online").await?;
    assert!(refused.contains("allow: GET,HEAD,POST\r\n"), "{refused}");
    assert!(ada.heard().await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() -> Result<()> {
    let node = Node::builder().alone().plugin("console");
    let soon = "[limits]\nhandshake_timeout = '200ms'";
    let node = node.config(soon).start().await?;
    let begun = "POST /v1/batch HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\
                 content-type: application/json\r\n\r\n{\"operations\":[";
    let answer = node.calls(BOTH[0])?.exchange(begun).await?;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("handshake_timeout"), "{answer}");
    Ok(())
}

/// Nor does a node that ends wait for it, or for whoever does not read.
#[tokio::test]
async fn a_request_that_does_not_end_keeps_no_node_from_ending() -> Result<()> {
    let node = Node::builder().alone().plugin("console");
    let patient = "[limits]\nhandshake_timeout = '1h'";
    let node = node.config(patient).start().await?;
    let begun = "POST /v1/batch HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\
                 content-type: application/json\r\nexpect: 100-continue\r\n\r\n";
    let mut waiting = node.calls(BOTH[0])?.begin(begun).await?;
    // The node reads the body now.
    assert_eq!(
        waiting.line().await?.as_deref(),
        Some("HTTP/1.1 100 Continue")
    );
    assert!(node.stop().await?.status.success());
    Ok(())
}

#[tokio::test]
async fn the_description_names_everything_there_is() -> Result<()> {
    let (_node, api) = api().await?;
    let response = api.http("GET", "/openapi.json", &[], "").await?;
    let described: Value = serde_json::from_str(&response.body)?;
    assert_eq!(described["openapi"], "3.1.0");
    let paths = described["paths"].as_object().expect("paths");
    assert_eq!(paths.len(), 36 + 11);
    let mut refs = Vec::new();
    gather(&described, &mut refs);
    assert!(refs.len() > 100);
    for reference in refs {
        let pointer = reference.trim_start_matches('#');
        assert!(
            described.pointer(pointer).is_some_and(Value::is_object),
            "{reference}"
        );
    }
    for (path, methods) in paths {
        let method = ["post", "get", "put"].map(|name| methods.get(name));
        let method = method.into_iter().flatten().next().expect("a method");
        let said = method["description"].as_str().unwrap_or_default();
        assert!(!said.is_empty(), "{path} is not described");
        let summary = method["summary"].as_str().unwrap_or_default();
        assert!(
            !summary.is_empty() && !summary.starts_with("Scope"),
            "{path}: {summary:?}"
        );
    }
    let uids = "/components/schemas/SendToUidBody/properties/uids/description";
    assert_eq!(described.pointer(uids), Some(&json!("1 to 1,000 uids.")));
    Ok(())
}

/// Whoever tries a function with what the description shows is told of its clients, or that it knows
/// none of them: never that the request is wrong.
#[tokio::test]
async fn the_examples_are_good_requests() -> Result<()> {
    let (_node, api) = api().await?;
    let response = api.http("GET", "/openapi.json", &[], "").await?;
    let described: Value = serde_json::from_str(&response.body)?;
    let mut tried = 0;
    for (path, methods) in described["paths"].as_object().expect("paths") {
        let json = &methods["post"]["requestBody"]["content"]["application/json"];
        let Some(example) = json.get("example") else {
            continue;
        };
        let path = path
            .replace("{plugin}", "console")
            .replace("{method}", "echo");
        let response = api.http("POST", &path, &JSON, &example.to_string()).await?;
        assert!(
            [200, 404].contains(&response.status),
            "{path} {example}: {response:?}"
        );
        tried += 1;
    }
    assert_eq!(tried, 36 + 2);
    Ok(())
}

fn gather(value: &Value, refs: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == "$ref" => refs.push(text.clone()),
                    value => gather(value, refs),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| gather(item, refs)),
        _ => {}
    }
}
