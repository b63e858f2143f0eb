//! How fast clients, uids, addresses and plugins may send, and addresses connect. Each rate is
//! broken once, and others pay nothing for it.
//!
//! A message that is much larger than a second's worth of bytes counts for a long time. So a test
//! knows that a rate is used up, however slow the machine is.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use jackfield_tests::{
    Client, End, Frame, Node, NodeBuilder, OpCode, refusal_status, text, within,
};
use serde_json::json;

/// Another address of this machine.
const ELSEWHERE: [u8; 4] = [127, 0, 0, 2];

/// The bytes that count for minutes, at the rates of these tests.
const MANY: usize = 50_000;

/// A node that can be told its limits.
fn limited(config: &str) -> NodeBuilder {
    Node::builder().alone().plugin("echo").config(config)
}

async fn connect_from(address: impl Into<IpAddr>, node: &Node, path: &str) -> Result<Client> {
    Client::connect_from(address.into(), node.address(), path).await
}

/// That a message comes back.
async fn echoes(client: &mut Client, message: &str) -> Result<()> {
    client.say(message).await?;
    ensure!(client.next_text().await? == message, "another message came");
    Ok(())
}

/// Sends a message that is beyond a rate, and returns the end of its client.
async fn breaks(client: &mut Client) -> Result<End> {
    client.say("one more").await?;
    client.end().await
}

#[tokio::test]
async fn bytes_of_a_client() -> Result<()> {
    let node = limited("[limits]\nbytes_per_second = 100").start().await?;
    let mut ada = node.client("/echo").await?;
    let mut bob = node.client("/echo").await?;
    // Several messages that were read together.
    let message = Frame::new(OpCode::Text, "x".repeat(MANY / 10)).to_bytes();
    ada.say_bytes(&message.repeat(5)).await?;
    let (messages, end) = ada.until_end().await?;
    assert_eq!(messages.len(), 1);
    assert_eq!(end, End::closed(1008, "too many bytes a second"));

    echoes(&mut bob, "not mine").await?;
    // A client that comes back is a new one.
    echoes(&mut node.client("/echo").await?, "again").await?;
    assert_eq!(node.counters().await?.get("clients_too_fast")?, 1);
    Ok(())
}

#[tokio::test]
async fn a_client_below_all_rates_is_never_closed_and_never_waits() -> Result<()> {
    let node = limited(
        "[limits]\nmessages_per_second = 50\nbytes_per_second = 500\n\
         messages_per_second_per_uid = 50\nbytes_per_second_per_uid = 500\n\
         messages_per_second_per_address = 50\nbytes_per_second_per_address = 500\n\
         connects_per_second_per_address = 50\n\
         [plugin]\nmessages_per_second_per_plugin = 50\nbytes_per_second_per_plugin = 500",
    )
    .start()
    .await?;
    let mut ada = node.client("/echo").await?;
    // More than a burst, at four fifths of the rate.
    let mut pace = tokio::time::interval(Duration::from_millis(25));
    for number in 0..100 {
        pace.tick().await;
        echoes(&mut ada, &format!("{number:010}")).await?;
    }
    let counters = node.counters().await?;
    for name in [
        "clients_too_fast",
        "uids_too_fast",
        "addresses_too_fast",
        "messages_delayed",
    ] {
        assert_eq!(counters.get(name)?, 0, "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn messages_of_a_uid() -> Result<()> {
    let node = limited("[limits]\nmessages_per_second_per_uid = 10")
        .plugin("console")
        .plugin_from("other", "console")
        .start()
        .await?;
    let uid = [("uid", "ada")];
    let mut first = node.console(&uid).await?;
    let mut second = node.console(&uid).await?;
    for _ in 0..200 {
        // What comes after the close is not taken any more.
        if first.start(json!({ "do": "is-online" })).await.is_err() {
            break;
        }
    }
    let (answers, end) = first.until_end().await?;
    let reason = "too many messages a second of this uid";
    assert_eq!(end, End::closed(1008, reason));
    assert!((10..100).contains(&answers.len()), "{}", answers.len());

    // The other client has sent nothing, and stays. Other uids have rates of their own, and so has
    // the same uid of another plugin.
    for mut client in [
        node.console(&[("uid", "bob")]).await?,
        node.console_named("other", &uid).await?,
        node.console(&[]).await?,
    ] {
        client.ok(json!({ "do": "is-online" })).await?;
    }
    // The uid may send two messages again by then.
    tokio::time::sleep(Duration::from_millis(200)).await;
    second.ok(json!({ "do": "is-online" })).await?;
    assert_eq!(node.counters().await?.get("uids_too_fast")?, 1);
    let closed = node
        .log()
        .so_far(|line| line.says("together send too fast"));
    assert_eq!(closed.len(), 1);
    assert_eq!(closed[0].text("limit"), "messages_per_second_per_uid");
    Ok(())
}

#[tokio::test]
async fn bytes_of_a_uid_are_not_forgotten_when_its_clients_leave() -> Result<()> {
    let node = limited("[limits]\nbytes_per_second_per_uid = 100")
        .plugin("console")
        .start()
        .await?;
    let many = json!({ "do": "is-online", "client": "x".repeat(MANY) });
    let mut ada = node.console(&[("uid", "ada")]).await?;
    ada.call(many).await?;
    ada.leave().await?;
    let mut ada = node.console(&[("uid", "ada")]).await?;
    ada.say("one more").await?;
    let reason = "too many bytes a second of this uid";
    assert_eq!(ada.end().await?, End::closed(1008, reason));

    // A client counts for the uid that it has now.
    let mut bob = node.console(&[("uid", "bob")]).await?;
    bob.ok(json!({ "do": "is-online" })).await?;
    bob.ok(json!({ "do": "bind-uid", "uid": "ada" })).await?;
    bob.say("one more").await?;
    assert_eq!(bob.end().await?, End::closed(1008, reason));
    Ok(())
}

#[tokio::test]
async fn messages_of_an_address() -> Result<()> {
    let node = limited("[limits]\nmessages_per_second_per_address = 10")
        .start()
        .await?;
    let mut elsewhere = connect_from(ELSEWHERE, &node, "/echo").await?;
    let message = Frame::new(OpCode::Text, "hi").to_bytes();
    let (mut echoed, mut closed) = (0, 0);
    for _ in 0..5 {
        let mut client = node.client("/echo").await?;
        client.say_bytes(&message.repeat(40)).await?;
        let (messages, end) = client.until_end().await?;
        let reason = "too many messages a second from this address";
        assert_eq!(end, End::closed(1008, reason));
        echoed += messages.len();
        closed += 1;
        echoes(&mut elsewhere, "not mine").await?;
    }
    assert!((10..100).contains(&echoed), "{echoed} came through");
    assert_eq!(node.counters().await?.get("addresses_too_fast")?, closed);
    Ok(())
}

#[tokio::test]
async fn bytes_of_an_address_are_not_forgotten_when_its_clients_leave() -> Result<()> {
    let node = limited("[limits]\nbytes_per_second_per_address = 100")
        .plugin_from("other", "echo")
        .start()
        .await?;
    let mut ada = node.client("/echo").await?;
    echoes(&mut ada, &"x".repeat(MANY)).await?;
    ada.leave().await?;
    // An address is the same for all plugins.
    let mut ada = node.client("/other").await?;
    let reason = "too many bytes a second from this address";
    assert_eq!(breaks(&mut ada).await?, End::closed(1008, reason));
    let mut elsewhere = connect_from(ELSEWHERE, &node, "/echo").await?;
    echoes(&mut elsewhere, "not mine").await
}

#[tokio::test]
async fn connects_of_an_address() -> Result<()> {
    let node = limited("[limits]\nconnects_per_second_per_address = 3")
        .start()
        .await?;
    let mut let_in = 0;
    let status = loop {
        match node.client("/echo").await {
            Ok(_) => let_in += 1,
            Err(error) => break refusal_status(&error),
        }
    };
    assert_eq!(status, Some(429));
    assert!(let_in >= 3, "a second's worth may come at once: {let_in}");
    assert_eq!(node.counters().await?.get("handshakes_limited")?, 1);
    let mut elsewhere = connect_from(ELSEWHERE, &node, "/echo").await?;
    echoes(&mut elsewhere, "not mine").await?;

    let refused = within("a refusal", async {
        loop {
            // A place may have come free meanwhile.
            if let Ok(refused) = node.refusal("/echo").await {
                return anyhow::Ok(refused);
            }
        }
    });
    let refused = refused.await?;
    assert_eq!(refused.status, 429);
    assert_eq!(
        refused.body,
        "too many connects a second from this address\n"
    );
    assert_eq!(refused.headers["retry-after"], "1");
    let trying = async {
        while node.client("/echo").await.is_err() {}
        anyhow::Ok(())
    };
    within("a place", trying).await
}

#[tokio::test]
async fn messages_of_a_plugin_wait_and_no_client_is_closed() -> Result<()> {
    let node = limited("")
        .plugin_from("slow", "echo")
        .manifest("slow", "[limits]\nmessages_per_second_per_plugin = 40")
        .start()
        .await?;
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(node.client("/slow").await?);
    }
    let mut other = node.client("/echo").await?;
    let start = Instant::now();
    for client in &mut clients {
        let messages = (0..30).map(|n| Frame::new(OpCode::Text, n.to_string()).to_bytes());
        client
            .say_bytes(&messages.collect::<Vec<_>>().concat())
            .await?;
    }
    // Meanwhile, another plugin's clients do not wait.
    for number in 0..100 {
        echoes(&mut other, &number.to_string()).await?;
    }
    let others = start.elapsed();
    for client in &mut clients {
        for number in 0..30 {
            assert_eq!(client.next().await?, text(&number.to_string()));
        }
    }
    // Forty at once, and the other eighty within two seconds.
    let took = start.elapsed();
    assert!(took > Duration::from_millis(1_900), "{took:?}");
    assert!(others < took, "{others:?} of {took:?}");
    let delayed = node.counters().await?.get("messages_delayed")?;
    assert!((1..=80).contains(&delayed), "{delayed} were delayed");
    let said = node
        .log()
        .so_far(|line| line.says("their clients are not read"));
    assert_eq!(said.len(), 1);
    assert_eq!(said[0].text("plugin"), "slow");
    Ok(())
}

#[tokio::test]
async fn clients_that_wait_for_a_plugin_cost_no_processor_stay_and_go_on_after_a_reload()
-> Result<()> {
    let node = limited("[limits]\nping_every = '200ms'\nping_timeout = '200ms'")
        .plugin_from("slow", "echo")
        .manifest("slow", "[limits]\nbytes_per_second_per_plugin = 1")
        .start()
        .await?;
    let mut first = node.client("/slow").await?;
    echoes(&mut first, &"x".repeat(MANY)).await?;
    first.leave().await?;
    let mut clients = Vec::new();
    for number in 0..200 {
        let mut client = node.client("/slow").await?;
        client.say(number.to_string()).await?;
        clients.push(client);
    }
    node.wait_for_log(|line| line.says("their clients are not read"))
        .await?;
    within("all to wait", async {
        while node.counters().await?.get("messages_delayed")? < 200 {}
        anyhow::Ok(())
    })
    .await?;
    // Long enough for a client to count as silent. None of them reads or answers meanwhile.
    let before = node.processor_time()?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let used = node.processor_time()? - before;
    assert!(used < Duration::from_millis(500), "{used:?} in two seconds");
    let counters = node.counters().await?;
    assert_eq!(counters.get("clients_left")?, 1);
    assert_eq!(counters.get("messages_in")?, 1);

    // Some have gone. Those behind them do not wait for them.
    for client in clients.drain(..100) {
        client.vanish()?;
    }
    node.folder()
        .put_manifest("slow", "[limits]\nmessages_per_second_per_plugin = 1000")?;
    for (number, client) in (100..).zip(&mut clients) {
        assert_eq!(client.next_text().await?, number.to_string());
    }
    Ok(())
}
