//! A node that drains (SIGTERM): the others and the register know at once.

use anyhow::Result;
use jackfield_tests::{End, Etcd, Node, Proxy, Register};
use rustix::process::Signal;
use serde_json::json;

use crate::{becomes, nodes, reaches};

/// So that nobody is forgotten for being silent while a test runs.
const PATIENT: &str = "[limits]\nsuspect_after = '40s'\ngone_after = '50s'\n";

#[tokio::test]
async fn its_peers_forget_it_at_once_and_the_register_takes_it_off() -> Result<()> {
    let mut cluster = nodes(3, PATIENT).await?;
    let leaving = cluster.nodes_mut().remove(2);
    let mut ada = cluster[0].console(&[]).await?;
    let mut bob = cluster[1].console(&[]).await?;
    let mut watcher = cluster[0].watcher().await?;
    let query = [("uid", "zoe"), ("group", "g")];
    let mut zoe = leaving.console(&query).await?;
    for client in [&mut ada, &mut bob] {
        let online = json!({ "do": "is-uid-online", "uid": "zoe" });
        becomes(client, online, &json!(true)).await?;
    }
    let watch = json!({ "do": "get-client-count-by-group", "group": "watch-close" });
    becomes(&mut zoe, watch, &json!({ "value": 1, "missing": [] })).await?;

    let (stopped, end) = tokio::try_join!(leaving.stop(), async { zoe.until_end().await })?;
    assert!(stopped.status.success());
    assert_eq!(end.1.code(), 1012, "{end:?}");
    assert_ne!(end.1, End::Cut);
    // What its plugin said at the end was heard.
    assert_eq!(watcher.departure(zoe.id()).await?["code"], 1012);

    cluster
        .register()
        .log()
        .nth(1, |line| line.says("a node has left: it drains"))
        .await?;
    for (node, client) in [(0, &mut ada), (1, &mut bob)] {
        cluster[node].wait_for_peers(1).await?;
        cluster[node]
            .wait_for_log(|line| line.says("a node is gone: it has drained"))
            .await?;
        let online = json!({ "do": "is-uid-online", "uid": "zoe" });
        assert_eq!(client.ok(online).await?, false);
        let groups = client.ok(json!({ "do": "get-all-groups" })).await?;
        assert_eq!(groups["items"], json!(["watch-close"]));
        let to_zoe = json!({ "do": "send-to-client", "client": zoe.id(), "text": "m" });
        assert_eq!(client.error(to_zoe).await?, "not-found");
    }
    reaches(&mut ada, &mut bob).await
}

#[tokio::test]
async fn all_at_once_they_drain_in_time() -> Result<()> {
    let mut cluster = nodes(3, PATIENT).await?;
    let nodes = cluster.nodes_mut();
    let (c, b, a) = (nodes.remove(2), nodes.remove(1), nodes.remove(0));
    let (a, b, c) = tokio::try_join!(a.stop(), b.stop(), c.stop())?;
    assert!(a.status.success() && b.status.success() && c.status.success());
    Ok(())
}

/// The connection to the register or to etcd is broken when the node is told to end. It takes
/// itself off the list as soon as it can, so that nobody who comes looks for it.
#[tokio::test]
async fn who_cannot_reach_its_list_just_then_is_taken_off_a_moment_later() -> Result<()> {
    let (register, etcd) = (Register::start().await?, Etcd::start()?);
    for (flag, prefix, list, broken) in [
        ("--register", "", register.address(), "not at this register"),
        ("--discover", "etcd:", etcd.address(), "not listed there"),
    ] {
        let node = |list| {
            let arguments = ["--mesh", "127.0.0.1:0", flag, &format!("{prefix}{list}")];
            Node::builder().alone().arguments(&arguments)
        };
        let proxy = Proxy::start().await?;
        proxy.lead_to(list);
        let leaving = node(proxy.address()).start().await?;
        let stays = node(list).start().await?;
        stays.wait_for_peers(1).await?;

        proxy.cut();
        leaving.wait_for_log(|line| line.says(broken)).await?;
        leaving.signal(Signal::TERM)?;
        leaving.wait_for_log(|line| line.says("draining")).await?;
        proxy.restore();
        assert!(leaving.wait().await?.status.success());

        let late = node(list).start().await?;
        late.wait_for_peers(1).await?;
        let missed = late.log().so_far(|line| line.says("not linked to a node"));
        assert!(missed.is_empty(), "{missed:?}");
    }
    Ok(())
}

/// A register and an etcd that stay out of reach keep a node that ends for three seconds, and no
/// longer: it has a minute for its clients here, and none of those is left.
#[tokio::test]
async fn who_cannot_reach_its_list_at_all_ends_all_the_same() -> Result<()> {
    let (register, etcd) = (Register::start().await?, Etcd::start()?);
    let (at_register, at_etcd) = (Proxy::start().await?, Proxy::start().await?);
    at_register.lead_to(register.address());
    at_etcd.lead_to(etcd.address());
    let (register_flag, etcd_flag) = (
        at_register.address().to_string(),
        format!("etcd:{}", at_etcd.address()),
    );
    let arguments = ["--mesh", "127.0.0.1:0", "--register", &register_flag];
    let node = Node::builder().alone().arguments(&arguments);
    let node = node
        .arguments(&["--discover", &etcd_flag])
        .config("[limits]\ndrain_timeout = '1m'")
        .start()
        .await?;
    register
        .log()
        .nth(1, |line| line.says("a node has joined"))
        .await?;
    at_register.cut();
    at_etcd.cut();
    for broken in ["not at this register", "not listed there"] {
        node.wait_for_log(|line| line.says(broken)).await?;
    }
    assert!(node.stop().await?.status.success());
    Ok(())
}
