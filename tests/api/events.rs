//! The stream of what happens.

use anyhow::{Context as _, Result};
use jackfield_tests::{Cluster, Events, Node, NodeBuilder, Protocol, within};
use serde_json::{Value, json};

use super::BOTH;

/// What clients, uids and groups do comes in order, over both protocols.
#[tokio::test]
async fn what_happens_is_told_in_order() -> Result<()> {
    for protocol in BOTH {
        let node = Node::start_alone("console").await?;
        let mut events = node.calls(protocol)?.watch(&[]).await?;
        let mut ada = node.console(&[("uid", "ada"), ("group", "g")]).await?;
        let id = ada.id().to_owned();
        let bob = node.console(&[("uid", "ada")]).await?;
        ada.ok(json!({ "do": "leave-group", "client": id, "group": "g" }))
            .await?;
        ada.leave_with(4000, "bye").await?;
        let unbind = json!({ "client": bob.id() });
        node.calls(protocol)?
            .ok("console", "unbind-uid", unbind)
            .await?;

        let expected = [
            json!({ "group_occupied": { "group": "g", "elsewhere": 0 } }),
            json!({ "uid_online": { "uid": "ada", "elsewhere": 0 } }),
            json!({ "client_connected": { "client": id } }),
            json!({ "client_connected": { "client": bob.id() } }),
            json!({ "group_vacated": { "group": "g", "elsewhere": 0 } }),
            json!({ "client_closed": { "client": id, "code": 4000, "reason": "bye", "uid": "ada" } }),
            json!({ "uid_offline": { "uid": "ada", "elsewhere": 0 } }),
        ];
        for mut expected in expected {
            expected["plugin"] = json!("console");
            assert_eq!(next(&mut events).await?, expected, "{protocol:?}");
        }
        let wasm = node.folder();
        wasm.put("console", "console")?;
        wasm.put_manifest("console", "[limits]\nevent_timeout = '2s'")?;
        let loaded = next(&mut events).await?;
        assert_eq!(
            loaded,
            json!({ "plugin": "console", "plugin_loaded": { "generation": 2 } })
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_watcher_sees_the_plugins_it_asks_for_and_who_is_elsewhere() -> Result<()> {
    let build = |node: NodeBuilder| node.plugin("console").plugin_from("chat", "console");
    let cluster = Cluster::start(2, build).await?;
    for protocol in BOTH {
        let (uid, api) = (format!("{protocol:?}"), cluster[0].calls(protocol)?);
        let _there = cluster[1].console(&[("uid", &uid)]).await?;
        let known = async {
            let asked = json!({ "uid": uid });
            while api.ok("console", "is-uid-online", asked.clone()).await?["online"] == false {}
            anyhow::Ok(())
        };
        within("the other node's uid", known).await?;
        let mut console = api.watch(&["console"]).await?;
        let mut chat = api.watch(&["chat"]).await?;
        let here = cluster[0].console(&[("uid", &uid)]).await?;
        let online = next(&mut console).await?;
        assert_eq!(online["uid_online"], json!({ "uid": uid, "elsewhere": 1 }));
        assert_eq!(
            next(&mut console).await?["client_connected"]["client"],
            here.id()
        );
        let chatter = cluster[0].console_named("chat", &[]).await?;
        let first = next(&mut chat).await?;
        assert_eq!(
            first["client_connected"]["client"],
            chatter.id(),
            "nothing of the other's"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_stream_ends_with_its_node_and_has_told_everything() -> Result<()> {
    for protocol in BOTH {
        let node = Node::start_alone("console").await?;
        let mut events = node.calls(protocol)?.watch(&[]).await?;
        let mut ada = node.console(&[]).await?;
        let id = ada.id().to_owned();
        let (stopped, _) = tokio::try_join!(node.stop(), ada.end())?;
        assert!(stopped.status.success());
        assert_eq!(next(&mut events).await?["client_connected"]["client"], id);
        let closed = next(&mut events).await?;
        assert_eq!(closed["client_closed"]["code"], 1012, "{closed}");
        // Over HTTP by its last chunk, over gRPC by its status: nothing is cut.
        match events.next().await {
            Ok(None) => assert_eq!(protocol, Protocol::Http),
            Ok(Some(event)) => anyhow::bail!("{event}"),
            Err(error) => assert!(
                format!("{error:#}").contains("the node has ended"),
                "{error:#}"
            ),
        }
    }
    Ok(())
}

/// The most streams there may be; one that ends makes room for another.
#[tokio::test]
async fn streams_of_events_have_a_bound() -> Result<()> {
    let node = Node::start_alone("console").await?;
    let api = node.calls(Protocol::Http)?;
    let mut streams = Vec::new();
    for _ in 0..256 {
        streams.push(api.watch(&[]).await?);
    }
    let refused = api.http("GET", "/v1/events", &[], "").await?;
    assert_eq!(refused.status, 429);
    assert!(refused.body.contains("256 streams"), "{}", refused.body);
    drop(streams);
    let room = async {
        loop {
            if api.watch(&[]).await.is_ok() {
                return anyhow::Ok(());
            }
        }
    };
    within("room for another stream", room).await
}

async fn next(events: &mut Events) -> Result<Value> {
    events.next().await?.context("the stream has ended")
}
