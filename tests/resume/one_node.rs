//! A client comes back at the node where it was.

use anyhow::Result;
use jackfield_tests::{Node, ReliableClient, within};
use serde_json::{Value, json};

use crate::{connect, console, has_not_left, to_group, with_manifest};

#[tokio::test]
async fn a_client_whose_connection_breaks_misses_nothing() -> Result<()> {
    let node = console("").start().await?;
    let mut watcher = node.watcher().await?;
    let mut bob = node.console(&[]).await?;
    let mut ada = connect(&node, "?uid=ada&group=g&info.a=1").await?;
    let id = ada.id().to_owned();
    to_group(&mut bob, "g", "before").await?;
    assert_eq!(ada.next_text().await?, "before");
    for round in 0..3 {
        ada.cut()?;
        // It counts as connected: its uid is online, it is in its group, and what is sent waits.
        for text in ["1", "2", "3"] {
            to_group(&mut bob, "g", &format!("{round} {text}")).await?;
        }
        bob.ok(json!({ "do": "send-to-uid", "uid": "ada", "text": "4" }))
            .await?;
        bob.ok(json!({ "do": "send-to-client", "client": id, "binary": "AQID" }))
            .await?;
        assert!(ada.come_back(node.address()).await?);
        for text in ["1", "2", "3"] {
            assert_eq!(ada.next_text().await?, format!("{round} {text}"));
        }
        assert_eq!(ada.next_text().await?, "4");
        assert_eq!(&ada.next().await?.into_data()[..], [1, 2, 3]);
    }
    has_not_left(&node, &mut watcher, &id).await?;
    let state = json!({ "do": "get-info", "client": id });
    assert_eq!(bob.ok(state).await?["a"], "1");
    let counters = node.counters().await?;
    assert_eq!(counters.get("clients_away")?, 3);
    assert_eq!(counters.get("clients_resumed")?, 3);
    assert_eq!(counters.get("resumes_failed")?, 0);
    node.stop().await.map(drop)
}

/// A client often knows before its node that a connection is dead.
#[tokio::test]
async fn a_client_comes_back_while_its_connection_is_still_open() -> Result<()> {
    let node = console("").start().await?;
    let mut watcher = node.watcher().await?;
    let mut bob = node.console(&[]).await?;
    let mut ada = connect(&node, "?group=g").await?;
    let id = ada.id().to_owned();
    let mut old = ada.let_go().expect("a connection");
    to_group(&mut bob, "g", "hello").await?;
    assert!(ada.come_back(node.address()).await?);
    assert_eq!(ada.next_text().await?, "hello");
    // What it has sent on the old connection has been handled or is sent again, and never both.
    old.end().await?;
    has_not_left(&node, &mut watcher, &id).await?;
    node.stop().await.map(drop)
}

#[tokio::test]
async fn a_client_sends_again_what_was_not_handled() -> Result<()> {
    let node = Node::builder()
        .alone()
        .plugin("echo")
        .manifest("echo", "[resume]\n")
        .start()
        .await?;
    let mut client = ReliableClient::connect(node.address(), "/echo").await?;
    let mut random = fastrand::Rng::with_seed(16);
    let (mut said, mut heard) = (0, 0);
    while heard < 3_000 {
        for _ in 0..random.usize(..30) {
            said += 1;
            client.say(&format!("message {said}")).await?;
        }
        for _ in 0..random.usize(..=(said - heard).min(30)) {
            heard += 1;
            assert_eq!(client.next_text().await?, format!("message {heard}"));
        }
        if random.u8(..4) == 0 {
            match random.bool() {
                true => client.cut()?,
                false => drop(client.let_go()),
            }
            assert!(client.come_back(node.address()).await?);
        }
    }
    node.stop().await.map(drop)
}

#[tokio::test]
async fn when_the_time_is_over_the_client_has_left() -> Result<()> {
    let node = with_manifest("[resume]\nwindow = '300ms'\n")
        .start()
        .await?;
    let mut watcher = node.watcher().await?;
    let mut ada = connect(&node, "?uid=ada").await?;
    let id = ada.id().to_owned();
    ada.cut()?;
    let left = watcher.departure(&id).await?;
    assert_eq!((&left["code"], &left["uid"]), (&json!(1006), &json!("ada")));
    assert!(!ada.come_back(node.address()).await?);
    assert_ne!(ada.id(), id);
    assert_eq!(node.counters().await?.get("resumes_failed")?, 1);
    node.stop().await.map(drop)
}

/// A close frame ends the client, whoever sends it, but for the one that says that it comes back.
#[tokio::test]
async fn a_close_frame_ends_a_client_at_once() -> Result<()> {
    let node = console("").start().await?;
    let mut watcher = node.watcher().await?;
    let mut bob = node.console(&[]).await?;
    let mut ada = connect(&node, "").await?;
    let id = ada.id().to_owned();
    assert_eq!(ada.leave_with(4900, "soon").await?.code(), 4900);
    assert!(ada.come_back(node.address()).await?);
    has_not_left(&node, &mut watcher, &id).await?;

    ada.leave_with(1000, "bye").await?;
    assert_eq!(watcher.departure(&id).await?["code"], 1000);
    assert!(!ada.come_back(node.address()).await?);

    // While it is away, too.
    let id = ada.id().to_owned();
    ada.cut()?;
    let kick = json!({ "do": "close-client", "client": id, "code": 4000, "reason": "out" });
    bob.ok(kick).await?;
    assert_eq!(watcher.departure(&id).await?["code"], 4000);
    assert!(!ada.come_back(node.address()).await?);
    node.stop().await.map(drop)
}

#[tokio::test]
async fn whoever_has_not_the_secret_is_another_client() -> Result<()> {
    let node = console("").start().await?;
    let mut watcher = node.watcher().await?;
    let ada = connect(&node, "").await?;
    let (id, secret) = ada.token()?.split_once('.').expect("two parts");
    let flipped = if secret.starts_with('0') { "1" } else { "0" };
    for token in [
        format!("{id}.{flipped}{}.0", &secret[1..]),
        format!("{id}.{secret}"),
        format!("{secret}.{id}.0"),
    ] {
        let protocols = format!("jackfield.v1, jackfield.resume.{token}");
        let path = "/console";
        let mut eve = ReliableClient::connect_with(node.address(), path, &protocols).await?;
        assert_ne!(eve.id(), ada.id());
        eve.leave_with(1000, "").await?;
        assert_eq!(watcher.departure(eve.id()).await?["code"], 1000);
    }
    has_not_left(&node, &mut watcher, ada.id()).await?;
    node.stop().await.map(drop)
}

/// The handshake of a client that comes back is one like any other.
#[tokio::test]
async fn a_client_that_shows_another_uid_is_another_client() -> Result<()> {
    let manifest = "origins = ['https://good.example']\nrequire_uid = { query = 'me' }\n[resume]\n";
    let node = with_manifest(manifest).start().await?;
    let ada = ReliableClient::connect(node.address(), "/console?me=ada").await?;
    let offer = format!("jackfield.v1, jackfield.resume.{}.1", ada.token()?);
    let connect = |path, origin| {
        let offer = offer.clone();
        let address = node.address();
        async move {
            let headers = [("sec-websocket-protocol", &*offer), ("origin", origin)];
            let mut client = jackfield_tests::Client::connect(address, path, &headers).await?;
            let welcome: Value = serde_json::from_str(&client.next_text().await?)?;
            anyhow::Ok((client, welcome))
        }
    };
    let good = "https://good.example";
    let refused = connect("/console?me=ada", "https://bad.example").await;
    let refused = refused.map(drop).expect_err("its origin may not connect");
    assert_eq!(jackfield_tests::refusal_status(&refused), Some(403));
    let (_eve, welcome) = connect("/console?me=eve", good).await?;
    assert_eq!(welcome["resumed"], false);
    let (_ada, welcome) = connect("/console?me=ada", good).await?;
    assert_eq!(welcome["resumed"], true, "{welcome}");
    node.stop().await.map(drop)
}

/// The build is replaced while the client is away.
#[tokio::test]
async fn a_client_comes_back_to_the_build_that_runs_then() -> Result<()> {
    let node = console("").start().await?;
    let mut ada = connect(&node, "").await?;
    ada.cut()?;
    let manifest = "[resume]\nwindow = '11m'\n";
    node.folder().put_manifest("console", manifest)?;
    node.generation_loaded("console", 2).await?;
    assert!(ada.come_back(node.address()).await?);
    ada.say(r#"{"id":1,"do":"identify"}"#).await?;
    let answer = within("an answer", ada.next_text()).await?;
    let answer: Value = serde_json::from_str(&answer)?;
    assert_eq!(answer["ok"]["generation"], 2, "{answer}");
    node.stop().await.map(drop)
}
