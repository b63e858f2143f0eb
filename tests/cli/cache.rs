//! The folder of compiled components: the default one is a wish, and one that is named an order.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use jackfield_tests::{
    LogLine, Node, NodeBuilder, component, run_node_binary_after, run_node_binary_in, within,
};
use tempfile::TempDir;

use crate::{file, is_refused, path_of};

/// The tests' own cache is not to be seen.
const UNNAMED: &str = "unset JACKFIELD_CACHE XDG_CACHE_HOME";

fn node(script: &str) -> NodeBuilder {
    let node = Node::builder().plugin_from("marker", "marker-a").alone();
    node.after_script(&format!("{UNNAMED}; {script}"))
}

fn is_warning(line: &LogLine) -> bool {
    line.level() == "WARN" && line.says("compiled plugins are not kept") && line.says("--cache")
}

async fn serves(node: &Node) -> Result<()> {
    let mut client = node.client("/marker").await?;
    client.say("hello").await?;
    client.next_text().await.map(drop)
}

fn readable(path: &Path) -> Result<&str> {
    path.to_str().context("a readable path")
}

/// The components that are kept below a folder. (Files with a dot have functions, or are being
/// written.)
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        match path.is_dir() {
            true => found.extend(files(&path)?),
            false if path.extension().is_none() && !is_hidden(&path) => found.push(path),
            false => {}
        }
    }
    Ok(found)
}

fn is_hidden(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().starts_with('.')
}

/// Waits until a component is kept, which the plugin does not wait for.
async fn one_is_kept(folder: &Path) -> Result<PathBuf> {
    within("a component in the cache", async {
        loop {
            if let [kept] = files(folder).unwrap_or_default().as_slice() {
                return anyhow::Ok(kept.clone());
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

#[tokio::test]
async fn without_a_usable_home_the_node_runs_without_one() -> Result<()> {
    let folder = TempDir::new()?;
    fs::write(folder.path().join("file"), "")?;
    let folder = readable(folder.path())?;
    for script in [
        "unset HOME".to_owned(),
        "export HOME=".to_owned(),
        "export HOME=relative".to_owned(),
        "export HOME=/proc".to_owned(),
        "export HOME=/dev/null".to_owned(),
        format!("export HOME={folder}/file"),
        format!("export HOME={folder} XDG_CACHE_HOME={folder}/file"),
    ] {
        let node = node(&script).start().await?;
        serves(&node).await.context(script.clone())?;
        assert_eq!(node.log().so_far(is_warning).len(), 1, "{script}");
        assert!(node.stop().await?.status.success(), "{script}");
    }
    assert_eq!(fs::read_dir(folder)?.count(), 1, "nothing was made");
    Ok(())
}

#[tokio::test]
async fn the_default_one_is_where_its_standard_says() -> Result<()> {
    let folder = TempDir::new()?;
    let root = readable(folder.path())?;
    for (script, kept_in) in [
        (format!("export HOME={root}/a"), "a/.cache/jackfield"),
        (
            format!("export HOME={root}/b XDG_CACHE_HOME={root}/c"),
            "c/jackfield",
        ),
        (
            format!("export HOME={root}/d XDG_CACHE_HOME="),
            "d/.cache/jackfield",
        ),
        (
            format!("export HOME={root}/e XDG_CACHE_HOME=cache"),
            "e/.cache/jackfield",
        ),
    ] {
        let node = node(&script).start().await?;
        serves(&node).await?;
        let kept_in = folder.path().join(kept_in);
        one_is_kept(&kept_in).await.context(script.clone())?;
        assert_eq!(fs::metadata(&kept_in)?.mode() & 0o777, 0o700, "{script}");
        assert!(node.log().so_far(is_warning).is_empty(), "{script}");

        let script = format!("{UNNAMED}; {script}");
        let printed = run_node_binary_after(&script, &["node", "--print-config"]).await?;
        let line = format!("cache = {:?}  # default", readable(&kept_in)?);
        let said = &printed.stdout;
        assert!(said.lines().any(|said| said == line), "{line} in\n{said}");
    }
    Ok(())
}

#[tokio::test]
async fn print_config_says_that_there_is_none() -> Result<()> {
    let script = format!("{UNNAMED}; unset HOME");
    let printed = run_node_binary_after(&script, &["node", "--print-config"]).await?;
    assert!(printed.stdout.contains("cache = \"\"  # default\n"));
    Ok(())
}

#[tokio::test]
async fn a_home_that_is_no_text_is_a_home() -> Result<()> {
    let folder = TempDir::new()?;
    let root = readable(folder.path())?;
    let script = format!("export HOME=\"$(printf '{root}/\\377')\"");
    let node = node(&script).start().await?;
    serves(&node).await?;
    one_is_kept(folder.path()).await?;
    Ok(())
}

#[tokio::test]
async fn that_of_another_user_is_not_used() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can make a folder that is another user's");
        return Ok(());
    }
    let folder = TempDir::new()?;
    for made in ["home", "home/.cache", "home/.cache/jackfield"] {
        let made = folder.path().join(made);
        fs::create_dir(&made)?;
        chown(&made, Some(12_345), None)?;
        let script = format!("export HOME={}/home", readable(folder.path())?);
        let node = node(&script).start().await?;
        serves(&node).await?;
        let said = node.wait_for_log(is_warning).await?;
        assert!(said.text("error").contains("another user"), "{said:?}");
        assert_eq!(fs::read_dir(&made)?.count(), 0);
    }
    Ok(())
}

#[tokio::test]
async fn a_named_one_that_can_not_be_used_is_an_error() -> Result<()> {
    let folder = TempDir::new()?;
    fs::write(folder.path().join("file"), "")?;
    std::os::unix::fs::symlink("nowhere/at/all", folder.path().join("link"))?;
    let below = |name: &str| folder.path().join(name).display().to_string();
    let marker = component("marker-a")?;
    for cache in [
        &below("file"),
        &below("file/cache"),
        &below("link"),
        "/dev/null",
        // Not even root makes a file there.
        "/proc",
        "/proc/cache",
    ] {
        let plugins = readable(folder.path())?;
        let listen = ["node", "--listen", "127.0.0.1:0", "--plugins", plugins];
        let flags = [&listen[..], &["--api", "", "--cache", cache]].concat();
        let config = file(&format!("cache = {cache:?}"))?;
        let config = path_of(&config)?;
        let with_file = [&listen[..], &["--api", "", "--config", config]].concat();
        let check = ["check", readable(&marker)?];
        let in_environment = [("JACKFIELD_CACHE", cache)];
        for output in [
            run_node_binary_in(&[], &flags).await?,
            run_node_binary_in(&[], &with_file).await?,
            run_node_binary_in(&in_environment, &listen).await?,
            run_node_binary_in(&in_environment, &check).await?,
        ] {
            is_refused(&output, cache);
            assert!(output.stderr.contains("--cache DIR"), "{}", output.stderr);
        }
    }
    Ok(())
}

#[tokio::test]
async fn check_does_without_the_default_one() -> Result<()> {
    let marker = component("marker-a")?;
    let script = format!("{UNNAMED}; export HOME=/dev/null");
    let output = run_node_binary_after(&script, &["check", readable(&marker)?]).await?;
    assert_eq!(output.code, 0, "{}", output.text());
    Ok(())
}

#[tokio::test]
async fn an_empty_name_is_none_and_no_warning() -> Result<()> {
    let folder = TempDir::new()?;
    let script = format!("export HOME={}", readable(folder.path())?);
    let node = node(&script).arguments(&["--cache", ""]).start().await?;
    serves(&node).await?;
    assert!(node.log().so_far(is_warning).is_empty());
    assert_eq!(fs::read_dir(folder.path())?.count(), 0);
    Ok(())
}

#[tokio::test]
async fn one_that_goes_or_becomes_a_file_holds_no_reload_back() -> Result<()> {
    let folder = TempDir::new()?;
    let cache = folder.path().join("cache");
    let node = node(":").arguments(&["--cache", readable(&cache)?]);
    let node = node.start().await?;
    one_is_kept(&cache).await?;

    // Removed file by file, it would get a new one meanwhile.
    fs::rename(&cache, folder.path().join("first"))?;
    node.folder().put("marker", "marker-b")?;
    node.generation_loaded("marker", 2).await?;
    // It was made again.
    one_is_kept(&cache).await?;

    fs::rename(&cache, folder.path().join("second"))?;
    fs::write(&cache, "")?;
    node.folder().put("marker", "marker-a")?;
    node.generation_loaded("marker", 3).await?;
    serves(&node).await
}

#[tokio::test]
async fn one_that_is_full_holds_nothing_back() -> Result<()> {
    let is_allowed = Command::new("unshare").args(["-rm", "true"]).status();
    if !is_allowed.is_ok_and(|status| status.success()) {
        eprintln!("skipped: a full disk takes a mount, which takes `unshare -rm`");
        return Ok(());
    }
    let folder = TempDir::new()?;
    let cache = readable(folder.path())?;
    let full =
        format!("mount -t tmpfs -o size=16k none {cache}; cat /dev/zero > {cache}/all 2>/dev/null");
    let script = format!("exec unshare -rm sh -c '{full}; exec \"$0\" \"$@\"' \"$0\" \"$@\"");
    let node = node(&script).arguments(&["--cache", cache]).start().await?;
    let is_full = |line: &LogLine| line.says("No space left on device");
    node.wait_for_log(is_full).await?;
    serves(&node).await?;
    node.folder().put("marker", "marker-b")?;
    node.generation_loaded("marker", 2).await?;
    serves(&node).await
}

#[tokio::test]
async fn what_is_damaged_in_it_is_compiled_again() -> Result<()> {
    let damage: [fn(&Path) -> Result<()>; 5] = [
        |entry| Ok(fs::write(entry, "")?),
        |entry| Ok(fs::write(entry, "no machine code")?),
        |entry| {
            let bytes = fs::read(entry)?;
            Ok(fs::write(entry, &bytes[..bytes.len() / 2])?)
        },
        |entry| {
            let bytes = fs::read(entry)?.len();
            Ok(fs::write(entry, vec![0; bytes])?)
        },
        |entry| {
            fs::remove_file(entry)?;
            Ok(fs::create_dir(entry)?)
        },
    ];
    let folder = TempDir::new()?;
    let cache = readable(folder.path())?;
    let start = || node(":").arguments(&["--cache", cache]).start();
    for damage in damage {
        let node = start().await?;
        let entry = one_is_kept(folder.path()).await?;
        assert!(node.stop().await?.status.success());
        damage(&entry)?;
        serves(&start().await?).await?;
    }
    Ok(())
}

#[tokio::test]
async fn several_nodes_may_share_one() -> Result<()> {
    let folder = TempDir::new()?;
    let cache = readable(folder.path())?;
    let start = || node(":").arguments(&["--cache", cache]).start();
    let (first, second, third) = tokio::try_join!(start(), start(), start())?;
    for node in [&first, &second, &third] {
        serves(node).await?;
    }
    Ok(())
}
