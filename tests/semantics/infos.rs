//! get-info, set-info, update-info.

use anyhow::Result;
use jackfield_tests::Node;
use serde_json::json;

use crate::tells_ids_apart;

#[tokio::test]
async fn a_client_without_info_is_not_an_unknown_client() -> Result<()> {
    let node = Node::start("console").await?;
    let [mut ada, bob] = node.consoles().await?;
    assert_eq!(
        ada.ok(json!({ "do": "get-info", "client": bob.id() }))
            .await?,
        json!({})
    );
    tells_ids_apart(&node, json!({ "do": "get-info" })).await?;
    tells_ids_apart(&node, json!({ "do": "set-info", "info": { "k": "v" } })).await?;
    tells_ids_apart(&node, json!({ "do": "update-info", "info": { "k": "v" } })).await
}

#[tokio::test]
async fn set_info_replaces_the_whole() -> Result<()> {
    let node = Node::start("console").await?;
    let mut ada = node.console(&[("info.a", "1")]).await?;
    let mut bob = node.console(&[]).await?;
    for info in [json!({ "b": "2", "": "" }), json!({ "c": "3" }), json!({})] {
        let set = json!({ "do": "set-info", "client": ada.id(), "info": info });
        assert!(bob.ok(set).await?.is_null());
        assert_eq!(ada.ok(json!({ "do": "get-info" })).await?, info);
    }
    Ok(())
}

#[tokio::test]
async fn update_info_merges_and_deletes_what_is_none() -> Result<()> {
    let node = Node::start("console").await?;
    let mut ada = node
        .console(&[("info.keep", "1"), ("info.drop", "2"), ("info.set", "3")])
        .await?;
    let mut bob = node.console(&[]).await?;

    let changes = json!({ "drop": null, "set": "4", "new": "5", "never was": null });
    let update = json!({ "do": "update-info", "client": ada.id(), "info": changes });
    let whole = json!({ "keep": "1", "set": "4", "new": "5" });
    assert_eq!(bob.ok(update).await?, whole);
    assert_eq!(ada.ok(json!({ "do": "get-info" })).await?, whole);
    assert_eq!(
        ada.ok(json!({ "do": "update-info", "info": {} })).await?,
        whole
    );
    Ok(())
}

#[tokio::test]
async fn info_lives_as_long_as_its_client() -> Result<()> {
    let node = Node::start("console").await?;
    let mut watcher = node.watcher().await?;
    let mut ada = node
        .console(&[("uid", "ada"), ("info.mood", "good")])
        .await?;
    ada.leave().await?;
    assert_eq!(
        watcher.departure(ada.id()).await?["info"],
        json!({ "mood": "good" })
    );

    let mut again = node.console(&[("uid", "ada")]).await?;
    assert_eq!(again.ok(json!({ "do": "get-info" })).await?, json!({}));
    Ok(())
}
