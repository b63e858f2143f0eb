//! `jackfield record` and `jackfield replay`: what came in from clients, run through other builds.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use jackfield_tests::remote::refused;
use jackfield_tests::{
    Client, Cluster, Console, Node, Output, component, run_node_binary, text, within,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::running::Running;

/// The code with which a client leaves that is the last one.
const LAST: u16 = 4999;

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
        running.line("recording into", async || Ok(())).await?;
        Ok(Recorder { running, path })
    }
}

impl Recorder {
    /// Ends it as Ctrl-C does, once so many lines of the file have these words. Returns its path.
    async fn stop_after(mut self, words: &str, lines: usize) -> Result<String> {
        let written = async {
            while fs::read_to_string(&self.path)?.matches(words).count() < lines {
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

    /// Ends it once all that has happened to clients is in the file. One more client comes, and leaves as the
    /// last one.
    async fn stop(self, node: &Node, path: &str) -> Result<String> {
        let mut last = node.client(path).await?;
        last.leave_with(LAST, "").await?;
        self.stop_after(&format!("\"code\":{LAST}"), 1).await
    }
}

async fn replay(arguments: &[&str]) -> Result<Output> {
    run_node_binary(&[&["replay"], arguments].concat()).await
}

/// What is said of a build that sends the same.
async fn same(arguments: &[&str]) -> Result<String> {
    let output = replay(arguments).await?;
    ensure!(output.code == 0, "{}", output.text());
    Ok(output.stdout)
}

/// What is said of a build that sends something else.
async fn differs(arguments: &[&str]) -> Result<String> {
    let output = replay(arguments).await?;
    ensure!(output.code == 1, "{}", output.text());
    Ok(output.text())
}

fn built(name: &str) -> Result<String> {
    Ok(component(name)?.display().to_string())
}

/// Checks that a text has all of these words.
fn has(text: &str, all: &[&str]) -> Result<()> {
    for words in all {
        ensure!(text.contains(words), "{words:?} is not in\n{text}");
    }
    Ok(())
}

/// A client that says what it has got when it has left.
async fn leave(console: &mut Console) -> Result<()> {
    console.leave().await.map(drop)
}

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
    assert_eq!(ada.next_text().await?, "a:1:publish tea");
    ada.leave().await?;
    bob.leave().await?;
    let recording = recorder.stop(&node, "/marker").await?;
    let (a, b) = (built("marker-a")?, built("marker-b")?);

    let of = "4 messages to 3 clients in 9 steps";
    has(&same(&[&recording, "--plugin", &a]).await?, &[of])?;
    for against in [vec![], vec!["--against", &*a]] {
        let arguments = [&[&*recording, "--plugin", &*b][..], &against].concat();
        let different = differs(&arguments).await?;
        let wanted = [
            "> join\n- ",
            "< a:1:join\n+ ",
            "< b:1:join\n",
            "> publish tea\n- ",
            "< a:1:publish tea\n+ ",
            "< b:1:publish tea\n",
            &format!("4 of {of} differ"),
        ];
        has(&different, &wanted)?;
    }
    let both = [&recording, "--plugin", &b, "--against", &b];
    has(&same(&both).await?, &["the same: ", of])
}

/// Ids of clients in texts, bytes and handshakes, uids, groups, chosen subprotocols, refusals, closes,
/// addresses and randomness come again as they were.
#[tokio::test]
async fn a_replay_is_what_was_recorded_in_all_that_a_plugin_does() -> Result<()> {
    let node = Node::start_alone("console").await?;
    let folder = Folder::new()?;
    let recorder = folder.record(&node, &["--share", "100"]).await?;
    let mut ada = node.console(&[("uid", "ada"), ("group", "tea")]).await?;
    let mut bob = node.console(&[("uid", "bob"), ("group", "tea")]).await?;
    let id = ada.id().to_owned();
    for request in [
        json!({ "do": "send-to-client", "client": id, "text": format!("to {id}") }),
        json!({ "do": "send-to-client", "client": id, "binary": "AQID" }),
        json!({ "do": "send-to-uid", "uid": "ada", "text": "0xnot binary" }),
        json!({ "do": "get-client-ids-by-group", "group": "tea" }),
        json!({ "do": "update-info", "info": { "name": "Bob" } }),
        json!({ "do": "get-info" }),
    ] {
        bob.ok(request).await?;
    }
    bob.error(json!({ "do": "get-info", "client": "nobody" }))
        .await?;
    for query in [&[("say", &*id)], &[("handshake", "1")]] {
        leave(&mut node.console(query).await?).await?;
    }
    let offers = [("sec-websocket-protocol", "v1.chat, v2.chat")];
    let path = "/console?subprotocol=v2.chat";
    let mut chosen = node.client_with(path, &offers).await?;
    assert_eq!(chosen.subprotocol(), Some("v2.chat"));
    chosen.leave().await?;
    let refusal = node.refusal("/console?refuse=403&reason=full").await?;
    assert_eq!(refusal.status, 403);
    ada.ok(
        json!({ "do": "close-uid", "uid": "bob", "code": 4009, "reason": "kicked", "text": "bye" }),
    )
    .await?;
    leave(&mut ada).await?;
    let recording = recorder.stop(&node, "/console").await?;
    let wasm = built("console")?;
    has(
        &same(&[&recording, "--plugin", &wasm]).await?,
        &["to 7 clients"],
    )?;

    // A build that lets nobody in.
    let manifest = folder.write("strict.toml", "require_uid = { header = 'x-uid' }\n")?;
    let different = differs(&[&recording, "--plugin", &wasm, "--manifest", &manifest]).await?;
    has(
        &different,
        &[
            "< (refused with 400)",
            &format!("- {id}< to {id}"),
            "< (closed with 4009 kicked)",
            "< 0x010203",
            "< \"0xnot binary\"",
        ],
    )
}

/// What fails is shown where it failed: in the event of a client, in its `on-connect`, or in a timer.
#[tokio::test]
async fn an_event_that_traps_is_a_difference() -> Result<()> {
    let node = Node::start_alone("console").await?;
    let folder = Folder::new()?;
    let recorder = folder.record(&node, &["--share", "100"]).await?;
    let mut ada = node.console(&[]).await?;
    let timer = json!({
        "do": "set-timer", "name": "do:panic", "after_ms": 10, "scope": "node",
    });
    ada.ok(timer).await?;
    node.wait_for_counter("traps_panic", 1).await?;
    // The console traps when it is told to, and keeps the client.
    let mut bob = node.console(&[]).await?;
    ensure!(bob.call(json!({ "do": "panic" })).await.is_err());
    leave(&mut ada).await?;
    let recording = recorder.stop(&node, "/console").await?;
    let wasm = built("console")?;
    let both = [&recording, "--plugin", &wasm, "--against", &wasm];
    same(&both).await?;
    // Of the recording, nobody knows what timers did.
    let different = differs(&[&recording, "--plugin", &wasm]).await?;
    has(&different, &["+ (timers)< (on-timer failed)", "1 of "])
}

#[tokio::test]
async fn a_client_that_was_there_before_is_recorded_with_what_it_had() -> Result<()> {
    let node = Node::start_alone("console").await?;
    let folder = Folder::new()?;
    let had = [("uid", "ada"), ("group", "tea"), ("info.name", "Ada")];
    let mut ada = node.console(&had).await?;
    let mut bob = node.console(&[("group", "tea")]).await?;
    let id = ada.id().to_owned();
    let recorder = folder.record(&node, &["--client", &id]).await?;
    ada.ok(json!({ "do": "get-info" })).await?;
    ada.ok(json!({ "do": "get-uid-by-client-id" })).await?;
    ada.ok(json!({ "do": "send-to-group", "group": "tea", "text": "hello" }))
        .await?;
    // Nobody sends this in a replay.
    bob.ok(json!({ "do": "send-to-uid", "uid": "ada", "text": "from bob" }))
        .await?;
    leave(&mut ada).await?;
    let recording = recorder.stop_after("\"closed\"", 1).await?;
    let recorded = fs::read_to_string(&recording)?;
    has(&recorded, &["\"found\"", "\"Ada\"", "\"tea\""])?;
    for line in recorded.lines().skip(1) {
        let step: Value = serde_json::from_str(line)?;
        ensure!(step["client"] == *id, "somebody else is in {step}");
    }
    let wasm = built("console")?;
    // In the replay, nobody else is in the group: the reach of the send differs, and nothing else.
    let different = differs(&[&recording, "--plugin", &wasm]).await?;
    has(
        &different,
        &[
            "1 of 4 messages to 1 clients in 5 steps differ",
            "\"clients\":2",
            "\"clients\":1",
            "1 messages came from backends, timers or clients that were not recorded",
        ],
    )?;
    same(&[&recording, "--plugin", &wasm, "--against", &wasm]).await?;
    Ok(())
}

/// A client that gets its uid later is recorded from then on, and again when it has another one in between.
#[tokio::test]
async fn a_client_that_gets_its_uid_later_is_recorded_from_then_on() -> Result<()> {
    let node = Node::start_alone("console").await?;
    let folder = Folder::new()?;
    let recorder = folder.record(&node, &["--uid", "ada"]).await?;
    let mut ada = node.console(&[("group", "tea")]).await?;
    ada.ok(json!({ "do": "get-info" })).await?;
    for uid in ["ada", "eve", "ada"] {
        ada.ok(json!({ "do": "bind-uid", "uid": uid })).await?;
        ada.ok(json!({ "do": "get-uid-by-client-id" })).await?;
    }
    ada.ok(json!({ "do": "send-to-group", "group": "tea", "text": "hello" }))
        .await?;
    leave(&mut ada).await?;
    let recording = recorder.stop_after("\"closed\"", 1).await?;
    let recorded = fs::read_to_string(&recording)?;
    ensure!(recorded.matches("\"found\"").count() == 2, "{recorded}");
    ensure!(!recorded.contains("\"eve\"") || recorded.contains("\"uid\":\"eve\""));
    let wasm = built("console")?;
    has(
        &same(&[&recording, "--plugin", &wasm, "--against", &wasm]).await?,
        &["to 1 clients"],
    )
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
    let project = folder.0.path().display().to_string();
    let signed = [
        "token",
        "ada",
        "--claim",
        "role=seller",
        "--project",
        &project,
    ];
    let token = run_node_binary(&signed).await?.stdout.trim().to_owned();
    let (unsigned, signature) = token.rsplit_once('.').context("a token")?;
    let node = Node::builder().alone().plugin("console");
    let node = node.manifest("console", manifest);
    let node = node.file("console.secret", secret).start().await?;
    let recorder = folder.record(&node, &["--share", "100"]).await?;
    let bearer = format!("Bearer {token}");
    let path = format!("/console?token={token}");
    let subprotocols = format!("v1.chat, bearer.{token}");
    for (path, headers) in [
        ("/console", vec![("authorization", &*bearer)]),
        (&*path, vec![]),
        (
            "/console?subprotocol=v1.chat",
            vec![("sec-websocket-protocol", &*subprotocols)],
        ),
    ] {
        let mut client = Client::connect(node.address(), path, &headers).await?;
        client.next_text().await?;
        client.say(text(r#"{"do":"get-uid-by-client-id"}"#)).await?;
        ensure!(client.next_text().await?.contains("ada"));
        client.leave().await?;
    }
    let recording = recorder.stop_after("\"closed\"", 3).await?;
    let recorded = fs::read_to_string(&recording)?;
    ensure!(
        !recorded.contains(signature),
        "a signature is in {recorded}"
    );
    ensure!(recorded.matches(unsigned).count() >= 3, "{recorded}");
    assert_eq!(fs::metadata(&recording)?.mode() & 0o777, 0o600);
    let manifest = folder.path("console.toml").display().to_string();
    let arguments = [
        &recording,
        "--plugin",
        &built("console")?,
        "--manifest",
        &manifest,
    ];
    has(
        &same(&arguments).await?,
        &["6 messages to 3 clients in 9 steps"],
    )
}

/// All nodes record, from the moment on when the command says so, and say who has sent what comes from
/// other nodes.
#[tokio::test]
async fn a_share_is_recorded_on_all_nodes() -> Result<()> {
    let cluster = Cluster::start(2, |node| node.plugin_from("marker", "marker-a")).await?;
    let folder = Folder::new()?;
    let recorder = folder.record(&cluster[0], &["--share", "100"]).await?;
    let mut clients = Vec::new();
    for turn in 0..10 {
        let mut client = cluster[turn % 2].client("/marker").await?;
        client.say("join").await?;
        client.next_text().await?;
        clients.push(client);
    }
    // Until each node knows that the other one has members, a publish goes to its own.
    let know_each_other = async {
        for (turn, heard) in [(0, 1), (1, 0)] {
            clients[turn].say("publish first").await?;
            while clients[heard].next_text().await? != "a:1:publish first" {}
        }
        anyhow::Ok(())
    };
    within("a publish for the other node", know_each_other).await?;
    for client in &mut clients {
        client.leave().await?;
    }
    let recording = recorder.stop_after("\"closed\"", 10).await?;
    let recorded = fs::read_to_string(&recording)?;
    assert_eq!(recorded.matches("\"connecting\"").count(), 10);
    ensure!(!recorded.contains("\"by\":\"node "), "{recorded}");
    let both = [&recording, "--plugin", &built("marker-b")?];
    has(&differs(&both).await?, &["messages to 10 clients"])
}

#[tokio::test]
async fn what_cannot_be_recorded_is_said() -> Result<()> {
    let node = Node::start_alone("console").await?;
    let folder = Folder::new()?;
    let there = folder.write("there", "it stays")?;
    for (arguments, why) in [
        (["--share", "100", "--output", &*there], "File exists"),
        (["--client", "nobody", "--output", "/nowhere/it"], "nobody"),
        (
            ["--share", "100", "--output", "/nowhere/it"],
            "No such file",
        ),
    ] {
        let said = refused(&node, &[&["record"], &arguments[..]].concat()).await?;
        has(&said, &[why])?;
    }
    assert_eq!(fs::read_to_string(&there)?, "it stays");
    let output = folder.path("empty").display().to_string();
    let nobody = [
        "record", "--share", "100", "--for", "10ms", "--output", &output,
    ];
    has(&refused(&node, &nobody).await?, &["no client came"])?;
    for share in ["0%", "101", "half"] {
        let share = ["record", "--share", share, "--output", &output];
        ensure!(run_node_binary(&share).await?.code == 2);
    }
    Ok(())
}

#[tokio::test]
async fn what_is_wrong_with_a_recording_is_said() -> Result<()> {
    let folder = Folder::new()?;
    let wasm = built("console")?;
    let header = r#"{"jackfield_recording":1,"plugin":"console"}"#;
    let connecting = r#"{"at_us":1000,"client":"c1","connecting":{"path":"/console"}}"#;
    let part = r#"{"at_us":2000,"client":"c1","received":{"bytes":9}}"#;
    for (text, why) in [
        (String::new(), "is not that of a recording"),
        (header.replace(":1,", ":2,") + "\n", "has the version 2"),
        (
            header.replace("console", "../console") + "\n",
            "is no name of a plugin",
        ),
        (format!("{header}\nnonsense\n"), "line 2"),
        (
            format!("{header}\n{{\"at_us\":300000000000000000}}\n"),
            "too late",
        ),
        (
            format!("{header}\n{connecting}\n{part}\n"),
            "only what `jackfield record` has written",
        ),
    ] {
        let recording = folder.write("wrong", &text)?;
        has(&differs(&[&recording, "--plugin", &wasm]).await?, &[why])?;
    }
    // What is missing is said, and the rest is replayed.
    let stranger = r#"{"at_us":1001,"client":"c2","closed":{"by":"client"}}"#;
    let missed = r#"{"at_us":900,"missed":7}"#;
    let cut = format!("{header}\n{connecting}\n{missed}\n{stranger}\n{{\"at_us\":");
    let recording = folder.write("cut", &cut)?;
    let said = [
        "7 steps are missing",
        "the last line of the recording is not whole",
        "1 steps are of clients whose beginning was not recorded",
        "+ c1< {\"event\":\"connected\",\"client\":\"c1\"",
    ];
    has(&differs(&[&recording, "--plugin", &wasm]).await?, &said)?;
    // Nobody is asked about a client of an unknown path, and no replay has more than 1,000 clients at a
    // time.
    let unknown = connecting.replace("/console", "/nowhere");
    let unknown = folder.write("unknown", &format!("{header}\n{unknown}\n"))?;
    let said = ["+ c1< (refused with 404)"];
    has(&differs(&[&unknown, "--plugin", &wasm]).await?, &said)?;
    let mut crowd = format!("{header}\n");
    for number in 0..=1_000 {
        let id = format!("\"c{number}\"");
        crowd += &format!("{}\n", connecting.replace("\"c1\"", &id));
    }
    let crowd = folder.write("crowd", &crowd)?;
    let said = ["too many clients are connected at a time"];
    has(&differs(&[&crowd, "--plugin", &wasm]).await?, &said)?;
    let missing = replay(&[&recording, "--plugin", "/nowhere/it.wasm"]).await?;
    has(&missing.text(), &["/nowhere/it.wasm"])?;
    let wrong = folder.write("wrong.wasm", "no component")?;
    let wrong = replay(&[&recording, "--plugin", &wrong]).await?;
    has(&wrong.text(), &["does not load the plugin"])
}
