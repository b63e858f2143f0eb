//! A file that does not take what is written: it is full, too large, or not where it was. What was
//! acknowledged is there again in each case, and the plugins' changes succeed again by themselves.

use std::path::Path;

use anyhow::Result;
use jackfield_tests::{Client, LogLine, Node, PluginFolder, on_own_mounts, run_node_binary};

use super::{ask, count, keeper, store_of, until, until_failure_has};

fn cannot_be_written(line: &LogLine) -> bool {
    line.says("the plugins' key-value state cannot be written")
}

fn is_written_again(line: &LogLine) -> bool {
    line.says("the plugins' key-value state is written again")
}

async fn start(file: &Path) -> Result<(Node, Client)> {
    let node = keeper(&format!("file:{}", file.display()), "")
        .start()
        .await?;
    let client = node.client("/keeper").await?;
    Ok((node, client))
}

/// Sets keys that are large until one is refused: those that were not, and what was said.
async fn fill(client: &mut Client) -> Result<(usize, String)> {
    for number in 0..10_000 {
        let said = ask(client, &format!("fill k{number} 30000")).await?;
        if said != "done" {
            return Ok((number, said));
        }
    }
    anyhow::bail!("the disk does not become full")
}

async fn all_are_there(client: &mut Client, keys: usize) -> Result<()> {
    for number in 0..keys {
        let value = ask(client, &format!("get k{number}")).await?;
        assert_eq!(value.len(), 30_000, "k{number}");
    }
    Ok(())
}

#[test]
fn a_full_disk_loses_nothing_and_is_written_again_when_there_is_room() -> Result<()> {
    on_own_mounts(async |mounts| {
        let disk = mounts.disk(12)?;
        let (file, ballast) = (disk.join("state.redb"), disk.join("ballast"));
        std::fs::write(&ballast, vec![1; 4 << 20])?;
        let (node, mut ada) = start(&file).await?;
        let (mut keys, said) = fill(&mut ada).await?;
        assert!(
            keys > 10 && said.contains("No space left on device"),
            "{said}"
        );
        node.wait_for_log(cannot_be_written).await?;
        let store = store_of(&node).await?;
        assert_eq!(store["store"], "file");
        until_failure_has(&node, "No space left on device").await?;
        // Reads go on, and no change is acknowledged; the log is not full of it.
        all_are_there(&mut ada, keys).await?;
        for command in [
            "fill other 30000",
            "increment n 1",
            "append tea x",
            "delete k0",
        ] {
            let said = ask(&mut ada, command).await?;
            assert!(said.contains("the node's key-value store failed"), "{said}");
        }
        let counters = node.counters().await?;
        assert_eq!(counters.get("keyvalue_failed")?, 5);

        std::fs::remove_file(&ballast)?;
        node.wait_for_log(is_written_again).await?;
        until_failure_has(&node, "").await?;
        let failures = until(&mut ada, &format!("fill k{keys} 30000"), "done").await?;
        assert_eq!(failures, 0);
        keys += 1;
        all_are_there(&mut ada, keys).await?;
        let told = (
            count(&node, cannot_be_written).await?,
            count(&node, is_written_again).await?,
        );
        assert_eq!(told, (1, 1));

        // Once more, and the node ends meanwhile.
        std::fs::write(disk.join("more"), vec![1; 2 << 20])?;
        for number in keys.. {
            match &*ask(&mut ada, &format!("fill k{number} 30000")).await? {
                "done" => keys = number + 1,
                _ => break,
            }
        }
        drop(ada);
        node.kill().await?;
        std::fs::remove_file(disk.join("more"))?;
        let (_node, mut ada) = start(&file).await?;
        all_are_there(&mut ada, keys).await?;
        assert_eq!(ask(&mut ada, "set tea green").await?, "done");
        Ok(())
    })
}

#[test]
fn a_disk_that_becomes_read_only_is_read() -> Result<()> {
    on_own_mounts(async |mounts| {
        let disk = mounts.disk(8)?;
        let (file, ballast) = (disk.join("state.redb"), disk.join("ballast"));
        std::fs::write(&ballast, vec![1; 4 << 20])?;
        let (node, mut ada) = start(&file).await?;
        assert_eq!(ask(&mut ada, "set tea green").await?, "done");
        // Whoever has it open writes on: the node has to open it again, which needs a full disk.
        mounts.make_read_only(true)?;
        let (keys, _) = fill(&mut ada).await?;
        until_failure_has(&node, "Read-only file system").await?;
        all_are_there(&mut ada, keys).await?;
        assert_eq!(ask(&mut ada, "get tea").await?, "green");
        let said = ask(&mut ada, "set tea black").await?;
        assert!(said.contains("Read-only file system"), "{said}");

        mounts.make_read_only(false)?;
        until_failure_has(&node, "No space left on device").await?;
        all_are_there(&mut ada, keys).await?;
        std::fs::remove_file(&ballast)?;
        until(&mut ada, "set tea black", "done").await?;
        all_are_there(&mut ada, keys).await?;
        let told = (
            count(&node, cannot_be_written).await?,
            count(&node, is_written_again).await?,
        );
        assert_eq!(told, (1, 1));
        Ok(())
    })
}

#[test]
fn a_node_that_starts_on_a_full_disk_says_what_to_do() -> Result<()> {
    on_own_mounts(async |mounts| {
        let disk = mounts.disk(2)?;
        let (file, ballast) = (disk.join("state.redb"), disk.join("ballast"));
        let folder = PluginFolder::new()?;
        let _ = std::fs::write(&ballast, vec![1; 3 << 20]);
        let (plugins, store) = (
            folder.path().to_string_lossy(),
            format!("file:{}", file.display()),
        );
        let arguments = ["node", "--listen", "127.0.0.1:0", "--api", "127.0.0.1:0"];
        let more = ["--plugins", &*plugins, "--keyvalue", &*store];
        let output = run_node_binary(&[&arguments[..], &more].concat()).await?;
        assert_eq!(output.code, 1, "{}", output.text());
        for words in [
            "No space left on device",
            "Make room there",
            &*file.to_string_lossy(),
        ] {
            assert!(output.stderr.contains(words), "{}", output.stderr);
        }
        // What it has begun is in nobody's way.
        std::fs::remove_file(&ballast)?;
        let (_node, mut ada) = start(&file).await?;
        assert_eq!(ask(&mut ada, "set tea green").await?, "done");
        Ok(())
    })
}

#[tokio::test]
async fn a_file_that_may_not_grow_is_an_error_and_not_the_end() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (node, mut ada) = start(&folder.path().join("state.redb")).await?;
    node.limit_files_to(Some(4 << 20))?;
    let (keys, said) = fill(&mut ada).await?;
    assert!(said.contains("File too large"), "{said}");
    all_are_there(&mut ada, keys).await?;
    node.limit_files_to(None)?;
    until(&mut ada, &format!("fill k{keys} 30000"), "done").await?;
    all_are_there(&mut ada, keys + 1).await?;
    Ok(())
}

#[tokio::test]
async fn a_file_that_has_gone_acknowledges_nothing_until_it_is_back() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (inner, aside) = (folder.path().join("state"), folder.path().join("aside"));
    std::fs::create_dir(&inner)?;
    let file = inner.join("state.redb");
    let (node, mut ada) = start(&file).await?;
    assert_eq!(ask(&mut ada, "set tea green").await?, "done");

    // The file, and the folder that it is in.
    for gone in [&file, &inner] {
        std::fs::rename(gone, &aside)?;
        let said = ask(&mut ada, "set tea black").await?;
        assert!(said.contains("No such file"), "{said}");
        assert_eq!(ask(&mut ada, "get tea").await?, "green");
        std::fs::rename(&aside, gone)?;
        until(&mut ada, "set tea green", "done").await?;
    }
    let told = (
        count(&node, cannot_be_written).await?,
        count(&node, is_written_again).await?,
    );
    assert_eq!(told, (2, 2));

    // A copy is put in the place of a file that was removed, or that another one took.
    std::fs::copy(&file, &aside)?;
    let empty = folder.path().join("empty");
    std::fs::write(&empty, "")?;
    for another in [None, Some(&empty)] {
        std::fs::remove_file(&file)?;
        if let Some(another) = another {
            std::fs::copy(another, &file)?;
        }
        let said = ask(&mut ada, "set tea black").await?;
        assert!(said.contains("the node's key-value store failed"), "{said}");
        let copy = folder.path().join("copy");
        std::fs::copy(&aside, &copy)?;
        std::fs::rename(&copy, &file)?;
        until(&mut ada, "set coffee black", "done").await?;
        assert_eq!(ask(&mut ada, "get tea").await?, "green");
    }
    Ok(())
}

#[tokio::test]
async fn a_file_that_somebody_else_has_cut_is_not_taken_for_an_empty_one() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("state.redb");
    let (node, mut ada) = start(&file).await?;
    assert_eq!(ask(&mut ada, "set tea green").await?, "done");
    let copy = std::fs::read(&file)?;
    for length in [0, 5_000] {
        std::fs::write(&file, &copy[..length])?;
        let said = ask(&mut ada, "set tea black").await?;
        assert!(said.contains("somebody else has written"), "{said}");
        let said = ask(&mut ada, "get tea").await?;
        assert!(said.contains("the node's key-value store failed"), "{said}");
        std::fs::write(&file, &copy)?;
        until(&mut ada, "get tea", "green").await?;
        until(&mut ada, "set tea green", "done").await?;
    }
    until_failure_has(&node, "").await?;
    Ok(())
}
