//! The commands for a node that runs: what they print, what they do, and what they say when
//! something is wrong.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jackfield_tests::remote::{printed, run};
use jackfield_tests::{
    Cluster, Node, node_command, run_node_binary, run_node_binary_in, text, within,
};
use serde_json::Value;
use tempfile::{NamedTempFile, TempDir};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

use super::running::Running;

/// The rows of a table, without its head.
fn rows(table: &str) -> Vec<Vec<&str>> {
    let rows = table.lines().skip(1);
    rows.map(|row| {
        row.split("  ")
            .map(str::trim)
            .filter(|cell| !cell.is_empty())
            .collect()
    })
    .collect()
}

async fn consoles(nodes: usize) -> Result<Cluster> {
    Cluster::start(nodes, |node| node.plugin("console")).await
}

#[tokio::test]
async fn a_cluster_is_seen_from_one_of_its_nodes() -> Result<()> {
    let cluster = consoles(3).await?;
    cluster[0].wait_for_plugins_of(&cluster[1]).await?;
    cluster[0].wait_for_plugins_of(&cluster[2]).await?;
    let _ada = cluster[0].console(&[("uid", "ada")]).await?;

    let status = printed(&cluster[0], &["status"]).await?;
    for said in [
        "stage:      ready",
        "peers:      2 alive",
        "keyvalue:   memory",
    ] {
        assert!(status.contains(said), "{said} in\n{status}");
    }
    let nodes = printed(&cluster[0], &["nodes"]).await?;
    let nodes = rows(&nodes);
    assert_eq!(nodes.len(), 3, "{nodes:?}");
    let own = format!("{} (asked)", cluster[0].incarnation().await?);
    assert_eq!(nodes[0][0], own);
    assert_eq!(nodes[0][2..7], ["ready", "1", "1", "1", "0"]);

    let table = printed(&cluster[0], &["plugins"]).await?;
    let mut listed: Vec<_> = rows(&table)
        .into_iter()
        .map(|row| row[0].to_owned())
        .collect();
    let mut expected = Vec::new();
    for node in cluster.nodes() {
        expected.push(node.incarnation().await?);
    }
    listed.sort_unstable();
    expected.sort_unstable();
    assert_eq!(listed, expected);
    let json: Value = serde_json::from_str(&printed(&cluster[0], &["plugins", "--json"]).await?)?;
    let digests = json.as_array().context("a list")?.iter();
    let digests: Vec<_> = digests
        .map(|node| node["plugins"][0]["build"]["digest"].clone())
        .collect();
    assert_eq!(digests, vec![digests[0].clone(); 3]);
    Ok(())
}

#[tokio::test]
async fn clients_are_listed_shown_sent_to_and_closed() -> Result<()> {
    let cluster = consoles(2).await?;
    let query = [("uid", "ada"), ("group", "lobby")];
    let mut ada = cluster[1].console(&query).await?;
    let mut bob = cluster[0].console(&[("group", "lobby")]).await?;
    let everybody = async {
        while rows(&printed(&cluster[0], &["clients"]).await?).len() < 2 {}
        while !printed(&cluster[0], &["groups"])
            .await?
            .contains("lobby  2")
        {}
        while !printed(&cluster[0], &["uids"]).await?.contains("ada  1") {}
        anyhow::Ok(())
    };
    within("both clients to be known", everybody).await?;

    let ids = async |arguments: &[&str]| {
        let table = printed(&cluster[0], arguments).await?;
        let ids = rows(&table).into_iter().map(|row| row[1].to_owned());
        anyhow::Ok(ids.collect::<Vec<_>>())
    };
    let mut both = vec![ada.id().to_owned(), bob.id().to_owned()];
    both.sort_unstable();
    for (arguments, expected) in [
        (&["clients"][..], &both[..]),
        (&["clients", "--plugin", "console"], &both),
        (&["clients", "--group", "lobby"], &both),
        (&["clients", "--uid", "ada"], &[ada.id().to_owned()]),
        (&["clients", "--uid", "nobody"], &[]),
        (&["clients", "--address", "127.0.0.1"], &both),
        (&["clients", "--address", "10.0.0.0/8"], &[]),
    ] {
        assert_eq!(ids(arguments).await?, expected, "{arguments:?}");
    }
    let limited = run(&cluster[0], &["clients", "--limit", "1"]).await?;
    assert_eq!(rows(&limited.stdout).len(), 1);
    assert!(limited.stderr.contains("--limit"), "{}", limited.stderr);
    let json = printed(&cluster[0], &["clients", "--uid", "ada", "--json"]).await?;
    let json: Value = serde_json::from_str(&json)?;
    assert_eq!(json[0]["groups"][0], "lobby");

    let shown = printed(&cluster[0], &["client", ada.id()]).await?;
    for said in [
        format!("client:     {}", ada.id()),
        "plugin:     console".to_owned(),
        format!("node:       {}", cluster[1].incarnation().await?),
        "uid:        ada".to_owned(),
        "groups:     lobby".to_owned(),
        "address:    127.0.0.1:".to_owned(),
    ] {
        assert!(shown.contains(&said), "{said} in\n{shown}");
    }

    for (arguments, reached) in [
        (&["send", "--client", ada.id(), "1"][..], "sent to 1\n"),
        (&["send", "--uid", "ada", "2"], "sent to 1\n"),
        (&["send", "--group", "lobby", "3"], "sent to 2\n"),
        (&["send", "--all", "4"], "sent to 2\n"),
    ] {
        assert_eq!(printed(&cluster[0], arguments).await?, reached);
    }
    for message in ["1", "2", "3", "4"] {
        assert_eq!(ada.next().await?, text(message));
    }
    assert_eq!(bob.next().await?, text("3"));
    assert_eq!(bob.next().await?, text("4"));

    let kick = [
        "kick", "--uid", "ada", "--code", "4001", "--reason", "enough",
    ];
    assert_eq!(printed(&cluster[0], &kick).await?, "closed 1\n");
    let end = ada.end().await?;
    assert_eq!(end, jackfield_tests::End::closed(4001, "enough"));
    let kick = ["kick", "--client", bob.id()];
    assert_eq!(printed(&cluster[0], &kick).await?, "closed 1\n");
    assert_eq!(bob.end().await?.code(), 1000);
    Ok(())
}

/// A client chooses its uid, and it must not steer the terminal of whoever looks.
#[tokio::test]
async fn a_plugin_is_called_and_its_answer_is_printed() -> Result<()> {
    let node = Node::builder().alone().plugin("console").start().await?;
    assert_eq!(printed(&node, &["call", "echo", "-1"]).await?, "-1\n");
    assert_eq!(printed(&node, &["call", "caller"]).await?, "api \n");
    // What an answer has cannot steer a terminal, unless it is asked for as it is.
    let evil = "two\n\x1b[2Jlines";
    let call = ["call", "--plugin", "console", "echo", evil];
    let shown = printed(&node, &call).await?;
    assert_eq!(shown, "two\n    \\u{1b}[2Jlines\n");
    assert_eq!(
        printed(&node, &[&call[..], &["--raw"]].concat()).await?,
        evil
    );
    for (call, why) in [
        (["call", "nothing"], "(UNKNOWN_METHOD)"),
        (["call", "fail"], "(INVALID_ARGUMENT)"),
    ] {
        let refused = run(&node, &call).await?;
        ensure!(
            refused.code == 1 && refused.stderr.contains(why),
            "{}",
            refused.text()
        );
    }
    Ok(())
}

#[tokio::test]
async fn what_clients_choose_cannot_steer_a_terminal() -> Result<()> {
    let node = Node::start_alone("console").await?;
    let _mallory = node.console(&[("uid", "\u{1b}[2J\u{9b}31m\nada")]).await?;
    for arguments in [&["clients"][..], &["uids"], &["clients", "--json"]] {
        let table = printed(&node, arguments).await?;
        assert!(table.contains("ada"), "{table}");
        let is_plain = |char: char| char == '\n' || !char.is_control();
        assert!(table.chars().all(is_plain), "{table:?}");
    }
    Ok(())
}

#[tokio::test]
async fn builds_are_listed_and_gone_back_to() -> Result<()> {
    let node = Node::builder().alone().plugin_from("chat", "echo");
    let node = node.start().await?;
    let mut ada = node.client("/chat").await?;
    node.folder().put("chat", "flaky")?;
    node.folder()
        .put_manifest("chat", "[config]\ntraps = 'none'\n")?;
    node.wait_for_log(|line| {
        line.message() == "plugin loaded" && line.number("generation") > Some(1)
    })
    .await?;
    let kept = async {
        while rows(&printed(&node, &["plugins", "builds", "chat"]).await?).len() < 2 {}
        anyhow::Ok(())
    };
    within("both builds to be kept", kept).await?;
    let said = printed(&node, &["plugins", "rollback", "chat"]).await?;
    assert!(said.starts_with("chat runs the build "), "{said}");
    ada.say(text("hello")).await?;
    assert_eq!(ada.next_text().await?, "hello");
    let builds = printed(&node, &["plugins", "builds", "chat"]).await?;
    assert!(builds.contains("rolled back over the API"), "{builds}");

    let unknown = run(&node, &["plugins", "rollback", "chat", "abcdef"]).await?;
    assert_eq!(unknown.code, 1);
    assert!(
        unknown.stderr.contains("no kept build"),
        "{}",
        unknown.stderr
    );
    assert!(unknown.stderr.contains("jackfield plugins builds chat"));
    Ok(())
}

#[tokio::test]
async fn what_happens_is_printed_as_it_happens() -> Result<()> {
    let node = Node::start_alone("console").await?;
    let mut command = node_command()?;
    let api = format!("http://{}", node.api_address());
    command.args(["tail", "--plugin", "console", "--api", &api]);
    command
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true);
    let mut tail = command.spawn()?;
    let mut lines = BufReader::new(tail.stdout.take().context("stdout")?).lines();
    // Whoever comes once it listens is seen.
    let seen = async {
        loop {
            let ada = node.console(&[("uid", "ada")]).await?;
            let line = tokio::time::timeout(Duration::from_millis(500), lines.next_line()).await;
            if let Ok(line) = line {
                return anyhow::Ok((ada, line?.context("a line")?));
            }
        }
    };
    let (mut ada, first) = within("an event", seen).await?;
    assert!(first.contains(" console "), "{first}");
    let id = ada.id().to_owned();
    ada.leave().await?;
    let closed = async {
        loop {
            let line = lines.next_line().await?.context("a line")?;
            if line.contains("client-closed") && line.contains(&id) {
                return anyhow::Ok(line);
            }
        }
    };
    let line = within("the end of the client", closed).await?;
    assert!(
        line.contains("code=1005") && line.contains("uid=ada"),
        "{line}"
    );
    // It ends with the node.
    node.stop().await?;
    let ended = within("the end of the command", tail.wait()).await?;
    assert_eq!(ended.code(), Some(1), "whoever watches hears of it");
    Ok(())
}

#[tokio::test]
async fn the_log_of_a_node_is_printed_until_it_ends() -> Result<()> {
    let node = Node::start_alone("console").await?;
    let mut ada = node.console(&[]).await?;
    let mut logs = Running::start(&node, &["logs", "--plugin", "console", "--level", "warn"])?;
    let mut json = Running::start(&node, &["logs", "--json"])?;
    let log =
        |level: &str, text: &str| serde_json::json!({ "do": "log", "level": level, "text": text });
    let mut say = async || {
        ada.ok(log("info", "not this")).await?;
        ada.ok(log("warn", "a\u{1b}[2Jforged")).await?;
        anyhow::Ok(())
    };
    let line = logs.line("forged", &mut say).await?;
    assert!(
        line.contains(" WARN jackfield::plugin::log: a\u{fffd}[2Jforged"),
        "{line}"
    );
    assert!(
        line.contains(" plugin=console") && line.contains(" generation=1"),
        "{line}"
    );
    let line = json.line("not this", &mut say).await?;
    let record: Value = serde_json::from_str(&line)?;
    assert_eq!(record["line"]["level"], "info");
    ada.call(serde_json::json!({ "do": "panic", "message": "out of tea" }))
        .await
        .ok();
    let nothing = async || Ok(());
    logs.line("an event trapped: it panicked", nothing).await?;
    logs.line("    out of tea", nothing).await?;
    node.stop().await?;
    let ended = within("the end of the command", logs.child.wait()).await?;
    assert_eq!(ended.code(), Some(1), "whoever reads hears of it");
    Ok(())
}

#[tokio::test]
async fn a_trace_is_printed_with_what_is_in_the_messages() -> Result<()> {
    let node = Node::start_alone("console").await?;
    let mut ada = node.console(&[("uid", "ada")]).await?;
    let mut trace = Running::start(&node, &["trace", "--uid", "ada", "--payloads"])?;
    let mut ask = async || {
        ada.ok(serde_json::json!({ "do": "join-group", "group": "tea" }))
            .await?;
        ada.ok(serde_json::json!({ "do": "leave-group", "group": "tea" }))
            .await?;
        anyhow::Ok(())
    };
    let line = trace.line("received  text ", &mut ask).await?;
    assert!(line.contains(" bytes"), "{line}");
    trace.line("    {\"do\":\"", &mut ask).await?;
    trace.line("joined    tea", &mut ask).await?;
    let line = trace.line("event     on-message took=", &mut ask).await?;
    assert!(line.contains("generation=1"), "{line}");
    let id = ada.id().to_owned();
    ada.leave_with(4000, "").await?;
    let nothing = async || Ok(());
    let line = trace.line("closed    code=4000 by=client", nothing).await?;
    assert!(line.contains(&id), "{line}");
    let refused = ask_refused(&node, &["trace", "--client", &id]).await?;
    assert!(refused.contains("the client is not connected"), "{refused}");
    Ok(())
}

async fn ask_refused(node: &Node, arguments: &[&str]) -> Result<String> {
    let output = run(node, arguments).await?;
    ensure!(output.code == 1, "{arguments:?}: {}", output.text());
    Ok(output.stderr)
}

#[tokio::test]
async fn timers_are_listed_with_the_time_when_they_fire() -> Result<()> {
    let node = Node::start_alone("console").await?;
    let mut ada = node.console(&[]).await?;
    let set = serde_json::json!({
        "do": "set-timer", "name": "daily", "after_ms": 3_600_000, "every_ms": 86_400_000, "scope": "cluster",
    });
    ada.ok(set).await?;
    let table = printed(&node, &["timers"]).await?;
    let rows = rows(&table);
    assert_eq!(
        (rows[0][0], rows[0][1], rows[0][3]),
        ("daily", "cluster", "1day")
    );
    let json: Value = serde_json::from_str(&printed(&node, &["timers", "--json"]).await?)?;
    assert_eq!(json[0]["every_ms"], 86_400_000);
    Ok(())
}

/// Whatever answers at that address, the command does not keep it without end.
#[tokio::test]
async fn what_is_no_stream_of_events_is_given_up() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let api = format!("http://{}", listener.local_addr()?);
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await?;
        // Whoever answers before it is asked is no server.
        let mut request = [0; 1 << 10];
        ensure!(stream.read(&mut request).await? > 0, "no request");
        let head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
        stream.write_all(head).await?;
        while stream.write_all(&[b'x'; 1 << 16]).await.is_ok() {}
        anyhow::Ok(())
    });
    let output = run_node_binary(&["tail", "--api", &api]).await?;
    assert_eq!(output.code, 1);
    assert!(
        output.stderr.contains("no stream of events"),
        "{}",
        output.text()
    );
    within("the end of the connection", serving).await??;
    Ok(())
}

#[tokio::test]
async fn a_node_is_drained() -> Result<()> {
    let node = Node::start_alone("console").await?;
    let mut ada = node.console(&[]).await?;
    assert!(printed(&node, &["drain"]).await?.contains("drains"));
    assert_eq!(ada.end().await?.code(), 1012);
    assert!(node.wait().await?.status.success());
    Ok(())
}

/// The digest is what `printf %s read-token | sha256sum` prints.
const TOKENS: &str = "[[token]]\nname = 'reader'\nscopes = ['read']\n\
     sha256 = '0328587016f9e316b9c31c94f944a2c453e1494a564062b5eab68039c75b58bf'\n";

#[tokio::test]
async fn the_token_comes_from_a_file_the_environment_or_the_settings() -> Result<()> {
    let folder = TempDir::new()?;
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    std::fs::write(path("tokens.toml"), TOKENS)?;
    std::fs::write(path("token"), "read-token\n")?;
    let node = Node::builder()
        .alone()
        .plugin("console")
        .arguments(&["--api-tokens", &path("tokens.toml")])
        .start()
        .await?;
    let api = format!("http://{}", node.api_address());
    let settings = format!("url = '{api}'\ntoken_file = 'token'\n");
    std::fs::create_dir(path("jackfield"))?;
    std::fs::write(
        path("jackfield/api.toml"),
        settings.replace("'token'", "'../token'"),
    )?;
    std::fs::write(path("other.toml"), settings)?;

    let none = run_node_binary(&["status", "--api", &api]).await?;
    assert_eq!(none.code, 1);
    assert!(none.stderr.contains("a token is needed"), "{}", none.stderr);
    let home = folder.path().to_string_lossy().into_owned();
    let token = [("JACKFIELD_API_TOKEN", "read-token")];
    for (environment, arguments) in [
        (
            &[][..],
            &["status", "--api", &api, "--token-file", &path("token")][..],
        ),
        (&token, &["status", "--api", &api]),
        (&[("XDG_CONFIG_HOME", &*home)], &["status"]),
        (&[], &["status", "--api-config", &path("other.toml")]),
        (
            &[],
            &[
                "plugins",
                "builds",
                "console",
                "--api-config",
                &path("other.toml"),
            ],
        ),
    ] {
        let output = run_node_binary_in(environment, arguments).await?;
        assert_eq!(output.code, 0, "{arguments:?}: {}", output.text());
    }
    let drain = ["drain", "--api-config", &path("other.toml")];
    let denied = run_node_binary(&drain).await?;
    assert_eq!(denied.code, 1);
    assert!(
        denied.stderr.contains("has not the scope operate"),
        "{}",
        denied.stderr
    );
    Ok(())
}

#[tokio::test]
async fn what_is_wrong_is_said_and_what_to_do_about_it() -> Result<()> {
    let node = Node::start_alone("console").await?;
    let clients = node.address().to_string();
    let wrong = NamedTempFile::new()?;
    std::fs::write(wrong.path(), "adress = 'x'")?;
    let wrong = wrong.path().to_string_lossy().into_owned();
    for (arguments, said) in [
        (
            &["status", "--api", "http://127.0.0.1:1"][..],
            "cannot be reached: start a node there",
        ),
        (
            &["status", "--api", "nowhere at all"],
            "is no URL of an API",
        ),
        (&["status", "--api", &clients], "is no API of a node"),
        (
            &["status", "--token-file", "/nonexistent"],
            "the token in /nonexistent",
        ),
        (
            &["status", "--authority", "/nonexistent"],
            "--authority: /nonexistent",
        ),
        (
            &["status", "--api-config", &wrong],
            "unknown field `adress`",
        ),
    ] {
        let output = run_node_binary(arguments).await?;
        assert_eq!(output.code, 1, "{arguments:?}");
        assert!(output.stderr.contains(said), "{said} in {}", output.stderr);
    }
    for (arguments, said) in [
        (&["client", "x"][..], "is not a client id"),
        (&["kick", "--uid", "nobody"], "(NOT_FOUND)"),
        (
            &["kick", "--group", "g", "--code", "5"],
            "(INVALID_ARGUMENT)",
        ),
        (&["send", "--uid", "nobody", "m"], "nobody has the uid"),
        (&["groups", "--plugin", "none"], "no plugin \"none\""),
    ] {
        let output = run(&node, arguments).await?;
        assert_eq!(output.code, 1, "{arguments:?}");
        assert!(output.stderr.contains(said), "{said} in {}", output.stderr);
    }
    Ok(())
}

#[tokio::test]
async fn shells_complete_it_and_it_has_a_manual() -> Result<()> {
    for shell in ["bash", "zsh", "fish"] {
        let output = run_node_binary(&["completions", shell]).await?;
        assert_eq!(output.code, 0, "{}", output.text());
        assert!(output.stdout.contains("rollback"), "{shell}");
    }
    let folder = TempDir::new()?;
    let path = folder.path().join("man1").to_string_lossy().into_owned();
    let output = run_node_binary(&["man", &path]).await?;
    assert_eq!(output.code, 0, "{}", output.text());
    let page = std::fs::read_to_string(folder.path().join("man1/jackfield-plugins-rollback.1"))?;
    assert!(page.contains("No client is closed"), "{page}");
    Ok(())
}
