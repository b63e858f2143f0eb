//! Several nodes: who is sent to, what is known where and when, and reloads meanwhile.
//!
//! Real nodes in processes of their own, which learn of each other from a register. How much
//! a node has said to each of its peers is what its API tells (`GET /v1/nodes`).

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jackfield_tests::{
    Authority, CertificateFile, Client, Cluster, End, Etcd, Node, NodeBuilder, count, text, within,
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

#[tokio::test]
async fn a_send_goes_to_the_nodes_that_hold_its_target_and_to_no_others() -> Result<()> {
    let cluster = consoles(8).await?;
    let mut sender = cluster[0].console(&[]).await?;
    let query = [("uid", "ada"), ("group", "lobby")];
    let mut ada = cluster[3].console(&query).await?;
    let mut bob = cluster[6].console(&[("group", "lobby")]).await?;
    wait_for_count(&mut sender, "lobby", 2).await?;

    let to_group = json!({ "do": "send-to-group", "group": "lobby", "text": "both" });
    sender.ok(to_group).await?;
    let to_uid = json!({ "do": "send-to-uid", "uid": "ada", "text": "ada" });
    sender.ok(to_uid).await?;
    let to_client = json!({ "do": "send-to-client", "client": bob.id(), "text": "bob" });
    sender.ok(to_client).await?;
    assert_eq!(ada.next().await?, text("both"));
    assert_eq!(ada.next().await?, text("ada"));
    assert_eq!(bob.next().await?, text("both"));
    assert_eq!(bob.next().await?, text("bob"));

    let mut said: Vec<u64> = deliveries(&cluster[0]).await?.into_values().collect();
    said.sort_unstable();
    assert_eq!(said, [0, 0, 0, 0, 0, 2, 2], "frames for each peer");
    for node in &cluster.nodes()[1..] {
        assert_eq!(
            deliveries(node).await?.values().sum::<u64>(),
            0,
            "nobody forwards"
        );
    }
    // Nobody has them: nobody is told.
    let to_nobody = json!({ "do": "send-to-group", "groups": ["void"], "text": "m" });
    sender.ok(to_nobody).await?;
    assert_eq!(deliveries(&cluster[0]).await?.values().sum::<u64>(), 4);
    Ok(())
}

#[tokio::test]
async fn what_is_bound_or_joined_through_a_node_is_reached_through_it_at_once() -> Result<()> {
    const ROUNDS: usize = 1_000;
    let cluster = consoles(2).await?;
    let mut ada = cluster[0].console(&[]).await?;
    let mut bob = cluster[1].console(&[]).await?;
    for round in 0..ROUNDS {
        let (text, id) = (round.to_string(), ada.id());
        let (change, send) = match round % 2 {
            0 => (
                json!({ "do": "join-group", "client": id, "group": format!("g{round}") }),
                json!({ "do": "send-to-group", "group": format!("g{round}"), "text": text }),
            ),
            _ => (
                json!({ "do": "bind-uid", "client": id, "uid": format!("u{round}") }),
                json!({ "do": "send-to-uid", "uid": format!("u{round}"), "text": text }),
            ),
        };
        bob.ok(change).await?;
        assert_eq!(bob.ok(send).await?["clients"], 1, "round {round}");
    }
    for round in 0..ROUNDS {
        assert_eq!(ada.next().await?, text(&round.to_string()));
    }
    Ok(())
}

/// More members than a node changes before it lets others run.
#[tokio::test]
async fn a_group_of_very_many_is_dissolved_and_closed_from_another_node() -> Result<()> {
    const MEMBERS: u64 = 1_300;
    let build = |node: NodeBuilder| {
        node.plugin("console")
            .config("limits.connects_per_second = 0\n")
    };
    let cluster = Cluster::start(2, build).await?;
    let mut asker = cluster[1].console(&[]).await?;
    let mut members = JoinSet::new();
    for number in 0..MEMBERS {
        let address = cluster[0].address();
        members.spawn(async move {
            let path = format!("/console?group=all&group=some&uid=u{number}");
            Client::connect(address, &path, &[]).await
        });
    }
    let members = members.join_all().await.into_iter();
    let members: Vec<Client> = members.collect::<Result<_>>()?;
    wait_for_count(&mut asker, "some", MEMBERS).await?;
    wait_for_count(&mut asker, "all", MEMBERS).await?;

    let uids = json!({ "do": "get-uid-count-by-group", "group": "all" });
    assert_eq!(asker.ok(uids).await?, count(MEMBERS));
    let dissolved = asker
        .ok(json!({ "do": "ungroup", "group": "some" }))
        .await?;
    assert_eq!(dissolved, count(MEMBERS));
    let left = asker.ok(json!({ "do": "get-client-count-by-group", "group": "some" }));
    assert_eq!(left.await?, count(0), "who has the answer knows");
    let close = json!({ "do": "close-group", "group": "all", "code": 4000, "reason": "over" });
    assert_eq!(asker.ok(close).await?, count(MEMBERS));
    for mut member in members {
        let (_, end) = member.until_end().await?;
        assert_eq!(end, End::closed(4000, "over"));
    }
    Ok(())
}

/// Who hears of a join from somebody who has joined finds them in the group: a node tells what
/// changed before it tells anything after it.
#[tokio::test]
async fn a_message_does_not_come_before_what_its_sender_did_before() -> Result<()> {
    let cluster = consoles(2).await?;
    let mut ada = cluster[0].console(&[]).await?;
    let mut bob = cluster[1].console(&[]).await?;
    for round in 0..200 {
        let group = format!("g{round}");
        ada.ok(json!({ "do": "join-group", "group": group }))
            .await?;
        let tell = json!({ "do": "send-to-client", "client": bob.id(), "text": "joined" });
        ada.ok(tell).await?;
        assert_eq!(bob.next().await?, text("joined"));
        let members = json!({ "do": "get-client-count-by-group", "group": group });
        assert_eq!(bob.ok(members).await?, count(1), "round {round}");
    }
    Ok(())
}

/// Two nodes bind the same uid without knowing of each other's, again and again: in the end
/// one client has it.
#[tokio::test]
async fn of_two_clients_that_are_bound_to_one_uid_at_once_one_keeps_it() -> Result<()> {
    for policy in ["kick-old", "reject-new"] {
        let cluster = Cluster::start(2, |node| {
            node.plugin("console")
                .manifest("console", &format!("[policies]\nuid = '{policy}'"))
        })
        .await?;
        for round in 0..20 {
            let uid = format!("ada-{round}");
            let mut here = cluster[0].console(&[]).await?;
            let mut there = cluster[1].console(&[]).await?;
            let bind = json!({ "do": "bind-uid", "uid": uid });
            let (first, second) = (here.start(bind.clone()).await?, there.start(bind).await?);
            // Whoever loses is closed, or was told that the uid is taken.
            let (first, second) = (
                here.answer_or_end(first).await?,
                there.answer_or_end(second).await?,
            );
            let mut watcher = cluster[0].console(&[]).await?;
            let left = async {
                loop {
                    let list = json!({ "do": "get-client-ids-by-uid", "uid": uid });
                    let holders = watcher.walk(list, 10).await?;
                    if holders.len() == 1 {
                        return anyhow::Ok(holders);
                    }
                }
            };
            let left = within(&format!("one of them to go: {first:?}, {second:?}"), left).await?;
            ensure!([here.id(), there.id()].contains(&&*left[0]), "{left:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn nodes_find_each_other_in_etcd_also_after_it_was_restarted() -> Result<()> {
    let mut etcd = Etcd::start()?;
    let source = etcd.source();
    let start = || async {
        let arguments = ["--mesh", "127.0.0.1:0", "--discover", &source];
        let builder = Node::builder().plugin("console").alone();
        builder.arguments(&arguments).start().await
    };
    let nodes = [start().await?, start().await?, start().await?];
    for node in &nodes {
        node.wait_for_peers(2).await?;
    }
    etcd.restart().await?;
    // Who is known stays known, and who comes is found.
    let late = start().await?;
    late.wait_for_peers(3).await?;
    let [first, second, third] = nodes;
    first.wait_for_peers(3).await?;

    // Who drains takes its name off: the next one does not look for it.
    third.stop().await?;
    let last = start().await?;
    last.wait_for_peers(3).await?;
    second.wait_for_peers(3).await?;
    let missed = last.log().so_far(|line| line.says("not linked to a node"));
    assert!(missed.is_empty(), "{missed:?}");
    Ok(())
}

/// Nodes with certificates of one authority know each other, by secret or not; whoever has
/// another one's, or none, stays outside.
#[tokio::test]
async fn with_certificates_only_those_of_the_authority_take_part() -> Result<()> {
    let (ours, theirs) = (Authority::new()?, Authority::new()?);
    let first = node_with(Some(&ours), None).await?;
    let address = first.mesh_address()?.to_string();
    let second = node_with(Some(&ours), Some(&address)).await?;
    first.wait_for_peers(1).await?;
    second.wait_for_peers(1).await?;

    for stranger in [Some(&theirs), None] {
        let stranger = node_with(stranger, Some(&address)).await?;
        stranger
            .wait_for_log(|line| line.says("not linked to a node"))
            .await?;
        assert_eq!(stranger.peers().await?, [] as [Value; 0]);
    }
    // Nobody has come meanwhile, and the two talk.
    let mut ada = first.console(&[]).await?;
    let mut bob = second.console(&[]).await?;
    let tell = json!({ "do": "send-to-client", "client": bob.id(), "text": "hi" });
    ada.ok(tell).await?;
    assert_eq!(bob.next().await?, text("hi"));
    assert_eq!(first.peers().await?.len(), 1);
    Ok(())
}

/// The flags of a node with this certificate, for the name `mesh`.
fn flags(authority: &Authority, issued: &CertificateFile) -> Vec<String> {
    vec![
        format!("--tls-certificate={}", issued.certificate.display()),
        format!("--tls-key={}", issued.key.display()),
        format!("--tls-authority={}", authority.file().display()),
        "--tls-name=mesh".to_owned(),
    ]
}

#[tokio::test]
async fn renewed_certificates_of_the_mesh_need_no_restart() -> Result<()> {
    let authority = Authority::new()?;
    let issued = authority.issue("node", &["mesh"])?;
    let start = async |peers: &[&Node]| {
        let mut arguments = flags(&authority, &issued);
        arguments.push("--mesh=127.0.0.1:0".to_owned());
        for peer in peers {
            arguments.push(format!("--peer={}", peer.mesh_address()?));
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let builder = Node::builder().plugin("console").alone();
        builder.arguments(&arguments).start().await
    };
    let first = start(&[]).await?;
    let second = start(&[&first]).await?;
    first.wait_for_peers(1).await?;

    // All is new, and nobody knows the former authority any more.
    let renewed = Authority::new()?;
    let files = renewed.issue("node", &["mesh"])?;
    std::fs::copy(&files.certificate, &issued.certificate)?;
    std::fs::copy(&files.key, &issued.key)?;
    std::fs::copy(renewed.file(), authority.file())?;
    for node in [&first, &second] {
        node.wait_for_log(|line| line.says("the certificates of the mesh were read again"))
            .await?;
    }
    let third = start(&[&first, &second]).await?;
    for node in [&first, &second, &third] {
        node.wait_for_peers(2).await?;
    }
    let mut ada = first.console(&[]).await?;
    for node in [&second, &third] {
        let mut bob = node.console(&[]).await?;
        let tell = json!({ "do": "send-to-client", "client": bob.id(), "text": "hi" });
        ada.ok(tell).await?;
        assert_eq!(bob.next().await?, text("hi"));
    }
    Ok(())
}

/// A node with a certificate, or without, that dials another one.
async fn node_with(authority: Option<&Authority>, peer: Option<&str>) -> Result<Node> {
    let mut arguments = vec!["--mesh=127.0.0.1:0".to_owned()];
    arguments.extend(peer.map(|peer| format!("--peer={peer}")));
    if let Some(authority) = authority {
        arguments.extend(flags(authority, &authority.issue("node", &["mesh"])?));
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let builder = Node::builder().plugin("console").alone();
    builder.arguments(&arguments).start().await
}

/// The single node's test of reload under load, with the clients of three nodes in one group:
/// each hears everything that anybody publishes, once and in order, and each publisher's
/// messages come from ever newer generations.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_lose_nothing_that_crosses_nodes() -> Result<()> {
    const LISTENERS: usize = 10;
    const RELOADS: u64 = 20;
    let cluster = Cluster::start(3, |node| node.plugin_from("marker", "marker-a")).await?;
    let mut listeners = JoinSet::new();
    for node in cluster.nodes() {
        for _ in 0..LISTENERS {
            let mut client = node.client("/marker").await?;
            client.say("join").await?;
            ensure!(
                client.next_text().await?.ends_with(":join"),
                "it has joined"
            );
            listeners.spawn(listen(client, cluster.nodes().len()));
        }
    }
    // A publisher's first message finds everybody: theirs are on their way before it.
    for node in cluster.nodes() {
        wait_for_held(node, "groups", cluster.nodes().len() - 1).await?;
    }
    let (over, is_over) = tokio::sync::watch::channel(false);
    let mut publishers = JoinSet::new();
    for (number, node) in cluster.nodes().iter().enumerate() {
        let client = node.client("/marker").await?;
        publishers.spawn(publish(client, number, is_over.clone()));
    }

    for reload in 1..=RELOADS {
        let build = ["marker-a", "marker-b"][usize::from(reload % 2 == 1)];
        for node in cluster.nodes() {
            node.folder().put("marker", build)?;
        }
        for node in cluster.nodes() {
            node.generation_loaded("marker", reload + 1).await?;
        }
    }
    over.send_replace(true);
    let mut published = BTreeMap::new();
    while let Some(publisher) = publishers.join_next().await {
        let (number, messages) = publisher??;
        published.insert(number, messages);
    }
    while let Some(heard) = listeners.join_next().await {
        assert_eq!(heard??, published);
    }
    let total: u64 = published.values().sum();
    ensure!(total > RELOADS * 10, "only {total} messages were under way");
    Ok(())
}

/// Publishes a number every so often until it is over, and then that it ends; how many.
async fn publish(
    mut client: Client,
    number: usize,
    over: tokio::sync::watch::Receiver<bool>,
) -> Result<(usize, u64)> {
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    let mut sent = 0;
    while !*over.borrow() {
        ticks.tick().await;
        client.say(format!("publish {number} {sent}")).await?;
        sent += 1;
    }
    client.say(format!("publish {number} end")).await?;
    Ok((number, sent))
}

/// Listens until all publishers have ended; how much it heard of each.
async fn listen(mut client: Client, publishers: usize) -> Result<BTreeMap<usize, u64>> {
    let mut heard: BTreeMap<usize, u64> = BTreeMap::new();
    let mut generations: BTreeMap<usize, u64> = BTreeMap::new();
    let mut ended = 0;
    while ended < publishers {
        let message = client.next_text().await?;
        let parts: Vec<&str> = message.split([':', ' ']).collect();
        let [_mark, generation, "publish", publisher, number] = parts[..] else {
            anyhow::bail!("{message:?} was heard");
        };
        let publisher: usize = publisher.parse()?;
        let generation: u64 = generation.parse()?;
        let before = generations
            .insert(publisher, generation)
            .unwrap_or_default();
        ensure!(
            generation >= before,
            "generation {generation} after {before}"
        );
        if number == "end" {
            ended += 1;
            continue;
        }
        let next = heard.entry(publisher).or_default();
        ensure!(number.parse() == Ok(*next), "{message:?} and not {next}");
        *next += 1;
    }
    Ok(heard)
}

async fn consoles(nodes: usize) -> Result<Cluster> {
    Cluster::start(nodes, |node| node.plugin("console")).await
}

/// Deliveries that a node has queued for each of its peers.
async fn deliveries(node: &Node) -> Result<BTreeMap<String, u64>> {
    let peers = node.peers().await?.into_iter();
    peers
        .map(|peer| {
            let name = peer["incarnation"].as_str().context("no incarnation")?;
            let deliveries = peer["deliveries"].as_u64().context("no deliveries")?;
            Ok((name.to_owned(), deliveries))
        })
        .collect()
}

/// Waits until so many of a node's peers have told of what they hold.
async fn wait_for_held(node: &Node, what: &str, peers: usize) -> Result<()> {
    let told = async {
        loop {
            let holds = |peer: &Value| peer[what].as_u64().is_some_and(|held| held > 0);
            if node
                .peers()
                .await?
                .iter()
                .filter(|peer| holds(peer))
                .count()
                == peers
            {
                return anyhow::Ok(());
            }
        }
    };
    within(&format!("{peers} peers to hold {what}"), told).await
}

/// Waits until a group has so many members, as its node knows.
async fn wait_for_count(
    console: &mut jackfield_tests::Console,
    group: &str,
    members: u64,
) -> Result<()> {
    let reached = async {
        let request = json!({ "do": "get-client-count-by-group", "group": group });
        while console.ok(request.clone()).await? != count(members) {}
        anyhow::Ok(())
    };
    within(&format!("{members} members of {group}"), reached).await
}
