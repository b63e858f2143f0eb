//! Canaries: a new build has a part of the clients, beside the build of the others.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jackfield_tests::remote::{Build, done, refused, run};
use jackfield_tests::{Client, Cluster, LogLine, Node, NodeBuilder, Protocol, text, within};
use serde_json::{Value, json};
use tokio::sync::watch;

/// The build of a client that talks with `marker`, which must answer.
async fn mark(client: &mut Client) -> Result<char> {
    client.say(text("1")).await?;
    let answer = client.next_text().await?;
    answer.chars().next().context("a mark")
}

/// The builds of all these clients, in their order.
async fn marks(clients: &mut [Client]) -> Result<String> {
    let mut marks = String::new();
    for client in clients {
        marks.push(mark(client).await?);
    }
    Ok(marks)
}

async fn connect(node: &Node, number: usize) -> Result<Vec<Client>> {
    let mut clients = Vec::new();
    for _ in 0..number {
        clients.push(node.client("/marker").await?);
    }
    Ok(clients)
}

/// How many percent of these builds are `b`.
fn share(marks: &str) -> f64 {
    100.0 * marks.matches('b').count() as f64 / marks.len() as f64
}

fn assert_share(marks: &str, percent: f64) {
    let share = share(marks);
    assert!(
        (share - percent).abs() <= 2.0,
        "{share} %, and not {percent}"
    );
}

fn rollout(percent: f64) -> String {
    format!("[rollout]\npercent = {percent}\n")
}

/// A node with the build `a`, whose manifest says that a build is for a part of the clients at first.
fn node(manifest: &str) -> NodeBuilder {
    let node = Node::builder().alone();
    node.plugin_from("marker", "marker-a")
        .manifest("marker", manifest)
}

fn says(words: &'static str) -> impl Fn(&LogLine) -> bool {
    move |line| line.says(words)
}

const BEGUN: &str = "a canary runs beside the build of the other clients";

/// Puts the build `b` into the folder, and waits until it runs as a canary.
async fn put_canary(node: &Node) -> Result<()> {
    node.folder().put("marker", "marker-b")?;
    node.wait_for_log(says(BEGUN)).await?;
    Ok(())
}

/// The canary of `marker`, as the API describes it; null: there is none.
async fn canary(node: &Node, plugin: &str) -> Result<Value> {
    let output = run(node, &["canary", "show", plugin, "--json"]).await?;
    match output.code {
        0 => Ok(serde_json::from_str(&output.stdout)?),
        _ => {
            ensure!(output.stderr.contains("has no canary"), "{}", output.text());
            Ok(Value::Null)
        }
    }
}

async fn until_there_is_no_canary(node: &Node, plugin: &str) -> Result<()> {
    let gone = async {
        while !canary(node, plugin).await?.is_null() {}
        anyhow::Ok(())
    };
    within("the end of the canary", gone).await
}

/// Numbers its messages, and sends them until it is told to stop: each is answered, in its order.
/// Returns the builds that have answered, one after the other.
async fn talk(mut client: Client, stop: watch::Receiver<bool>) -> Result<String> {
    let (mut sent, mut marks) = (0, String::new());
    while !*stop.borrow() {
        sent += 1;
        client.say(text(&sent.to_string())).await?;
        let answer = client.next_text().await?;
        let parts: Vec<_> = answer.split(':').collect();
        ensure!(parts[2] == sent.to_string(), "{answer} to {sent}");
        if !marks.ends_with(parts[0]) {
            marks.push_str(parts[0]);
        }
    }
    Ok(marks)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_share_of_the_clients_has_the_new_build_and_none_goes_back_and_forth() -> Result<()> {
    let node = node(&rollout(20.0)).start().await?;
    // There was no build beside which the first one could run.
    let mut before = connect(&node, 500).await?;
    assert_eq!(share(&marks(&mut before).await?), 0.0);
    let (stop, stopped) = watch::channel(false);
    let talks = connect(&node, 20).await?.into_iter();
    let talks: Vec<_> = talks
        .map(|client| tokio::spawn(talk(client, stopped.clone())))
        .collect();
    put_canary(&node).await?;
    let first = marks(&mut before).await?;
    assert_share(&first, 20.0);
    let mut after = connect(&node, 500).await?;
    let later = marks(&mut after).await?;
    assert_share(&later, 20.0);
    assert_eq!(marks(&mut before).await?, first, "each stays where it is");
    let shown = canary(&node, "marker").await?;
    let on_node = &shown["nodes"][0];
    assert_eq!(shown["percent"], 20.0);
    assert_eq!(on_node["clients"], 1_020);
    let taken = on_node["canary_clients"].as_f64().context("a number")?;
    assert!((taken / 1_020.0 - 0.2).abs() < 0.02, "{taken}");
    assert_eq!(on_node["stable"]["generation"], 1);
    assert_eq!(on_node["canary"]["generation"], 2);
    assert_eq!(on_node["canary"]["failures"], 0);
    assert!(on_node["canary"]["p99_us"].as_u64().context("a time")? > 0);
    let metrics = node.api("/metrics").await?.body;
    for (name, value) in [
        ("jackfield_canary_generation{plugin=\"marker\"}", "2"),
        (
            "jackfield_canary_clients{plugin=\"marker\"}",
            &*taken.to_string(),
        ),
        ("jackfield_generation{plugin=\"marker\"}", "1"),
    ] {
        let line = format!("{name} {value}\n");
        assert!(metrics.contains(&line), "{line} in {metrics}");
    }
    let listed = run(&node, &["plugins"]).await?.stdout;
    assert!(listed.contains("canary 20 %"), "{listed}");
    done(&node, &["canary", "promote", "marker"]).await?;
    for clients in [&mut before, &mut after] {
        assert_eq!(share(&marks(clients).await?), 100.0);
    }
    assert!(canary(&node, "marker").await?.is_null());
    assert_eq!(node.counters().await?.get("clients_left")?, 0);
    stop.send_replace(true);
    for talk in talks {
        let marks = talk.await??;
        assert!(marks == "ab" || marks == "b", "none goes back: {marks}");
    }
    Ok(())
}

#[tokio::test]
async fn a_canary_that_is_withdrawn_does_not_come_back() -> Result<()> {
    let place = tempfile::tempdir()?;
    let builds = place.path().display().to_string();
    let start = |node: NodeBuilder| node.environment("JACKFIELD_BUILDS", &builds).start();
    let node_ = start(node(&rollout(50.0))).await?;
    let mut clients = connect(&node_, 20).await?;
    put_canary(&node_).await?;
    assert_share(&marks(&mut clients).await?, 50.0);
    let back = refused(&node_, &["plugins", "rollback", "marker"]).await?;
    assert!(back.contains("jackfield canary withdraw marker"), "{back}");
    let set = refused(&node_, &["canary", "set", "marker", "--percent", "60%"]).await?;
    assert!(set.contains("change [rollout] in its manifest"), "{set}");
    done(&node_, &["canary", "withdraw", "marker"]).await?;
    assert_eq!(share(&marks(&mut clients).await?), 0.0);
    let why = refused(&node_, &["canary", "withdraw", "marker"]).await?;
    assert!(why.contains("has no canary"), "{why}");
    // In its next run, the folder still has it.
    node_.stop().await?;
    let again = node(&rollout(50.0)).plugin_from("marker", "marker-b");
    let again = start(again).await?;
    let mut clients = connect(&again, 10).await?;
    assert_eq!(share(&marks(&mut clients).await?), 0.0);
    assert!(canary(&again, "marker").await?.is_null());
    let kept = done(&again, &["plugins", "builds", "marker"]).await?;
    let reasons: Vec<_> = kept["builds"]
        .as_array()
        .context("builds")?
        .iter()
        .filter_map(|build| build["taken_back"].as_str())
        .collect();
    assert_eq!(reasons, ["withdrawn over the API"]);
    Ok(())
}

#[tokio::test]
async fn a_canary_goes_on_after_a_restart_and_so_does_one_that_was_promoted() -> Result<()> {
    let place = tempfile::tempdir()?;
    let builds = place.path().display().to_string();
    let start = |source: &str| {
        let node = Node::builder().alone().plugin_from("marker", source);
        let node = node.manifest("marker", &rollout(25.0));
        node.environment("JACKFIELD_BUILDS", &builds).start()
    };
    let first = start("marker-a").await?;
    put_canary(&first).await?;
    first.stop().await?;
    let second = start("marker-b").await?;
    second.wait_for_log(says(BEGUN)).await?;
    let mut clients = connect(&second, 200).await?;
    assert_share(&marks(&mut clients).await?, 25.0);
    done(&second, &["canary", "promote", "marker"]).await?;
    second.stop().await?;
    let third = start("marker-b").await?;
    let mut clients = connect(&third, 20).await?;
    assert_eq!(share(&marks(&mut clients).await?), 100.0);
    assert!(canary(&third, "marker").await?.is_null());
    Ok(())
}

#[tokio::test]
async fn the_folder_withdraws_a_canary_and_changes_its_share() -> Result<()> {
    let node = node(&rollout(10.0)).start().await?;
    let mut clients = connect(&node, 100).await?;
    put_canary(&node).await?;
    let few = marks(&mut clients).await?;
    assert_share(&few, 10.0);
    node.folder().put_manifest("marker", &rollout(40.0))?;
    node.wait_for_log(|line| line.says(BEGUN) && line.number("generation") == Some(3))
        .await?;
    let more = marks(&mut clients).await?;
    assert_share(&more, 40.0);
    let were_taken = few.chars().zip(more.chars());
    assert!(
        were_taken
            .clone()
            .all(|(few, more)| few == 'a' || more == 'b')
    );
    // What ran before, as it was.
    node.folder().put("marker", "marker-a")?;
    node.folder().put_manifest("marker", &rollout(10.0))?;
    until_there_is_no_canary(&node, "marker").await?;
    assert_eq!(share(&marks(&mut clients).await?), 0.0);
    Ok(())
}

#[tokio::test]
async fn after_a_restart_no_other_canary_takes_the_place_of_what_ran() -> Result<()> {
    let place = tempfile::tempdir()?;
    let builds = place.path().display().to_string();
    let start = |source: &str, manifest: &str| {
        let node = node(manifest).plugin_from("marker", source);
        node.environment("JACKFIELD_BUILDS", &builds).start()
    };
    let first = start("marker-a", &rollout(10.0)).await?;
    put_canary(&first).await?;
    // Each of these is a canary of its own, and there are more than are kept.
    for number in 3..=9 {
        let manifest = format!("# {number}\n{}", rollout(40.0));
        first.folder().put_manifest("marker", &manifest)?;
        let begun =
            move |line: &LogLine| line.says(BEGUN) && line.number("generation") == Some(number);
        first.wait_for_log(begun).await?;
    }
    first.stop().await?;
    let second = start("marker-b", &format!("# 9\n{}", rollout(40.0))).await?;
    second.wait_for_log(says(BEGUN)).await?;
    let mut clients = connect(&second, 100).await?;
    assert_share(&marks(&mut clients).await?, 40.0);
    // What ran for all before does so at once, although its manifest has a share.
    second.folder().put("marker", "marker-a")?;
    second.folder().put_manifest("marker", &rollout(10.0))?;
    until_there_is_no_canary(&second, "marker").await?;
    second.stop().await?;
    let third = start("marker-a", &rollout(10.0)).await?;
    let mut clients = connect(&third, 50).await?;
    assert_eq!(share(&marks(&mut clients).await?), 0.0);
    assert!(canary(&third, "marker").await?.is_null());
    Ok(())
}

#[tokio::test]
async fn if_what_ran_before_cannot_run_again_the_folder_counts() -> Result<()> {
    let place = tempfile::tempdir()?;
    let builds = place.path().display().to_string();
    let with_file = "[config]\nname = { file = 'name.txt' }\n";
    let first = node(with_file)
        .file("name.txt", "ada")
        .environment("JACKFIELD_BUILDS", &builds)
        .start()
        .await?;
    first.folder().put_manifest("marker", &rollout(10.0))?;
    first.wait_for_log(says(BEGUN)).await?;
    first.stop().await?;
    let second = node(&rollout(10.0))
        .plugin_from("marker", "marker-b")
        .environment("JACKFIELD_BUILDS", &builds)
        .start()
        .await?;
    within("the build of the folder", async {
        loop {
            if let Ok(mut client) = second.client("/marker").await {
                ensure!(mark(&mut client).await? == 'b', "the build of the folder");
                return anyhow::Ok(());
            }
        }
    })
    .await?;
    let mut clients = connect(&second, 20).await?;
    assert_eq!(share(&marks(&mut clients).await?), 100.0);
    Ok(())
}

#[tokio::test]
async fn a_deployed_canary_takes_the_place_of_one_of_the_folder() -> Result<()> {
    let node = node(&rollout(10.0)).start().await?;
    put_canary(&node).await?;
    let mut clients = connect(&node, 100).await?;
    assert_share(&marks(&mut clients).await?, 10.0);
    let other = Build::of("marker-b", "# other")?;
    other.deploy_with(&node, &["--canary", "50%"]).await?;
    assert_share(&marks(&mut clients).await?, 50.0);
    // The folder does not count meanwhile.
    node.folder().put_manifest("marker", "# for all")?;
    node.wait_for_log(says("since another build of the plugin is deployed"))
        .await?;
    assert_share(&marks(&mut clients).await?, 50.0);
    done(&node, &["canary", "withdraw", "marker"]).await?;
    until_share_is(&mut clients, 100.0).await
}

#[tokio::test]
async fn the_same_build_that_begins_again_has_other_clients() -> Result<()> {
    let node = Node::builder().alone().plugin_from("marker", "marker-a");
    let node = node.start().await?;
    let mut clients = connect(&node, 100).await?;
    let build = Build::of("marker-b", "")?;
    build.deploy_with(&node, &["--canary", "50%"]).await?;
    assert_share(&marks(&mut clients).await?, 50.0);
    // Whoever has it keeps it while the share gets smaller.
    done(&node, &["canary", "set", "marker", "--percent", "5"]).await?;
    assert_share(&marks(&mut clients).await?, 50.0);
    let mut later = connect(&node, 100).await?;
    assert_share(&marks(&mut later).await?, 5.0);
    done(&node, &["canary", "withdraw", "marker"]).await?;
    assert_eq!(share(&marks(&mut clients).await?), 0.0);
    build.deploy_with(&node, &["--canary", "5%"]).await?;
    assert_share(&marks(&mut clients).await?, 5.0);
    Ok(())
}

#[tokio::test]
async fn the_folder_counts_at_once_when_what_is_deployed_is_withdrawn() -> Result<()> {
    let manifest = format!("require_uid = {{ query = 'uid' }}\n{}", rollout(20.0));
    let node = node(&manifest).start().await?;
    let mut client = node.client("/marker?uid=ada").await?;
    Build::of("marker-b", &manifest.replace("20", "100"))?
        .deploy(&node)
        .await?;
    assert_eq!(mark(&mut client).await?, 'b');
    done(&node, &["canary", "promote", "marker"]).await?;
    done(&node, &["undeploy", "marker"]).await?;
    let back = async {
        while mark(&mut client).await? != 'a' {}
        anyhow::Ok(())
    };
    within("the build of the folder", back).await?;
    assert!(canary(&node, "marker").await?.is_null());
    // A canary that comes and goes does not make the node forget what it demands of clients.
    Build::of("marker-b", &manifest)?.deploy(&node).await?;
    done(&node, &["canary", "withdraw", "marker"]).await?;
    node.folder().put_manifest("marker", "")?;
    node.wait_for_log(says("is missing or empty")).await?;
    Ok(())
}

#[tokio::test]
async fn chosen_uids_have_the_new_build_and_keep_it() -> Result<()> {
    let manifest = "require_uid = { query = 'uid' }\n[rollout]\nuids = ['ada']\n";
    let node = node(manifest).start().await?;
    let [mut ada, mut bob] = [
        node.client("/marker?uid=ada").await?,
        node.client("/marker?uid=bob").await?,
    ];
    put_canary(&node).await?;
    assert_eq!([mark(&mut ada).await?, mark(&mut bob).await?], ['b', 'a']);
    let mut second = node.client("/marker?uid=ada").await?;
    assert_eq!(mark(&mut second).await?, 'b');
    // Whoever has it keeps it, also without the uid.
    let api = node.calls(Protocol::Http)?;
    let clients = done(&node, &["clients", "--uid", "ada"]).await?;
    for client in clients.as_array().context("clients")? {
        let request = json!({ "client": client["client"] });
        api.ok("marker", "unbind-uid", request).await?;
    }
    assert_eq!(
        [mark(&mut ada).await?, mark(&mut second).await?],
        ['b', 'b']
    );
    // Who becomes one of them gets it, too.
    let clients = done(&node, &["clients", "--uid", "bob"]).await?;
    let client = &clients[0]["client"];
    let request = json!({ "client": client, "uid": "ada" });
    api.ok("marker", "bind-uid", request).await?;
    assert_eq!(mark(&mut bob).await?, 'b');
    Ok(())
}

/// The manifest of `flaky`, as a canary for all clients.
fn flaky(traps: &str, rollout: &str) -> String {
    format!(
        "policies.on_trap = 'keep'\nconfig.traps = '{traps}'\nrollout.percent = 50\n{rollout}\n"
    )
}

/// Sends numbered messages until it is told to stop, one after the other. Returns how many it has sent,
/// and the numbers of those that were not answered.
async fn number(mut client: Client, stop: watch::Receiver<bool>) -> Result<(u64, Vec<u64>)> {
    let (mut sent, mut lost) = (0, Vec::new());
    while !*stop.borrow() {
        sent += 10;
        client.say(text(&sent.to_string())).await?;
        client.say(text("end")).await?;
        match &*client.next_text().await? {
            "end" => lost.push(sent),
            answer => {
                ensure!(answer == sent.to_string(), "{answer} to {sent}");
                ensure!(client.next_text().await? == "end", "the end");
            }
        }
    }
    Ok((sent / 10, lost))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_that_fails_is_withdrawn_by_itself() -> Result<()> {
    let node = Node::builder()
        .alone()
        .plugin_from("flaky", "flaky")
        .manifest("flaky", &flaky("none", ""));
    let node = node.start().await?;
    let (stop, stopped) = watch::channel(false);
    let mut sending = Vec::new();
    for _ in 0..10 {
        let client = node.client("/flaky").await?;
        sending.push(tokio::spawn(number(client, stopped.clone())));
    }
    node.folder().put_manifest("flaky", &flaky("tenth", ""))?;
    let taken_back = node.wait_for_log(says("the canary is taken back"));
    let line = taken_back.await?;
    assert!(line.says("events failed"), "{line:?}");
    until_there_is_no_canary(&node, "flaky").await?;
    let messages = node.counters().await?.get("messages_in")?;
    let more = async {
        while node.counters().await?.get("messages_in")? < messages + 1_000 {}
        anyhow::Ok(())
    };
    within("messages", more).await?;
    assert_eq!(node.counters().await?.get("clients_left")?, 0);
    stop.send_replace(true);
    let (mut unhurt, mut lost) = (0, 0);
    for sending in sending {
        let (_, missing) = sending.await??;
        unhurt += u64::from(missing.is_empty());
        lost += missing.len() as u64;
    }
    assert!(unhurt >= 4, "the clients of the other build: {unhurt}");
    let counters = node.counters().await?;
    assert_eq!(lost, counters.get("traps_panic")?, "what trapped is lost");
    assert_eq!(counters.get("builds_taken_back")?, 1);
    // It is not tried again until it changes.
    let plugins = done(&node, &["plugins"]).await?;
    assert_eq!(plugins[0]["plugins"][0]["build"]["generation"], 1);
    node.folder().put_manifest("flaky", &flaky("never", ""))?;
    node.wait_for_log(|line| line.says(BEGUN) && line.number("generation") == Some(3))
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_that_is_too_slow_is_withdrawn_by_itself() -> Result<()> {
    let node = Node::builder()
        .alone()
        .plugin_from("flaky", "flaky")
        .manifest("flaky", &flaky("none", "rollout.max_p99_ratio = 2"));
    let node = node.start().await?;
    let (stop, stopped) = watch::channel(false);
    let mut sending = Vec::new();
    for _ in 0..10 {
        let client = node.client("/flaky").await?;
        sending.push(tokio::spawn(number(client, stopped.clone())));
    }
    let slow = flaky("slow", "rollout.max_p99_ratio = 2");
    node.folder().put_manifest("flaky", &slow)?;
    let line = node
        .wait_for_log(says(
            "the canary is taken back, since 99 of 100 messages took up to",
        ))
        .await?;
    assert!(line.says("max_p99_ratio is 2"), "{line:?}");
    stop.send_replace(true);
    for sending in sending {
        let (_, lost) = sending.await??;
        assert!(lost.is_empty());
    }
    Ok(())
}

#[tokio::test]
async fn a_canary_takes_over_by_itself_when_its_time_has_come() -> Result<()> {
    let node = node("[rollout]\npercent = 10\npromote_after = '1s'\n")
        .start()
        .await?;
    let mut client = node.client("/marker").await?;
    put_canary(&node).await?;
    let promoted = says("a canary has taken over for all clients");
    node.wait_for_log(promoted).await?;
    assert_eq!(mark(&mut client).await?, 'b');
    Ok(())
}

#[tokio::test]
async fn what_a_canary_sets_as_timers_fires_in_the_canary() -> Result<()> {
    let manifest = |comment: &str| format!("# {comment}\n{}", rollout(1.0));
    let node = Node::builder()
        .alone()
        .plugin("ticker")
        .manifest("ticker", &manifest("one"));
    let node = node.start().await?;
    let fired_in = |generation: u64| {
        move |line: &LogLine| {
            line.message() == "tick" && line.number("generation") == Some(generation)
        }
    };
    node.wait_for_log(fired_in(1)).await?;
    node.folder().put_manifest("ticker", &manifest("other"))?;
    node.wait_for_log(fired_in(2)).await?;
    done(&node, &["canary", "withdraw", "ticker"]).await?;
    let before = node.log().so_far(fired_in(1)).len();
    node.log().nth(before + 1, fired_in(1)).await?;
    Ok(())
}

async fn cluster(nodes: usize, source: &str, manifest: &str) -> Result<Cluster> {
    let with = |node: NodeBuilder| {
        let node = node.plugin_from("marker", source);
        match manifest {
            "" => node,
            manifest => node.manifest("marker", manifest),
        }
    };
    let cluster = Cluster::start(nodes, with).await?;
    for node in &cluster.nodes()[1..] {
        cluster[0].wait_for_plugins_of(node).await?;
    }
    Ok(cluster)
}

/// Waits until a node's clients have builds in this share.
async fn until_share_is(clients: &mut [Client], percent: f64) -> Result<()> {
    let there = async {
        while (share(&marks(clients).await?) - percent).abs() > 2.0 {}
        anyhow::Ok(())
    };
    within("the share", there).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_is_deployed_to_all_nodes_and_promoted_on_all() -> Result<()> {
    let cluster = cluster(3, "marker-a", "").await?;
    let gateway = Node::builder()
        .gateway()
        .registered_at(&[cluster.register()])
        .start()
        .await?;
    gateway.wait_for_peers(3).await?;
    let nodes: Vec<&Node> = cluster.nodes().iter().chain([&gateway]).collect();
    let mut clients = Vec::new();
    for node in &nodes {
        clients.push(connect(node, 200).await?);
    }
    let (stop, stopped) = watch::channel(false);
    let mut talks = Vec::new();
    for node in &nodes {
        for client in connect(node, 5).await? {
            talks.push(tokio::spawn(talk(client, stopped.clone())));
        }
    }
    let build = Build::of("marker-b", "")?;
    let deployed = build.deploy_with(&cluster[0], &["--canary", "10%"]).await?;
    for node in deployed["nodes"].as_array().context("nodes")? {
        assert_eq!(
            (&node["generation"], &node["failure"]),
            (&json!(2), &Value::Null)
        );
    }
    for (node, clients) in nodes.iter().zip(&mut clients) {
        until_share_is(clients, 10.0).await?;
        let mut later = connect(node, 200).await?;
        let marks = marks(&mut later).await?;
        assert_share(&marks, 10.0);
    }
    // Each node says how it does on all of them.
    let shown = canary(&gateway, "marker").await?;
    let on_nodes = shown["nodes"].as_array().context("nodes")?;
    assert_eq!(on_nodes.len(), 4);
    let sum = |what: &str| -> u64 {
        let numbers = on_nodes.iter().filter_map(|node| node[what].as_u64());
        numbers.sum()
    };
    let taken = sum("canary_clients") as f64 / sum("clients") as f64;
    assert!((taken - 0.1).abs() < 0.02, "{taken}");
    let listed = done(&cluster[1], &["deployments"]).await?;
    assert_eq!(listed["deployments"][0]["canary_percent"], 10.0);
    // A larger share has the clients of the smaller one.
    done(&cluster[2], &["canary", "set", "marker", "--percent", "50"]).await?;
    for clients in &mut clients {
        until_share_is(clients, 50.0).await?;
    }
    let wrong = refused(
        &cluster[2],
        &["canary", "set", "marker", "--max-p99-ratio", "0.5"],
    )
    .await?;
    assert!(wrong.contains("rollout.max_p99_ratio"), "{wrong}");
    let why = refused(&gateway, &["canary", "promote", "marker"]).await?;
    assert!(why.contains("this node is a gateway"), "{why}");
    // Any other node promotes it.
    done(&cluster[1], &["canary", "promote", "marker"]).await?;
    for clients in &mut clients {
        until_share_is(clients, 100.0).await?;
    }
    stop.send_replace(true);
    for talk in talks {
        let marks = talk.await??;
        assert!(
            ["a", "ab", "b"].contains(&&*marks),
            "none goes back: {marks}"
        );
    }
    let listed = done(&cluster[0], &["deployments"]).await?;
    assert_eq!(listed["deployments"][0]["canary_percent"], Value::Null);
    assert_eq!(listed["deployments"][0]["digest"], deployed["digest"]);
    for node in &nodes {
        until_there_is_no_canary(node, "marker").await?;
    }
    Ok(())
}

#[tokio::test]
async fn nodes_that_come_later_have_the_canary_and_what_is_beside_it() -> Result<()> {
    let cluster = Cluster::start(2, |node| node).await?;
    // On all nodes, in no folder.
    Build::of("marker-a", "")?.deploy(&cluster[0]).await?;
    let canary_of = Build::of("marker-b", &rollout(30.0))?;
    canary_of.deploy(&cluster[0]).await?;
    let builds = tempfile::tempdir()?;
    let builds = builds.path().display().to_string();
    let start = || {
        let node = Node::builder().alone();
        let node = node.registered_at(&[cluster.register()]);
        node.environment("JACKFIELD_BUILDS", &builds).start()
    };
    let third = start().await?;
    third.wait_for_log(says(BEGUN)).await?;
    let mut clients = connect(&third, 100).await?;
    assert_share(&marks(&mut clients).await?, 30.0);
    third.stop().await?;
    // It is withdrawn while the node is away.
    done(&cluster[1], &["canary", "withdraw", "marker"]).await?;
    let again = start().await?;
    let mut clients = connect(&again, 50).await?;
    until_share_is(&mut clients, 0.0).await?;
    for node in cluster.nodes().iter().chain([&again]) {
        until_there_is_no_canary(node, "marker").await?;
    }
    let listed = done(&again, &["deployments"]).await?;
    assert_eq!(listed["deployments"][0]["version"], 4);
    Ok(())
}

#[tokio::test]
async fn a_canary_that_fails_on_one_node_is_withdrawn_on_all() -> Result<()> {
    let good = "policies.on_trap = 'keep'\nconfig.traps = 'none'\n";
    let cluster = cluster(3, "flaky", good).await?;
    let bad = Build::of("flaky", &good.replace("none", "messages"))?;
    bad.deploy_with(&cluster[0], &["--canary", "50%"]).await?;
    let mut clients = connect(&cluster[1], 20).await?;
    for _ in 0..2 {
        for client in &mut clients {
            client.say(text("1")).await?;
        }
    }
    cluster[1]
        .wait_for_log(says("the canary is taken back"))
        .await?;
    for node in cluster.nodes() {
        until_there_is_no_canary(node, "marker").await?;
        let mut clients = connect(node, 10).await?;
        for client in &mut clients {
            client.say(text("7")).await?;
            assert_eq!(client.next_text().await?, "7");
        }
    }
    let listed = done(&cluster[2], &["deployments"]).await?;
    assert_eq!(listed["deployments"], json!([]), "the folders count again");
    Ok(())
}

#[tokio::test]
async fn a_canary_ends_also_where_the_folder_has_a_build_that_was_taken_back() -> Result<()> {
    let manifest = |traps: &str| format!("policies.on_trap = 'keep'\nconfig.traps = '{traps}'\n");
    let cluster = cluster(2, "flaky", &manifest("none")).await?;
    let mut clients = connect(&cluster[1], 10).await?;
    cluster[1]
        .folder()
        .put_manifest("marker", &manifest("messages"))?;
    cluster[1].generation_loaded("marker", 2).await?;
    for client in &mut clients {
        client.say(text("1")).await?;
    }
    cluster[1].generation_loaded("marker", 3).await?;
    let build = Build::of("flaky", &manifest("never"))?;
    build.deploy_with(&cluster[0], &["--canary", "50%"]).await?;
    for node in cluster.nodes() {
        assert_eq!(
            canary(node, "marker").await?["nodes"]
                .as_array()
                .map(Vec::len),
            Some(2)
        );
    }
    done(&cluster[0], &["canary", "set", "marker", "--percent", "60"]).await?;
    let set = async {
        while canary(&cluster[1], "marker").await?["percent"] != 60.0 {}
        anyhow::Ok(())
    };
    within("the share", set).await?;
    done(&cluster[0], &["canary", "withdraw", "marker"]).await?;
    for node in cluster.nodes() {
        until_there_is_no_canary(node, "marker").await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_canary_ends_also_where_the_deployed_build_beside_it_cannot_run() -> Result<()> {
    let manifest = |traps: &str| format!("policies.on_trap = 'keep'\nconfig.traps = '{traps}'\n");
    let cluster = cluster(2, "flaky", &manifest("none")).await?;
    let mut clients = connect(&cluster[1], 10).await?;
    Build::of("flaky", &manifest("messages"))?
        .deploy(&cluster[0])
        .await?;
    for client in &mut clients {
        client.say(text("1")).await?;
    }
    // There it is taken back, and the other node has no clients.
    cluster[1].generation_loaded("marker", 3).await?;
    let build = Build::of("flaky", &manifest("never"))?;
    build.deploy_with(&cluster[0], &["--canary", "50%"]).await?;
    assert!(!canary(&cluster[1], "marker").await?.is_null());
    done(&cluster[0], &["canary", "withdraw", "marker"]).await?;
    for node in cluster.nodes() {
        until_there_is_no_canary(node, "marker").await?;
    }
    // The same build twice, with another share: all nodes agree what it is.
    build.deploy_with(&cluster[0], &["--canary", "10%"]).await?;
    build
        .deploy_with(&cluster[1], &["--canary", "100%"])
        .await?;
    for client in &mut clients {
        client.say(text("last")).await?;
        while client.next_text().await? != "last" {}
        client.say(text("1")).await?;
    }
    done(&cluster[0], &["canary", "withdraw", "marker"]).await?;
    for node in cluster.nodes() {
        until_there_is_no_canary(node, "marker").await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_canary_goes_on_while_the_build_beside_it_is_taken_back() -> Result<()> {
    let manifest = |traps: &str| format!("policies.on_trap = 'keep'\nconfig.traps = '{traps}'\n");
    let node = Node::builder()
        .alone()
        .plugin_from("marker", "flaky")
        .manifest("marker", &manifest("none"));
    let node = node.start().await?;
    let mut clients = connect(&node, 20).await?;
    node.folder()
        .put_manifest("marker", &manifest("messages"))?;
    node.generation_loaded("marker", 2).await?;
    let good = Build::of("flaky", &manifest("never"))?;
    good.deploy_with(&node, &["--canary", "50%"]).await?;
    for client in &mut clients {
        client.say(text("1")).await?;
    }
    node.generation_loaded("marker", 4).await?;
    let shown = canary(&node, "marker").await?;
    let builds = ["stable", "canary"].map(|build| &shown["nodes"][0][build]["generation"]);
    assert_eq!(builds, [&json!(4), &json!(3)]);
    // All of them are answered again, and none has lost its connection.
    for client in &mut clients {
        client.say(text("last")).await?;
        while client.next_text().await? != "last" {}
    }
    Ok(())
}

#[tokio::test]
async fn one_node_promotes_a_canary_whose_time_has_come() -> Result<()> {
    let cluster = cluster(2, "marker-a", "").await?;
    let build = Build::of("marker-b", "")?;
    build
        .deploy_with(&cluster[0], &["--canary", "10%", "--promote-after", "1s"])
        .await?;
    for node in cluster.nodes() {
        let mut clients = connect(node, 20).await?;
        until_share_is(&mut clients, 100.0).await?;
    }
    let listed = done(&cluster[1], &["deployments"]).await?;
    let deployment = &listed["deployments"][0];
    assert_eq!(
        (&deployment["version"], &deployment["canary_percent"]),
        (&json!(2), &Value::Null)
    );
    Ok(())
}

#[tokio::test]
async fn a_canary_is_not_deployed_where_it_cannot_be_one() -> Result<()> {
    let node = Node::builder().alone().start().await?;
    let build = Build::of("marker-b", "")?;
    let canary = ["deploy", &build.path(), "--canary", "5%"];
    let why = refused(&node, &canary).await?;
    assert!(why.contains("a canary needs a build beside it"), "{why}");
    build.deploy(&node).await?;
    let why = refused(&node, &canary).await?;
    assert!(why.contains("this build is deployed already"), "{why}");
    let other = Build::of("marker-a", &rollout(5.0))?;
    let rolling = ["deploy", &other.path(), "--rolling", "1s"];
    let why = refused(&node, &rolling).await?;
    assert!(
        why.contains("a canary is for a part of the clients"),
        "{why}"
    );
    let wrong = run(&node, &["deploy", &build.path(), "--canary", "101%"]).await?;
    assert_eq!(wrong.code, 2);
    assert!(wrong.stderr.contains("from 0% to 100%"), "{}", wrong.stderr);
    let nobody = refused(&node, &["deploy", &build.path(), "--canary", "0"]).await?;
    assert!(nobody.contains("it is for nobody"), "{nobody}");
    Ok(())
}

#[tokio::test]
async fn a_new_build_for_all_ends_the_canary_before_it() -> Result<()> {
    let node = Node::builder().alone().plugin_from("marker", "marker-a");
    let node = node.start().await?;
    let mut clients = connect(&node, 40).await?;
    Build::of("marker-b", "")?
        .deploy_with(&node, &["--canary", "50%"])
        .await?;
    assert_share(&marks(&mut clients).await?, 50.0);
    // One canary after the other: the others still have what they had.
    Build::of("marker-b", "# again")?
        .deploy_with(&node, &["--canary", "20%"])
        .await?;
    assert_share(&marks(&mut clients).await?, 20.0);
    let shown = canary(&node, "marker").await?;
    assert_eq!(shown["nodes"][0]["stable"]["generation"], 1);
    Build::of("marker-b", "# all")?.deploy(&node).await?;
    assert_eq!(share(&marks(&mut clients).await?), 100.0);
    assert!(canary(&node, "marker").await?.is_null());
    done(&node, &["undeploy", "marker"]).await?;
    until_share_is(&mut clients, 0.0).await
}

#[tokio::test]
async fn a_node_that_ends_while_it_has_a_canary_closes_all_clients() -> Result<()> {
    let node = node(&rollout(50.0)).start().await?;
    let mut clients = connect(&node, 20).await?;
    put_canary(&node).await?;
    assert_share(&marks(&mut clients).await?, 50.0);
    let stopped = tokio::spawn(node.stop());
    for client in &mut clients {
        assert_eq!(client.end().await?.code(), 1012);
    }
    stopped.await??;
    Ok(())
}

#[tokio::test]
async fn a_canary_whose_file_is_removed_goes_with_the_plugin() -> Result<()> {
    let node = node(&rollout(50.0)).start().await?;
    let mut clients = connect(&node, 20).await?;
    put_canary(&node).await?;
    node.folder().remove("marker")?;
    for client in &mut clients {
        assert_eq!(client.end().await?.code(), 1001);
    }
    within("the end", async {
        while node.client("/marker").await.is_ok() {}
        anyhow::Ok(())
    })
    .await?;
    tokio::time::timeout(Duration::from_secs(60), node.stop()).await??;
    Ok(())
}
