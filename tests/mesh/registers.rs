//! Registers that come late, are lost, or come back: who knows whom does not depend on one.

use anyhow::Result;
use jackfield_tests::{Node, NodeBuilder, Register};

use crate::{SOON, console, reaches};

fn node() -> NodeBuilder {
    console(SOON)(Node::builder().alone())
}

#[tokio::test]
async fn a_register_that_restarts_empties_nothing() -> Result<()> {
    let register = Register::start().await?;
    let address = register.address();
    let first = node().registered_at(&[&register]).start().await?;
    let second = node().registered_at(&[&register]).start().await?;
    first.wait_for_peers(1).await?;
    let mut ada = first.console(&[]).await?;
    let mut bob = second.console(&[]).await?;
    reaches(&mut ada, &mut bob).await?;

    register.kill().await?;
    for node in [&first, &second] {
        node.wait_for_log(|line| line.says("not at this register"))
            .await?;
    }
    reaches(&mut ada, &mut bob).await?;
    reaches(&mut bob, &mut ada).await?;

    // A newcomer learns from the new one of those who were there before.
    let register = Register::start_at(&address.to_string(), &[]).await?;
    let third = node().registered_at(&[&register]).start().await?;
    for node in [&first, &second, &third] {
        node.wait_for_peers(2).await?;
    }
    let mut eve = third.console(&[]).await?;
    reaches(&mut eve, &mut ada).await?;
    reaches(&mut bob, &mut eve).await?;

    // Once it has settled, those who were there before are still known.
    register
        .log()
        .nth(3, |line| line.says("a node has joined"))
        .await?;
    let fourth = node().registered_at(&[&register]).start().await?;
    for node in [&first, &second, &third, &fourth] {
        node.wait_for_peers(3).await?;
        let gone = node.log().so_far(|line| line.says("a node is gone"));
        assert!(gone.is_empty(), "{gone:?}");
    }
    Ok(())
}

#[tokio::test]
async fn nodes_that_were_there_first_join_when_the_register_comes() -> Result<()> {
    let address = {
        // Nobody else takes it so soon.
        let free = std::net::TcpListener::bind("127.0.0.1:0")?;
        free.local_addr()?.to_string()
    };
    let early = || node().meshed().arguments(&["--register", &address]);
    let first = early().start().await?;
    let second = early().start().await?;
    let mut ada = first.console(&[]).await?;
    let mut bob = second.console(&[]).await?;
    // Alone, a node serves its own.
    let mut carl = first.console(&[]).await?;
    reaches(&mut ada, &mut carl).await?;
    assert_eq!(first.peers().await?, [] as [serde_json::Value; 0]);

    let _register = Register::start_at(&address, &[]).await?;
    first.wait_for_peers(1).await?;
    second.wait_for_peers(1).await?;
    reaches(&mut ada, &mut bob).await?;
    reaches(&mut bob, &mut ada).await
}

#[tokio::test]
async fn of_two_registers_one_is_enough() -> Result<()> {
    let (kept, lost) = (Register::start().await?, Register::start().await?);
    let both = || node().registered_at(&[&kept, &lost]);
    let first = both().start().await?;
    let second = both().start().await?;
    first.wait_for_peers(1).await?;
    lost.kill().await?;

    let third = node().registered_at(&[&kept]).start().await?;
    for node in [&first, &second, &third] {
        node.wait_for_peers(2).await?;
    }
    third.kill().await?;
    for node in [&first, &second] {
        node.wait_for_peers(1).await?;
    }
    let mut ada = first.console(&[]).await?;
    let mut bob = second.console(&[]).await?;
    reaches(&mut ada, &mut bob).await
}

#[tokio::test]
async fn a_node_that_one_of_two_registers_knows_is_known() -> Result<()> {
    let (north, south) = (Register::start().await?, Register::start().await?);
    let both = node().registered_at(&[&north, &south]).start().await?;
    let in_the_north = node().registered_at(&[&north]).start().await?;
    let in_the_south = node().registered_at(&[&south]).start().await?;
    both.wait_for_peers(2).await?;
    // No register tells these two of each other.
    in_the_north.wait_for_peers(1).await?;
    in_the_south.wait_for_peers(1).await
}
