//! Compiling, bounded in time and memory: a component that takes too much of either ends with an
//! error that says so, and keeps no other plugin waiting.

use std::fs;

use anyhow::{Context as _, Result};
use jackfield_tests::sections::{COMPONENT_HEAD, functions_section};
use jackfield_tests::{DEADLINE, LogLine, Node, NodeBuilder, component, text, within};
use rustix::process::{Pid, Signal, kill_process};

/// So many functions take minutes to compile, and gigabytes.
const MANY: usize = 900_000;

/// A component whose only part is a core module of so many functions.
fn bomb(functions: usize) -> Vec<u8> {
    [&COMPONENT_HEAD[..], &functions_section(functions)].concat()
}

fn marker(limits: &str) -> NodeBuilder {
    Node::builder()
        .plugin_from("marker", "marker-a")
        .config(&format!("cache = ''\n[limits]\n{limits}"))
        .alone()
}

fn is_refused(line: &LogLine) -> bool {
    line.says("is not loaded")
}

async fn no_compiler(node: &Node) -> Result<()> {
    within("no process that compiles", async {
        while !node.compilers()?.is_empty() {
            tokio::task::yield_now().await;
        }
        anyhow::Ok(())
    })
    .await
}

async fn answers(node: &Node, expected: &str) -> Result<()> {
    let mut client = node.client("/marker").await?;
    client.say("hello").await?;
    assert_eq!(client.next().await?, text(expected));
    Ok(())
}

/// As in `host/src/guest/compiler.rs`.
const COMPILATIONS: usize = 4;

#[tokio::test]
async fn few_are_compiled_at_once_and_the_others_wait() -> Result<()> {
    let node = marker("compile_timeout = '1s'").start().await?;
    let names: Vec<_> = (0..COMPILATIONS + 2).map(|n| format!("bomb-{n}")).collect();
    let bomb = bomb(MANY / 9);
    for name in &names {
        node.folder().put_bytes(name, &bomb)?;
    }
    let mut most = 0;
    let refused = async {
        while node.log().so_far(is_refused).len() < names.len() {
            most = most.max(node.compilers()?.len());
            tokio::task::yield_now().await;
        }
        anyhow::Ok(())
    };
    // Each takes a second of a processor, and gets it after everything else on the machine.
    tokio::time::timeout(6 * DEADLINE, refused).await??;
    assert_eq!(most, COMPILATIONS);
    answers(&node, "a:1:hello").await
}

#[tokio::test]
async fn one_that_takes_too_long_is_not_loaded() -> Result<()> {
    let node = marker("compile_timeout = '1s'\ncompile_bytes = 8000000000")
        .start()
        .await?;
    node.folder().put_bytes("bomb", &bomb(MANY))?;
    let line = node.wait_for_log(is_refused).await?;
    assert!(
        line.says("takes more than 1s of processor time (limits.compile_timeout)"),
        "{line:?}"
    );
    assert_eq!(line.text("plugin"), "bomb");
    no_compiler(&node).await?;
    answers(&node, "a:1:hello").await
}

#[tokio::test]
async fn one_that_takes_too_much_memory_is_not_loaded() -> Result<()> {
    let node = marker("compile_bytes = 268435456").start().await?;
    let before = node.resident_bytes()?;
    node.folder().put_bytes("bomb", &bomb(MANY))?;
    let line = node.wait_for_log(is_refused).await?;
    assert!(
        line.says("takes more than 268435456 bytes of memory (limits.compile_bytes)"),
        "{line:?}"
    );
    let grown = node.resident_bytes()?.saturating_sub(before);
    assert!(grown < 150 << 20, "the node has grown by {grown} bytes");
    answers(&node, "a:1:hello").await
}

#[tokio::test]
async fn one_that_takes_long_keeps_no_other_waiting() -> Result<()> {
    let node = marker("compile_timeout = '1h'\ncompile_bytes = 2000000000");
    let node =
        node.change_folder(|folder| Ok(fs::write(folder.join("bomb.wasm"), bomb(MANY / 3))?));
    // At the start, too.
    let node = node.start().await?;
    let still = |line: &LogLine| line.says("plugins are still being loaded, the others are served");
    assert_eq!(node.wait_for_log(still).await?.text("plugins"), "bomb");
    let long = node.wait_for_compiler(&[]).await?;
    answers(&node, "a:1:hello").await?;
    assert_eq!(node.refusal("/bomb").await?.status, 503, "it may come");

    node.folder().put("marker", "marker-b")?;
    node.generation_loaded("marker", 2).await?;
    assert!(node.compilers()?.contains(&long), "it was ended");
    answers(&node, "b:2:hello").await?;

    // Newer files of the plugin end it.
    node.folder().put("bomb", "marker-a")?;
    node.generation_loaded("bomb", 1).await?;
    no_compiler(&node).await?;

    // So does the removal of the plugin.
    node.folder().put_bytes("bomb", &bomb(MANY / 3))?;
    node.wait_for_compiler(&[]).await?;
    node.folder().remove("bomb")?;
    no_compiler(&node).await
}

#[tokio::test]
async fn it_ends_with_its_node() -> Result<()> {
    for ends_at_once in [true, false] {
        let node = marker("compile_timeout = '1h'\ncompile_bytes = 2000000000")
            .start()
            .await?;
        node.folder().put_bytes("bomb", &bomb(MANY / 3))?;
        let long = node.wait_for_compiler(&[]).await?;
        match ends_at_once {
            true => node.kill().await?,
            false => assert!(node.stop().await?.status.success()),
        }
        within("the compiler's end", async {
            while is_running(long) {
                tokio::task::yield_now().await;
            }
            anyhow::Ok(())
        })
        .await?;
    }
    Ok(())
}

/// Whether a process runs. A process whose parent has not asked for its end counts as ended.
fn is_running(process: Pid) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", process.as_raw_nonzero()));
    status.is_ok_and(|status| !status.contains("State:\tZ"))
}

#[tokio::test]
async fn one_whose_compiler_was_killed_is_tried_again() -> Result<()> {
    let node = marker("compile_timeout = '1h'\ncompile_bytes = 2000000000")
        .start()
        .await?;
    node.folder().put_bytes("bomb", &bomb(MANY / 3))?;
    let first = node.wait_for_compiler(&[]).await?;
    kill_process(first, Signal::KILL)?;
    let line = node.wait_for_log(is_refused).await?;
    assert!(
        line.says("the compiler cannot be run: its process was killed"),
        "{line:?}"
    );
    node.wait_for_compiler(&[first]).await?;
    Ok(())
}

/// An error that is longer than a pipe takes must not keep the compiler waiting for its reader.
#[tokio::test]
async fn an_error_of_any_length_is_told_in_short() -> Result<()> {
    let node = marker("").start().await?;
    let name = "No-Name".repeat(14_000);
    let component = wat::parse_str(format!(r#"(component (import "{name}" (func)))"#));
    node.folder().put_bytes("long", &component?)?;
    let line = node.wait_for_log(is_refused).await?;
    assert!(line.says("No-NameNo-Name"), "{line:?}");
    assert!(line.message().len() < 10_000, "{}", line.message().len());
    no_compiler(&node).await?;
    answers(&node, "a:1:hello").await
}

/// What the engine's pool has no room for is wrong for good.
#[tokio::test]
async fn one_whose_tables_are_too_large_is_not_loaded() -> Result<()> {
    let node = marker("").start().await?;
    let component = wat::parse_str(
        "(component (core module $m (table 30000 funcref)) (core instance (instantiate $m)))",
    );
    node.folder().put_bytes("large", &component?)?;
    let line = node.wait_for_log(is_refused).await?;
    assert!(line.says("table") && line.says("30000"), "{line:?}");
    answers(&node, "a:1:hello").await
}

/// A process that is limited itself cannot give its children more.
#[tokio::test]
async fn limits_of_the_node_itself_hold_for_the_compiler() -> Result<()> {
    let script = "exec setpriv --bounding-set=-sys_resource --inh-caps=-sys_resource sh -c \
                  'ulimit -c 0; ulimit -t 100; exec \"$0\" \"$@\"' \"$0\" \"$@\"";
    let node = marker("").after_script(script).start().await?;
    answers(&node, "a:1:hello").await
}

#[tokio::test]
async fn the_smallest_limits_suffice_for_a_plugin() -> Result<()> {
    let node = marker("compile_timeout = '1s'\ncompile_bytes = 67108864")
        .start()
        .await?;
    answers(&node, "a:1:hello").await
}

#[tokio::test]
async fn functions_of_the_last_build_are_not_compiled_again() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let cache = folder.path().to_str().context("a readable path")?;
    let node = Node::builder()
        .plugin_from("marker", "marker-a")
        .arguments(&["--cache", cache])
        .alone()
        .start()
        .await?;
    let is_compiled = |line: &LogLine| line.says("component compiled");
    let first = node.wait_for_log(is_compiled).await?;
    assert_eq!(first.number("functions_reused"), Some(0));
    // A copy that has only begun takes nothing away.
    let whole = fs::read(component("marker-b")?)?;
    let begun = &whole[..whole.len() / 2];
    node.folder().put_bytes("marker", begun)?;
    node.wait_for_log(is_refused).await?;
    node.folder().put("marker", "marker-b")?;
    node.generation_loaded("marker", 2).await?;
    answers(&node, "b:2:hello").await?;
    let compiled = node.log().so_far(is_compiled);
    let reused = compiled[1].number("functions_reused");
    assert!(reused > Some(50), "{reused:?} functions of the last build");

    // A build that was there before is not compiled at all.
    node.folder().put("marker", "marker-a")?;
    node.generation_loaded("marker", 3).await?;
    assert_eq!(node.log().so_far(is_compiled).len(), 2);
    answers(&node, "a:3:hello").await
}
