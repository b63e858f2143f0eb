//! A server: shared by nodes, down, slow, back, and with a password.

use std::collections::BTreeSet;

use anyhow::Result;
use jackfield_tests::{LogLine, Node, Redis};
use rustix::process::Signal;

use super::{ask, is_back, is_gone, keeper};

#[tokio::test]
async fn nodes_that_use_it_share_what_is_there() -> Result<()> {
    const EACH: usize = 50;
    let server = Redis::start().await?;
    let (one, two) = (
        keeper(&server.url(), "").start().await?,
        keeper(&server.url(), "").start().await?,
    );
    let mut ada = one.client("/keeper").await?;
    let mut bob = two.client("/keeper").await?;
    ask(&mut ada, "set tea green").await?;
    assert_eq!(ask(&mut bob, "get tea").await?, "green");

    for client in [&mut ada, &mut bob] {
        for _ in 0..EACH {
            client.say("default increment n 1").await?;
            client.say("default append text x").await?;
        }
    }
    let (mut numbers, mut texts) = (BTreeSet::new(), BTreeSet::new());
    for client in [&mut ada, &mut bob] {
        for _ in 0..EACH {
            numbers.insert(client.next_text().await?.parse::<usize>()?);
            texts.insert(client.next_text().await?.len());
        }
    }
    let all: BTreeSet<_> = (1..=2 * EACH).collect();
    assert_eq!((numbers, texts), (all.clone(), all));
    Ok(())
}

#[tokio::test]
async fn without_it_calls_fail_until_it_is_back_and_the_log_says_so_once() -> Result<()> {
    let mut server = Redis::start().await?;
    let node = keeper(&server.url(), "").start().await?;
    let mut ada = node.client("/keeper").await?;
    assert_eq!(ask(&mut ada, "set tea green").await?, "done");

    server.kill().await?;
    node.wait_for_log(is_gone).await?;
    for _ in 0..20 {
        let said = ask(&mut ada, "get tea").await?;
        assert!(said.contains("the node's key-value store failed"), "{said}");
    }
    assert_eq!(node.counters().await?.get("keyvalue_failed")?, 20);

    server.come_back().await?;
    node.wait_for_log(is_back).await?;
    assert_eq!(ask(&mut ada, "get tea").await?, "green");
    let told = |wanted: fn(&LogLine) -> bool| node.log().so_far(wanted).len();
    assert_eq!((told(is_gone), told(is_back)), (1, 1));
    Ok(())
}

#[tokio::test]
async fn a_node_starts_without_it() -> Result<()> {
    let mut server = Redis::absent()?;
    let node = keeper(&server.url(), "").start().await?;
    let mut ada = node.client("/keeper").await?;
    let said = ask(&mut ada, "get tea").await?;
    assert!(
        said.contains("cannot be used now (keyvalue.store)"),
        "{said}"
    );
    server.come_back().await?;
    node.wait_for_log(is_back).await?;
    assert_eq!(ask(&mut ada, "get tea").await?, "none");
    Ok(())
}

#[tokio::test]
async fn one_that_says_nothing_holds_up_only_who_asks_it() -> Result<()> {
    let server = Redis::start().await?;
    let node = keeper(&server.url(), "[limits]\nkeyvalue_timeout = '300ms'")
        .plugin("echo")
        .start()
        .await?;
    let mut ada = node.client("/keeper").await?;
    let mut bob = node.client("/echo").await?;
    assert_eq!(ask(&mut ada, "get tea").await?, "none");

    server.signal(Signal::STOP)?;
    ada.say("default get tea").await?;
    // Others are served while it waits.
    for number in 0..100 {
        bob.say(number.to_string()).await?;
        assert_eq!(bob.next_text().await?, number.to_string());
    }
    let said = ada.next_text().await?;
    assert!(
        said.contains("no answer within 300ms (keyvalue_timeout)"),
        "{said}"
    );
    node.wait_for_log(is_gone).await?;
    let said = ask(&mut ada, "get tea").await?;
    assert!(said.contains("cannot be used now"), "{said}");

    server.signal(Signal::CONT)?;
    node.wait_for_log(is_back).await?;
    assert_eq!(ask(&mut ada, "get tea").await?, "none");
    Ok(())
}

#[tokio::test]
async fn its_password_is_in_a_file_and_nowhere_else() -> Result<()> {
    const PASSWORD: &str = "open-sesame";
    let server = Redis::start_with(&["--requirepass", PASSWORD]).await?;
    let node = |file: &str| {
        let set = format!("keyvalue.password_file={file}");
        keeper(&server.url(), "").arguments(&["--set", &set, "--log", "debug"])
    };
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("password");
    std::fs::write(&file, format!("{PASSWORD}\n"))?;
    let good = node(&file.to_string_lossy()).start().await?;
    let mut ada = good.client("/keeper").await?;
    assert_eq!(ask(&mut ada, "set tea green").await?, "done");
    assert_eq!(secrets(&good, PASSWORD), 0);

    std::fs::write(&file, "another")?;
    let bad = node(&file.to_string_lossy()).start().await?;
    bad.wait_for_log(is_gone).await?;
    let mut ada = bad.client("/keeper").await?;
    assert!(ask(&mut ada, "get tea").await?.starts_with("error: "));
    Ok(())
}

#[tokio::test]
async fn over_tls_the_server_is_who_it_says() -> Result<()> {
    let mut server = Redis::absent()?;
    let own = |name: String| rcgen::generate_simple_self_signed([name]);
    let (its, another) = (
        own(server.address().ip().to_string())?,
        own("another".to_owned())?,
    );
    server.encrypt(&its.cert.pem(), &its.signing_key.serialize_pem())?;
    server.come_back().await?;
    let folder = tempfile::tempdir()?;
    let node = |name: &str, certificate: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, certificate)?;
        let set = format!("keyvalue.authorities={}", file.display());
        anyhow::Ok(keeper(&server.url(), "").arguments(&["--set", &set]))
    };
    let good = node("its", &its.cert.pem())?.start().await?;
    let mut ada = good.client("/keeper").await?;
    assert_eq!(ask(&mut ada, "set tea green").await?, "done");
    assert_eq!(ask(&mut ada, "get tea").await?, "green");

    // Whom browsers trust, and an authority that has not signed it.
    for stranger in [
        keeper(&server.url(), ""),
        node("another", &another.cert.pem())?,
    ] {
        let node = stranger.start().await?;
        let told = node.wait_for_log(is_gone).await?;
        assert!(told.text("error").contains("certificate"), "{told:?}");
        let mut ada = node.client("/keeper").await?;
        assert!(ask(&mut ada, "get tea").await?.starts_with("error: "));
    }
    Ok(())
}

fn secrets(node: &Node, secret: &str) -> usize {
    let has_it = |line: &LogLine| line.fields().to_string().contains(secret);
    node.log().so_far(has_it).len()
}
