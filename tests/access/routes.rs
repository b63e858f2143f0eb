//! Which plugin a path leads to.

use anyhow::Result;
use jackfield_tests::{Client, Node};
use serde_json::{Value, json};

use super::{enter, refused, replace_manifest, wstest};

#[tokio::test]
async fn a_plugin_is_at_its_name_and_below_api() -> Result<()> {
    // With no other plugin beside it, which several nodes would have.
    let node = wstest("").alone().start().await?;
    for path in [
        "/wstest",
        "/wstest/",
        "/api/wstest",
        "/api/wstest/",
        "/",
        "/wstest?a=/b",
    ] {
        assert_eq!(plugin_at(&node, path).await?, "wstest", "{path}");
    }
    let nobodys = [
        "/nobody",
        "/api",
        "/api/",
        "/api/nobody",
        "/wstest/a",
        "/api/wstest/a",
        "/API/wstest",
        "//wstest",
        "/wstest//",
    ];
    for path in nobodys {
        assert_eq!(refused(&node, path, &[]).await?.status, 404, "{path}");
    }
    Ok(())
}

/// The plugin gets the parameters of its client's path, and nobody else can say them.
#[tokio::test]
async fn a_route_has_parameters() -> Result<()> {
    let routes = r#"routes = ["/rooms/{room}/{seat}", "/rooms/*"]"#;
    let node = wstest(routes).start().await?;
    let seen = async |path: &str| -> Result<Value> {
        let made_up = [("jackfield-path-room", "other"), ("jackfield-x", "y")];
        let mut client = Client::connect(node.address(), path, &made_up).await?;
        let connected: Value = serde_json::from_str(&client.next_text().await?)?;
        let headers = connected["handshake"]["headers"].as_array().cloned();
        let headers = headers.unwrap_or_default().into_iter();
        let of_node = |header: &Value| {
            let name = header[0].as_str();
            name.is_some_and(|name| name.starts_with("jackfield-"))
        };
        Ok(headers.filter(of_node).collect())
    };
    let of_seat = json!([
        ["jackfield-path-room", "café au lait"],
        ["jackfield-path-seat", "7"]
    ]);
    let path = "/rooms/caf%C3%A9%20au%20lait/7?handshake=1";
    assert_eq!(seen(path).await?, of_seat);
    for path in ["/rooms/tea?handshake=1", "/wstest?handshake=1"] {
        assert_eq!(seen(path).await?, json!([]), "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn a_manifest_adds_routes_and_the_longest_counts() -> Result<()> {
    let node = wstest(r#"routes = ["/ws", "/rooms/*", "/api/rooms/tea"]"#)
        .plugin_from("tea", "console")
        .manifest("tea", r#"routes = ["/rooms/tea/*", "/api/rooms/*"]"#)
        .start()
        .await?;
    for (path, plugin) in [
        ("/ws", "wstest"),
        ("/ws/", "wstest"),
        ("/ws?a=b", "wstest"),
        ("/rooms/", "wstest"),
        ("/rooms/coffee", "wstest"),
        ("/rooms/tea", "wstest"),
        ("/rooms/tea/green", "tea"),
        ("/api/rooms/tea", "wstest"),
        ("/api/rooms/coffee/1", "tea"),
        ("/tea", "tea"),
        ("/api/wstest", "wstest"),
    ] {
        assert_eq!(plugin_at(&node, path).await?, plugin, "{path}");
    }
    for path in ["/rooms", "/ws/a", "/wsa", "/"] {
        assert_eq!(refused(&node, path, &[]).await?.status, 404, "{path}");
    }

    let mut stays = enter(&node, "/ws", &[]).await?;
    replace_manifest(&node, r#"routes = ["/socket", "/"]"#, 2).await?;
    assert_eq!(plugin_at(&node, "/socket").await?, "wstest");
    assert_eq!(plugin_at(&node, "/").await?, "wstest");
    assert_eq!(refused(&node, "/ws", &[]).await?.status, 404);
    stays.ok(json!({ "do": "is-online" })).await?;
    Ok(())
}

#[tokio::test]
async fn who_had_a_path_first_keeps_it() -> Result<()> {
    let node = wstest(r#"routes = ["/ws", "/tea"]"#)
        .plugin_from("coffee", "console")
        .start()
        .await?;
    let told = |words: &'static str| node.wait_for_log(move |line| line.says(words));

    node.folder()
        .put_manifest("coffee", r#"routes = ["/cup", "/ws"]"#)?;
    told("coffee.wasm is not loaded: the path /ws is the plugin wstest's").await?;
    assert_eq!(plugin_at(&node, "/ws").await?, "wstest");
    assert_eq!(plugin_at(&node, "/coffee").await?, "coffee");
    assert_eq!(refused(&node, "/cup", &[]).await?.status, 404);

    // A name is a path as well.
    node.folder().put("tea", "console")?;
    told("tea.wasm is not loaded: the path /tea is the plugin wstest's").await?;
    assert_eq!(plugin_at(&node, "/tea").await?, "wstest");

    // Free again, they go to those that asked for them.
    replace_manifest(&node, "# none", 2).await?;
    node.generation_loaded("tea", 1).await?;
    node.generation_loaded("coffee", 2).await?;
    assert_eq!(plugin_at(&node, "/tea").await?, "tea");
    assert_eq!(plugin_at(&node, "/ws").await?, "coffee");
    Ok(())
}

async fn plugin_at(node: &Node, path: &str) -> Result<String> {
    let identity = enter(node, path, &[])
        .await?
        .ok(json!({ "do": "identify" }))
        .await?;
    Ok(identity["plugin"].as_str().unwrap_or_default().to_owned())
}
