//! `require_uid`: silky's business id.

use anyhow::Result;
use jackfield_tests::{Client, End, upgrade_request};
use serde_json::{Value, json};

use super::{enter, refused, replace_manifest, uid, wstest};

const SILKY: &str = r#"require_uid = { header = "businessId", query = "businessId" }"#;

#[tokio::test]
async fn silkys_example_to_the_letter() -> Result<()> {
    let node = wstest(SILKY).start().await?;
    let mut ada = enter(&node, "/api/wstest?businessid=100", &[]).await?;
    assert_eq!(uid(&mut ada).await?, "100");
    let told = refused(&node, "/api/wstest", &[]).await?;
    assert_eq!(told.status, 400);
    assert_eq!(
        told.body,
        "businessId, in the query or as a header, is missing, empty, or not UTF-8\n"
    );
    Ok(())
}

#[tokio::test]
async fn in_any_case_in_query_or_header_and_the_query_wins() -> Result<()> {
    let node = wstest(SILKY).start().await?;
    for (path, headers, expected) in [
        ("/wstest?BUSINESSID=1", &[][..], "1"),
        ("/wstest?bussinessId=2", &[], "2"),
        ("/wstest", &[("BusinessId", "3")], "3"),
        ("/wstest", &[("bussinessid", "4")], "4"),
        ("/wstest?businessId=5", &[("businessId", "6")], "5"),
        ("/wstest?businessId=", &[("businessId", "7")], "7"),
        ("/wstest?a=b&businessId=%C3%BC+8&c", &[], "ü 8"),
    ] {
        let mut client = enter(&node, path, headers).await?;
        assert_eq!(uid(&mut client).await?, expected, "{path} {headers:?}");
    }
    Ok(())
}

#[tokio::test]
async fn missing_or_empty_is_400_and_nobody_has_come() -> Result<()> {
    let node = wstest(SILKY).start().await?;
    let mut watcher = enter(&node, "/wstest?businessId=1&group=watch-close", &[]).await?;
    let long = format!("/wstest?businessId={}", "x".repeat(257));
    for (path, headers) in [
        ("/wstest?businessId=", &[][..]),
        ("/wstest?businessId=%20", &[]),
        ("/wstest?businessId", &[]),
        ("/wstest?uid=100", &[]),
        ("/wstest?%", &[]),
        ("/wstest?&&=&%zz=%", &[]),
        // Not UTF-8: Zhang San and Li Si, as GBK has them, are two people.
        ("/wstest?businessId=%D5%C5%C8%FD", &[]),
        ("/wstest?name=%C0%EE%CB%C4&businessId=1", &[]),
        ("/wstest", &[("businessId", "")]),
        ("/wstest", &[("uid", "100")]),
        (&long, &[]),
    ] {
        assert_eq!(
            refused(&node, path, headers).await?.status,
            400,
            "{path} {headers:?}"
        );
    }
    // In a header as well.
    let request = upgrade_request("/wstest", &[("businessId", "@@")]);
    let mut raw = node.raw().await?;
    for part in request
        .split("@@")
        .map(str::as_bytes)
        .zip([&[0xd5, 0xc5][..], &[]])
    {
        raw.write(part.0).await?;
        raw.write(part.1).await?;
    }
    assert_eq!(raw.response().await?.status, 400);
    assert_eq!(watcher.heard().await?, []);
    assert_eq!(node.counters().await?.get("handshakes_refused")?, 10);
    Ok(())
}

#[tokio::test]
async fn names_are_what_the_manifest_says() -> Result<()> {
    let node = wstest(r#"require_uid = { query = "user" }"#)
        .start()
        .await?;
    let mut ada = enter(&node, "/wstest?User=ada", &[]).await?;
    assert_eq!(uid(&mut ada).await?, "ada");
    let told = refused(&node, "/wstest?businessId=1", &[("user", "ada")]).await?;
    assert_eq!(
        (told.status, &*told.body),
        (
            400,
            "the query parameter user is missing, empty, or not UTF-8\n"
        )
    );

    let other = r#"require_uid = { query = "user", header = "x-user" }"#;
    replace_manifest(&node, other, 2).await?;
    enter(&node, "/wstest", &[("X-User", "ada")]).await?;
    Ok(())
}

#[tokio::test]
async fn on_connect_is_told_the_uid_and_its_own_word_counts() -> Result<()> {
    let node = wstest(SILKY).start().await?;
    let path = "/wstest?businessId=100&handshake=1";
    let mut client = Client::connect(node.address(), path, &[]).await?;
    let connected: Value = serde_json::from_str(&client.next_text().await?)?;
    assert_eq!(connected["handshake"]["uid"], "100");

    let mut answered = enter(&node, "/wstest?businessId=100&uid=ada", &[]).await?;
    assert_eq!(uid(&mut answered).await?, "ada");
    let bind = "do=%7B%22do%22:%22bind-uid%22,%22uid%22:%22bob%22%7D";
    let mut bound = enter(&node, &format!("/wstest?businessId=100&{bind}"), &[]).await?;
    assert_eq!(uid(&mut bound).await?, "bob");
    Ok(())
}

#[tokio::test]
async fn the_uid_policy_holds_and_a_refused_client_kicks_nobody() -> Result<()> {
    let node = wstest(&format!("{SILKY}\n[policies]\nuid = 'kick-old'"))
        .start()
        .await?;
    let mut first = enter(&node, "/wstest?businessId=100", &[]).await?;
    assert_eq!(
        refused(&node, "/wstest?businessId=100&refuse=403", &[])
            .await?
            .status,
        403
    );
    assert_eq!(uid(&mut first).await?, "100");
    let mut second = enter(&node, "/wstest?businessId=100", &[]).await?;
    assert_eq!(first.end().await?, End::closed(4001, "uid taken over"));

    replace_manifest(
        &node,
        &format!("{SILKY}\n[policies]\nuid = 'reject-new'"),
        2,
    )
    .await?;
    assert_eq!(
        refused(&node, "/wstest?businessId=100", &[]).await?.status,
        409
    );
    assert_eq!(uid(&mut second).await?, "100");
    Ok(())
}

#[tokio::test]
async fn a_new_manifest_is_the_next_handshakes_rule_and_closes_nobody() -> Result<()> {
    let node = wstest("").start().await?;
    let mut ada = enter(&node, "/wstest", &[]).await?;
    replace_manifest(&node, SILKY, 2).await?;
    assert_eq!(refused(&node, "/wstest", &[]).await?.status, 400);

    node.folder().put_manifest("wstest", "require_uid = {}")?;
    let line = node.wait_for_log(|line| line.says("is not loaded")).await?;
    assert!(
        line.says("require_uid: it names neither"),
        "{}",
        line.message()
    );
    assert_eq!(refused(&node, "/wstest", &[]).await?.status, 400);
    enter(&node, "/wstest?businessId=1", &[]).await?;
    assert_eq!(
        ada.ok(json!({ "do": "generation" })).await?["generation"],
        2
    );
    Ok(())
}
