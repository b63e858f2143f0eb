//! Nodes on a wire that loses, delays, doubles and reorders their packets, or lets none through:
//! real TCP, which waits, sends again and gives up. That it happened is known by the wire's
//! own numbers, and by what the nodes log.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use jackfield_tests::{Faults, LogLine, Node, Place, Register, Wire, on_wire, within};
use serde_json::json;
use tokio::net::UdpSocket;

use crate::traffic::{Talker, has_lost_nothing, hears, loses_nothing, next_number};
use crate::{console, reaches};

/// What has waited for three seconds comes at once, and clients are on the wire, too.
const ROOMY: &str = "[limits]\noutbox_messages = 20000\noutbox_bytes = 16777216\n";

/// A node at each of these places, and their register at another one.
pub(crate) struct Scene {
    pub(crate) register: Register,
    pub(crate) nodes: Vec<Node>,
}

impl Scene {
    async fn new(places: &[Place], register: &Place, limits: &str) -> Result<Scene> {
        let register = Register::start_in(register).await?;
        let mut nodes = Vec::new();
        for place in places {
            nodes.push(start(place, &register, limits).await?);
        }
        let scene = Scene { register, nodes };
        scene.everybody_knows_everybody().await?;
        Ok(scene)
    }

    /// At the wire's first places, and the register at the next one.
    pub(crate) async fn on(wire: &Wire, nodes: usize, limits: &str) -> Result<Scene> {
        let places: Vec<Place> = (0..nodes).map(|place| wire.place(place).clone()).collect();
        Scene::new(&places, wire.place(nodes), limits).await
    }

    pub(crate) async fn everybody_knows_everybody(&self) -> Result<()> {
        for node in &self.nodes {
            node.wait_for_peers(self.nodes.len() - 1).await?;
        }
        Ok(())
    }
}

/// A node there, which lets one client have a uid.
pub(crate) async fn start(place: &Place, register: &Register, limits: &str) -> Result<Node> {
    let node = console(&format!("{ROOMY}{limits}"))(Node::builder()).at(place);
    let node = node.manifest("console", "[policies]\nuid = 'kick-old'");
    node.registered_at(&[register]).start().await
}

fn gave_up_a_silent_connection(line: &LogLine) -> bool {
    line.says("it has acknowledged nothing for a while")
}

#[test]
fn cut_for_three_seconds_it_loses_nothing() -> Result<()> {
    on_wire(3, async |wire| {
        let scene = Scene::on(wire, 2, "").await?;
        is_cut_for_three_seconds(wire, &scene).await
    })
}

#[test]
fn with_ipv6_it_loses_nothing_either() -> Result<()> {
    on_wire(3, async |wire| {
        let [here, there, register] = [0, 1, 2].map(|place| wire.place(place).v6());
        let scene = Scene::new(&[here, there], &register, "").await?;
        ensure!(scene.nodes[0].mesh_address()?.is_ipv6());
        is_cut_for_three_seconds(wire, &scene).await
    })
}

async fn is_cut_for_three_seconds(wire: &Wire, scene: &Scene) -> Result<()> {
    let [here, there] = &scene.nodes[..] else {
        anyhow::bail!("two nodes");
    };
    let cut = || wire.between(0, 1, Faults::CUT);
    let restore = || wire.between(0, 1, Faults::NONE);
    loses_nothing(here, there, 3, cut, restore).await?;
    for (node, from, to) in [(here, 0, 1), (there, 1, 0)] {
        let carried = wire.carried(from, to);
        ensure!(carried.cut > 0 && carried.came > 0, "{carried:?}");
        node.wait_for_log(gave_up_a_silent_connection).await?;
    }
    Ok(())
}

/// What the other tests say happens to packets, happens.
#[test]
fn the_wire_does_what_it_says() -> Result<()> {
    const ROUNDS: u64 = 100;
    // A socket has room for them.
    const DATAGRAMS: u64 = 50;
    on_wire(2, async |wire| {
        let (here, there) = (socket(wire.place(0))?, socket(wire.place(1))?);
        let faults = Faults {
            delay: Duration::from_millis(2),
            lost: 0.1,
            doubled: 0.1,
            reordered: 0.1,
            reordered_by: Duration::from_millis(2),
            ..Faults::NONE
        };
        wire.from_to(0, 1, faults);
        let (mut sent, mut heard) = (0, Vec::new());
        for _ in 0..ROUNDS {
            for _ in 0..DATAGRAMS {
                here.send_to(&u64::to_be_bytes(sent), there.local_addr()?)
                    .await?;
                sent += 1;
            }
            hears_datagrams(&there, wire, sent, &mut heard).await?;
        }

        let carried = wire.carried(0, 1);
        for happened in [carried.lost, carried.doubled, carried.reordered] {
            ensure!((300..700).contains(&happened), "{carried:?}");
        }
        ensure!(carried.delayed == sent - carried.lost, "{carried:?}");
        ensure!(!heard.is_sorted(), "none overtook another one");
        let mut times: BTreeMap<u64, u64> = BTreeMap::new();
        for number in heard {
            *times.entry(number).or_default() += 1;
        }
        let doubled = times.values().filter(|times| **times == 2).count() as u64;
        ensure!(doubled == carried.doubled, "{doubled} of {carried:?}");
        ensure!(times.len() as u64 == sent - carried.lost);
        Ok(())
    })
}

fn socket(place: &Place) -> Result<UdpSocket> {
    let socket = place.run(|| std::net::UdpSocket::bind(place.any_port()))??;
    socket.set_nonblocking(true)?;
    Ok(UdpSocket::from_std(socket)?)
}

/// Hears everything, of so many datagrams, that the wire has not lost.
async fn hears_datagrams(
    socket: &UdpSocket,
    wire: &Wire,
    sent: u64,
    heard: &mut Vec<u64>,
) -> Result<()> {
    let hearing = async {
        loop {
            let carried = wire.carried(0, 1);
            if heard.len() as u64 + carried.lost == sent + carried.doubled {
                return anyhow::Ok(());
            }
            let mut number = [0; 8];
            tokio::select! {
                read = socket.recv(&mut number) => {
                    read?;
                    heard.push(u64::from_be_bytes(number));
                }
                () = tokio::task::yield_now() => {}
            }
        }
    };
    within("what was not lost", hearing).await
}

/// Suspect soon, gone not before the test is over.
pub(crate) const PATIENT: &str = "suspect_after = '1500ms'\ngone_after = '50s'\n";

#[test]
fn cut_one_way_both_are_silent_to_each_other_and_nobody_else() -> Result<()> {
    on_wire(4, async |wire| is_cut_one_way(wire, 0, 1).await)
}

#[test]
fn cut_the_other_way_it_is_the_same() -> Result<()> {
    on_wire(4, async |wire| is_cut_one_way(wire, 1, 0).await)
}

/// Of nodes 0, 1 and 2 one is not heard by another one, which it hears.
async fn is_cut_one_way(wire: &Wire, mute: usize, deaf: usize) -> Result<()> {
    let scene = Scene::on(wire, 3, PATIENT).await?;
    let [mute_node, deaf_node, third] = [mute, deaf, 2].map(|node| &scene.nodes[node]);
    let (mut ada, mut ann) = (mute_node.console(&[]).await?, mute_node.console(&[]).await?);
    let (mut bob, mut ben) = (deaf_node.console(&[]).await?, deaf_node.console(&[]).await?);
    let mut carl = third.console(&[]).await?;
    let (ada_id, bob_id) = (ada.id().to_owned(), bob.id().to_owned());
    reaches(&mut ada, &mut bob).await?;
    reaches(&mut bob, &mut ada).await?;

    let before = wire.carried(deaf, mute).came;
    wire.from_to(mute, deaf, Faults::CUT);
    // TCP needs both ways, and not at once: these come, and nobody hears that they did.
    let mut to_ada = Talker::to_client(&mut ben, &ada_id);
    to_ada.say(100, "").await?;
    let mut to_bob = Talker::to_client(&mut ann, &bob_id);
    to_bob.say(100, "").await?;
    for expected in 0..100 {
        assert_eq!(next_number(&mut ada).await?, expected);
    }
    for node in [mute_node, deaf_node] {
        node.wait_for_peer_states(&["alive", "suspect"]).await?;
    }
    let lost = wire.carried(mute, deaf).cut;
    ensure!(lost > 0 && wire.carried(deaf, mute).came > before);
    ensure!(wire.carried(deaf, mute).cut == 0);

    // Others are served, and nobody waits for the silent one.
    third.wait_for_peers(2).await?;
    for client in [&mut ada, &mut bob] {
        reaches(client, &mut carl).await?;
        reaches(&mut carl, client).await?;
    }
    for (one, silent) in [(&mut ada, &bob_id), (&mut bob, &ada_id)] {
        let ask = json!({ "do": "get-info", "client": silent });
        assert_eq!(one.error(ask).await?, "unreachable");
    }
    let mut to_ada_again = Talker::to_client(&mut ben, &ada_id);
    to_ada_again.say(100, "").await?;
    let mut to_bob_again = Talker::to_client(&mut ann, &bob_id);
    to_bob_again.say(100, "").await?;
    assert_eq!(bob.heard().await?, []);
    assert_eq!(ada.heard().await?, []);

    wire.from_to(mute, deaf, Faults::NONE);
    scene.everybody_knows_everybody().await?;
    hears(&mut ada, 100).await?;
    for expected in 0..100 {
        assert_eq!(next_number(&mut bob).await?, expected);
    }
    hears(&mut bob, 100).await?;
    reaches(&mut ann, &mut ben).await?;
    for node in &scene.nodes {
        has_lost_nothing(node).await?;
    }
    Ok(())
}
