//! What peers, registers and their lists can take of a node: each has a bound, and what a peer has
//! brought goes with it. The peers and registers here are false, and speak the real protocol.
//!
//! This is a program of its own, since it takes all processors for a while: the tests of the mesh
//! beside it would take their nodes for dead.

mod false_node;

/// What the messages between nodes use of another schema, at the path by which they name it.
#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all)]
mod live_trace {
    include!("../../host/generated/jackfield.trace.v1.rs");
}

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use jackfield_tests::{LogLine, Node, NodeBuilder, Register, within};
use serde_json::{Value, json};

use crate::false_node::protocol::frame::Frame;
use crate::false_node::protocol::{Leaving, Timers, membership};
use crate::false_node::{FalsePeer, FalseRegister, FalseRegistration, holding, now_ms, timer};

const MIB: u64 = 1 << 20;

/// As in `host/src/mesh/holdings.rs`.
const PLUGINS: usize = 1000;

/// As in `host/src/mesh/dial.rs`.
const ADDRESSES: usize = 2000;

/// What an address may register, as in `host/src/mesh/register.rs`.
const MEMBERS_AN_ADDRESS: usize = 1000;
const MEMBERS_A_MESSAGE: usize = 200;

fn node(limits: &str) -> NodeBuilder {
    let soon = "[limits]\nsuspect_after = '1500ms'\ngone_after = '3s'\nask_timeout = '1s'\n";
    let builder = Node::builder().alone().plugin("console");
    builder.config(&format!("{soon}{limits}"))
}

fn leaves_out(line: &LogLine) -> bool {
    line.level() == "ERROR" && line.says("the rest is left out")
}

/// The plugins that the node knows, as its API lists them.
async fn plugins(node: &Node) -> Result<usize> {
    let nodes: Value = serde_json::from_str(&node.api("/v1/nodes").await?.body)?;
    Ok(nodes["node"]["plugins"].as_array().map_or(0, Vec::len))
}

/// Waits until the node has at most so many bytes.
async fn shrinks_to(node: &Node, bytes: u64) -> Result<()> {
    let shrunk = within("the memory to go back", async {
        while node.resident_bytes()? > bytes {
            tokio::task::yield_now().await;
        }
        anyhow::Ok(())
    });
    let resident = || node.resident_bytes().unwrap_or_default();
    let context = |e: anyhow::Error| e.context(format!("{} bytes, not {bytes}", resident()));
    shrunk.await.map_err(context)
}

#[tokio::test]
async fn the_plugins_that_a_peer_names_are_bounded_and_go_with_it() -> Result<()> {
    // Lost plugins are remembered for sixty times that.
    let node = node("worker_wait = '20ms'\n").meshed().start().await?;
    let own = plugins(&node).await?;
    let before = node.resident_bytes()?;
    for is_polite in [true, false] {
        let mut peer = FalsePeer::of(node.mesh_address()?).await?;
        node.wait_for_peers(1).await?;
        for hundred in 0..200 {
            let names = (0..100).map(|number| format!("p{}", 100 * hundred + number));
            let holdings = names.map(|name| holding(&name, []));
            peer.holds(false, false, holdings.collect()).await?;
        }
        node.wait_for_log(leaves_out).await?;
        // A path that nobody has: the node looks for it among the plugins of all others.
        assert_eq!(node.refusal("/nobody").await?.status, 404);
        assert_eq!(plugins(&node).await?, own + PLUGINS);
        let grown = node.resident_bytes()?.saturating_sub(before);
        shows("20,000 plugin names of a peer", grown);
        assert!(grown < 32 * MIB, "the node has grown by {grown} bytes");

        // One that it withdraws makes room for another.
        let mut none = holding("p0", []);
        (none.clients, none.serving) = (Some(0), Some(Default::default()));
        peer.holds(false, false, vec![none, holding("another", [])])
            .await?;
        within("the other one to be known", async {
            while node.refusal("/another").await?.status == 404 {}
            anyhow::Ok(())
        })
        .await?;

        if is_polite {
            peer.tell(Frame::Leaving(Leaving {})).await?;
        }
        drop(peer);
        node.wait_for_peers(0).await?;
        within("the plugins to be forgotten", async {
            while plugins(&node).await? > own {}
            anyhow::Ok(())
        })
        .await?;
    }
    let left = node.resident_bytes()?.saturating_sub(before);
    shows("20,000 plugin names, after the peer has left", left);
    shrinks_to(&node, before + 24 * MIB).await
}

#[tokio::test]
async fn the_names_that_a_peer_holds_are_bounded_and_go_with_it() -> Result<()> {
    let node = node("interest_bytes = 8_000_000\n")
        .meshed()
        .start()
        .await?;
    let mut ada = node.console(&[]).await?;
    let before = node.resident_bytes()?;
    let mut peer = FalsePeer::of(node.mesh_address()?).await?;
    node.wait_for_peers(1).await?;
    let all_uids = json!({ "do": "get-all-uids" });
    assert_eq!(ada.ok(all_uids.clone()).await?["missing"], json!([]));

    // Two hundred megabytes.
    for thousand in 0..200 {
        let names = (0..1000).map(|number| format!("{thousand} {number} {}", "n".repeat(1000)));
        peer.holds(false, false, vec![holding("console", names)])
            .await?;
    }
    node.wait_for_log(leaves_out).await?;
    assert_eq!(node.log().so_far(leaves_out).len(), 1);
    let grown = node.resident_bytes()?.saturating_sub(before);
    shows("200 MB of names of a peer", grown);
    assert!(grown < 64 * MIB, "the node has grown by {grown} bytes");
    // What is known is used, and that more is not known is said.
    let listed = ada.ok(all_uids.clone()).await?;
    assert_eq!(listed["missing"].as_array().map(Vec::len), Some(1));
    let peers = node.peers().await?;
    let held = peers[0]["uids"].as_u64().unwrap_or_default();
    assert!((5_000..9_000).contains(&held), "{held} are kept");

    // A new picture replaces it, and is complete.
    peer.holds(true, false, Vec::new()).await?;
    peer.holds(false, true, vec![holding("console", ["u".to_owned()])])
        .await?;
    let listed = ada.ok(all_uids.clone()).await?;
    assert_eq!(listed["items"], json!(["u"]));
    assert_eq!(listed["missing"], json!([]));

    drop(peer);
    node.wait_for_peers(0).await?;
    let listed = ada.ok(all_uids).await?;
    assert_eq!(listed["items"], json!([]));
    let left = node.resident_bytes()?.saturating_sub(before);
    shows("200 MB of names, after the peer has left", left);
    shrinks_to(&node, before + 24 * MIB).await
}

#[tokio::test]
async fn the_timers_that_a_peer_brings_are_bounded_and_can_be_cancelled() -> Result<()> {
    let limits = "[limits]\ntimers = 10";
    let node = node("").manifest("console", limits).meshed();
    let node = node.start().await?;
    let mut ada = node.console(&[]).await?;
    let mut peer = FalsePeer::of(node.mesh_address()?).await?;
    node.wait_for_peers(1).await?;
    let before = node.resident_bytes()?;
    let now = now_ms()?;
    let name = |number: usize| format!("{number} {}", "t".repeat(200));
    let mut tell = async |plugin: &str, timers| {
        let plugin = plugin.to_owned();
        let timers = Timers { plugin, timers };
        peer.tell(Frame::Timers(timers)).await
    };
    for thousand in 0..20_usize {
        for plugin in ["console", "nobody"] {
            let name = |number| name(1000 * thousand + number);
            let timers = (0..1000).map(|number| timer(name(number), now)).collect();
            tell(plugin, timers).await?;
        }
    }
    // What no plugin here could name, and so never cancel.
    tell("console", vec![timer("t".repeat(257), now)]).await?;
    // Twice as many as one node may set: several may set some at the same time.
    let refused = node.counters().await?.get("timers_refused")?;
    assert_eq!(refused, 20_001 - 20);
    let grown = node.resident_bytes()?.saturating_sub(before);
    shows("40,000 timers of a peer", grown);
    assert!(grown < 32 * MIB, "the node has grown by {grown} bytes");

    // A change after which there is no newer one.
    assert_eq!(node.counters().await?.get("mesh_not_understood")?, 0);
    tell("console", vec![timer("for ever".to_owned(), u64::MAX)]).await?;
    assert_eq!(node.counters().await?.get("mesh_not_understood")?, 1);

    // They are the cluster's, and outlive their node; any node that has the plugin ends them.
    drop(peer);
    node.wait_for_peers(0).await?;
    let set = json!({
        "do": "set-timer", "name": "own", "after_ms": 3_600_000, "every_ms": null,
        "scope": "cluster",
    });
    assert_eq!(ada.error(set.clone()).await?, "limit-exceeded");
    for number in 0..19 {
        let is_cancelled = ada.ok(cancel(&name(number))).await?;
        assert_eq!(is_cancelled, true, "{number}");
    }
    ada.ok(set).await?;

    // Where nobody has the plugin, nobody can fire them.
    node.folder().remove("console")?;
    assert_eq!(ada.end().await?.code(), 1001);
    node.folder().put("console", "console")?;
    node.generation_loaded("console", 2).await?;
    let mut ada = node.console(&[]).await?;
    assert_eq!(ada.ok(cancel(&name(19))).await?, false);
    Ok(())
}

#[tokio::test]
async fn a_register_with_thousands_of_registrations_stays_small() -> Result<()> {
    let register = Register::start().await?;
    let before = register.resident_bytes()?;
    let mut registrations = Vec::new();
    for host in 2..=4 {
        for _ in 0..MEMBERS_AN_ADDRESS {
            let from = IpAddr::from(Ipv4Addr::new(127, 0, 0, host));
            registrations.push(FalseRegistration::at(register.address(), from).await?);
            if registrations.len() % 100 == 0 {
                registrations.iter().for_each(FalseRegistration::is_alive);
            }
        }
    }
    let joined = |line: &LogLine| line.says("a node has joined");
    register.log().nth(registrations.len(), joined).await?;
    let grown = register.resident_bytes()?.saturating_sub(before);
    shows("3,000 registrations at a register", grown);
    assert!(grown < 200 * MIB, "the register has grown by {grown} bytes");

    // Another one is told the list in parts.
    let other = IpAddr::from(Ipv4Addr::new(127, 0, 0, 5));
    let mut other = FalseRegistration::at(register.address(), other).await?;
    let first = within("the list", async { anyhow::Ok(other.next().await?) }).await?;
    let membership::Membership::Snapshot(first) = first else {
        anyhow::bail!("{first:?} came first");
    };
    let members = first.members.len();
    ensure!(
        (1..=MEMBERS_A_MESSAGE).contains(&members),
        "{members} nodes"
    );

    drop((registrations, other));
    let left = |line: &LogLine| line.says("a node has left");
    register.log().nth(3 * MEMBERS_AN_ADDRESS, left).await?;
    let left = register.resident_bytes()?.saturating_sub(before);
    shows("3,000 registrations, after they have ended", left);
    Ok(())
}

#[tokio::test]
async fn the_nodes_that_a_register_lists_are_bounded_and_few_names_are_looked_up() -> Result<()> {
    let names = (0..30_000).map(|number| format!("n{number}.invalid:7000"));
    let wrong = ["", "no port", "http://a:1", "0.0.0.0:1"].map(str::to_owned);
    let liar = FalseRegister::start(names.chain(wrong).collect()).await?;
    let register = Register::start().await?;
    let both = |node: NodeBuilder, liar: SocketAddr| {
        let liar = liar.to_string();
        node.registered_at(&[&register])
            .arguments(&["--register", &liar])
    };
    let here = both(node(""), liar.address).start().await?;
    let line = |line: &LogLine| line.says("addresses of nodes are left out");
    here.wait_for_log(line).await?;
    let there = both(node(""), liar.address).start().await?;
    here.wait_for_peers(1).await?;
    there.wait_for_peers(1).await?;
    let dialled = here.dialled().await?.len();
    assert!(dialled <= ADDRESSES, "{dialled} are dialled");
    let threads = here.threads()?;
    shows(
        "threads of a node with 30,000 names to dial",
        threads as u64,
    );
    assert!(threads < 64, "{threads} threads");
    Ok(())
}

/// Shows a figure to whoever runs the tests with `--no-capture`.
fn shows(what: &str, figure: u64) {
    eprintln!("measured: {what}: {figure}");
}

fn cancel(name: &str) -> Value {
    json!({ "do": "cancel-timer", "name": name, "scope": "cluster" })
}

/// As in `host/src/mesh/accept.rs`.
const PEERS: usize = 2000;

#[tokio::test]
async fn a_node_has_no_more_peers_than_it_may() -> Result<()> {
    let node = node("").meshed().start().await?;
    let address = node.mesh_address()?;
    let mut peers = Vec::new();
    while peers.len() < PEERS {
        let coming = (0..100).map(|_| FalsePeer::of(address));
        peers.extend(futures_util::future::try_join_all(coming).await?);
    }
    let refused = FalsePeer::of(address).await;
    let refused = format!("{:#}", refused.err().context("one too many")?);
    assert!(
        refused.contains("2000 peers, as many as it may"),
        "{refused}"
    );
    // There is room again when one has gone.
    drop(peers.pop());
    within("room for another one", async {
        while FalsePeer::of(address).await.is_err() {}
        anyhow::Ok(())
    })
    .await
}
