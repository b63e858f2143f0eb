//! The command: where its configuration comes from, what it says when that is wrong, and how
//! it ends.

mod author;
mod cache;
mod configuration;
mod record;
mod remote;
mod running;
mod scenarios;
mod signals;

use std::io::Write as _;

use anyhow::{Context as _, Result};
use jackfield_tests::{
    End, Node, Output, PluginFolder, component, run_node_binary, run_node_binary_in,
};
use rustix::process::Signal;
use serde_json::json;
use tempfile::NamedTempFile;

#[tokio::test]
async fn flags_override_the_file_and_the_file_overrides_the_environment() -> Result<()> {
    let file = file("listen = '127.0.0.1:1'\n[limits]\nclients = 1\nmessage_bytes = 1")?;
    let environment = [
        ("JACKFIELD_LISTEN", "127.0.0.1:2"),
        ("JACKFIELD_LIMITS__CLIENTS", "2"),
        ("JACKFIELD_LIMITS__GROUPS_PER_CLIENT", "2"),
        ("JACKFIELD_PLUGIN__EVENT_TIMEOUT", "2s"),
    ];
    let path = path_of(&file)?;
    let flags = [
        "node",
        "--print-config",
        "--config",
        path,
        "--listen",
        "127.0.0.1:3",
        "--set",
        "limits.message_bytes=3",
    ];
    let output = run_node_binary_in(&environment, &flags).await?;

    assert_eq!(output.code, 0, "{}", output.text());
    for line in [
        "listen = [\"127.0.0.1:3\"]  # flag --listen",
        "limits.message_bytes = 3  # flag --set limits.message_bytes",
        &format!("limits.clients = 1  # file {path}"),
        "limits.groups_per_client = 2  # environment JACKFIELD_LIMITS__GROUPS_PER_CLIENT",
        "plugin.event_timeout = \"2s\"  # environment JACKFIELD_PLUGIN__EVENT_TIMEOUT",
        "limits.name_bytes = 256  # default",
        "plugin.instances = 256  # default",
    ] {
        assert!(
            output.stdout.lines().any(|said| said == line),
            "{line} in\n{}",
            output.stdout
        );
    }
    Ok(())
}

#[tokio::test]
async fn what_print_config_says_can_be_a_file() -> Result<()> {
    let printed = run_node_binary(&["node", "--print-config"]).await?.stdout;
    let file = file(&printed)?;
    let again = run_node_binary(&["node", "--print-config", "--config", path_of(&file)?]).await?;
    assert_eq!(again.code, 0, "{}", again.text());
    let values = |text: &str| -> Vec<String> {
        text.lines()
            .filter_map(|line| Some(line.split_once("  #")?.0.to_owned()))
            .collect()
    };
    assert!(values(&printed).len() > 20, "{printed}");
    assert_eq!(values(&again.stdout), values(&printed));
    Ok(())
}

#[tokio::test]
async fn a_wrong_configuration_is_named() -> Result<()> {
    for (text, named) in [
        ("[limits]\nmessage_byte = 1", "message_byte"),
        ("[limit]\nmessage_bytes = 1", "limit"),
        ("[limits]\nmessage_bytes = 'many'", "message_bytes"),
        ("[limits]\nping_every = 25", "ping_every"),
        ("[limits]\nping_every = 'often'", "ping_every"),
        ("listen = 'nowhere'", "listen"),
        ("log_format = 'xml'", "log_format"),
        ("this is not TOML", "TOML"),
    ] {
        let file = file(text)?;
        let output = run_node_binary(&["node", "--config", path_of(&file)?]).await?;
        is_refused(&output, named);
        assert!(
            output.stderr.contains(path_of(&file)?),
            "{text}: {}",
            output.stderr
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_limit_that_can_not_be_kept_is_named() -> Result<()> {
    for (text, named) in [
        ("[limits]\nclients = 0", "clients is 0"),
        ("[limits]\nping_every = '0s'", "ping_every is 0"),
        ("[plugin]\ninstances = 0", "instances is 0"),
        ("[plugin]\nevent_timeout = '1h'", "event_timeout is"),
        ("[plugin]\nevent_timeout = '0s'", "event_timeout is 0"),
        ("[limits]\nname_bytes = 5000", "name_bytes is 5000"),
        (
            "[limits]\nmessage_bytes = 16777216",
            "limits.outbox_bytes is 1048576, but must hold a message of message_bytes (16777216)",
        ),
        (
            "[limits]\nmessage_bytes = 33554432\noutbox_bytes = 67108864",
            "plugin.memory_bytes is 67108864, but a guest that handles message_bytes (33554432)",
        ),
    ] {
        let file = file(text)?;
        let output = run_node_binary(&["node", "--config", path_of(&file)?]).await?;
        is_refused(&output, named);
    }
    Ok(())
}

#[tokio::test]
async fn a_wrong_flag_is_named() -> Result<()> {
    for (flags, named) in [
        (["--listen", "nowhere"], "listen"),
        (["--set", "limits.message_bytes=many"], "message_bytes"),
        (["--set", "limits.messages=1"], "messages"),
        (["--set", "limits.message_bytes"], "KEY=VALUE"),
        (["--log", "=loud="], "log"),
        (["--log", "wran"], "\"wran\" is no level"),
        (
            ["--log", "info, jackfield::mesh"],
            "\"jackfield::mesh\" is no level",
        ),
        (["--log", "info,jackfield=loud"], "log"),
        (["--config", "/nowhere/node.toml"], "/nowhere/node.toml"),
        (["--plugins", "/nowhere/plugins"], "/nowhere/plugins"),
        (["--gold", "plated"], "--gold"),
    ] {
        let listen = ["node", "--set", "listen=127.0.0.1:0"];
        let output = run_node_binary(&[&listen[..], &flags].concat()).await?;
        is_refused(&output, named);
    }
    Ok(())
}

#[tokio::test]
async fn a_wrong_variable_is_named_and_an_unknown_one_is_somebody_elses() -> Result<()> {
    let arguments = ["node", "--print-config"];
    let wrong = [("JACKFIELD_LIMITS__CLIENTS", "many")];
    is_refused(
        &run_node_binary_in(&wrong, &arguments).await?,
        "JACKFIELD_LIMITS__CLIENTS",
    );
    let foreign = [
        ("JACKFIELD_SERVICE_HOST", "10.0.0.1"),
        ("JACKFIELD_PORT", "tcp://10.0.0.1:80"),
    ];
    assert_eq!(run_node_binary_in(&foreign, &arguments).await?.code, 0);
    Ok(())
}

#[tokio::test]
async fn a_port_in_use_is_named_with_what_to_do() -> Result<()> {
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let folder = PluginFolder::new()?;
    let plugins = folder.path().to_str().context("a readable path")?;
    let output = run_node_binary(&["node", "--listen", &address, "--plugins", plugins]).await?;
    is_refused(&output, &address);
    assert!(output.stderr.contains("--listen"), "{}", output.stderr);
    Ok(())
}

#[tokio::test]
async fn the_command_explains_itself() -> Result<()> {
    assert_eq!(run_node_binary(&["--version"]).await?.code, 0);
    let help = run_node_binary(&["node", "--help"]).await?;
    assert!(
        help.code == 0 && help.stdout.contains("--print-config"),
        "{}",
        help.text()
    );
    assert_ne!(run_node_binary(&[]).await?.code, 0);
    assert_ne!(run_node_binary(&["check"]).await?.code, 0);
    Ok(())
}

#[tokio::test]
async fn check_may_be_given_many_files() -> Result<()> {
    let names = ["console", "echo", "marker-a"];
    let paths = names
        .map(component)
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    let paths = paths
        .iter()
        .map(|path| path.to_str().context("a readable path"));
    let arguments = std::iter::once(Ok("check"))
        .chain(paths)
        .collect::<Result<Vec<_>>>()?;
    let output = run_node_binary(&arguments).await?;
    assert_eq!(output.code, 0, "{}", output.text());
    assert_eq!(output.stdout.matches("ok: a node would load it").count(), 3);
    Ok(())
}

#[tokio::test]
async fn sigterm_drains_with_1012_and_every_on_close() -> Result<()> {
    let node = Node::start("console").await?;
    let farewell = r#"{"do":"log","text":"farewell"}"#;
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(node.console(&[("info.on-close", farewell)]).await?);
    }
    let last = json!({ "do": "send-to-client", "text": "one more thing" });
    clients[0].start(last).await?;
    clients[0].heard().await?;

    let address = node.address();
    node.signal(Signal::TERM)?;
    for client in &mut clients {
        assert_eq!(client.end().await?.code(), 1012);
    }
    let stopped = node.wait().await?;

    assert!(stopped.status.success(), "{}", stopped.status);
    assert_eq!(
        stopped
            .log
            .so_far(|line| line.message() == "farewell")
            .len(),
        20
    );
    assert_eq!(stopped.counters.get("clients_left")?, 20);
    assert!(
        std::net::TcpStream::connect(address).is_err(),
        "nobody listens any more"
    );
    Ok(())
}

#[tokio::test]
async fn an_interrupt_drains_too() -> Result<()> {
    let node = Node::start("lifecycle").await?;
    let mut client = node.client("/lifecycle").await?;
    node.signal(Signal::INT)?;
    let End::Closed { code: 1012, reason } = client.end().await? else {
        panic!("it is closed with 1012");
    };
    let after = reason.strip_prefix("the node restarts, retry-after-ms=");
    let after: u64 = after.context("it says when to come back")?.parse()?;
    assert!(after <= 1_001, "{after}");
    let stopped = node.wait().await?;
    assert!(stopped.status.success());
    assert_eq!(
        stopped.log.so_far(|line| line.message() == "stopped").len(),
        1
    );
    Ok(())
}

#[tokio::test]
async fn a_signal_ends_a_node_that_still_starts() -> Result<()> {
    let ended = Node::builder()
        .plugin("start-spins")
        .manifest(
            "start-spins",
            "[limits]\nevent_timeout = '1h'\nwait_timeout = '1h'",
        )
        .start_and_interrupt(|line| line.message() == "spinning", Signal::TERM)
        .await?;
    assert!(ended.success(), "{ended}");
    Ok(())
}

#[tokio::test]
async fn a_drain_lasts_no_longer_than_it_may() -> Result<()> {
    let node = asleep("drain_timeout = '300ms'").await?;
    assert_eq!(node.stop().await?.counters.get("clients_accepted")?, 1);
    Ok(())
}

#[tokio::test]
async fn a_second_signal_ends_at_once() -> Result<()> {
    let node = asleep("drain_timeout = '1h'").await?;
    node.signal(Signal::TERM)?;
    node.wait_for_log(|line| line.says("draining")).await?;
    node.signal(Signal::TERM)?;
    let stopped = node.wait().await?;
    assert!(
        !stopped.status.success(),
        "it was cut short: {}",
        stopped.status
    );
    Ok(())
}

/// A node with a client whose event will not end by itself.
async fn asleep(limit: &str) -> Result<Node> {
    let node = Node::builder()
        .plugin("console")
        .config(&format!(
            "[limits]\n{limit}\n[plugin]\nwait_timeout = '1h'\nretire_timeout = '100ms'"
        ))
        .start()
        .await?;
    let mut client = node.console(&[]).await?;
    node.put_to_sleep(&mut client, 3_600_000).await?;
    // Its connection breaks, and the event goes on all the same.
    client.vanish()?;
    Ok(node)
}

fn is_refused(output: &Output, named: &str) {
    assert_ne!(output.code, 0, "{}", output.text());
    assert!(
        output.stdout.is_empty(),
        "nothing listens: {}",
        output.stdout
    );
    assert!(
        output.stderr.contains(named),
        "{named} in {}",
        output.stderr
    );
    assert!(!output.stderr.contains("panicked"), "{}", output.stderr);
}

fn file(text: &str) -> Result<NamedTempFile> {
    let mut file = NamedTempFile::with_suffix(".toml")?;
    file.write_all(text.as_bytes())?;
    Ok(file)
}

fn path_of(file: &NamedTempFile) -> Result<&str> {
    file.path().to_str().context("a readable path")
}
