//! Certificates that the node gets by itself from an ACME server.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use jackfield_tests::{
    Authority, Client, LogLine, Node, NodeBuilder, Pebble, run_node_binary, tls_connect, within,
};
use tempfile::TempDir;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::version::TLS13;

use crate::echoes;

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
    echoes(&mut client).await?;
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
    pebble.issue_for(Duration::from_secs(15));
    let folder = tempfile::tempdir()?;
    let node = customer(&pebble, folder.path(), "['node.test']", "")
        .start()
        .await?;
    start_for(&mut pebble, &node).await?;
    node.wait_for_counter("certificates_issued", 1).await?;
    let mut client = talks(&node, "node.test", &pebble.client().await?).await?;

    start_for(&mut pebble, &node).await?;
    let forgotten = |line: &LogLine| {
        line.says(FAILED) && line.text("error").contains("does not know the account")
    };
    node.wait_for_log(forgotten).await?;
    node.wait_for_counter("certificates_issued", 2).await?;
    // It is another authority after its restart, which has not issued the first one.
    talks(&node, "node.test", &pebble.client().await?).await?;
    echoes(&mut client).await?;
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
    let refused = |line: &LogLine| {
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
        move |line: &LogLine| line.says(said) && line.text("name") == name
    };
    node.wait_for_log(of("node.test", ISSUED)).await?;
    let failed = |line: &LogLine| {
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
    let authority = Authority::new()?;
    let issued = authority.issue("node", &["node.test"])?;
    let node = customer(&pebble, folder.path(), "['other.test']", "")
        .change_config(|config| {
            let entry = issued.entry();
            config.replace("[tls]\n", &format!("[tls]\ncertificates = [{entry}]\n"))
        })
        .start()
        .await?;
    let mut config = (*authority.client(&[&TLS13], None)?).clone();
    talks(&node, "node.test", &Arc::new(config.clone())).await?;
    config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
    let refused = tls_connect(node.tls_address()?, "node.test", &Arc::new(config)).await;
    let refused = format!("{:#}", refused.err().context("refused")?);
    assert!(refused.contains("AccessDenied"), "{refused}");
    let page = node.refusal("/.well-known/acme-challenge/abc").await?;
    assert_eq!(page.status, 404);
    Ok(())
}

/// While a folder cannot be written to, what was issued is used, and is kept later.
#[tokio::test]
async fn a_certificate_that_cannot_be_kept_is_shown_all_the_same() -> Result<()> {
    let mut pebble = Pebble::absent()?;
    let folder = tempfile::tempdir()?;
    let node = customer(&pebble, folder.path(), "['node.test']", "")
        .start()
        .await?;
    let (kept_in, _) = kept(&folder)?;
    std::fs::remove_dir(&kept_in)?;
    start_for(&mut pebble, &node).await?;
    node.wait_for_counter("certificates_issued", 1).await?;
    talks(&node, "node.test", &pebble.client().await?).await?;
    let unkept = |line: &LogLine| line.says("it is used and cannot be kept yet");
    assert_eq!(node.log().nth(2, unkept).await?.level(), "ERROR");

    std::fs::create_dir(&kept_in)?;
    within("the files", async {
        while kept(&folder)?.1 != ["account.json", "node.test.pem"] {
            tokio::task::yield_now().await;
        }
        anyhow::Ok(())
    })
    .await
}

#[tokio::test]
async fn what_can_never_be_issued_is_said_at_the_start() -> Result<()> {
    for (config, expected) in [
        (
            "[tls]\nredirect = 'https://node.test'",
            "need a port with TLS",
        ),
        ("[tls.acme]\nnames = ['node.test']", "need a port with TLS"),
        (
            "[tls]\napi = true\n[tls.acme]\nnames = ['node.test']",
            "set tls.listen with port 443",
        ),
        (
            "listen = []\n[tls]\nlisten = '127.0.0.1:0'\n[tls.acme]\nnames = ['node.test']\n\
             challenge = 'http-01'",
            "set listen with port 80",
        ),
    ] {
        let file = tempfile::NamedTempFile::with_suffix(".toml")?;
        std::fs::write(&file, config)?;
        let path = file.path().display().to_string();
        for command in [&["config", "check"][..], &["node"]] {
            let output = run_node_binary(&[command, &["--config", &path]].concat()).await?;
            assert_eq!(output.code, 1, "{}", output.text());
            assert!(output.stderr.contains(expected), "{}", output.text());
        }
    }
    Ok(())
}
