//! What holds in every store: whose keys are whose, what the calls do, what stays.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use jackfield_tests::{LogLine, Node, Output, PluginFolder, run_node_binary};

use super::{GRANTED, ask, ask_of, in_memory, keeper, on_disk, stores};

#[tokio::test]
async fn keys_are_set_read_and_deleted() -> Result<()> {
    for store in stores().await? {
        let node = keeper(&store.name, "").start().await?;
        let mut ada = node.client("/keeper").await?;
        for (command, answer) in [
            ("get tea", "none"),
            ("exists tea", "false"),
            ("delete tea", "done"),
            ("set tea green", "done"),
            ("get tea", "green"),
            ("exists tea", "true"),
            ("set tea ", "done"),
            ("get tea", ""),
            ("exists tea", "true"),
            ("set coffee black", "done"),
            ("keys", "coffee tea"),
            ("delete tea", "done"),
            ("get tea", "none"),
            ("keys", "coffee"),
            ("set-many 3", "done"),
            ("get-many 5", "3"),
            ("delete-many 2", "done"),
            ("keys", "00002 coffee"),
            ("get-many 0", "0"),
            ("set-many 0", "done"),
            ("delete-many 0", "done"),
        ] {
            let heard = ask(&mut ada, command).await?;
            assert_eq!(heard, answer, "{command} in {}", store.name);
        }
    }
    Ok(())
}

#[tokio::test]
async fn numbers_add_up_and_what_is_none_is_told() -> Result<()> {
    for store in stores().await? {
        let node = keeper(&store.name, "").start().await?;
        let mut ada = node.client("/keeper").await?;
        assert_eq!(ask(&mut ada, "increment n 5").await?, "5");
        assert_eq!(ask(&mut ada, "increment n -7").await?, "-2");
        assert_eq!(ask(&mut ada, "get n").await?, "-2");
        ask(&mut ada, "set n 9223372036854775807").await?;
        let said = ask(&mut ada, "increment n 1").await?;
        assert!(said.contains("too large"), "{said} in {}", store.name);
        for value in ["tea", "01", ""] {
            ask(&mut ada, &format!("set n {value}")).await?;
            let said = ask(&mut ada, "increment n 1").await?;
            assert!(said.contains("is no number"), "{said} in {}", store.name);
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_many_change_at_once_is_changed_by_each() -> Result<()> {
    // An `append` gives up when others were first a hundred times: there are fewer of them.
    const CLIENTS: usize = 8;
    const EACH: usize = 14;
    for store in stores().await? {
        let node = keeper(
            &store.name,
            "[limits]\nkeyvalue_timeout = '5s'\nwait_timeout = '30s'",
        )
        .start()
        .await?;
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            clients.push(node.client("/keeper").await?);
        }
        for client in &mut clients {
            for _ in 0..EACH {
                client.say("default increment n 1").await?;
                client.say("default append text x").await?;
            }
        }
        let mut numbers = BTreeSet::new();
        let mut texts = BTreeSet::new();
        for client in &mut clients {
            for _ in 0..EACH {
                numbers.insert(client.next_text().await?.parse::<usize>()?);
                let text = client.next_text().await?;
                assert!(text.bytes().all(|byte| byte == b'x'), "{text}");
                texts.insert(text.len());
            }
        }
        let all: BTreeSet<_> = (1..=CLIENTS * EACH).collect();
        assert_eq!(numbers, all, "{}", store.name);
        assert_eq!(texts, all, "{}", store.name);
    }
    Ok(())
}

#[tokio::test]
async fn a_reload_keeps_them_and_nobody_else_sees_them() -> Result<()> {
    for store in stores().await? {
        let node = keeper(&store.name, "")
            .plugin_from("thief", "keeper")
            .manifest("thief", GRANTED)
            .start()
            .await?;
        let mut ada = node.client("/keeper").await?;
        let mut thief = node.client("/thief").await?;
        ask(&mut ada, "set tea green").await?;
        assert_eq!(ask(&mut thief, "get tea").await?, "none");
        assert_eq!(ask(&mut thief, "keys").await?, "");
        assert_eq!(ask_of(&mut ada, "other", "get tea").await?, "none");
        assert_eq!(ask_of(&mut ada, "other", "keys").await?, "");

        node.folder()
            .put_manifest("keeper", &format!("{GRANTED}\n# again"))?;
        node.generation_loaded("keeper", 2).await?;
        assert_eq!(ask(&mut ada, "get tea").await?, "green", "{}", store.name);
    }
    Ok(())
}

#[tokio::test]
async fn all_keys_of_a_large_bucket_come_page_by_page() -> Result<()> {
    for store in stores().await? {
        let node = keeper(
            &store.name,
            "[limits]\nkeyvalue_timeout = '5s'\nwait_timeout = '30s'",
        )
        .start()
        .await?;
        let mut ada = node.client("/keeper").await?;
        let mut keys = BTreeSet::new();
        for number in 0..2_500 {
            let key = format!("k{number}");
            ada.say(format!("default set {key} v")).await?;
            keys.insert(key);
        }
        for _ in 0..keys.len() {
            assert_eq!(ada.next_text().await?, "done");
        }
        let (mut found, mut pages, mut cursor) = (0, 0, String::new());
        while cursor != "end" {
            let page = ask(&mut ada, format!("page {cursor}").trim()).await?;
            let (count, next) = page.split_once(' ').context("a page")?;
            found += count.parse::<usize>()?;
            pages += 1;
            cursor = next.to_owned();
        }
        assert!(
            found >= keys.len() && pages >= 3,
            "{found} in {pages} pages"
        );
        let all = ask(&mut ada, "keys").await?;
        assert_eq!(
            all.split(' ').map(str::to_owned).collect::<BTreeSet<_>>(),
            keys
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_file_has_them_for_the_next_node_also_when_the_last_one_was_killed() -> Result<()> {
    let store = on_disk()?;
    let node = keeper(&store.name, "").start().await?;
    let mut ada = node.client("/keeper").await?;
    ask(&mut ada, "set tea green").await?;
    node.kill().await?;

    let node = keeper(&store.name, "").start().await?;
    let mut ada = node.client("/keeper").await?;
    assert_eq!(ask(&mut ada, "get tea").await?, "green");
    drop(ada);
    node.stop().await?;

    let node = keeper(&in_memory().name, "").start().await?;
    let mut ada = node.client("/keeper").await?;
    assert_eq!(ask(&mut ada, "get tea").await?, "none");
    Ok(())
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_an_error_that_says_what_to_do() -> Result<()> {
    let folder = PluginFolder::new()?;
    let plugins = folder.path().to_string_lossy().into_owned();
    let file = folder.path().join("state.redb");
    let store = format!("file:{}", file.display());
    let begin = async |store: &str| begin(&["--plugins", &plugins, "--keyvalue", store]).await;
    std::fs::write(&file, "this is no database".repeat(1_000))?;
    let output = begin(&store).await?;
    assert_eq!(output.code, 1);
    for words in [&*file.to_string_lossy(), "keyvalue.store", "move it away"] {
        assert!(output.stderr.contains(words), "{}", output.stderr);
    }

    std::fs::remove_file(&file)?;
    let running = keeper(&store, "").start().await?;
    let output = begin(&store).await?;
    assert_eq!(output.code, 1);
    assert!(
        output.stderr.contains("cannot be opened"),
        "{}",
        output.stderr
    );
    let mut ada = running.client("/keeper").await?;
    assert_eq!(ask(&mut ada, "fill tea 60000").await?, "done");
    // The file has the state before the last change as well, and goes back to it where that one
    // alone is damaged: the value is to be in both.
    for _ in 0..3 {
        ask(&mut ada, "increment n 1").await?;
    }
    drop(ada);
    running.stop().await?;

    // Damaged after its head, or in a single byte of a value.
    let whole = std::fs::read(&file)?;
    let value = [b'x'; 1_000];
    let within = whole.windows(value.len()).position(|part| part == value);
    let within = within.context("the value in the file")?;
    for damaged in [512..whole.len(), within..within + 1] {
        let mut bytes = whole.clone();
        bytes[damaged].fill(0xa5);
        std::fs::write(&file, bytes)?;
        let output = begin(&store).await?;
        assert_eq!(output.code, 1, "{}", output.text());
        assert!(output.stderr.contains("move it away"), "{}", output.stderr);
    }
    std::fs::write(&file, whole)?;
    let node = keeper(&store, "").start().await?;
    let mut ada = node.client("/keeper").await?;
    assert_eq!(ask(&mut ada, "exists tea").await?, "true");

    for wrong in [
        "disk",
        "file:",
        "http://127.0.0.1",
        "redis://:secret@127.0.0.1",
        "rediss://:secret@127.0.0.1",
        "rediss://127.0.0.1/#insecure",
    ] {
        let output = begin(wrong).await?;
        assert_eq!(output.code, 1, "{wrong}");
        assert!(output.stderr.contains("keyvalue."), "{}", output.stderr);
        assert!(!output.stderr.contains("secret@"), "{}", output.stderr);
    }
    Ok(())
}

/// A node with these arguments, until it ends.
async fn begin(arguments: &[&str]) -> Result<Output> {
    let node = ["node", "--listen", "127.0.0.1:0", "--api", "127.0.0.1:0"];
    run_node_binary(&[&node[..], arguments].concat()).await
}

/// Whoever names them believes that there is TLS.
#[tokio::test]
async fn authorities_are_for_a_server_over_tls() -> Result<()> {
    let folder = PluginFolder::new()?;
    let plugins = folder.path().to_string_lossy().into_owned();
    for store in ["redis://127.0.0.1", "memory"] {
        let arguments = ["--plugins", &plugins, "--keyvalue", store];
        let set = ["--set", "keyvalue.authorities=a.pem"];
        let output = begin(&[&arguments[..], &set].concat()).await?;
        assert_eq!(output.code, 1);
        assert!(output.stderr.contains("rediss://"), "{}", output.stderr);
    }
    Ok(())
}

#[tokio::test]
async fn authorities_are_certificates_in_pem() -> Result<()> {
    let folder = PluginFolder::new()?;
    let plugins = folder.path().to_string_lossy().into_owned();
    let file = folder.path().join("authorities.pem");
    for (text, words) in [
        (None, "cannot be read"),
        (Some("no certificate"), "has no certificate in PEM"),
    ] {
        if let Some(text) = text {
            std::fs::write(&file, text)?;
        }
        let set = format!("keyvalue.authorities={}", file.display());
        let arguments = ["--plugins", &plugins, "--keyvalue", "rediss://127.0.0.1"];
        let output = begin(&[&arguments[..], &["--set", &set]].concat()).await?;
        assert_eq!(output.code, 1);
        for words in ["keyvalue.authorities", words] {
            assert!(output.stderr.contains(words), "{}", output.stderr);
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_is_not_granted_is_refused_and_the_key_is_named() -> Result<()> {
    // Without the section it does not load,
    let node = Node::builder().alone().plugin("keeper").start().await?;
    let refused = |line: &LogLine| line.says("is not loaded");
    let line = node.wait_for_log(refused).await?;
    for words in ["wasi:keyvalue/", "[keyvalue] with buckets = ["] {
        assert!(line.says(words), "{}", line.message());
    }
    // nor would it,
    let component = node.folder().component("keeper");
    let output = run_node_binary(&["check", &component.to_string_lossy()]).await?;
    assert_eq!(output.code, 1);
    assert!(
        output.stdout.contains("[keyvalue] with buckets"),
        "{}",
        output.stdout
    );
    // with an empty one it does,
    node.folder().put_manifest("keeper", "[keyvalue]")?;
    node.generation_loaded("keeper", 1).await?;
    let mut ada = node.client("/keeper").await?;
    let said = ask(&mut ada, "get tea").await?;
    assert!(
        said.contains(
            "no bucket \"default\" is granted: name it under keyvalue.buckets in keeper.toml"
        ),
        "{said}"
    );
    // and then what it names is there.
    node.folder()
        .put_manifest("keeper", "[keyvalue]\nbuckets = ['default']")?;
    node.generation_loaded("keeper", 2).await?;
    assert_eq!(ask(&mut ada, "get tea").await?, "none");
    let said = ask_of(&mut ada, "other", "get tea").await?;
    assert!(
        said.contains("\"other\"") && said.contains("keyvalue.buckets"),
        "{said}"
    );
    assert_eq!(node.counters().await?.get("keyvalue_refused")?, 2);
    Ok(())
}
