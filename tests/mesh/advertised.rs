//! A node that is not where it says: nobody takes it in, and it is told why. What nobody can dial
//! is refused at the start.

use anyhow::Result;
use jackfield_tests::{
    Etcd, LogLine, Node, NodeBuilder, PluginFolder, Proxy, Register, run_node_binary,
};
use serde_json::json;
use tokio::net::TcpSocket;

use crate::{SOON, console, reaches};

fn node() -> NodeBuilder {
    console(SOON)(Node::builder().alone())
}

/// An address where nobody listens, as long as the socket that has it is not dropped.
fn nobody() -> Result<(TcpSocket, String)> {
    let held = TcpSocket::new_v4()?;
    held.bind("127.0.0.1:0".parse()?)?;
    let address = held.local_addr()?.to_string();
    Ok((held, address))
}

#[tokio::test]
async fn where_nobody_listens() -> Result<()> {
    let (_held, nobody) = nobody()?;
    let register = Register::start().await?;
    let [first, second] = [0, 1].map(|_| node().registered_at(&[&register]).start());
    let (first, second) = tokio::try_join!(first, second)?;
    is_not_taken_in(&register, first, second, &nobody).await
}

#[tokio::test]
async fn where_another_node_listens() -> Result<()> {
    let register = Register::start().await?;
    let [first, second] = [0, 1].map(|_| node().registered_at(&[&register]).start());
    let (first, second) = tokio::try_join!(first, second)?;
    let other = second.mesh_address()?.to_string();
    is_not_taken_in(&register, first, second, &other).await
}

/// By the first, for longer than it takes for the second to be gone.
async fn is_not_taken_in(
    register: &Register,
    first: Node,
    second: Node,
    advertised: &str,
) -> Result<()> {
    first.wait_for_peers(1).await?;
    let wrong = node().registered_at(&[register]);
    let wrong = wrong
        .arguments(&["--advertise", advertised])
        .start()
        .await?;
    let is_told = |line: &LogLine| line.level() == "WARN" && line.says("check its --advertise");
    let told = wrong.wait_for_log(is_told).await?;
    assert!(told.says(advertised), "{told:?}");
    first.wait_for_log(is_told).await?;

    let lost = second.incarnation().await?;
    second.kill().await?;
    let is_gone = |line: &LogLine| line.says("a node is gone");
    let gone = first.wait_for_log(is_gone).await?;
    assert_eq!(gone.text("peer"), lost);
    let own = wrong.incarnation().await?;
    for node in [&first, &wrong] {
        let news = node.log().so_far(|line| {
            let is_news = ["a node has come", "a node is gone", "a node is silent"];
            is_news.iter().any(|words| line.says(words)) && line.text("peer") != lost
        });
        assert!(news.is_empty(), "{news:?}");
        let lines = node.log().so_far(|line| is_told(line) && line.says(&own));
        assert!(lines.len() <= 2, "{lines:?}");
    }
    assert_eq!(first.peers().await?, [] as [serde_json::Value; 0]);

    // What it does for its own clients is not touched by that.
    let mut ada = wrong.console(&[("uid", "ada")]).await?;
    let online = json!({ "do": "is-uid-online", "uid": "ada" });
    assert_eq!(ada.ok(online).await?, true);
    Ok(())
}

/// Both say so, whatever they learn of each other by; here by nothing at all, by a register, and
/// by each other's address.
#[tokio::test]
async fn two_with_one_address_both_say_so() -> Result<()> {
    let register = Register::start().await?;
    for source in ["nothing", "register", "peer"] {
        let builder = || match source {
            "register" => node().registered_at(&[&register]),
            _ => node().meshed(),
        };
        let first = builder().start().await?;
        let address = first.mesh_address()?.to_string();
        let mut second = builder().arguments(&["--advertise", &address]);
        if source == "peer" {
            second = second.arguments(&["--peer", &address]);
        }
        let second = second.start().await?;
        both_say_so(&first, &second, &address).await?;

        // It is said once, and goes on: each serves its own clients.
        for node in [&first, &second] {
            assert_eq!(
                node.peers().await?,
                [] as [serde_json::Value; 0],
                "{source}"
            );
            assert_eq!(node.log().so_far(is_shared).len(), 1, "{source}");
            node.console(&[]).await?;
        }
    }
    Ok(())
}

/// Nobody is there, so neither finds the other one, but registers and etcd list both.
#[tokio::test]
async fn two_with_one_address_where_nobody_is_both_say_so() -> Result<()> {
    let (_held, nobody) = nobody()?;
    let (register, etcd) = (Register::start().await?, Etcd::start()?);
    for source in [
        ["--register", &register.address().to_string()],
        ["--discover", &etcd.source()],
    ] {
        let builder = || {
            let node = node().meshed().arguments(&["--advertise", &nobody]);
            node.arguments(&source).start()
        };
        let (first, second) = tokio::try_join!(builder(), builder())?;
        for (node, other) in [(&first, &second), (&second, &first)] {
            let other = other.incarnation().await?;
            let told = node.wait_for_log(is_shared).await?;
            assert!(
                told.says(&other) && told.text("address") == nobody,
                "{told:?}"
            );
        }
    }
    Ok(())
}

fn is_shared(line: &LogLine) -> bool {
    line.level() == "WARN" && line.says("give each node an --advertise of its own")
}

/// Each names the other one, and the second the address.
async fn both_say_so(first: &Node, second: &Node, address: &str) -> Result<()> {
    let (own, other) = (first.incarnation().await?, second.incarnation().await?);
    let told = second.wait_for_log(is_shared).await?;
    assert!(
        told.says(&own) && told.text("address") == address,
        "{told:?}"
    );
    let told = first.wait_for_log(is_shared).await?;
    assert!(told.says(&other) && told.says(address), "{told:?}");
    Ok(())
}

#[tokio::test]
async fn an_address_that_comes_to_lead_to_another_node_is_said() -> Result<()> {
    let first = node().meshed().start().await?;
    let proxy = Proxy::start().await?;
    let address = proxy.address().to_string();
    let second = node().meshed().start_behind(&proxy).await?;
    proxy.lead_to(first.mesh_address()?);
    both_say_so(&first, &second, &address).await
}

/// As behind a load balancer. They find each other all the same, and do not come and go.
#[tokio::test]
async fn an_address_that_leads_to_two_nodes_by_turns_is_said() -> Result<()> {
    let first = node().meshed().start().await?;
    let proxy = Proxy::start().await?;
    let peer = first.mesh_address()?.to_string();
    let second = node().meshed().arguments(&["--peer", &peer]);
    let second = second.start_behind(&proxy).await?;
    proxy.lead_by_turns(&[first.mesh_address()?, second.mesh_address()?]);
    // Who looks when it is its own turn, each time, finds itself; but then the other one does not.
    tokio::select! {
        told = first.wait_for_log(is_shared) => drop(told?),
        told = second.wait_for_log(is_shared) => drop(told?),
    }

    first.wait_for_peers(1).await?;
    second.wait_for_peers(1).await?;
    let mut ada = first.console(&[]).await?;
    let mut bob = second.console(&[]).await?;
    for _ in 0..20 {
        reaches(&mut ada, &mut bob).await?;
        reaches(&mut bob, &mut ada).await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_address_that_leads_to_no_node_is_said() -> Result<()> {
    let register = Register::start().await?;
    let other = node().meshed().start().await?;
    for (address, why) in [
        (register.address(), "neither a node's mesh port nor"),
        (other.api_address(), "neither a node's mesh port nor"),
        (other.address(), ""),
    ] {
        let address = address.to_string();
        let node = node().meshed().arguments(&["--advertise", &address]);
        let node = node.start().await?;
        let is_lost = |line: &LogLine| line.says("does not find itself at the address");
        let told = node.wait_for_log(is_lost).await?;
        assert_eq!((told.level(), told.text("address")), ("WARN", &*address));
        assert!(told.says(why), "{told:?}");
    }
    Ok(())
}

/// The same words for whatever a node is told to dial.
#[tokio::test]
async fn what_answers_and_is_no_node_or_register_is_said() -> Result<()> {
    let register = Register::start().await?;
    let other = node().meshed().start().await?;
    let (register, other) = (
        register.address().to_string(),
        other.mesh_address()?.to_string(),
    );
    let node = node().meshed();
    let node = node.arguments(&["--peer", &register, "--register", &other]);
    let node = node.start().await?;
    for (line, key, address) in [
        ("not linked to a node", "address", &register),
        ("not at this register", "register", &other),
    ] {
        let is_it = |said: &LogLine| said.says(line) && said.text(key) == address;
        let told = node.wait_for_log(is_it).await?;
        assert!(told.says("neither a node's mesh port nor"), "{told:?}");
    }
    Ok(())
}

#[tokio::test]
async fn one_that_leads_nowhere_from_other_machines_is_said() -> Result<()> {
    let elsewhere = "192.0.2.1:7000";
    let is_it = |line: &LogLine| line.says("leads nowhere from other machines");
    for (flag, is_said) in [
        ("--peer", true),
        ("--register", true),
        ("--advertise", false),
    ] {
        let node = node()
            .meshed()
            .arguments(&[flag, elsewhere])
            .start()
            .await?;
        let said = node.log().so_far(is_it);
        assert_eq!(said.len(), usize::from(is_said), "{flag}");
    }
    Ok(())
}

#[tokio::test]
async fn what_nobody_can_dial_is_refused_at_the_start() -> Result<()> {
    let folder = PluginFolder::new()?;
    let plugins = folder.path().to_str().unwrap_or_default();
    let listen = [
        "node",
        "--listen",
        "127.0.0.1:0",
        "--api",
        "",
        "--plugins",
        plugins,
    ];
    for address in [
        "0.0.0.0:7000",
        "[::]:7000",
        "10.0.0.5:0",
        "10.0.0.5",
        ":7000",
        "http://10.0.0.5:7000",
        "10.0.0 .5:7000",
        "255.255.255.255:7000",
        "[ff02::1]:7000",
        "::1:7000",
    ] {
        for flag in ["--advertise", "--peer", "--register", "--discover"] {
            let value = match flag {
                "--discover" => format!("dns:{address}"),
                _ => address.to_owned(),
            };
            let mesh = ["--mesh", "127.0.0.1:0", flag, &value];
            let output = run_node_binary(&[&listen[..], &mesh].concat()).await?;
            assert_ne!(output.code, 0, "{flag} {address}");
            let said = &output.stderr;
            assert!(said.contains(flag) && said.contains("HOST:PORT"), "{said}");
        }
    }
    Ok(())
}
