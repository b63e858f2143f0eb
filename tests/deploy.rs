//! Deployments: a build goes to all nodes, and takes over on all of them or on none.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jackfield_tests::remote::{Build, done, refused};
use jackfield_tests::sections::{functions_section, random_section};
use jackfield_tests::{
    Authority, COMPONENT_CONFIG, Client, Cluster, LogLine, Node, NodeBuilder, OciRegistry, Proxy,
    REGISTRY_USER, Raw, Register, component, node_command, run_node_binary_in, text, within,
};
use rustix::process::{Signal, kill_process};
use serde_json::Value;
use tokio::sync::watch;

/// Which build answers on a node, and as which generation.
async fn answered(node: &Node) -> Result<(char, u64)> {
    let mut client = node.client("/marker").await?;
    marked(&mut client).await
}

async fn marked(client: &mut Client) -> Result<(char, u64)> {
    client.say(text("1")).await?;
    let answer = client.next_text().await?;
    let (mark, rest) = answer.split_once(':').context("a mark")?;
    let (generation, _) = rest.split_once(':').context("a generation")?;
    Ok((mark.parse()?, generation.parse()?))
}

/// Waits until this build answers.
async fn until_answered_by(node: &Node, mark: char) -> Result<()> {
    let answered = async {
        while !matches!(answered(node).await, Ok((by, _)) if by == mark) {}
        anyhow::Ok(())
    };
    within("the build", answered).await
}

fn marker(node: NodeBuilder) -> NodeBuilder {
    node.plugin_from("marker", "marker-a")
}

async fn markers(nodes: usize) -> Result<Cluster> {
    let cluster = Cluster::start(nodes, marker).await?;
    for node in &cluster.nodes()[1..] {
        cluster[0].wait_for_plugins_of(node).await?;
    }
    Ok(cluster)
}

/// Waits until a node has run for long enough to deploy: only then it refuses what cannot run.
async fn until_it_deploys(node: &Node) -> Result<()> {
    let why = Build::of_bytes(b"no component", "")?.refused(node).await?;
    ensure!(why.contains("cannot run on each node"), "{why}");
    Ok(())
}

/// What the node that was asked says of the others and of itself: the source of the build of `marker`.
async fn sources(node: &Node) -> Result<Vec<String>> {
    let nodes = done(node, &["plugins"]).await?;
    let sources = nodes.as_array().context("nodes")?.iter().map(|node| {
        let source = node["plugins"][0]["build"]["source"].as_str();
        source.unwrap_or_default().to_owned()
    });
    Ok(sources.collect())
}

fn says(words: &'static str) -> impl Fn(&LogLine) -> bool {
    move |line| line.says(words)
}

/// What is left of builds that were prepared, in the folder of the kept builds.
fn prepared(node: &Node) -> Result<Vec<String>> {
    let builds = node.folder().beside("builds").join("marker");
    let names = std::fs::read_dir(builds)?.map(|entry| anyhow::Ok(entry?.file_name()));
    let names = names.collect::<Result<Vec<_>>>()?.into_iter();
    let names = names.map(|name| name.to_string_lossy().into_owned());
    let is_other = |name: &String| name.starts_with('.') || name.starts_with("deployment-");
    Ok(names.filter(is_other).collect())
}

async fn until_nothing_is_prepared(node: &Node) -> Result<()> {
    let gone = async {
        while !prepared(node)?.is_empty() {
            tokio::task::yield_now().await;
        }
        anyhow::Ok(())
    };
    within("the end of what was prepared", gone).await
}

/// Numbers its messages, and sends them until it is told to stop: each is answered, in its order.
async fn talk(mut client: Client, stop: watch::Receiver<bool>) -> Result<(u64, String)> {
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
    Ok((sent, marks))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_change_at_once_and_no_message_is_lost() -> Result<()> {
    let cluster = markers(3).await?;
    let (stop, stopped) = watch::channel(false);
    let mut talks = Vec::new();
    for node in cluster.nodes() {
        for _ in 0..10 {
            let client = node.client("/marker").await?;
            talks.push(tokio::spawn(talk(client, stopped.clone())));
        }
    }
    let build = Build::of("marker-b", "")?;
    let deployed = build.deploy(&cluster[0]).await?;
    let nodes = deployed["nodes"].as_array().context("nodes")?;
    assert_eq!(nodes.len(), 3);
    for node in nodes {
        assert_eq!(
            (&node["generation"], &node["failure"]),
            (&2.into(), &Value::Null)
        );
    }
    for node in cluster.nodes() {
        assert_eq!(answered(node).await?, ('b', 2));
    }
    stop.send_replace(true);
    for talk in talks {
        let (sent, marks) = talk.await??;
        assert!(sent > 1);
        assert!(marks == "ab" || marks == "a", "none goes back: {marks}");
    }
    let told = async {
        while sources(&cluster[0]).await? != ["deployment"; 3] {}
        anyhow::Ok(())
    };
    within("the sources", told).await?;
    let listed = done(&cluster[2], &["deployments"]).await?;
    let deployment = &listed["deployments"][0];
    assert_eq!(deployment["plugin"], "marker");
    assert_eq!(deployment["digest"], deployed["digest"]);
    assert_eq!(deployment["origin"], build.path());
    // Once more, and this changes nothing that runs.
    let again = build.deploy(&cluster[1]).await?;
    assert_eq!(
        (&again["version"], &again["digest"]),
        (&2.into(), &deployed["digest"])
    );
    assert_eq!(answered(&cluster[2]).await?, ('b', 2));
    Ok(())
}

#[tokio::test]
async fn where_one_node_cannot_run_it_nothing_changes_anywhere() -> Result<()> {
    let register = Register::start().await?;
    let start = |node: NodeBuilder| marker(node.alone()).registered_at(&[&register]).start();
    let first = start(Node::builder()).await?;
    let second = start(Node::builder()).await?;
    // What the build wants is another plugin's there.
    let third = Node::builder()
        .plugin("echo")
        .manifest("echo", "routes = ['/wanted']");
    let third = start(third).await?;
    for other in [&second, &third] {
        first.wait_for_plugins_of(other).await?;
    }
    let mut client = second.client("/marker").await?;
    let build = Build::of("marker-b", "routes = ['/wanted']")?;
    let why = build.refused(&first).await?;
    let third_is = format!("node {}", third.incarnation().await?);
    for said in [
        "nothing was changed, since the build cannot run on each node",
        &third_is,
        "the path /wanted is the plugin echo's",
    ] {
        assert!(why.contains(said), "{said} in {why}");
    }
    let first_is = first.incarnation().await?;
    assert!(!why.contains(&first_is), "only who is to blame: {why}");
    for node in [&first, &second, &third] {
        assert_eq!(answered(node).await?, ('a', 1));
        until_nothing_is_prepared(node).await?;
    }
    assert_eq!(marked(&mut client).await?, ('a', 1));
    let listed = done(&first, &["deployments"]).await?;
    assert_eq!(listed["deployments"], Value::Array(Vec::new()));
    // The next one may be a better one.
    Build::of("marker-b", "")?.deploy(&second).await?;
    for node in [&first, &second, &third] {
        assert_eq!(answered(node).await?.0, 'b');
    }
    Ok(())
}

#[tokio::test]
async fn a_build_that_does_not_start_is_refused_and_so_is_what_is_none() -> Result<()> {
    let node = marker(Node::builder().alone()).start().await?;
    let why = Build::of("start-refuses", "")?.refused(&node).await?;
    assert!(why.contains("its on-start refused"), "{why}");
    let why = Build::of_bytes(b"no component", "")?.refused(&node).await?;
    assert!(why.contains("cannot run on each node"), "{why}");
    let why = Build::of("marker-b", "rout = []")?.refused(&node).await?;
    assert!(why.contains("its manifest is wrong"), "{why}");
    let why = Build::of_bytes(b"", "")?.refused(&node).await?;
    assert!(why.contains("`component` is missing or empty"), "{why}");
    let build = Build::of("marker-b", "")?;
    let why = refused(&node, &["deploy", &build.path(), "--name", "no name"]).await?;
    assert!(why.contains("is no plugin's name"), "{why}");
    let why = refused(&node, &["undeploy", "marker"]).await?;
    assert!(why.contains("no build of \"marker\" is deployed"), "{why}");
    assert_eq!(answered(&node).await?, ('a', 1));
    until_nothing_is_prepared(&node).await
}

#[tokio::test]
async fn while_a_node_is_silent_nothing_is_deployed() -> Result<()> {
    let cluster = markers(2).await?;
    cluster[1].signal(Signal::STOP)?;
    cluster[0].wait_for_peer_states(&["suspect"]).await?;
    let build = Build::of("marker-b", "")?;
    let why = build.refused(&cluster[0]).await?;
    assert!(why.contains("or they are silent"), "{why}");
    cluster[1].signal(Signal::CONT)?;
    cluster[0].wait_for_peer_states(&["alive"]).await?;
    build.deploy(&cluster[0]).await?;
    for node in cluster.nodes() {
        assert_eq!(answered(node).await?, ('b', 2));
    }
    let rolling = ["deploy", &build.path(), "--rolling", "2h"];
    let why = refused(&cluster[0], &rolling).await?;
    assert!(
        why.contains("rolling_ms is a number from 0 to 3600000"),
        "{why}"
    );
    Ok(())
}

#[tokio::test]
async fn a_node_that_has_just_started_deploys_on_all() -> Result<()> {
    let register = Register::start().await?;
    let start = |node: NodeBuilder| marker(node.alone()).registered_at(&[&register]).start();
    let nodes = [start(Node::builder()).await?, start(Node::builder()).await?];
    let deployed = Build::of("marker-b", "")?.deploy(&nodes[1]).await?;
    assert_eq!(deployed["nodes"].as_array().map(Vec::len), Some(2));
    for node in &nodes {
        assert_eq!(answered(node).await?, ('b', 2));
    }
    Ok(())
}

/// As in `host/src/plugin/preparation.rs`: how long those that are ready wait after somebody has
/// looked at them.
const LEASE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_node_that_compiles_for_long_is_waited_for() -> Result<()> {
    let cluster = Cluster::start(2, |node| marker(node).config("cache = ''")).await?;
    cluster[0].wait_for_plugins_of(&cluster[1]).await?;
    until_it_deploys(&cluster[0]).await?;
    let mut component = std::fs::read(component("marker-b")?)?;
    component.extend(functions_section(8_000));
    let build = Build::of_bytes(&component, "")?;
    // It takes longer than the harness waits for a command.
    let deploying = async {
        let mut deploy = node_command()?;
        deploy.args(["deploy", &build.path(), "--api"]);
        deploy.arg(cluster[0].api_address().to_string());
        let output = tokio::time::timeout(LEASE * 12, deploy.output()).await??;
        ensure!(output.status.success(), "{output:?}");
        anyhow::Ok(())
    };
    let slow = async {
        let compiler = cluster[1].wait_for_compiler(&[]).await?;
        kill_process(compiler, Signal::STOP)?;
        cluster[0].wait_for_log(says("a build is ready")).await?;
        let mut client = cluster[0].client("/marker").await?;
        let stopped = Instant::now();
        while stopped.elapsed() < LEASE + Duration::from_secs(1) {
            assert_eq!(marked(&mut client).await?, ('a', 1));
        }
        Ok(kill_process(compiler, Signal::CONT)?)
    };
    tokio::try_join!(deploying, slow)?;
    for node in cluster.nodes() {
        assert_eq!(answered(node).await?, ('b', 2));
    }
    Ok(())
}

/// As in `host/src/admin/api.rs`.
const DEPLOYS: usize = 4;

#[tokio::test]
async fn few_builds_are_received_at_once() -> Result<()> {
    let node = marker(Node::builder().alone()).start().await?;
    let mut received = Vec::new();
    for _ in 0..DEPLOYS {
        let mut raw = Raw::connect(node.api_address()).await?;
        let head = "PUT /v1/plugins/marker/deployment HTTP/1.1\r\nhost: localhost\r\n\
             content-type: multipart/form-data; boundary=x\r\ncontent-length: 1000000\r\n\
             expect: 100-continue\r\n\r\n";
        raw.write(head.as_bytes()).await?;
        // It is asked for when the node begins to read it.
        let asked = raw.line().await?;
        assert_eq!(asked.as_deref(), Some("HTTP/1.1 100 Continue"));
        received.push(raw);
    }
    let build = Build::of("marker-b", "")?;
    let why = build.refused(&node).await?;
    assert!(why.contains("other deployments are under way"), "{why}");
    assert_eq!(answered(&node).await?, ('a', 1));
    drop(received);
    let deployed = async {
        while build.deploy(&node).await.is_err() {}
        anyhow::Ok(())
    };
    within("a deployment", deployed).await?;
    assert_eq!(answered(&node).await?, ('b', 2));
    let unkept = node.log().so_far(says("a build cannot be kept"));
    assert!(unkept.is_empty(), "{unkept:?}");
    Ok(())
}

#[tokio::test]
async fn a_node_that_dies_before_it_is_ready_leaves_all_as_it_was() -> Result<()> {
    let cluster = markers(3).await?;
    until_it_deploys(&cluster[0]).await?;
    cluster[2].signal(Signal::STOP)?;
    let build = Build::of("marker-b", "")?;
    let deploying = build.refused(&cluster[0]);
    let dying = async {
        cluster[1].wait_for_log(says("a build is ready")).await?;
        cluster[2].signal(Signal::KILL)
    };
    let (why, died) = tokio::join!(deploying, dying);
    died?;
    let why = why?;
    assert!(why.contains("the node is gone"), "{why}");
    for node in &cluster.nodes()[..2] {
        assert_eq!(answered(node).await?, ('a', 1));
        until_nothing_is_prepared(node).await?;
    }
    Ok(())
}

#[tokio::test]
async fn if_the_node_that_was_asked_dies_the_others_drop_what_they_have() -> Result<()> {
    let register = Register::start().await?;
    let start = |node: NodeBuilder| marker(node.alone()).registered_at(&[&register]).start();
    let [asked, ready, slow] = [
        start(Node::builder()).await?,
        start(Node::builder()).await?,
        start(Node::builder()).await?,
    ];
    for other in [&ready, &slow] {
        asked.wait_for_plugins_of(other).await?;
    }
    until_it_deploys(&asked).await?;
    slow.signal(Signal::STOP)?;
    let build = Build::of("marker-b", "")?;
    let deploying = build.refused(&asked);
    let dying = async {
        ready.wait_for_log(says("a build is ready")).await?;
        asked.signal(Signal::KILL)
    };
    let (why, died) = tokio::join!(deploying, dying);
    died?;
    assert!(why?.contains("cannot be reached"));
    slow.signal(Signal::CONT)?;
    until_nothing_is_prepared(&ready).await?;
    for node in [&ready, &slow] {
        assert_eq!(answered(node).await?, ('a', 1));
    }
    Ok(())
}

#[tokio::test]
async fn a_node_that_dies_when_it_is_decided_has_it_in_its_next_run() -> Result<()> {
    let register = Register::start().await?;
    let start = |node: NodeBuilder| marker(node.alone()).registered_at(&[&register]).start();
    let [asked, dies, stays] = [
        start(Node::builder()).await?,
        start(Node::builder()).await?,
        start(Node::builder()).await?,
    ];
    for other in [&dies, &stays] {
        asked.wait_for_plugins_of(other).await?;
    }
    let dying_node = dies.incarnation().await?;
    let build = Build::of("marker-b", "")?;
    let deploying = build.deploy(&asked);
    let dying = async {
        asked.wait_for_log(says("deployed")).await?;
        dies.signal(Signal::KILL)
    };
    let (deployed, died) = tokio::join!(deploying, dying);
    died?;
    let deployed = deployed?;
    for node in deployed["nodes"].as_array().context("nodes")? {
        let failure = &node["failure"];
        // It may have heard of it, and have said so.
        let may_be_gone = node["node"] == dying_node && failure == "the node is gone";
        assert!(failure.is_null() || may_be_gone, "{node}");
    }
    for node in [&asked, &stays] {
        assert_eq!(answered(node).await?, ('b', 2));
    }
    // In its next run, its folder has what it had, and yet this is what runs.
    let next = start(Node::builder()).await?;
    until_answered_by(&next, 'b').await
}

#[tokio::test]
async fn what_no_node_has_runs_on_all_also_on_those_that_come_later() -> Result<()> {
    let cluster = Cluster::start(2, |node| node).await?;
    let build = Build::of("marker-b", "")?;
    let deployed = build.deploy(&cluster[0]).await?;
    assert_eq!(deployed["nodes"].as_array().context("nodes")?.len(), 2);
    for node in cluster.nodes() {
        assert_eq!(answered(node).await?, ('b', 1));
    }
    let builds = tempfile::tempdir()?;
    let path = builds.path().display().to_string();
    let later = || {
        let later = Node::builder()
            .alone()
            .environment("JACKFIELD_BUILDS", &path);
        later.registered_at(&[cluster.register()])
    };
    let third = later().start().await?;
    // Until it has it itself, others answer its clients.
    until_answered_by(&third, 'b').await?;
    third.generation_loaded("marker", 1).await?;
    third.stop().await?;
    // It has it by itself now.
    let alone = Node::builder()
        .alone()
        .environment("JACKFIELD_BUILDS", &path);
    let alone = alone.start().await?;
    assert_eq!(answered(&alone).await?, ('b', 1));
    alone.stop().await?;
    // While it was away, it was withdrawn: there is nothing left to run.
    done(&cluster[1], &["undeploy", "marker"]).await?;
    let fourth = later().start().await?;
    for node in [&cluster[0], &cluster[1], &fourth] {
        let gone = async {
            while node.client("/marker").await.is_ok() {}
            anyhow::Ok(())
        };
        within("the end of the plugin", gone).await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_folder_counts_again_when_a_deployment_is_withdrawn() -> Result<()> {
    let cluster = markers(2).await?;
    Build::of("marker-b", "")?.deploy(&cluster[0]).await?;
    let mut client = cluster[1].client("/marker").await?;
    assert_eq!(marked(&mut client).await?, ('b', 2));
    // Whoever changes the folder is told.
    cluster[1]
        .folder()
        .put_manifest("marker", "# another one")?;
    let told = cluster[1].wait_for_log(says("since another build of the plugin is deployed"));
    assert!(told.await?.says("`jackfield undeploy marker`"));
    assert_eq!(marked(&mut client).await?, ('b', 2));
    done(&cluster[0], &["undeploy", "marker"]).await?;
    until_answered_by(&cluster[0], 'a').await?;
    until_answered_by(&cluster[1], 'a').await?;
    assert_eq!(marked(&mut client).await?, ('a', 3), "no socket was closed");
    let told = async {
        while sources(&cluster[0]).await? != ["folder"; 2] {}
        anyhow::Ok(())
    };
    within("the sources", told).await
}

#[tokio::test]
async fn where_it_runs_already_only_its_source_changes() -> Result<()> {
    let node = marker(Node::builder().alone()).start().await?;
    let same = Build::of("marker-a", "")?;
    let deployed = same.deploy(&node).await?;
    assert_eq!(deployed["nodes"][0]["generation"], 1);
    assert_eq!(sources(&node).await?, ["deployment"]);
    done(&node, &["undeploy", "marker"]).await?;
    let told = async {
        while sources(&node).await? != ["folder"] {}
        anyhow::Ok(())
    };
    within("the source", told).await?;
    assert_eq!(answered(&node).await?, ('a', 1));
    Ok(())
}

/// How often the connection breaks in the test below.
const CUTS: u64 = 5;

#[tokio::test]
async fn a_transfer_goes_on_where_a_connection_broke() -> Result<()> {
    let proxy = Proxy::start().await?;
    let first = marker(Node::builder().alone())
        .meshed()
        .start_behind(&proxy)
        .await?;
    let peer = proxy.address().to_string();
    let second = marker(Node::builder().alone()).meshed();
    let second = second.arguments(&["--peer", &peer]).start().await?;
    first.wait_for_plugins_of(&second).await?;
    let mut component = std::fs::read(component("marker-b")?)?;
    component.extend(random_section(40 << 20));
    let build = Build::of_bytes(&component, "")?;
    let builds = second.folder().beside("builds").join("marker");
    let received = || {
        let folders = std::fs::read_dir(&builds).into_iter().flatten().flatten();
        let files = folders.filter_map(|folder| folder.path().join("plugin.wasm").metadata().ok());
        files.map(|file| file.len()).max().unwrap_or_default()
    };
    let cuts = async {
        for cut in 1..=CUTS {
            while received() < cut * (40 << 20) / (CUTS + 1) {
                tokio::task::yield_now().await;
            }
            proxy.cut_for_a_moment();
        }
        anyhow::Ok(())
    };
    let cuts = within("the cuts", cuts);
    let (deployed, ()) = tokio::try_join!(build.deploy(&first), cuts)?;
    for node in deployed["nodes"].as_array().context("nodes")? {
        assert_eq!(node["failure"], Value::Null, "{node}");
    }
    assert_eq!(answered(&second).await?, ('b', 2));
    Ok(())
}

/// Sends messages to `flaky` until it is told to stop, of which every other one may trap.
async fn keep_sending(mut client: Client, stop: watch::Receiver<bool>) -> Result<()> {
    while !*stop.borrow() {
        client.say(text("10")).await?;
        client.say(text("1")).await?;
        // The answer to the first one may be missing.
        while client.next_text().await? != "1" {}
    }
    Ok(())
}

/// The manifest of `flaky`.
fn flaky(traps: &str) -> String {
    format!("policies.on_trap = 'keep'\nconfig.traps = '{traps}'\n")
}

/// The generations that the nodes of a cluster run, in order.
async fn generations(node: &Node) -> Result<Vec<u64>> {
    let nodes = done(node, &["plugins"]).await?;
    let nodes = nodes.as_array().into_iter().flatten();
    let mut all: Vec<_> = nodes
        .filter_map(|node| node["plugins"][0]["build"]["generation"].as_u64())
        .collect();
    all.sort_unstable();
    Ok(all)
}

async fn until_generations_are(node: &Node, wanted: &[u64]) -> Result<()> {
    let there = async {
        while generations(node).await? != wanted {}
        anyhow::Ok(())
    };
    within("the generations", there).await
}

/// Deploys a build whose events fail on three nodes, one after the other.
async fn fails_on_trial(manifest: &str, why: &str) -> Result<Cluster> {
    let with = |node: NodeBuilder| {
        node.plugin_from("marker", "flaky")
            .manifest("marker", &flaky("none"))
    };
    let cluster = Cluster::start(3, with).await?;
    for node in &cluster.nodes()[1..] {
        cluster[0].wait_for_plugins_of(node).await?;
    }
    let (stop, stopped) = watch::channel(false);
    let mut sending = Vec::new();
    for node in cluster.nodes() {
        let client = node.client("/marker").await?;
        sending.push(tokio::spawn(keep_sending(client, stopped.clone())));
    }
    let bad = Build::of("flaky", manifest)?;
    let deploy = ["deploy", &bad.path(), "--rolling", "60s"];
    let said = refused(&cluster[0], &deploy).await?;
    assert!(said.contains(why), "{said}");
    assert_eq!(said.matches("node ").count(), 1, "one is to blame: {said}");
    until_generations_are(&cluster[0], &[1, 1, 3]).await?;
    stop.send_replace(true);
    for sending in sending {
        sending.await??;
    }
    // It answers again, wherever it was tried.
    for node in cluster.nodes() {
        let mut client = node.client("/marker").await?;
        client.say(text("10")).await?;
        assert_eq!(client.next_text().await?, "10");
    }
    let listed = done(&cluster[0], &["deployments"]).await?;
    assert_eq!(listed["deployments"], Value::Array(Vec::new()));
    Ok(cluster)
}

#[tokio::test]
async fn a_build_on_trial_that_demands_more_of_clients_is_gone_back_from_too() -> Result<()> {
    // A node does not go back from it by itself: its rules are other ones.
    let stricter = format!("origins = ['https://a.example']\n{}", flaky("tenth"));
    fails_on_trial(&stricter, "events failed").await?;
    Ok(())
}

#[tokio::test]
async fn one_after_the_other_the_first_that_fails_ends_it_and_goes_back() -> Result<()> {
    let cluster = fails_on_trial(&flaky("tenth"), "node ").await?;
    let good = Build::of("flaky", &flaky("never"))?;
    let settle = Duration::from_millis(300);
    let deploy = ["deploy", &good.path(), "--rolling", "300ms"];
    let deployed = done(&cluster[0], &deploy).await?;
    assert_eq!(deployed["version"], 1);
    until_generations_are(&cluster[0], &[2, 2, 4]).await?;
    let nodes = done(&cluster[0], &["plugins"]).await?;
    let nodes = nodes.as_array().context("nodes")?;
    let mut times: Vec<_> = nodes
        .iter()
        .filter_map(|node| node["plugins"][0]["build"]["loaded_at_ms"].as_u64())
        .collect();
    times.sort_unstable();
    for pair in times.windows(2) {
        assert!(
            u128::from(pair[1] - pair[0]) >= settle.as_millis(),
            "{times:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_gateway_deploys_nothing_and_serves_what_is_deployed() -> Result<()> {
    let register = Register::start().await?;
    let full = Node::builder()
        .alone()
        .registered_at(&[&register])
        .start()
        .await?;
    let gateway = Node::builder()
        .gateway()
        .registered_at(&[&register])
        .start()
        .await?;
    gateway.wait_for_peers(1).await?;
    let build = Build::of("marker-b", "")?;
    let why = build.refused(&gateway).await?;
    assert!(why.contains("this node is a gateway"), "{why}");
    let deployed = build.deploy(&full).await?;
    assert_eq!(deployed["nodes"].as_array().context("nodes")?.len(), 1);
    until_answered_by(&gateway, 'b').await?;
    let listed = done(&gateway, &["deployments"]).await?;
    assert_eq!(listed["deployments"][0]["plugin"], "marker");
    Ok(())
}

#[tokio::test]
async fn all_nodes_go_back_to_a_build_that_one_of_them_keeps() -> Result<()> {
    let cluster = markers(2).await?;
    Build::of("marker-b", "")?.deploy(&cluster[0]).await?;
    let back = ["plugins", "rollback", "marker", "--everywhere"];
    let deployed = done(&cluster[1], &back).await?;
    assert_eq!(deployed["version"], 2);
    for node in cluster.nodes() {
        assert_eq!(answered(node).await?, ('a', 3));
    }
    let listed = done(&cluster[0], &["deployments"]).await?;
    let origin = listed["deployments"][0]["origin"]
        .as_str()
        .context("an origin")?;
    assert!(origin.starts_with("the kept build "), "{origin}");
    let why = [&back[..3], &["ffff", "--everywhere"]].concat();
    let why = refused(&cluster[0], &why).await?;
    assert!(why.contains("jackfield plugins builds marker"), "{why}");
    Ok(())
}

#[tokio::test]
async fn a_component_comes_from_a_registry_and_is_pinned_by_its_digest() -> Result<()> {
    let registry = OciRegistry::start().await?;
    let component = std::fs::read(component("marker-b")?)?;
    let at = registry.address();
    let digest = registry
        .push("team/marker:1.2", COMPONENT_CONFIG, component)
        .await?;
    let node = marker(Node::builder().alone()).start().await?;
    let deploy = async |reference: &str| {
        let reference = format!("oci://{at}/{reference}");
        done(&node, &["deploy", &reference]).await
    };
    deploy("team/marker:1.2").await?;
    assert_eq!(answered(&node).await?, ('b', 2));
    let listed = done(&node, &["deployments"]).await?;
    let pinned = format!("oci://{at}/team/marker@{digest}");
    assert_eq!(listed["deployments"][0]["origin"], pinned);
    // What is pinned can be deployed again, wherever the tag leads now.
    deploy(&format!("team/marker@{digest}")).await?;

    registry
        .push(
            "team/image:1",
            "application/vnd.oci.image.config.v1+json",
            vec![1],
        )
        .await?;
    for (reference, why) in [
        (
            "team/image:1",
            "is no component: its configuration is of the type",
        ),
        ("team/marker:2.0", "team/marker:2.0"),
        ("Marker Two", "is no reference: write oci://HOST/NAME:TAG"),
    ] {
        let reference = format!("oci://{at}/{reference}");
        let said = refused(&node, &["deploy", &reference]).await?;
        assert!(said.contains(why), "{said}");
    }
    Ok(())
}

#[tokio::test]
async fn a_registry_is_asked_over_tls_as_who_has_logged_in() -> Result<()> {
    let authority = Authority::new()?;
    let registry = OciRegistry::start_with(Some(&authority)).await?;
    let bytes = std::fs::read(component("marker-b")?)?;
    registry.push("marker:1", COMPONENT_CONFIG, bytes).await?;
    let node = marker(Node::builder().alone()).start().await?;
    let home = tempfile::tempdir()?;
    let api = format!("http://{}", node.api_address());
    let reference = format!("oci://{}/marker:1", registry.address());
    let (file, login) = (authority.file(), home.path().display().to_string());
    let file = file.display().to_string();
    let deploy = async || {
        let environment = [
            ("JACKFIELD_API_URL", &*api),
            ("DOCKER_CONFIG", &login),
            ("REGISTRY_AUTH_FILE", "/nowhere"),
        ];
        let arguments = ["deploy", &reference, "--registry-authority", &file];
        run_node_binary_in(&environment, &arguments).await
    };
    let output = deploy().await?;
    assert_eq!(output.code, 1, "nobody has logged in: {}", output.text());
    assert!(output.stderr.contains(&reference), "{}", output.stderr);
    let (user, password) = REGISTRY_USER;
    let auth = BASE64_STANDARD.encode(format!("{user}:{password}"));
    let auths =
        serde_json::json!({ "auths": { registry.address().to_string(): { "auth": auth } } });
    std::fs::write(home.path().join("config.json"), auths.to_string())?;
    let output = deploy().await?;
    assert_eq!(output.code, 0, "{}", output.text());
    assert_eq!(answered(&node).await?, ('b', 2));
    Ok(())
}

/// A token for all plugins, and one for `marker` alone. The digests are what `printf %s all-token |
/// sha256sum` and the same of `one-token` print.
const TOKENS: &str = "[[token]]\nname = 'all'\nscopes = ['operate', 'read']\n\
     sha256 = '9b55a7eb696557361a993bb4f81103b3cf34ade2d81e5888bd1a97ed6993d7fe'\n\
     [[token]]\nname = 'one'\nscopes = ['operate', 'read']\nplugins = ['marker']\n\
     sha256 = '4c135fb168d8874ad2ef74de308f89e2898a577600667cb7c58c57a2bae01475'\n";

#[tokio::test]
async fn who_may_deploy_one_plugin_reaches_nothing_else_by_it() -> Result<()> {
    let tokens = tempfile::NamedTempFile::new()?;
    std::fs::write(&tokens, TOKENS)?;
    let tokens = tokens.path().display().to_string();
    let node = marker(Node::builder().alone()).arguments(&["--api-tokens", &tokens]);
    let node = node.file("marker.key", "a secret\n").start().await?;
    let api = format!("http://{}", node.api_address());
    let run = async |token: &str, arguments: &[&str]| {
        let environment = [("JACKFIELD_API_URL", &*api), ("JACKFIELD_API_TOKEN", token)];
        run_node_binary_in(&environment, arguments).await
    };
    let manifest = "config.key = { file = 'marker.key' }";
    let build = Build::of("marker-b", manifest)?;
    let refused = run("one-token", &["deploy", &build.path()]).await?;
    assert!(
        refused
            .stderr
            .contains("does not (config.key = marker.key)"),
        "{}",
        refused.stderr
    );
    let other = run("one-token", &["deploy", &build.path(), "--name", "other"]).await?;
    assert!(
        other.stderr.contains("is not for the plugin"),
        "{}",
        other.stderr
    );
    let other = run("one-token", &["undeploy", "other"]).await?;
    assert!(
        other.stderr.contains("is not for the plugin"),
        "{}",
        other.stderr
    );
    assert_eq!(answered(&node).await?, ('a', 1));
    let deployed = run("all-token", &["deploy", &build.path()]).await?;
    assert_eq!(deployed.code, 0, "{}", deployed.text());
    // What it names already, it may go on naming.
    let next = Build::of("marker-a", manifest)?;
    let deployed = run("one-token", &["deploy", &next.path()]).await?;
    assert_eq!(deployed.code, 0, "{}", deployed.text());
    assert_eq!(answered(&node).await?, ('a', 3));
    let listed = run("one-token", &["deployments"]).await?;
    assert!(listed.stdout.contains(" one "), "{}", listed.stdout);
    Ok(())
}

#[tokio::test]
async fn where_a_disk_has_no_room_nothing_changes() -> Result<()> {
    let cluster = markers(2).await?;
    let mut component = std::fs::read(component("marker-b")?)?;
    component.extend(random_section(4 << 20));
    let build = Build::of_bytes(&component, "")?;
    for full in cluster.nodes() {
        full.limit_files_to(Some(1 << 20))?;
        let why = build.refused(&cluster[0]).await?;
        assert!(why.contains("File too large"), "{why}");
        full.limit_files_to(None)?;
    }
    for node in cluster.nodes() {
        assert_eq!(answered(node).await?, ('a', 1));
        until_nothing_is_prepared(node).await?;
    }
    build.deploy(&cluster[0]).await?;
    assert_eq!(answered(&cluster[1]).await?, ('b', 2));
    Ok(())
}

#[tokio::test]
async fn another_plugin_can_be_deployed_while_one_is_on_trial() -> Result<()> {
    let cluster = markers(2).await?;
    let marker = Build::of("marker-b", "")?;
    let deploy = ["deploy", &marker.path(), "--rolling", "2s"];
    let rolling = done(&cluster[0], &deploy);
    let other = async {
        let began =
            |line: &LogLine| line.says("plugin loaded") && line.number("generation") == Some(2);
        cluster[1].wait_for_log(began).await?;
        let echo = component("echo")?.display().to_string();
        done(&cluster[1], &["deploy", &echo]).await?;
        let again = ["deploy", &marker.path()];
        let why = refused(&cluster[1], &again).await?;
        assert!(
            why.contains("another deployment of the plugin is under way"),
            "{why}"
        );
        anyhow::Ok(())
    };
    let (deployed, ()) = tokio::try_join!(rolling, other)?;
    for node in deployed["nodes"].as_array().context("nodes")? {
        assert_eq!(node["failure"], Value::Null);
    }
    for node in cluster.nodes() {
        assert_eq!(answered(node).await?, ('b', 2));
    }
    Ok(())
}

#[tokio::test]
async fn the_same_build_twice_at_once_stays_on_the_disk() -> Result<()> {
    let node = Node::builder().alone().start().await?;
    let build = Build::of("marker-b", "")?;
    let (one, other) = tokio::join!(build.deploy(&node), build.deploy(&node));
    assert!(one.is_ok() || other.is_ok(), "{one:?} {other:?}");
    assert_eq!(answered(&node).await?.0, 'b');
    let kept = prepared(&node)?;
    let [folder] = &kept[..] else {
        anyhow::bail!("{kept:?}");
    };
    let builds = node.folder().beside("builds").join("marker");
    assert!(builds.join(folder).join("plugin.wasm").exists());
    Ok(())
}

#[tokio::test]
async fn what_has_lost_its_manifest_does_not_run_without_it() -> Result<()> {
    let builds = tempfile::tempdir()?;
    let path = builds.path().display().to_string();
    let node = || {
        Node::builder()
            .alone()
            .environment("JACKFIELD_BUILDS", &path)
    };
    let first = node().start().await?;
    let strict = Build::of(
        "marker-b",
        "origins = ['https://a.example']\nrequire_origin = true",
    )?;
    strict.deploy(&first).await?;
    assert!(first.client("/marker").await.is_err());
    first.stop().await?;
    let folders = std::fs::read_dir(builds.path().join("marker"))?.flatten();
    let mut removed = 0;
    for folder in folders {
        let is_deployed = folder
            .file_name()
            .to_string_lossy()
            .starts_with("deployment-");
        if is_deployed {
            std::fs::remove_file(folder.path().join("plugin.toml"))?;
            removed += 1;
        }
    }
    assert_eq!(removed, 1);
    let second = node().start().await?;
    second
        .wait_for_log(says("the build that was deployed is not here yet"))
        .await?;
    assert!(second.client("/marker").await.is_err());
    Ok(())
}
