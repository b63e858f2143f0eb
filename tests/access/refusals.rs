//! `refuse`: whether a page can read why it may not come in.

use anyhow::Result;
use jackfield_tests::{Client, Console, End, Frame, Node, OpCode, query, upgrade_request, within};
use serde_json::json;

use super::sign::{Signer, in_seconds};
use super::{enter, refused, replace_manifest, wstest};

/// How a client ends that is let in and closed, and the subprotocol that it was answered.
async fn closed(
    node: &Node,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<(End, Option<String>)> {
    let mut client = Client::connect(node.address(), path, headers).await?;
    let (messages, end) = client.until_end().await?;
    assert_eq!(messages, [], "nothing is said before the close frame");
    Ok((end, client.subprotocol().map(str::to_owned)))
}

#[tokio::test]
async fn what_the_manifest_asks_for_is_said_by_a_code() -> Result<()> {
    let signer = Signer::es256()?;
    let (name, key) = signer.file()?;
    let rest = format!(
        "origins = ['https://example.com']\nsubprotocols = ['v1.chat']\n\
         require_subprotocol = true\n[jwt]\n{name} = 'wstest.key'\nleeway = '0s'"
    );
    let close = format!("refuse = 'close'\n{rest}");
    let node = wstest(&close).file("wstest.key", &key).start().await?;
    let token = |exp| signer.token(&json!({ "sub": "ada", "exp": exp }));
    let (good, over) = (token(in_seconds(60))?, token(in_seconds(-60))?);
    let at = |token: &str| format!("/wstest?token={token}");
    let v1 = &[("sec-websocket-protocol", "v1.chat")][..];
    for (path, headers, code, reason) in [
        ("/wstest", v1, 4401, "a token is required"),
        ("/wstest?token=a.b.c", v1, 4401, "the token is not valid"),
        (&at(&over), v1, 4401, "the token has expired"),
        (
            &at(&good),
            &[],
            4400,
            "offer one of these subprotocols: v1.chat",
        ),
        (
            "/wstest?%ff",
            v1,
            4400,
            "the query is not UTF-8 (RFC 3986: percent-encode it as UTF-8)",
        ),
    ] {
        let (end, _) = closed(&node, path, headers).await?;
        assert_eq!(end, End::closed(code, reason), "{path}");
    }
    // Browsers break off where they have offered some and are answered none.
    let bearer = format!("bearer.{over}");
    let beside = format!("{bearer}, v0.chat, v1.chat");
    for (offer, spoken) in [
        ("v0.chat", "v0.chat"),
        (&bearer, &bearer),
        (&beside, "v0.chat"),
    ] {
        let offer = [("sec-websocket-protocol", offer)];
        let (end, subprotocol) = closed(&node, "/wstest", &offer).await?;
        assert!(matches!(end.code(), 4400 | 4401), "{end:?}");
        assert_eq!(subprotocol.as_deref(), Some(spoken));
    }
    // Other sites' pages read nothing.
    let foreign = [("origin", "https://evil.example"), v1[0]];
    let told = refused(&node, &at(&good), &foreign).await?;
    assert_eq!(
        (told.status, &*told.body),
        (403, "pages of this origin may not connect\n")
    );
    Client::connect(node.address(), &at(&good), v1).await?;

    replace_manifest(&node, &rest, 2).await?;
    let told = refused(&node, "/wstest", v1).await?;
    assert_eq!((told.status, &*told.body), (401, "a token is required\n"));
    Ok(())
}

#[tokio::test]
async fn what_the_plugin_says_is_said_by_a_code() -> Result<()> {
    let manifest = "refuse = 'close'\n[policies]\nuid = 'reject-new'\n\
                    [limits]\ninstances = 1\ncall_wait = '50ms'";
    let node = wstest(manifest).alone().start().await?;
    let mut ada = enter(&node, "/wstest?uid=ada", &[]).await?;
    let crab = "🦀".repeat(40);
    let panic = r#"{"do":"panic"}"#;
    for (asked, code, reason) in [
        (
            &[("refuse", "418"), ("reason", "tea only\n")][..],
            4418,
            "tea only",
        ),
        (&[("refuse", "400"), ("reason", "")], 4400, ""),
        (
            &[("refuse", "599"), ("reason", &crab)],
            4599,
            &*"🦀".repeat(30),
        ),
        (&[("refuse", "200"), ("reason", "no")], 4403, "no"),
        (&[("do", panic)], 4500, "the server failed"),
        (&[("subprotocol", "v9")], 4500, "the server failed"),
    ] {
        let (end, _) = closed(&node, &format!("/wstest{}", query(asked)), &[]).await?;
        assert_eq!(end, End::closed(code, reason), "{asked:?}");
    }
    let (end, _) = closed(&node, "/wstest?uid=ada", &[]).await?;
    assert_eq!(end.code(), 4409, "{end:?}");

    // The only instance is taken.
    node.put_to_sleep(&mut ada, 3000).await?;
    let (end, _) = closed(&node, "/wstest", &[]).await?;
    assert_eq!(end, End::closed(4503, "too busy"));
    let counters = node.counters().await?;
    // A trap and a full pool have counters of their own.
    assert_eq!(counters.get("handshakes_refused")?, 6);
    assert_eq!(counters.get("clients_accepted")?, 1);
    assert_eq!(counters.get("clients_left")?, 0);
    Ok(())
}

#[tokio::test]
async fn what_the_node_bounds_is_said_by_a_code() -> Result<()> {
    let node = wstest("refuse = 'close'")
        .config("[limits]\nclients_per_address = 1")
        .alone()
        .start()
        .await?;
    let mut ada = enter(&node, "/wstest", &[]).await?;
    let (end, _) = closed(&node, "/wstest", &[]).await?;
    assert_eq!(end, End::closed(4429, "too many clients of this address"));
    // What is no handshake, or for nobody, is answered in HTTP.
    assert_eq!(refused(&node, "/nobody", &[]).await?.status, 404);
    let twice = [("sec-websocket-version", "8")];
    assert_eq!(refused(&node, "/wstest", &twice).await?.status, 426);
    ada.ok(json!({ "do": "is-online" })).await?;
    Ok(())
}

#[tokio::test]
async fn a_client_that_is_closed_at_once_was_never_there() -> Result<()> {
    let node = wstest("refuse = 'close'").start().await?;
    let mut watcher = enter(&node, "/wstest?group=watch-close", &[]).await?;
    // It had a uid, a group and a message by then.
    let join = r#"{"do":"join-group","group":"g"}"#;
    let asked = query(&[
        ("say", "hello"),
        ("do", join),
        ("uid", "eve"),
        ("refuse", "403"),
    ]);
    let (end, _) = closed(&node, &format!("/wstest{asked}"), &[]).await?;
    assert_eq!(end, End::closed(4403, ""));
    for (request, nobody) in [
        (
            json!({ "do": "get-client-count-by-group", "group": "g" }),
            json!(0),
        ),
        (json!({ "do": "get-all-client-count" }), json!(1)),
    ] {
        assert_eq!(watcher.ok(request).await?["value"], nobody);
    }
    assert_eq!(watcher.heard().await?, [], "no on-close");
    Ok(())
}

#[tokio::test]
async fn the_answer_and_the_close_frame_are_all_there_is() -> Result<()> {
    let node = wstest("refuse = 'close'").start().await?;
    let mut raw = node.raw().await?;
    let asked = upgrade_request("/wstest?refuse=403&reason=no", &[]);
    // It talks before it has been answered, and goes on after that.
    let message = Frame::new(OpCode::Text, "hello").to_bytes();
    raw.write(&[asked.as_bytes(), &message].concat()).await?;
    let response = raw.response().await?;
    assert_eq!(response.status, 101);
    assert_eq!(
        response.headers["sec-websocket-accept"],
        "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    );
    assert!(!response.headers.contains_key("sec-websocket-protocol"));
    let _ = raw.write(&message).await;
    assert_eq!(
        raw.rest().await?,
        [&[0x88, 4][..], &4403_u16.to_be_bytes(), b"no"].concat()
    );
    Ok(())
}

#[tokio::test]
async fn a_refused_client_that_stays_keeps_a_handshakes_place_for_so_long() -> Result<()> {
    let node = wstest("refuse = 'close'")
        .config("[limits]\nhandshakes = 1\nclose_timeout = '2s'")
        .start()
        .await?;
    let mut stays = node.raw().await?;
    stays
        .write(upgrade_request("/wstest?refuse=403", &[]).as_bytes())
        .await?;
    assert_eq!(stays.response().await?.status, 101);
    // By HTTP, since a close frame would keep a place, too.
    let refused = node.refusal("/wstest").await?;
    assert_eq!(refused.status, 503);
    assert_eq!(refused.body, "too many handshakes are under way\n");
    let limited = node.counters().await?.get("handshakes_limited")?;
    assert_eq!(limited, 1);
    let next = async {
        loop {
            match Client::connect(node.address(), "/wstest", &[]).await {
                Ok(client) => return Console::greet(client).await,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    within("a place", next).await.map(drop)
}
