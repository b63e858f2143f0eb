//! The mesh's secret: who does not know it is refused by nodes and registers, has no effect,
//! and is named in their logs; and without one nothing listens where others could reach it.

use std::io::Write as _;

use anyhow::Result;
use jackfield_tests::{Log, LogLine, Node, NodeBuilder, Register, run_node_binary};
use tempfile::NamedTempFile;

use crate::{SOON, console, reaches};

/// A secret, in a file.
struct Secret(NamedTempFile);

impl Secret {
    fn new(text: &str) -> Result<Secret> {
        let mut file = NamedTempFile::new()?;
        writeln!(file, "{text}")?;
        Ok(Secret(file))
    }

    fn path(&self) -> &str {
        self.0.path().to_str().unwrap_or_default()
    }

    fn flags(&self) -> [&str; 2] {
        ["--secret-file", self.path()]
    }
}

fn ours() -> Result<Secret> {
    Secret::new("a secret that all of us know")
}

fn theirs() -> Result<Secret> {
    Secret::new("a secret that only they know")
}

fn node() -> NodeBuilder {
    console(SOON)(Node::builder().alone())
}

async fn register(secret: &Secret) -> Result<Register> {
    Register::start_at("127.0.0.1:0", &secret.flags()).await
}

fn is_about_trust(line: &LogLine) -> bool {
    line.level() == "WARN" && line.says("secret")
}

#[tokio::test]
async fn who_knows_it_takes_part() -> Result<()> {
    let secret = ours()?;
    let register = register(&secret).await?;
    let build = || {
        node()
            .registered_at(&[&register])
            .arguments(&secret.flags())
            .start()
    };
    let (first, second) = (build().await?, build().await?);
    first.wait_for_peers(1).await?;
    second.wait_for_peers(1).await?;
    let mut ada = first.console(&[]).await?;
    let mut bob = second.console(&[]).await?;
    reaches(&mut ada, &mut bob).await?;
    assert_eq!(first.counters().await?.get("mesh_untrusted")?, 0);
    Ok(())
}

#[tokio::test]
async fn who_has_another_secret_is_refused() -> Result<()> {
    let (ours, theirs) = (ours()?, theirs()?);
    is_refused(&ours.flags(), &theirs.flags()).await
}

#[tokio::test]
async fn who_has_none_is_refused() -> Result<()> {
    let ours = ours()?;
    is_refused(&ours.flags(), &[]).await
}

#[tokio::test]
async fn who_has_one_where_nobody_has_is_refused() -> Result<()> {
    let theirs = theirs()?;
    is_refused(&[], &theirs.flags()).await
}

/// A register and two nodes with these flags refuse a node with those.
async fn is_refused(ours: &[&str], theirs: &[&str]) -> Result<()> {
    let register = Register::start_at("127.0.0.1:0", ours).await?;
    let build = || node().registered_at(&[&register]).arguments(ours).start();
    let victim = build().await?;
    let friend = build().await?;
    victim.wait_for_peers(1).await?;

    // It is told of one of them, and asks the register for the other.
    let peer = victim.mesh_address()?.to_string();
    let stranger = node().registered_at(&[&register]).arguments(theirs);
    let stranger = stranger.arguments(&["--peer", &peer]).start().await?;
    // Each says why, and does not say it again and again.
    stranger.wait_for_log(is_about_the_register).await?;
    stranger.wait_for_log(is_about_a_node).await?;
    refuses(victim.log(), "a link was refused").await?;
    refuses(register.log(), "a node was refused").await?;
    assert!(victim.counters().await?.get("mesh_untrusted")? > 0);

    // It has no effect: its clients are nobody's, and it learns of nobody.
    let mut eve = stranger.console(&[("uid", "eve")]).await?;
    let mut ada = victim.console(&[]).await?;
    let mut bob = friend.console(&[]).await?;
    let to_ada = serde_json::json!({ "do": "send-to-client", "client": ada.id(), "text": "m" });
    assert_eq!(eve.error(to_ada).await?, "not-found");
    let to_all = serde_json::json!({ "do": "send-to-all", "text": "m" });
    eve.ok(to_all).await?;
    let online = serde_json::json!({ "do": "is-uid-online", "uid": "eve" });
    assert_eq!(ada.ok(online).await?, false);
    reaches(&mut ada, &mut bob).await?;
    assert_eq!(ada.heard().await?, []);
    let nobody: [serde_json::Value; 0] = [];
    assert_eq!(stranger.peers().await?, nobody);
    victim.wait_for_peers(1).await?;
    friend.wait_for_peers(1).await?;
    let lines = victim.log().so_far(is_about_trust);
    assert!(lines.len() <= 2, "{} times: {lines:?}", lines.len());
    Ok(())
}

fn is_about_the_register(line: &LogLine) -> bool {
    line.says("not at this register") && line.says("secret")
}

fn is_about_a_node(line: &LogLine) -> bool {
    line.says("not linked to a node") && line.says("secret")
}

async fn refuses(log: &Log, how: &str) -> Result<()> {
    let wanted = |line: &LogLine| line.says(how) && line.says("secret");
    log.nth(1, wanted).await.map(drop)
}

#[tokio::test]
async fn a_stranger_register_is_not_believed() -> Result<()> {
    let (ours, theirs) = (ours()?, theirs()?);
    let false_one = register(&theirs).await?;
    let true_one = register(&ours).await?;
    let build = || {
        node()
            .registered_at(&[&false_one, &true_one])
            .arguments(&ours.flags())
            .start()
    };
    let (first, second) = (build().await?, build().await?);
    first.wait_for_log(is_about_the_register).await?;
    first.wait_for_peers(1).await?;
    second.wait_for_peers(1).await?;
    let joined = false_one
        .log()
        .so_far(|line| line.says("a node has joined"));
    assert!(joined.is_empty(), "{joined:?}");
    Ok(())
}

#[tokio::test]
async fn without_a_secret_only_loopback_is_listened_on() -> Result<()> {
    for arguments in [
        &[
            "node",
            "--listen",
            "127.0.0.1:0",
            "--api",
            "",
            "--mesh",
            "0.0.0.0:0",
        ][..],
        &["register", "--listen", "0.0.0.0:0"],
    ] {
        let output = run_node_binary(arguments).await?;
        assert_eq!(output.code, 1, "{}", output.text());
        for words in ["0.0.0.0:0", "--secret-file", "--tls-certificate"] {
            assert!(output.stderr.contains(words), "{}", output.text());
        }
    }
    // With one, it may; what others are to dial has then to be said.
    let secret = ours()?;
    let listen = ["node", "--listen", "127.0.0.1:0", "--api", ""];
    let mesh = ["--mesh", "0.0.0.0:0", "--secret-file", secret.path()];
    let output = run_node_binary(&[&listen[..], &mesh].concat()).await?;
    assert_eq!(output.code, 1, "{}", output.text());
    assert!(output.stderr.contains("--advertise"), "{}", output.text());
    Ok(())
}

#[tokio::test]
async fn a_secret_that_can_be_guessed_is_none() -> Result<()> {
    let short = Secret::new("short")?;
    let output = run_node_binary(&["register", "--secret-file", short.path()]).await?;
    assert_eq!(output.code, 1);
    assert!(output.stderr.contains("fewer than 16"), "{}", output.text());
    let output = run_node_binary(&["register", "--secret-file", "/nowhere/at/all"]).await?;
    assert_eq!(output.code, 1);
    assert!(
        output.stderr.contains("/nowhere/at/all"),
        "{}",
        output.text()
    );
    Ok(())
}
