//! Copies of the state in a file, while the node runs, and back.

use std::path::Path;

use anyhow::{Result, ensure};
use jackfield_tests::remote::{printed, run};
use jackfield_tests::{LogLine, Raw, within};
use tempfile::TempDir;

use super::{ask, in_memory, keeper, on_disk};

fn path(folder: &TempDir, name: &str) -> String {
    folder.path().join(name).display().to_string()
}

/// What is in a folder beside what was there.
fn others(folder: &Path) -> Result<Vec<String>> {
    let names = std::fs::read_dir(folder)?.map(|entry| anyhow::Ok(entry?.file_name()));
    let names = names.collect::<Result<Vec<_>>>()?.into_iter();
    let names = names.map(|name| name.to_string_lossy().into_owned());
    Ok(names.filter(|name| name != "state.redb").collect())
}

#[tokio::test]
async fn a_copy_is_made_and_put_back_while_a_plugin_writes() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let store = format!("file:{}", path(&folder, "state.redb"));
    let node = keeper(&store, "").start().await?;
    let mut ada = node.client("/keeper").await?;
    ask(&mut ada, "set tea green").await?;
    ask(&mut ada, "fill much 50000").await?;
    let copy = path(&folder, "copy");
    let mut writer = node.client("/keeper").await?;
    // It goes on writing while the copy is made.
    let writing = async {
        for number in 0..200 {
            let set = format!("set n{number} {number}");
            ensure!(ask(&mut writer, &set).await? == "done", "{set}");
        }
        anyhow::Ok(())
    };
    let command = ["state", "backup", &*copy];
    let (said, written) = tokio::join!(printed(&node, &command), writing);
    written?;
    let bytes = std::fs::metadata(&copy)?.len();
    assert_eq!(said?, format!("{copy} has {bytes} bytes\n"));
    assert_eq!(others(folder.path())?, ["copy"]);

    ask(&mut ada, "set tea black").await?;
    ask(&mut ada, "set later yes").await?;
    let said = printed(&node, &["state", "restore", &copy]).await?;
    assert!(said.starts_with("the state has "), "{said}");
    assert_eq!(ask(&mut ada, "get tea").await?, "green");
    assert_eq!(ask(&mut ada, "get later").await?, "none");
    assert_eq!(ask(&mut ada, "set tea white").await?, "done");
    assert_eq!(others(folder.path())?, ["copy"]);
    // What is on the disk is the same.
    node.stop().await?;
    let node = keeper(&store, "").start().await?;
    let mut ada = node.client("/keeper").await?;
    assert_eq!(ask(&mut ada, "get tea").await?, "white");
    node.stop().await?;

    // A copy is a store as well: a node starts with it.
    let node = keeper(&format!("file:{copy}"), "").start().await?;
    let mut ada = node.client("/keeper").await?;
    assert_eq!(ask(&mut ada, "get tea").await?, "green");
    // It has what was written up to one moment, and nothing after that.
    let mut has_ended = false;
    for number in 0..200 {
        let is_there = ask(&mut ada, &format!("exists n{number}")).await? == "true";
        ensure!(
            !(is_there && has_ended),
            "n{number} is there, and one before is not"
        );
        has_ended |= !is_there;
    }
    Ok(())
}

#[tokio::test]
async fn only_who_may_operate_all_plugins_gets_or_replaces_a_copy() -> Result<()> {
    let token = |name: &str, digest: &str, more: &str| {
        format!("[[token]]\nname = '{name}'\nsha256 = '{digest}'\n{more}\n")
    };
    // What `printf %s NAME-token | sha256sum` prints.
    let tokens = [
        token(
            "operate",
            "2de8e6cbdda43d8f8c4f33e79b7296ad4159d03cf42dbdf39c1e48ba6547fc61",
            "scopes = ['operate']",
        ),
        token(
            "chat",
            "f782c6855e3280eaef1d6f6de3556ffd08decd912ef0a064e4466b1c28d3fb13",
            "scopes = ['operate']\nplugins = ['keeper']",
        ),
        token(
            "read",
            "0328587016f9e316b9c31c94f944a2c453e1494a564062b5eab68039c75b58bf",
            "scopes = ['read', 'send', 'manage', 'inspect']",
        ),
    ];
    let folder = tempfile::tempdir()?;
    let file = path(&folder, "tokens.toml");
    std::fs::write(&file, tokens.concat())?;
    let store = on_disk()?;
    let node = keeper(&store.name, "").arguments(&["--api-tokens", &file]);
    let node = node.start().await?;
    let status = async |method: &str, name: &str, body: &str| {
        let mut raw = Raw::connect(node.api_address()).await?;
        let request = format!(
            "{method} /v1/state HTTP/1.1\r\nhost: localhost\r\n\
             authorization: Bearer {name}-token\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        raw.write(request.as_bytes()).await?;
        let line = raw.line().await?.unwrap_or_default();
        anyhow::Ok(line["HTTP/1.1 ".len()..][..3].to_owned())
    };
    for method in ["GET", "PUT"] {
        for (name, expected) in [("nobody", "401"), ("read", "403"), ("chat", "403")] {
            let answered = status(method, name, "x").await?;
            assert_eq!(answered, expected, "{method} {name}");
        }
    }
    assert_eq!(status("PUT", "operate", "x").await?, "400");
    assert_eq!(status("HEAD", "operate", "").await?, "405");
    Ok(())
}

/// What a plugin has counts for its `keyvalue_bytes` after that as before.
#[tokio::test]
async fn the_bytes_of_a_plugin_are_those_of_the_copy() -> Result<()> {
    let (one, other) = (on_disk()?, on_disk()?);
    let folder = tempfile::tempdir()?;
    let copy = path(&folder, "copy");
    let limits = "[limits]\nkeyvalue_bytes = 100000";
    let full = keeper(&one.name, limits).start().await?;
    let mut ada = full.client("/keeper").await?;
    assert_eq!(ask(&mut ada, "fill much 60000").await?, "done");
    printed(&full, &["state", "backup", &copy]).await?;
    let empty = keeper(&other.name, limits).start().await?;
    let mut bob = empty.client("/keeper").await?;
    assert_eq!(ask(&mut bob, "fill own 60000").await?, "done");
    printed(&empty, &["state", "restore", &copy]).await?;
    assert_eq!(ask(&mut bob, "exists own").await?, "false");
    let refused = ask(&mut bob, "fill more 60000").await?;
    assert!(refused.contains("keyvalue_bytes"), "{refused}");
    assert_eq!(ask(&mut bob, "fill more 30000").await?, "done");
    Ok(())
}

#[tokio::test]
async fn a_copy_that_is_none_or_does_not_come_whole_replaces_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let store = format!("file:{}", path(&folder, "state.redb"));
    let node = keeper(&store, "").start().await?;
    let mut ada = node.client("/keeper").await?;
    ask(&mut ada, "set tea green").await?;
    let copy = path(&folder, "copy");
    printed(&node, &["state", "backup", &copy]).await?;
    let good = std::fs::read(&copy)?;
    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    for byte in &mut flipped[middle - 8192..middle + 8192] {
        *byte ^= 0x55;
    }
    let (mut cut, empty) = (good.clone(), Vec::new());
    cut.truncate(good.len() / 3);
    for wrong in [flipped, cut, empty, b"no database at all".to_vec()] {
        std::fs::write(&copy, wrong)?;
        let refused = run(&node, &["state", "restore", &copy]).await?;
        assert_eq!(refused.code, 1);
        assert!(
            refused.stderr.contains("the copy cannot be read"),
            "{}",
            refused.stderr
        );
        assert_eq!(ask(&mut ada, "get tea").await?, "green");
        assert_eq!(ask(&mut ada, "set tea green").await?, "done");
    }
    // One that breaks off in the middle.
    let mut raw = Raw::connect(node.api_address()).await?;
    let head = format!(
        "PUT /v1/state HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\
         expect: 100-continue\r\n\r\n",
        good.len()
    );
    raw.write(head.as_bytes()).await?;
    let asked = raw.line().await?;
    assert_eq!(asked.as_deref(), Some("HTTP/1.1 100 Continue"));
    // One at a time.
    let refused = run(&node, &["state", "backup", &copy]).await?;
    assert!(
        refused
            .stderr
            .contains("another copy of the state is under way"),
        "{}",
        refused.stderr
    );
    raw.write(&good[..good.len() / 2]).await?;
    drop(raw);
    let restores = |line: &LogLine| line.text("function") == "restore_state";
    let ended = async {
        while node.log().so_far(restores).len() < 5 {
            tokio::task::yield_now().await;
        }
        anyhow::Ok(())
    };
    within("the line of the audit", ended).await?;
    assert_eq!(ask(&mut ada, "get tea").await?, "green");
    assert_eq!(others(folder.path())?, ["copy"]);
    Ok(())
}

#[tokio::test]
async fn a_copy_needs_a_file_and_the_right_to_it() -> Result<()> {
    let memory = in_memory();
    let node = keeper(&memory.name, "").start().await?;
    let folder = tempfile::tempdir()?;
    let copy = path(&folder, "copy");
    let refused = run(&node, &["state", "backup", &copy]).await?;
    assert!(
        refused.stderr.contains("in the store `memory`"),
        "{}",
        refused.stderr
    );
    assert_eq!(others(folder.path())?, [""; 0], "nothing is left");
    let refused = run(&node, &["state", "restore", &copy]).await?;
    assert!(
        refused.stderr.contains("cannot be read"),
        "{}",
        refused.stderr
    );
    std::fs::write(&copy, "a copy")?;
    let refused = run(&node, &["state", "restore", &copy]).await?;
    assert!(
        refused.stderr.contains("in the store `memory`"),
        "{}",
        refused.stderr
    );
    // Also if it is more than a connection takes before it is read.
    std::fs::File::create(&copy)?.set_len(64 << 20)?;
    let refused = run(&node, &["state", "restore", &copy]).await?;
    assert!(
        refused.stderr.contains("in the store `memory`"),
        "{}",
        refused.stderr
    );
    let nowhere = path(&folder, "nowhere/copy");
    let refused = run(&node, &["state", "backup", &nowhere]).await?;
    assert!(
        refused.stderr.contains("cannot be written"),
        "{}",
        refused.stderr
    );
    Ok(())
}

#[tokio::test]
async fn a_copy_for_which_there_is_no_room_is_refused_and_replaces_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let store = format!("file:{}", path(&folder, "state.redb"));
    let node = keeper(&store, "").start().await?;
    let mut ada = node.client("/keeper").await?;
    assert_eq!(ask(&mut ada, "set tea green").await?, "done");
    let copy = path(&folder, "copy");
    std::fs::File::create(&copy)?.set_len(64 << 20)?;
    node.limit_files_to(Some(4 << 20))?;
    let refused = run(&node, &["state", "restore", &copy]).await?;
    assert!(
        refused.stderr.contains("the copy failed: File too large"),
        "{}",
        refused.stderr
    );
    node.limit_files_to(None)?;
    assert_eq!(ask(&mut ada, "get tea").await?, "green");
    assert_eq!(others(folder.path())?, ["copy"]);
    Ok(())
}
