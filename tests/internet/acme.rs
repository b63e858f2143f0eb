//! Certificates that the node gets by itself from an ACME server.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use jackfield_tests::{Client, Node, NodeBuilder, Pebble, text, tls_connect};
use tempfile::TempDir;
use tokio_rustls::rustls::ClientConfig;

const ISSUED: &str = "the authority has issued a certificate";
const FAILED: &str = "no certificate could be had";

/// A node that gets certificates for these names from a server; `more` stands in its section
/// `[tls.acme]`.
fn customer(pebble: &Pebble, folder: &Path, names: &str, more: &str) -> NodeBuilder {
    let (directory, authorities) = (pebble.directory(), pebble.authorities());
    let (folder, authorities) = (folder.display(), authorities.display());
    let config = format!(
        "[tls]\nlisten = '127.0.0.1:0'\n[tls.acme]\nnames = {names}\ndirectory = '{directory}'\n\
         accept_terms = true\ncontact = 'ops@node.test'\nfolder = '{folder}'\n\
         authorities = '{authorities}'\nretry = '100ms'\n{more}\n"
    );
    Node::builder().plugin("echo").alone().config(&config)
}

async fn start_for(pebble: &mut Pebble, node: &Node) -> Result<()> {
    pebble.start(node.tls_address()?, node.address()).await
}

async fn talks(node: &Node, name: &'static str, config: &Arc<ClientConfig>) -> Result<Client> {
    let stream = tls_connect(node.tls_address()?, name, config).await?;
    let mut client = Client::over(stream, "/echo", &[]).await?;
    client.say(text("hello")).await?;
    assert_eq!(client.next_text().await?, "hello");
    Ok(client)
}

/// The folder of the only directory, and what is in it.
fn kept(folder: &TempDir) -> Result<(PathBuf, Vec<String>)> {
    let mut folders = std::fs::read_dir(folder.path())?;
    let folder = folders.next().context("a folder")??.path();
    let files = std::fs::read_dir(&folder)?.map(|file| Ok(file?.file_name()));
    let files: std::io::Result<Vec<_>> = files.collect();
    let mut files: Vec<_> = files?
        .into_iter()
        .map(|file| file.to_string_lossy().into_owned())
        .collect();
    files.sort_unstable();
    Ok((folder, files))
}

#[tokio::test]
async fn each_name_gets_a_certificate_by_either_challenge_and_keeps_it() -> Result<()> {
    for challenge in ["tls-alpn-01", "http-01"] {
        let mut pebble = Pebble::absent()?;
        let folder = tempfile::tempdir()?;
        let names = "['node.test', 'other.test']";
        let more = format!("challenge = '{challenge}'");
        let node = customer(&pebble, folder.path(), names, &more)
            .start()
            .await?;
        // A server that is not there yet is asked again.
        node.wait_for_log(|line| line.says(FAILED)).await?;
        start_for(&mut pebble, &node).await?;
        node.wait_for_counter("certificates_issued", 2).await?;
        let config = pebble.client().await?;
        for name in ["node.test", "other.test"] {
            talks(&node, name, &config).await.context(challenge)?;
        }

        let (kept, files) = kept(&folder)?;
        assert_eq!(files, ["account.json", "node.test.pem", "other.test.pem"]);
        let mode = |path: &Path| Ok::<_, std::io::Error>(path.metadata()?.permissions().mode());
        assert_eq!(mode(&kept)? & 0o777, 0o700);
        for file in &files {
            assert_eq!(mode(&kept.join(file))? & 0o777, 0o600, "{file}");
        }

        // After a restart it needs nobody.
        pebble.kill().await?;
        node.stop().await?;
        let node = customer(&pebble, folder.path(), names, &more)
            .start()
            .await?;
        talks(&node, "other.test", &config).await?;
        assert_eq!(node.counters().await?.get("certificates_issued")?, 0);
    }
    Ok(())
}

#[tokio::test]
async fn a_certificate_is_renewed_in_time_even_if_the_authority_has_forgotten_us() -> Result<()> {
    let mut pebble = Pebble::absent()?;
    pebble.issue_for(Duration::from_secs(9));
    let folder = tempfile::tempdir()?;
    let node = customer(&pebble, folder.path(), "['node.test']", "")
        .start()
        .await?;
    start_for(&mut pebble, &node).await?;
    node.wait_for_counter("certificates_issued", 1).await?;
    let mut client = talks(&node, "node.test", &pebble.client().await?).await?;

    start_for(&mut pebble, &node).await?;
    let forgotten = |line: &jackfield_tests::LogLine| {
        line.says(FAILED) && line.text("error").contains("does not know the account")
    };
    node.wait_for_log(forgotten).await?;
    node.wait_for_counter("certificates_issued", 2).await?;
    // It is another authority after its restart, which has not issued the first one.
    talks(&node, "node.test", &pebble.client().await?).await?;
    client.say(text("still here")).await?;
    assert_eq!(client.next_text().await?, "still here");
    Ok(())
}

#[tokio::test]
async fn an_authority_may_want_an_account_that_its_customers_have_already() -> Result<()> {
    let mut pebble = Pebble::absent()?;
    let key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    pebble.ask_for_account("kid-1", key);
    let folder = tempfile::tempdir()?;
    let stranger = customer(&pebble, folder.path(), "['node.test']", "")
        .start()
        .await?;
    start_for(&mut pebble, &stranger).await?;
    let refused = |line: &jackfield_tests::LogLine| {
        line.says(FAILED) && line.text("error").contains("externalAccountRequired")
    };
    stranger.wait_for_log(refused).await?;

    let file = folder.path().join("key");
    std::fs::write(&file, format!("{key}\n"))?;
    let more = format!(
        "external_account = 'kid-1'\nexternal_account_key = '{}'",
        file.display()
    );
    let folder = tempfile::tempdir()?;
    let node = customer(&pebble, folder.path(), "['node.test']", &more)
        .start()
        .await?;
    start_for(&mut pebble, &node).await?;
    node.wait_for_log(|line| line.says(ISSUED)).await?;
    talks(&node, "node.test", &pebble.client().await?).await?;
    Ok(())
}

#[tokio::test]
async fn a_name_that_leads_elsewhere_keeps_no_other_from_its_certificate() -> Result<()> {
    let mut pebble = Pebble::absent()?;
    let folder = tempfile::tempdir()?;
    let names = "['elsewhere.test', 'node.test']";
    let node = customer(&pebble, folder.path(), names, "").start().await?;
    pebble.lead_elsewhere("elsewhere.test");
    start_for(&mut pebble, &node).await?;
    let of = |name: &'static str, said: &'static str| {
        move |line: &jackfield_tests::LogLine| line.says(said) && line.text("name") == name
    };
    node.wait_for_log(of("node.test", ISSUED)).await?;
    let failed = |line: &jackfield_tests::LogLine| {
        let error = line.text("error");
        of("elsewhere.test", FAILED)(line) && error.contains("Failed to connect to 127.255.255.254")
    };
    node.wait_for_log(failed).await?;
    talks(&node, "node.test", &pebble.client().await?).await?;
    Ok(())
}

#[tokio::test]
async fn nobody_gets_an_answer_to_a_challenge_that_there_is_not() -> Result<()> {
    let pebble = Pebble::absent()?;
    let folder = tempfile::tempdir()?;
    let node = customer(&pebble, folder.path(), "['node.test']", "")
        .start()
        .await?;
    let authority = jackfield_tests::Authority::new()?;
    let mut config = (*authority.client(&[&tokio_rustls::rustls::version::TLS13], None)?).clone();
    config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
    let refused = tls_connect(node.tls_address()?, "node.test", &Arc::new(config)).await;
    let refused = format!("{:#}", refused.err().context("refused")?);
    assert!(refused.contains("alert"), "{refused}");
    let page = node.refusal("/.well-known/acme-challenge/abc").await?;
    assert_eq!(page.status, 404);
    Ok(())
}
