//! A server that answers and is the wrong one, or does not serve now. A node must find the right
//! one by itself, and until then each call is an error value and nothing else.

use std::net::SocketAddr;

use anyhow::Result;
use jackfield_tests::{LogLine, Node, Proxy, Redis, on_own_mounts};
use serde_json::json;

use super::{ask, count, is_back, is_gone, keeper, store_of, until, until_failure_has};

fn refuses_changes(line: &LogLine) -> bool {
    line.says("the key-value server refuses changes")
}

fn takes_changes(line: &LogLine) -> bool {
    line.says("the key-value server takes changes again")
}

fn refuses_calls(line: &LogLine) -> bool {
    line.says("the key-value server refuses calls")
}

fn takes_calls(line: &LogLine) -> bool {
    line.says("the key-value server takes such calls again")
}

/// A master and its replica.
async fn pair() -> Result<(Redis, Redis)> {
    let (master, replica) = (Redis::start().await?, Redis::start().await?);
    replica.replicate(&master).await?;
    Ok((master, replica))
}

/// The replica takes over, with all that the master has acknowledged.
async fn fail_over(master: &Redis, replica: &Redis) -> Result<()> {
    replica.replicate(master).await?;
    replica.promote().await?;
    master.replicate(replica).await
}

/// A node whose store is behind this proxy.
async fn behind(proxy: &Proxy) -> Result<Node> {
    keeper(&format!("redis://{}", proxy.address()), "")
        .start()
        .await
}

#[tokio::test]
async fn after_a_failover_the_name_is_dialled_anew() -> Result<()> {
    let (old, new) = pair().await?;
    let proxy = Proxy::start().await?;
    proxy.lead_to(old.address());
    let node = behind(&proxy).await?;
    let mut ada = node.client("/keeper").await?;
    assert_eq!(ask(&mut ada, "set tea green").await?, "done");

    fail_over(&old, &new).await?;
    // The old master answers, and is still what the name leads to.
    let said = node.wait_for_log(is_gone).await?;
    let why = said.text("error");
    assert!(why.contains("READONLY") && why.contains("replica"), "{why}");
    for command in ["set tea black", "get tea", "increment n 1", "append tea x"] {
        let said = ask(&mut ada, command).await?;
        assert!(said.contains("the node's key-value store failed"), "{said}");
    }
    let store = store_of(&node).await?;
    assert_eq!(store["store"], "redis");
    assert!(
        store["failure"]
            .as_str()
            .is_some_and(|why| why.contains("READONLY"))
    );

    proxy.lead_to(new.address());
    let failures = until(&mut ada, "set tea black", "done").await?;
    assert_eq!(ask(&mut ada, "get tea").await?, "black");
    assert_eq!(store_of(&node).await?["failure"], json!(null));
    assert_eq!(
        (count(&node, is_gone).await?, count(&node, is_back).await?),
        (1, 1)
    );
    let counters = node.counters().await?;
    assert_eq!(counters.get("keyvalue_failed")?, 4 + failures as u64);
    assert_eq!(counters.get("traps_panic")?, 0);

    // And back again.
    fail_over(&new, &old).await?;
    proxy.lead_to(old.address());
    until(&mut ada, "set tea white", "done").await?;
    assert_eq!(ask(&mut ada, "get tea").await?, "white");
    Ok(())
}

#[test]
fn of_a_names_addresses_the_one_that_takes_changes_is_used() -> Result<()> {
    on_own_mounts(async |mounts| {
        const NAME: &str = "state.example";
        let one = Redis::start().await?;
        let beside = SocketAddr::from(([127, 9, 9, 9], one.address().port()));
        let mut two = Redis::absent_at(beside)?;
        two.come_back().await?;
        two.replicate(&one).await?;
        let [first, second] =
            [&one, &two].map(|server| format!("{} {NAME}\n", server.address().ip()));
        mounts.names(&format!("{second}{first}"))?;
        let url = format!("redis://{NAME}:{}", beside.port());
        let node = keeper(&url, "").start().await?;
        let mut ada = node.client("/keeper").await?;
        assert_eq!(ask(&mut ada, "set tea green").await?, "done");
        for (old, new, color) in [(&one, &two, "black"), (&two, &one, "white")] {
            fail_over(old, new).await?;
            until(&mut ada, &format!("set tea {color}"), "done").await?;
            assert_eq!(ask(&mut ada, "get tea").await?, color);
        }

        // The name leads to the replica alone, to nobody, and to the new master.
        mounts.names(&second)?;
        two.replicate(&one).await?;
        drop(one);
        until_failure_has(&node, "READONLY").await?;
        mounts.names("127.0.0.1 localhost\n")?;
        until_failure_has(&node, "the name state.example is not found").await?;
        two.promote().await?;
        mounts.names(&second)?;
        until(&mut ada, "set tea red", "done").await?;
        Ok(())
    })
}

#[tokio::test]
async fn a_server_that_still_loads_is_waited_for() -> Result<()> {
    let mut server = Redis::absent()?;
    server.add_arguments(&["--appendonly", "no", "--enable-debug-command", "yes"]);
    server.come_back().await?;
    let node = keeper(&server.url(), "").start().await?;
    let mut ada = node.client("/keeper").await?;
    assert_eq!(ask(&mut ada, "set tea green").await?, "done");
    server
        .command(&["DEBUG", "POPULATE", "3000", "other", "200"])
        .await?;
    server.command(&["SAVE"]).await?;

    server.kill().await?;
    server.add_arguments(&[
        "--key-load-delay",
        "1000",
        "--loading-process-events-interval-bytes",
        "1024",
    ]);
    server.come_back().await?;
    until_failure_has(&node, "LOADING").await?;
    assert!(
        ask(&mut ada, "get tea")
            .await?
            .contains("key-value store failed")
    );
    until(&mut ada, "get tea", "green").await?;
    assert_eq!(
        (count(&node, is_gone).await?, count(&node, is_back).await?),
        (1, 1)
    );
    Ok(())
}

#[tokio::test]
async fn a_server_that_takes_connections_and_says_nothing_is_none() -> Result<()> {
    let server = Redis::start().await?;
    let proxy = Proxy::start().await?;
    proxy.lead_to(server.address());
    proxy.stall();
    let node = behind(&proxy).await?;
    node.wait_for_log(is_gone).await?;
    let mut ada = node.client("/keeper").await?;
    assert!(
        ask(&mut ada, "get tea")
            .await?
            .contains("cannot be used now")
    );
    proxy.restore();
    until(&mut ada, "set tea green", "done").await?;

    // The connection that there is says nothing more, and new ones are well.
    proxy.strand();
    let failures = until(&mut ada, "get tea", "green").await?;
    assert!(failures > 0);
    assert_eq!(
        (count(&node, is_gone).await?, count(&node, is_back).await?),
        (2, 2)
    );

    // Whoever is before the server takes connections, and ends them at once.
    drop(server);
    until_failure_has(&node, "127.0.0.1").await?;
    Ok(())
}

#[tokio::test]
async fn a_password_that_changes_is_read_again() -> Result<()> {
    let server = Redis::start_with(&["--requirepass", "one"]).await?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("password");
    std::fs::write(&file, "one")?;
    let set = format!("keyvalue.password_file={}", file.display());
    let node = keeper(&server.url(), "")
        .arguments(&["--set", &set])
        .start()
        .await?;
    let mut ada = node.client("/keeper").await?;
    assert_eq!(ask(&mut ada, "set tea green").await?, "done");

    let change: &[&str] = &["CONFIG", "SET", "requirepass", "two"];
    server.commands(&[&["AUTH", "one"], change]).await?;
    // Who has come in stays.
    assert_eq!(ask(&mut ada, "get tea").await?, "green");
    let kill: &[&str] = &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"];
    server.commands(&[&["AUTH", "two"], kill]).await?;
    until_failure_has(&node, "keyvalue.password_file").await?;
    // Emptied before it is written, missing, and right.
    std::fs::write(&file, "")?;
    until_failure_has(&node, "has no password in it").await?;
    std::fs::remove_file(&file)?;
    until_failure_has(&node, "cannot be read").await?;
    std::fs::write(&file, "two\n")?;
    until(&mut ada, "get tea", "green").await?;
    assert_eq!(
        (count(&node, is_gone).await?, count(&node, is_back).await?),
        (1, 1)
    );
    Ok(())
}

#[tokio::test]
async fn a_master_without_its_replicas_answers_reads() -> Result<()> {
    let server = Redis::start().await?;
    let node = keeper(&server.url(), "").start().await?;
    let mut ada = node.client("/keeper").await?;
    assert_eq!(ask(&mut ada, "set tea green").await?, "done");
    server
        .command(&["CONFIG", "SET", "min-replicas-to-write", "1"])
        .await?;
    let said = node.wait_for_log(refuses_changes).await?;
    assert!(said.text("error").contains("NOREPLICAS"), "{said:?}");
    for _ in 0..20 {
        assert!(ask(&mut ada, "set tea black").await?.contains("NOREPLICAS"));
        assert_eq!(ask(&mut ada, "get tea").await?, "green");
    }
    assert_eq!(node.counters().await?.get("keyvalue_failed")?, 20);
    until_failure_has(&node, "NOREPLICAS").await?;
    server
        .command(&["CONFIG", "SET", "min-replicas-to-write", "0"])
        .await?;
    node.wait_for_log(takes_changes).await?;
    assert_eq!(ask(&mut ada, "set tea black").await?, "done");
    until_failure_has(&node, "").await?;
    let told = (
        count(&node, refuses_changes).await?,
        count(&node, takes_changes).await?,
    );
    assert_eq!((told, count(&node, is_gone).await?), ((1, 1), 0));
    Ok(())
}

#[tokio::test]
async fn an_old_master_alone_is_left_for_the_one_that_the_name_leads_to() -> Result<()> {
    let (old, new) = pair().await?;
    let proxy = Proxy::start().await?;
    proxy.lead_to(old.address());
    let node = behind(&proxy).await?;
    let mut ada = node.client("/keeper").await?;
    assert_eq!(ask(&mut ada, "set tea green").await?, "done");
    new.replicate(&old).await?;
    new.promote().await?;
    old.command(&["CONFIG", "SET", "min-replicas-to-write", "1"])
        .await?;
    node.wait_for_log(refuses_changes).await?;
    proxy.lead_to(new.address());
    until(&mut ada, "set tea black", "done").await?;
    assert_eq!(ask(&mut ada, "get tea").await?, "black");
    Ok(())
}

#[tokio::test]
async fn what_a_server_refuses_of_all_calls_is_said_once() -> Result<()> {
    let server = Redis::start().await?;
    let node = keeper(&server.url(), "").start().await?;
    let mut ada = node.client("/keeper").await?;
    assert_eq!(ask(&mut ada, "set tea green").await?, "done");
    server.command(&["CONFIG", "SET", "maxmemory", "1"]).await?;
    for _ in 0..20 {
        assert!(ask(&mut ada, "set tea black").await?.contains("OOM"));
        assert_eq!(ask(&mut ada, "get tea").await?, "green");
    }
    assert_eq!(node.counters().await?.get("keyvalue_failed")?, 20);
    server.command(&["CONFIG", "SET", "maxmemory", "0"]).await?;
    assert_eq!(ask(&mut ada, "set tea black").await?, "done");
    node.wait_for_log(takes_calls).await?;
    assert_eq!(
        (
            count(&node, refuses_calls).await?,
            count(&node, is_gone).await?
        ),
        (1, 0)
    );
    Ok(())
}

#[tokio::test]
async fn one_of_a_cluster_is_named_as_such() -> Result<()> {
    let server = Redis::start_with(&["--cluster-enabled", "yes"]).await?;
    let node = keeper(&server.url(), "").start().await?;
    let said = node.wait_for_log(is_gone).await?;
    let why = said.text("error");
    assert!(
        why.contains("CLUSTERDOWN") && why.contains("name a server without"),
        "{why}"
    );
    let mut ada = node.client("/keeper").await?;
    assert!(ask(&mut ada, "get tea").await?.starts_with("error: "));
    Ok(())
}

#[tokio::test]
async fn a_user_with_few_rights_is_enough_and_fewer_are_told() -> Result<()> {
    let server = Redis::start().await?;
    let may = "+hmget +hset +hdel +hexists +hincrby +hscan +hget +eval";
    let rules = format!("on nopass ~jackfield:* {may}");
    let user = async |rules: &str| {
        let words = ["ACL", "SETUSER", "chat"]
            .into_iter()
            .chain(rules.split(' '));
        server.command(&words.collect::<Vec<_>>()).await
    };
    user(&rules).await?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("password");
    std::fs::write(&file, "any")?;
    let set = format!("keyvalue.password_file={}", file.display());
    let url = format!("redis://chat@{}", server.address());
    let node = keeper(&url, "").arguments(&["--set", &set]);
    let node = node.start().await?;
    let mut ada = node.client("/keeper").await?;
    for (command, answer) in [
        ("set tea green", "done"),
        ("get tea", "green"),
        ("exists tea", "true"),
        ("increment n 1", "1"),
        ("append tea x", "greenx"),
        ("keys", "n tea"),
        ("delete n", "done"),
    ] {
        assert_eq!(ask(&mut ada, command).await?, answer, "{command}");
    }
    user("-hset").await?;
    for _ in 0..3 {
        assert!(ask(&mut ada, "set tea black").await?.contains("NOPERM"));
        assert_eq!(ask(&mut ada, "get tea").await?, "greenx");
    }
    node.wait_for_log(refuses_calls).await?;
    user("+hset").await?;
    assert_eq!(ask(&mut ada, "set tea black").await?, "done");
    node.wait_for_log(takes_calls).await?;
    assert_eq!(
        (
            count(&node, refuses_calls).await?,
            count(&node, is_gone).await?
        ),
        (1, 0)
    );
    Ok(())
}
