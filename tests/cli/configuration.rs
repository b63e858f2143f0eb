//! The configuration before a node starts and while it runs: `config check`, `config default` and
//! SIGHUP.

use anyhow::{Context as _, Result};
use jackfield_tests::{Authority, Client, Node, refusal_status, run_node_binary};
use rustix::process::Signal;

#[tokio::test]
async fn the_commented_defaults_are_a_configuration_that_changes_nothing() -> Result<()> {
    let defaults = run_node_binary(&["config", "default"]).await?;
    assert_eq!(defaults.code, 0);
    for line in [
        "[limits]",
        "#message_bytes = 65536",
        "# The most clients of the node.",
    ] {
        assert!(
            defaults.stdout.contains(line),
            "{line}: {}",
            defaults.stdout
        );
    }
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("node.toml");
    std::fs::write(&file, defaults.stdout)?;
    let (file, plugins) = (
        file.display().to_string(),
        folder.path().display().to_string(),
    );
    let checked = ["config", "check", "--config", &file, "--plugins", &plugins];
    let checked = run_node_binary(&checked).await?;
    assert_eq!((checked.code, &*checked.stderr), (0, ""));
    assert_eq!(checked.stdout, "ok: no mistake was found\n");
    Ok(())
}

#[tokio::test]
async fn a_configuration_with_which_a_node_would_not_start_says_why() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let authority = Authority::new()?;
    let (issued, other) = (
        authority.issue("a", &["a.test"])?,
        authority.issue("b", &["b.test"])?,
    );
    let mixed = format!(
        "[tls]\napi = true\ncertificates = [{{ certificate = '{}', key = '{}' }}]",
        issued.certificate.display(),
        other.key.display()
    );
    let plugins = folder.path().display().to_string();
    let file = folder.path().join("node.toml");
    for (text, why) in [
        ("[limits]\nclient = 1", "unknown field: found `client`"),
        ("listen = 'here'", "HOST:PORT, unix:PATH or systemd:NAME"),
        ("listen = []", "clients cannot connect anywhere"),
        (
            "[proxy]\ntrusted = ['10.0.0.0/40']",
            "a network such as 10.0.0.0/8",
        ),
        ("[proxy]\nheader = 'x-real-ip'", "x-forwarded-for"),
        ("[tls]\nlisten = '127.0.0.1:0'", "TLS needs a certificate"),
        (&*mixed, "a.pem with the key"),
        ("[tls]\nmin_version = '1.1'", "1.2"),
        (
            "api_tokens = '/nowhere/tokens'",
            "/nowhere/tokens cannot be read",
        ),
        ("[mesh]\nregisters = ['a:1']", "say it with --mesh ADDR"),
        ("[mesh]\nlisten = '127.0.0.1:0'\npeers = ['a']", "--peer a"),
        ("log = 'loud'", "\"loud\" is no level"),
        (
            "plugins = '/nowhere'",
            "the plugins folder /nowhere cannot be read",
        ),
    ] {
        std::fs::write(&file, text)?;
        let path = file.to_str().context("UTF-8")?;
        let mut arguments = vec!["config", "check", "--config", path];
        if !text.starts_with("plugins") {
            arguments.extend(["--plugins", &plugins]);
        }
        let checked = run_node_binary(&arguments).await?;
        assert_eq!((checked.code, &*checked.stdout), (1, ""), "{text}");
        assert!(checked.stderr.contains(why), "{text}: {}", checked.stderr);
    }
    Ok(())
}

/// What a hangup changes, what it names, and what it refuses as a whole.
#[tokio::test]
async fn a_hangup_reads_the_configuration_again_and_closes_nobody() -> Result<()> {
    let config = "[limits]\nclients_per_address = 1\n";
    let node = Node::builder()
        .plugin("echo")
        .alone()
        .config(config)
        .start()
        .await?;
    let mut first = node.client("/echo").await?;
    let refused = Client::connect(node.address(), "/echo", &[]).await;
    assert_eq!(
        refusal_status(&refused.err().context("one too many")?),
        Some(429)
    );

    node.replace_config("workers = 7\nlog = 'debug'\n[limits]\nclients_per_address = 2\n")?;
    node.signal(Signal::HUP)?;
    let line = node
        .wait_for_log(|line| line.says("the configuration was read again"))
        .await?;
    assert_eq!(line.text("changed"), "limits.clients_per_address, log");
    let line = node
        .wait_for_log(|line| line.says("take effect with a restart"))
        .await?;
    assert_eq!(line.text("keys"), "workers");
    let _second = node.client("/echo").await?;
    assert!(Client::connect(node.address(), "/echo", &[]).await.is_err());

    // Wrong in one place: nothing of it is taken.
    node.replace_config("[limits]\nclients_per_address = 9\nping_timeout = '0s'\n")?;
    node.signal(Signal::HUP)?;
    let line = node
        .wait_for_log(|line| line.says("the configuration stays as it was"))
        .await?;
    assert!(
        line.text("error").contains("limits.ping_timeout is 0"),
        "{line:?}"
    );
    assert!(Client::connect(node.address(), "/echo", &[]).await.is_err());

    first.say("still here").await?;
    assert_eq!(first.next_text().await?, "still here");
    assert!(node.stop().await?.status.success());
    Ok(())
}
