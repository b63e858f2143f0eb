//! The plugins folder in every state that people, tools and file systems leave it in: whatever
//! is missing, incomplete or unreadable for a moment, what runs goes on, its rules hold, and
//! an error names the file.
//!
//! That nothing was loaded or removed is known by what must come after it: the line that says
//! why, and then a client that is answered by the same generation.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use jackfield_tests::{Client, LogLine, Node, on_own_mounts, text};

/// Only who says a uid comes in.
const DOOR: &str = "require_uid = { query = \"uid\" }\n[limits]\ninstances = 7\n";

fn is_refused(line: &LogLine) -> bool {
    line.says("is not loaded")
}

fn is_displaced(line: &LogLine) -> bool {
    line.says("is missing from a folder that is another one than before")
}

async fn with_door() -> Result<Node> {
    Node::builder()
        .plugin_from("marker", "marker-a")
        .manifest("marker", DOOR)
        .alone()
        .start()
        .await
}

/// That the first generation serves, and lets nobody in without a uid.
async fn still_serves_behind_its_door(node: &Node, client: &mut Client) -> Result<()> {
    assert_eq!(node.refusal("/marker").await?.status, 400);
    node.client("/marker?uid=ada").await?;
    still_serves(client).await
}

async fn still_serves(client: &mut Client) -> Result<()> {
    client.say("hello").await?;
    assert_eq!(client.next().await?, text("a:1:hello"));
    Ok(())
}

#[tokio::test]
async fn a_manifest_that_goes_missing_opens_no_door() -> Result<()> {
    let node = with_door().await?;
    let mut client = node.client("/marker?uid=bob").await?;
    let (manifest, aside) = (node.folder().manifest("marker"), node.folder().beside("x"));

    fs::rename(&manifest, &aside)?;
    let line = node.wait_for_log(is_refused).await?;
    assert_eq!((line.level(), line.text("plugin")), ("ERROR", "marker"));
    let shown = manifest.display();
    assert!(
        line.says(&format!(
            "its manifest {shown} is missing or empty, and generation 1"
        )),
        "{}",
        line.message()
    );
    still_serves_behind_its_door(&node, &mut client).await?;

    // With a new build beside, too.
    node.folder().put("marker", "marker-b")?;
    node.log().nth(2, is_refused).await?;
    still_serves_behind_its_door(&node, &mut client).await?;

    node.folder().put("marker", "marker-a")?;
    fs::rename(&aside, &manifest)?;
    node.wait_for_log(|line| line.says("is again as it was loaded"))
        .await?;
    node.folder().put("marker", "marker-b")?;
    node.generation_loaded("marker", 2).await?;
    assert_eq!(node.refusal("/marker").await?.status, 400);
    Ok(())
}

#[tokio::test]
async fn a_manifest_in_any_other_state_opens_no_door_either() -> Result<()> {
    let node = with_door().await?;
    let mut client = node.client("/marker?uid=bob").await?;
    let manifest = node.folder().manifest("marker");
    type Make = fn(&Path) -> std::io::Result<()>;
    let states: [(&str, Make); 9] = [
        ("missing or empty", |path| fs::write(path, "")),
        ("missing or empty", |path| fs::write(path, " \n\n")),
        ("nothing of require_uid any more", |path| {
            fs::write(path, "# nothing yet")
        }),
        ("require_uid = false", |path| {
            fs::write(path, "[limits]\ninstances = 7\n")
        }),
        ("line 1", |path| fs::write(path, &DOOR[..DOOR.len() / 3])),
        ("not UTF-8", |path| fs::write(path, b"\xff\xfe")),
        ("cannot be read", |path| fs::create_dir(path)),
        ("cannot be read", |path| symlink("nowhere", path)),
        ("cannot be read", |path| symlink(path, path)),
    ];
    for (number, (why, make)) in states.into_iter().enumerate() {
        let wanted = |line: &LogLine| is_refused(line) && line.says(why);
        let before = node.log().so_far(wanted).len();
        match manifest.is_dir() {
            true => fs::remove_dir(&manifest)?,
            false => fs::remove_file(&manifest)?,
        }
        make(&manifest)?;
        let line = node.log().nth(before + 1, wanted).await;
        let line = line.with_context(|| format!("state {number}, {why}"))?;
        ensure!(line.says("marker.wasm"), "{}", line.message());
        still_serves_behind_its_door(&node, &mut client).await?;
    }

    fs::remove_file(&manifest)?;
    node.folder()
        .put_manifest("marker", "require_uid = false")?;
    node.generation_loaded("marker", 2).await?;
    node.client("/marker").await?;
    Ok(())
}

#[tokio::test]
async fn a_plugin_that_comes_back_without_its_manifest_is_not_loaded() -> Result<()> {
    let node = with_door().await?;
    let mut client = node.client("/marker?uid=bob").await?;
    fs::remove_file(node.folder().manifest("marker"))?;
    node.folder().remove("marker")?;
    assert_eq!(client.end().await?.code(), 1001);

    node.folder().put("marker", "marker-b")?;
    let missing = |line: &LogLine| is_refused(line) && line.says("is missing or empty");
    node.wait_for_log(missing).await?;
    assert_eq!(node.refusal("/marker").await?.status, 503);
    node.folder().put_manifest("marker", DOOR)?;
    node.generation_loaded("marker", 2).await?;
    assert_eq!(node.refusal("/marker").await?.status, 400);
    Ok(())
}

#[tokio::test]
async fn a_secret_that_is_empty_for_a_moment_reaches_no_plugin() -> Result<()> {
    let manifest = "[config]\nkey = { file = \"the.key\" }";
    let node = Node::builder()
        .plugin_from("marker", "marker-a")
        .manifest("marker", manifest)
        .file("the.key", "s3cret\n")
        .alone()
        .start()
        .await?;
    let mut client = node.client("/marker").await?;
    node.folder().put_file("the.key", b"")?;
    node.folder().put("marker", "marker-b")?;
    let line = node.wait_for_log(is_refused).await?;
    assert!(line.says("\"key\" is empty in"), "{}", line.message());
    still_serves(&mut client).await?;
    node.folder().put_file("the.key", b"s3cret\n")?;
    node.folder()
        .put_manifest("marker", &format!("{manifest}\n"))?;
    node.generation_loaded("marker", 2).await
}

#[tokio::test]
async fn a_folder_that_is_another_one_now_closes_nobody() -> Result<()> {
    let node = Node::builder()
        .plugin_from("marker", "marker-a")
        .alone()
        .start()
        .await?;
    let mut client = node.client("/marker").await?;
    let (folder, aside) = (node.folder().path(), node.folder().beside("aside"));

    fs::rename(folder, &aside)?;
    node.wait_for_log(|line| line.says("the plugins folder cannot be read"))
        .await?;
    still_serves(&mut client).await?;
    fs::create_dir(folder)?;
    let line = node.wait_for_log(is_displaced).await?;
    assert!(line.says("marker.wasm"), "{}", line.message());
    still_serves(&mut client).await?;
    // What the new folder has is loaded all the same.
    node.folder().put("later", "echo")?;
    node.generation_loaded("later", 1).await?;
    still_serves(&mut client).await?;

    // A link, as releases are switched by.
    fs::rename(folder, node.folder().beside("empty"))?;
    symlink(&aside, folder)?;
    fs::copy(jackfield_tests::component("marker-b")?, aside.join("new"))?;
    fs::rename(aside.join("new"), aside.join("marker.wasm"))?;
    node.generation_loaded("marker", 2).await?;
    client.say("hello").await?;
    assert_eq!(client.next().await?, text("b:2:hello"));

    // It is in this folder, and deleted from it: that is an order.
    fs::remove_file(aside.join("marker.wasm"))?;
    assert_eq!(client.end().await?.code(), 1001);
    Ok(())
}

#[test]
fn an_unmounted_folder_closes_nobody() -> Result<()> {
    on_own_mounts(async |mounts| {
        let node = Node::builder()
            .change_folder(|folder| mounts.mount_disk(folder, 16))
            .plugin_from("marker", "marker-a")
            .alone()
            .start()
            .await?;
        let folder = node.folder().path();
        let mut client = node.client("/marker").await?;

        mounts.unmount(folder)?;
        node.wait_for_log(is_displaced).await?;
        still_serves(&mut client).await?;

        mounts.mount_disk(folder, 16)?;
        node.folder().put("marker", "marker-b")?;
        node.generation_loaded("marker", 2).await?;
        client.say("hello").await?;
        assert_eq!(client.next().await?, text("b:2:hello"));
        mounts.unmount(folder)
    })
}

#[tokio::test]
async fn one_bad_entry_stops_no_other_when_the_node_starts() -> Result<()> {
    let node = Node::builder()
        .plugin_from("marker", "marker-a")
        .change_folder(make_bad_entries)
        .alone()
        .start()
        .await?;
    let mut client = node.client("/marker").await?;
    still_serves(&mut client).await?;
    for name in BAD {
        let named = |line: &LogLine| is_refused(line) && line.says(&format!("/{name}.wasm"));
        node.wait_for_log(named).await?;
        assert_eq!(node.refusal(&format!("/{name}")).await?.status, 503);
    }
    Ok(())
}

#[tokio::test]
async fn one_bad_entry_stops_no_other_of_a_node_that_runs() -> Result<()> {
    let node = Node::builder()
        .plugin_from("marker", "marker-a")
        .plugin("echo")
        .alone()
        .start()
        .await?;
    let mut client = node.client("/marker").await?;
    make_bad_entries(node.folder().path())?;
    // One that runs, whose file is a link that leads nowhere now: that is no removal.
    fs::remove_file(node.folder().component("marker"))?;
    symlink("nowhere", node.folder().component("marker"))?;
    for name in BAD.into_iter().chain(["marker"]) {
        let named = |line: &LogLine| is_refused(line) && line.says(&format!("/{name}.wasm"));
        let line = node.wait_for_log(named).await?;
        assert!(line.says("cannot be read"), "{}", line.message());
    }
    still_serves(&mut client).await?;
    node.folder().put("later", "echo")?;
    node.generation_loaded("later", 1).await?;
    node.folder().put("marker", "marker-b")?;
    node.generation_loaded("marker", 2).await?;
    // Each is said once, however often it is tried again.
    let said = node
        .log()
        .so_far(|line| is_refused(line) && line.says("/folder.wasm"));
    assert_eq!(said.len(), 1);
    Ok(())
}

const BAD: [&str; 6] = ["folder", "itself", "long", "nowhere", "pipe", "through"];

/// Entries that cannot be read, each for another reason.
fn make_bad_entries(folder: &Path) -> Result<()> {
    let at = |name: &str| folder.join(format!("{name}.wasm"));
    fs::create_dir(at("folder"))?;
    symlink(at("itself"), at("itself"))?;
    symlink("x".repeat(300), at("long"))?;
    symlink("nowhere", at("nowhere"))?;
    let made = Command::new("mkfifo").arg(at("pipe")).status()?;
    ensure!(made.success(), "mkfifo: {made}");
    fs::write(folder.join("file"), "x")?;
    symlink("file/below", at("through"))?;
    Ok(())
}
