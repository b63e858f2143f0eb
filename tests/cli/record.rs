//! `jackfield record` and `jackfield replay`: what came in from clients, run through other builds.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use jackfield_tests::remote::{printed, refused};
use jackfield_tests::{Client, Cluster, Node, Output, component, run_node_binary, within};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::running::Running;

/// A folder for recordings and builds.
struct Folder(TempDir);

/// A recording that is under way.
struct Recorder {
    running: Running,
    path: PathBuf,
}

impl Folder {
    fn new() -> Result<Folder> {
        Ok(Folder(tempfile::tempdir()?))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> Result<String> {
        fs::write(self.path(name), text)?;
        Ok(self.path(name).display().to_string())
    }

    /// Begins to record, and waits until it has begun.
    async fn record(&self, node: &Node, whom: &[&str]) -> Result<Recorder> {
        let path = self.path("it.recording");
        let output = path.display().to_string();
        let arguments = [&["record", "--output", &output][..], whom].concat();
        let mut running = Running::start(node, &arguments)?;
        running
            .line("recording into", async || Ok(()))
            .await
            .context("the recording does not begin")?;
        Ok(Recorder { running, path })
    }
}

impl Recorder {
    /// Ends it as Ctrl-C does, once a line of the file has these words. Returns its path.
    async fn stop_after(mut self, words: &str) -> Result<String> {
        let written = async {
            while !fs::read_to_string(&self.path)?.contains(words) {
                tokio::task::yield_now().await;
            }
            anyhow::Ok(())
        };
        within(words, written).await?;
        let id = self.running.child.id().context("it has ended")?;
        let id = Pid::from_raw(id.try_into()?).context("an id")?;
        kill_process(id, Signal::INT)?;
        self.running.line("are in", async || Ok(())).await?;
        let ended = within("the end", self.running.child.wait()).await?;
        ensure!(ended.success(), "it ended with {ended}");
        Ok(self.path.display().to_string())
    }
}

async fn replay(arguments: &[&str]) -> Result<Output> {
    run_node_binary(&[&["replay"], arguments].concat()).await
}

async fn replays(arguments: &[&str]) -> Result<String> {
    let output = replay(arguments).await?;
    ensure!(output.code == 0, "{}", output.text());
    Ok(output.stdout)
}

async fn differs(arguments: &[&str]) -> Result<String> {
    let output = replay(arguments).await?;
    ensure!(output.code == 1, "{}", output.text());
    Ok(output.text())
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn request(value: &Value) -> String {
    value.to_string()
}

async fn say(client: &mut Client, value: &Value) -> Result<()> {
    client.say(jackfield_tests::text(&request(value))).await
}

/// Of two builds that answer differently, the replay says which answers to what differ; the same build
/// sends the same.
#[tokio::test]
async fn a_build_that_sends_something_else_is_shown_beside_what_was_recorded() -> Result<()> {
    let node = Node::builder().alone().plugin_from("marker", "marker-a");
    let node = node.start().await?;
    let folder = Folder::new()?;
    let recorder = folder.record(&node, &["--share", "100%"]).await?;
    let mut ada = node.client("/marker").await?;
    let mut bob = node.client("/marker").await?;
    for client in [&mut ada, &mut bob] {
        client.say("join").await?;
        assert_eq!(client.next_text().await?, "a:1:join");
    }
    ada.say("publish tea").await?;
    assert_eq!(bob.next_text().await?, "a:1:publish tea");
    bob.leave_with(4001, "home").await?;
    let recording = recorder.stop_after("\"closed\"").await?;
    let (a, b) = (component("marker-a")?, component("marker-b")?);
    let (a, b) = (shown(&a), shown(&b));

    let same = replays(&[&recording, "--plugin", &a]).await?;
    assert!(
        same.contains("the same: 4 messages to 2 clients in 6 steps"),
        "{same}"
    );
    for against in [vec![], vec!["--against", &*a]] {
        let arguments = [&[&*recording, "--plugin", &*b][..], &against].concat();
        let different = differs(&arguments).await?;
        let wanted = [
            "> join\n",
            "< a:1:join\n",
            "< b:1:join\n",
            "> publish tea\n",
            "< a:1:publish tea\n",
            "< b:1:publish tea\n",
            "4 of 4 messages to 2 clients in 6 steps differ",
        ];
        for wanted in wanted {
            assert!(different.contains(wanted), "{wanted:?} in\n{different}");
        }
    }
    let same = replays(&[&recording, "--plugin", &b, "--against", &b]).await?;
    assert!(same.contains("the same: 4 messages"), "{same}");
    Ok(())
}

/// What the plugin does with uids, groups, timers, randomness, client ids, refusals and closes comes again
/// as it was.
#[tokio::test]
async fn a_replay_is_what_was_recorded_in_all_that_a_plugin_does() -> Result<()> {
    let node = Node::start_alone("console").await?;
    let folder = Folder::new()?;
    let recorder = folder.record(&node, &["--share", "100"]).await?;
    let mut ada = node.console(&[("uid", "ada"), ("group", "tea")]).await?;
    let mut bob = node.console(&[("uid", "bob"), ("group", "tea")]).await?;
    let id = ada.id().to_owned();
    bob.ok(json!({ "do": "send-to-client", "client": id, "text": format!("to {id}") }))
        .await?;
    bob.ok(json!({ "do": "send-to-uid", "uid": "ada", "binary": "AQID" }))
        .await?;
    bob.ok(json!({ "do": "send-to-group", "group": "tea", "text": "0xnot binary" }))
        .await?;
    bob.error(json!({ "do": "get-info", "client": "nobody" }))
        .await?;
    let refusal = node.refusal("/console?refuse=403&reason=full").await?;
    assert_eq!(refusal.status, 403);
    ada.ok(json!({ "do": "close-uid", "uid": "bob", "code": 4009, "reason": "kicked", "text": "bye" }))
        .await?;
    let recording = recorder.stop_after("\"closed\"").await?;
    let wasm = shown(&component("console")?);
    let same = replays(&[&recording, "--plugin", &wasm]).await?;
    assert!(same.contains("to 3 clients"), "{same}");

    // A build that lets nobody in.
    let manifest = folder.write("strict.toml", "require_uid = { header = 'x-uid' }\n")?;
    let different = differs(&[&recording, "--plugin", &wasm, "--manifest", &manifest]).await?;
    assert!(different.contains("< refused 4"), "{different}");
    assert!(different.contains(&format!("{id}< to {id}")), "{different}");
    assert!(different.contains("< closed 4009 kicked"), "{different}");
    // An event that traps is seen.
    let different = differs(&[
        &recording,
        "--plugin",
        &wasm,
        "--against",
        &shown(&component("lifecycle")?),
    ])
    .await?;
    assert!(different.contains("messages to 3 clients"), "{different}");
    Ok(())
}

/// A client that was there before has what it had, whatever its coming in sends is not compared, and only
/// it is recorded.
#[tokio::test]
async fn a_client_that_was_there_before_is_recorded_with_what_it_had() -> Result<()> {
    let node = Node::start_alone("console").await?;
    let folder = Folder::new()?;
    let mut ada = node
        .console(&[("uid", "ada"), ("group", "tea"), ("info.name", "Ada")])
        .await?;
    let mut bob = node.console(&[("group", "tea")]).await?;
    let id = ada.id().to_owned();
    let recorder = folder.record(&node, &["--client", &id]).await?;
    ada.ok(json!({ "do": "get-info" })).await?;
    ada.ok(json!({ "do": "send-to-group", "group": "tea", "text": "hello" }))
        .await?;
    // Nobody can send this again.
    bob.ok(json!({ "do": "send-to-uid", "uid": "ada", "text": "from bob" }))
        .await?;
    ada.leave().await?;
    let recording = recorder.stop_after("\"closed\"").await?;
    let text = fs::read_to_string(&recording)?;
    assert!(!text.contains(bob.id()) || text.contains("on-message"), "{text}");
    let wasm = shown(&component("console")?);
    // In the replay, nobody else is in the group: the reach of the send differs, and nothing else.
    let different = differs(&[&recording, "--plugin", &wasm]).await?;
    assert!(
        different.contains("1 of 3 messages to 1 clients in 4 steps differ"),
        "{different}"
    );
    assert!(different.contains("\"clients\":2"), "{different}");
    assert!(
        different.contains("1 messages came from other nodes, backends or clients"),
        "{different}"
    );
    let same = replays(&[&recording, "--plugin", &wasm, "--against", &wasm]).await?;
    assert!(same.contains("the same"), "{same}");
    Ok(())
}

/// A recording has no token with which somebody could connect, and is replayed with tokens for the same
/// claims.
#[tokio::test]
async fn the_tokens_of_a_recording_let_nobody_in() -> Result<()> {
    let folder = Folder::new()?;
    let manifest = "[jwt]\nsecret_file = 'console.secret'\naudience = 'chat'\n";
    let secret = "0123456789abcdef0123456789abcdef";
    let project = "[build]\ncommand = 'true'\noutput = 'console.wasm'\n";
    for (name, text) in [
        ("jackfield.toml", project),
        ("console.toml", manifest),
        ("console.secret", secret),
    ] {
        folder.write(name, text)?;
    }
    let project = shown(folder.0.path());
    let signed = ["token", "ada", "--claim", "role=seller", "--project", &project];
    let token = run_node_binary(&signed).await?.stdout.trim().to_owned();
    let (unsigned, signature) = token.rsplit_once('.').context("a token")?;
    let node = Node::builder().alone().plugin("console");
    let node = node.manifest("console", manifest);
    let node = node.file("console.secret", secret).start().await?;
    let recorder = folder.record(&node, &["--share", "100"]).await?;
    let bearer = format!("Bearer {token}");
    let path = format!("/console?token={token}");
    for (path, headers) in [
        ("/console?handshake=1", vec![("authorization", &*bearer)]),
        (&*path, vec![]),
    ] {
        let mut client = node.client_with(path, &headers).await?;
        client.next_text().await?;
        say(&mut client, &json!({ "do": "get-uid-by-client-id" })).await?;
        assert!(client.next_text().await?.contains("ada"));
        client.leave().await?;
    }
    let recording = recorder.stop_after("\"closed\"").await?;
    let text = fs::read_to_string(&recording)?;
    assert!(!text.contains(signature), "a signature is in {text}");
    assert!(text.contains(unsigned), "{text}");
    let private = std::os::unix::fs::MetadataExt::mode(&fs::metadata(&recording)?) & 0o777;
    assert_eq!(private, 0o600);
    // The token that the plugin has shown has another signature there, and another expiry.
    let wasm = shown(&component("console")?);
    let manifest = shown(&folder.path("console.toml"));
    let both = [
        &*recording,
        "--plugin",
        &wasm,
        "--manifest",
        &manifest,
        "--against",
        &wasm,
        "--against-manifest",
        &manifest,
    ];
    let output = replay(&both).await?;
    assert!(!output.text().contains("refused 401"), "{}", output.text());
    assert!(output.text().contains("to 2 clients"), "{}", output.text());
    Ok(())
}

/// All nodes record, from the moment on when the command says so.
#[tokio::test]
async fn a_share_is_recorded_on_all_nodes() -> Result<()> {
    let cluster = Cluster::start(2, |node| node.plugin_from("marker", "marker-a")).await?;
    let folder = Folder::new()?;
    let recorder = folder.record(&cluster[0], &["--share", "100"]).await?;
    let mut clients = Vec::new();
    for turn in 0..10 {
        let mut client = cluster[turn % 2].client("/marker").await?;
        client.say(format!("number {turn}")).await?;
        client.next_text().await?;
        clients.push(client);
    }
    for client in &mut clients[..9] {
        client.leave().await?;
    }
    clients[9].leave_with(4999, "the last one").await?;
    let recording = recorder.stop_after("the last one").await?;
    // What the other node has to tell may come a moment later.
    let text = fs::read_to_string(&recording)?;
    let connecting = text.matches("\"connecting\"").count();
    ensure!(connecting == 10, "{connecting} clients are in {text}");
    let wasm = shown(&component("marker-a")?);
    let same = replays(&[&recording, "--plugin", &wasm]).await?;
    assert!(same.contains("10 messages to 10 clients"), "{same}");
    Ok(())
}

#[tokio::test]
async fn what_is_wrong_with_a_recording_is_said() -> Result<()> {
    let node = Node::start_alone("console").await?;
    let folder = Folder::new()?;
    let there = folder.write("there", "it stays")?;
    for (arguments, why) in [
        (
            vec!["record", "--share", "100", "--output", &*there],
            "File exists",
        ),
        (
            vec!["record", "--client", "nobody", "--output", "/nowhere/it"],
            "nobody",
        ),
        (
            vec!["record", "--share", "100", "--output", "/nowhere/it"],
            "No such file",
        ),
    ] {
        let said = refused(&node, &arguments).await?;
        assert!(said.contains(why), "{said}");
    }
    assert_eq!(fs::read_to_string(&there)?, "it stays");
    let output = shown(&folder.path("empty"));
    let nobody = ["record", "--share", "100", "--for", "10ms", "--output", &output];
    let said = refused(&node, &nobody).await?;
    assert!(said.contains("no client came"), "{said}");
    let table = printed(&node, &["clients"]).await?;
    assert!(!table.contains("record"), "{table}");

    let wasm = shown(&component("console")?);
    let header = r#"{"jackfield_recording":1,"plugin":"console"}"#;
    let connecting = r#"{"at_us":1000,"client":"c1","connecting":{"path":"/console"}}"#;
    for (text, why) in [
        (String::new(), "is not that of a recording"),
        (
            header.replace(":1,", ":2,") + "\n",
            "its format has the version 2",
        ),
        (format!("{header}\nnonsense\n"), "line 2"),
        (
            format!(
                "{header}\n{connecting}\n{{\"at_us\":2,\"client\":\"c1\",\"received\":{{\"bytes\":9}}}}\n"
            ),
            "only what `jackfield record` has written",
        ),
    ] {
        let recording = folder.write("wrong", &text)?;
        let output = replay(&[&recording, "--plugin", &wasm]).await?;
        assert_eq!(output.code, 1);
        assert!(output.text().contains(why), "{}", output.text());
    }
    let text = format!(
        "{header}\n{connecting}\n{{\"at_us\":900,\"missed\":7}}\n\
         {{\"at_us\":1001,\"client\":\"c2\",\"closed\":{{\"by\":\"client\"}}}}\n{{\"at_us\":"
    );
    let recording = folder.write("cut", &text)?;
    let output = replay(&[&recording, "--plugin", &wasm]).await?;
    for said in [
        "7 steps are missing",
        "the last line of the recording is not whole",
        "1 steps are of clients whose beginning was not recorded",
    ] {
        assert!(output.text().contains(said), "{}", output.text());
    }
    let missing = replay(&[&recording, "--plugin", "/nowhere/it.wasm"]).await?;
    assert!(missing.text().contains("/nowhere/it.wasm"), "{}", missing.text());
    let wrong = folder.write("wrong.wasm", "no component")?;
    let wrong = replay(&[&recording, "--plugin", &wrong]).await?;
    assert!(wrong.text().contains("does not load the plugin"), "{}", wrong.text());
    Ok(())
}
