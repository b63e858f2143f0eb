//! Every function, asked of a node that has none of the clients it is about.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use jackfield_tests::{Api, Console, Node, binary, text, within};
use serde_json::{Value, json};

use super::{BOTH, consoles};

/// Ada and Bob, of two nodes, and the API of a third.
struct Stage {
    ada: Console,
    bob: Console,
    api: Api,
}

impl Stage {
    async fn ok(&self, function: &str, request: Value) -> Result<Value> {
        self.api.ok("console", function, request).await
    }

    /// Asks until the answer is this: what was done at another node, and not through this
    /// one, is known here a little later.
    async fn reaches(&self, function: &str, request: Value, expected: Value) -> Result<()> {
        let reached = async {
            while self.ok(function, request.clone()).await? != expected {}
            anyhow::Ok(())
        };
        within(&format!("{function} to answer {expected}"), reached).await
    }

    async fn reason(&self, function: &str, request: Value) -> Result<String> {
        Ok(self.api.refused("console", function, request).await?.reason)
    }
}

/// For each protocol, the same on a stage of its own.
async fn on_stage(run: impl AsyncFn(Stage) -> Result<()>) -> Result<()> {
    let cluster = consoles(3).await?;
    for protocol in BOTH {
        let ada = cluster[1]
            .console(&[("uid", "ada"), ("group", "lobby")])
            .await?;
        let bob = cluster[2].console(&[("group", "lobby")]).await?;
        let api = cluster[0].calls(protocol)?;
        let stage = Stage { ada, bob, api };
        let everybody = json!({ "value": 2, "missing": [] });
        stage
            .reaches("get-all-client-count", json!({}), everybody.clone())
            .await?;
        stage
            .reaches(
                "get-client-count-by-group",
                json!({ "group": "lobby" }),
                everybody,
            )
            .await?;
        stage
            .reaches(
                "is-uid-online",
                json!({ "uid": "ada" }),
                json!({ "online": true }),
            )
            .await?;
        run(stage)
            .await
            .with_context(|| format!("over {protocol:?}"))?;
        let gone = json!({ "value": 0, "missing": [] });
        let left = cluster[0].calls(protocol)?;
        wait_for(&left, "get-all-client-count", gone).await?;
    }
    Ok(())
}

async fn wait_for(api: &Api, function: &str, expected: Value) -> Result<()> {
    let reached = async {
        while api.ok("console", function, json!({})).await? != expected {}
        anyhow::Ok(())
    };
    within(&format!("{function} to answer {expected}"), reached).await
}

fn reach(clients: u64) -> Value {
    json!({ "clients": clients, "dropped": 0, "missing": [], "unknown_uids": [] })
}

fn done() -> Value {
    json!({})
}

fn items(page: &Value) -> Result<BTreeSet<String>> {
    ensure!(page["missing"] == json!([]), "{page}");
    let items = page["items"].as_array().context("no items")?;
    Ok(items
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect())
}

#[tokio::test]
async fn sends_reach_whom_they_are_for() -> Result<()> {
    on_stage(async |mut stage| {
        let (ada, bob) = (stage.ada.id().to_owned(), stage.bob.id().to_owned());
        let to_all = json!({ "message": { "text": "all" } });
        assert_eq!(stage.ok("send-to-all", to_all).await?, reach(2));
        let but_bob = json!({ "message": { "text": "not bob" }, "exclude": [bob] });
        stage.ok("send-to-all", but_bob).await?;
        let to_client = json!({ "client": ada, "message": { "text": "ada's" } });
        assert_eq!(stage.ok("send-to-client", to_client).await?, done());
        let to_uids = json!({ "uids": ["ada", "eve"], "message": { "binary": "AAH/" } });
        let mut reached = reach(1);
        reached["unknown_uids"] = json!(["eve"]);
        assert_eq!(stage.ok("send-to-uid", to_uids).await?, reached);
        let to_group = json!({ "groups": ["lobby", "void"], "message": { "text": "both" } });
        assert_eq!(stage.ok("send-to-group", to_group).await?, reach(2));
        let to_nobody = json!({ "groups": ["void"], "message": { "text": "m" } });
        assert_eq!(stage.ok("send-to-group", to_nobody).await?, reach(0));

        for expected in [
            text("all"),
            text("not bob"),
            text("ada's"),
            binary(&[0, 1, 255]),
            text("both"),
        ] {
            assert_eq!(stage.ada.next().await?, expected);
        }
        for expected in [text("all"), text("both")] {
            assert_eq!(stage.bob.next().await?, expected);
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn nobody_is_not_found_and_named() -> Result<()> {
    on_stage(async |stage| {
        for (function, request) in [
            (
                "send-to-uid",
                json!({ "uids": ["eve"], "message": { "text": "m" } }),
            ),
            ("close-uid", json!({ "uid": "eve" })),
            ("get-client-ids-by-uid", json!({ "uid": "eve" })),
        ] {
            let refusal = stage.api.refused("console", function, request).await?;
            assert_eq!(refusal.reason, "NOT_FOUND");
            assert!(refusal.message.contains("\"eve\""), "{refusal:?}");
            assert!(
                ["404", "NotFound"].contains(&&*refusal.status),
                "{refusal:?}"
            );
        }
        let refusal = stage
            .api
            .refused("nothing", "get-all-client-count", json!({}))
            .await?;
        assert_eq!(refusal.reason, "NOT_FOUND");
        assert!(refusal.message.contains("\"nothing\""), "{refusal:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn uids_and_groups_are_changed_and_told() -> Result<()> {
    on_stage(async |stage| {
        let bob = stage.bob.id();
        let bind = json!({ "client": bob, "uid": "bob" });
        assert_eq!(stage.ok("bind-uid", bind).await?, done());
        let online = stage.ok("is-uid-online", json!({ "uid": "bob" })).await?;
        assert_eq!(online, json!({ "online": true }), "it is known at once");
        let uid = stage
            .ok("get-uid-by-client-id", json!({ "client": bob }))
            .await?;
        assert_eq!(uid["uid"], "bob");
        let clients = stage
            .ok("get-client-ids-by-uid", json!({ "uid": "bob" }))
            .await?;
        assert_eq!(items(&clients)?, [bob.to_owned()].into());
        let uids = stage.ok("get-all-uids", json!({})).await?;
        assert_eq!(items(&uids)?, ["ada", "bob"].map(str::to_owned).into());
        let uids = stage
            .ok("get-uids-by-group", json!({ "group": "lobby" }))
            .await?;
        assert_eq!(items(&uids)?, ["ada", "bob"].map(str::to_owned).into());
        let count = stage
            .ok("get-uid-count-by-group", json!({ "group": "lobby" }))
            .await?;
        assert_eq!(count, json!({ "value": 2, "missing": [] }));

        let other = json!({ "client": bob, "uid": "another" });
        assert_eq!(
            stage.ok("unbind-uid", other).await?,
            json!({ "unbound": false })
        );
        let unbind = json!({ "client": bob });
        assert_eq!(
            stage.ok("unbind-uid", unbind).await?,
            json!({ "unbound": true })
        );
        let uid = stage
            .ok("get-uid-by-client-id", json!({ "client": bob }))
            .await?;
        assert_eq!(uid.get("uid"), None);

        let change = json!({ "client": bob, "group": "den" });
        assert_eq!(stage.ok("join-group", change.clone()).await?, done());
        let groups = stage.ok("get-all-groups", json!({})).await?;
        assert_eq!(items(&groups)?, ["den", "lobby"].map(str::to_owned).into());
        let members = stage
            .ok("get-client-ids-by-group", json!({ "group": "den" }))
            .await?;
        assert_eq!(items(&members)?, [bob.to_owned()].into());
        assert_eq!(stage.ok("leave-group", change).await?, done());
        let dissolved = stage.ok("ungroup", json!({ "group": "lobby" })).await?;
        assert_eq!(dissolved, json!({ "value": 2, "missing": [] }));
        let groups = stage.ok("get-all-groups", json!({})).await?;
        assert!(items(&groups)?.is_empty());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn info_is_set_merged_and_told() -> Result<()> {
    on_stage(async |stage| {
        let ada = stage.ada.id();
        let set = json!({ "client": ada, "info": { "a": "1", "b": "2" } });
        assert_eq!(stage.ok("set-info", set).await?, done());
        let update = json!({ "client": ada, "set": { "c": "3" }, "delete": ["a"] });
        let merged = json!({ "info": { "b": "2", "c": "3" } });
        assert_eq!(stage.ok("update-info", update).await?, merged);
        assert_eq!(
            stage.ok("get-info", json!({ "client": ada })).await?,
            merged
        );
        let both = json!({ "client": ada, "set": { "c": "4" }, "delete": ["c"] });
        assert_eq!(stage.reason("update-info", both).await?, "INVALID_ARGUMENT");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn clients_are_closed_with_their_last_message() -> Result<()> {
    on_stage(async |mut stage| {
        let ada = stage.ada.id().to_owned();
        let online = stage.ok("is-online", json!({ "client": ada })).await?;
        assert_eq!(online, json!({ "online": true }));
        let close = json!({
            "client": ada, "code": 4000, "reason": "over", "last_message": { "text": "bye" },
        });
        assert_eq!(stage.ok("close-client", close.clone()).await?, done());
        let (messages, end) = stage.ada.until_end().await?;
        assert_eq!((messages, end.code()), (vec![text("bye")], 4000));
        let online = stage.ok("is-online", json!({ "client": ada })).await?;
        assert_eq!(online, json!({ "online": false }));
        assert_eq!(stage.reason("close-client", close).await?, "NOT_FOUND");

        let bind = json!({ "client": stage.bob.id(), "uid": "bob" });
        stage.ok("bind-uid", bind).await?;
        let closed = stage.ok("close-uid", json!({ "uid": "bob" })).await?;
        assert_eq!(closed, json!({ "value": 1, "missing": [] }));
        let (_, end) = stage.bob.until_end().await?;
        assert_eq!(end.code(), 1000, "where nobody says which");
        let closed = stage.ok("close-group", json!({ "group": "lobby" })).await?;
        assert_eq!(closed, json!({ "value": 0, "missing": [] }));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn pages_walk_the_whole_list() -> Result<()> {
    on_stage(async |stage| {
        for group in 0..7 {
            let join = json!({ "client": stage.ada.id(), "group": format!("g{group}") });
            stage.ok("join-group", join).await?;
        }
        let mut request = json!({ "limit": 3 });
        let (mut all, mut pages) = (BTreeSet::new(), 0);
        loop {
            let page = stage.ok("get-all-groups", request.clone()).await?;
            all.extend(items(&page)?);
            pages += 1;
            match page.get("next") {
                Some(next) => request["cursor"] = next.clone(),
                None => break,
            }
        }
        assert_eq!((all.len(), pages), (8, 3), "{all:?}");
        let cursor = json!({ "cursor": "made up" });
        assert_eq!(
            stage.reason("get-all-groups", cursor).await?,
            "INVALID_ARGUMENT"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_is_asked_wrong_is_named() -> Result<()> {
    on_stage(async |stage| {
        let message = json!({ "text": "m" });
        for (function, request, reason, named) in [
            ("send-to-all", json!({}), "INVALID_ARGUMENT", "no message"),
            (
                "send-to-all",
                json!({ "message": {} }),
                "INVALID_ARGUMENT",
                "no message",
            ),
            (
                "send-to-uid",
                json!({ "message": message }),
                "INVALID_ARGUMENT",
                "no uids",
            ),
            (
                "send-to-group",
                json!({ "groups": [""], "message": message }),
                "INVALID_ARGUMENT",
                "group is empty",
            ),
            (
                "send-to-client",
                json!({ "client": "ada", "message": message }),
                "INVALID_ARGUMENT",
                "\"ada\"",
            ),
            (
                "send-to-all",
                json!({ "message": message, "exclude": ["ada"] }),
                "INVALID_ARGUMENT",
                "\"ada\"",
            ),
            (
                "send-to-all",
                json!({ "message": { "text": "x".repeat(2 << 20) } }),
                "TOO_LARGE",
                "outbox_bytes",
            ),
            (
                "send-to-group",
                json!({ "groups": vec!["g"; 1001], "message": message }),
                "LIMIT_EXCEEDED",
                "1001",
            ),
            (
                "bind-uid",
                json!({ "client": stage.ada.id(), "uid": "u".repeat(257) }),
                "INVALID_ARGUMENT",
                "name_bytes",
            ),
            (
                "get-all-uids",
                json!({ "limit": 0 }),
                "INVALID_ARGUMENT",
                "limit",
            ),
            (
                "get-all-uids",
                json!({ "limit": 1001 }),
                "INVALID_ARGUMENT",
                "limit",
            ),
            (
                "close-uid",
                json!({ "uid": "ada", "code": 1005 }),
                "INVALID_ARGUMENT",
                "1005",
            ),
            (
                "close-uid",
                json!({ "uid": "ada", "code": 70000 }),
                "INVALID_ARGUMENT",
                "close code",
            ),
            (
                "close-uid",
                json!({ "uid": "ada", "reason": "r".repeat(124) }),
                "INVALID_ARGUMENT",
                "123",
            ),
            (
                "set-info",
                json!({ "client": stage.ada.id(), "info": { "k": "v".repeat(100_000) } }),
                "LIMIT_EXCEEDED",
                "info_bytes",
            ),
        ] {
            let refusal = stage.api.refused("console", function, request).await?;
            assert_eq!(refusal.reason, reason, "{function}: {refusal:?}");
            assert!(refusal.message.contains(named), "{function}: {refusal:?}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_taken_uid_and_a_full_outbox_are_told_apart() -> Result<()> {
    let node = Node::builder()
        .alone()
        .plugin("console")
        .manifest(
            "console",
            "[policies]\nuid = 'reject-new'\noverflow = 'drop-newest'",
        )
        .config("limits.outbox_messages = 4\n")
        .start()
        .await?;
    for protocol in BOTH {
        let _ada = node.console(&[("uid", &format!("{protocol:?}"))]).await?;
        let bob = node.console(&[]).await?;
        let api = node.calls(protocol)?;
        let bind = json!({ "client": bob.id(), "uid": format!("{protocol:?}") });
        assert_eq!(
            api.refused("console", "bind-uid", bind).await?.reason,
            "TAKEN"
        );

        // Nobody reads: the socket fills, then the outbox.
        let send = json!({ "client": bob.id(), "message": { "text": "x".repeat(200_000) } });
        let full = async {
            loop {
                if let Err(refusal) = api.call("console", "send-to-client", send.clone()).await? {
                    return anyhow::Ok(refusal);
                }
            }
        };
        let refusal = within("a full outbox", full).await?;
        assert_eq!(refusal.reason, "OVERLOADED");
        assert!(["429", "ResourceExhausted"].contains(&&*refusal.status));
    }
    Ok(())
}
