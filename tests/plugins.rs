//! Plugins as files: bad ones change nothing that runs, and good ones take over while the
//! sockets stay open.
//!
//! A client that is connected throughout asks which generation answers it. That nothing was
//! reloaded is known by the number of the next generation that is.

use anyhow::{Context as _, Result};
use jackfield_tests::{
    Console, End, LogLine, Node, Output, PluginFolder, component, run_node_binary, text,
};
use serde_json::{Value, json};

#[tokio::test]
async fn an_empty_file_is_refused() -> Result<()> {
    is_refused(b"", "empty").await
}

#[tokio::test]
async fn a_file_that_is_not_webassembly_is_refused() -> Result<()> {
    is_refused(b"#!/bin/sh\necho hello\n", "not WebAssembly").await
}

#[tokio::test]
async fn a_core_module_is_refused_with_how_to_build_a_component() -> Result<()> {
    is_refused(
        &wat::parse_str("(module)")?,
        "cargo build --release --target wasm32-wasip2",
    )
    .await
}

#[tokio::test]
async fn a_component_of_another_world_is_refused() -> Result<()> {
    is_refused(
        &built("other-world")?,
        "does not export jackfield:plugin/handler@0.1.0",
    )
    .await
}

#[tokio::test]
async fn a_handler_of_another_shape_is_refused() -> Result<()> {
    let odd = "(component (instance $handler)
        (export \"jackfield:plugin/handler@0.1.0\" (instance $handler)))";
    is_refused(&wat::parse_str(odd)?, "does not fit wit/0.1").await
}

#[tokio::test]
async fn an_import_that_nobody_serves_is_named() -> Result<()> {
    is_refused(&built("wants-billing")?, "acme:billing/invoices@1.0.0").await
}

#[tokio::test]
async fn a_trap_in_on_start_is_told_with_the_guests_own_words() -> Result<()> {
    is_refused(&built("start-traps")?, "no configuration").await
}

#[tokio::test]
async fn a_refusal_in_on_start_is_told_with_its_reason() -> Result<()> {
    is_refused(&built("start-refuses")?, "the database is down").await
}

#[tokio::test]
async fn an_on_start_that_does_not_end_is_refused() -> Result<()> {
    is_refused(&built("start-spins")?, "event_timeout").await
}

#[tokio::test]
async fn a_name_that_fits_no_path_is_told_and_the_others_run() -> Result<()> {
    let node = Node::start("console").await?;
    node.folder().put("my console", "console")?;
    let line = node.wait_for_log(|line| line.says("is not loaded")).await?;
    assert!(
        line.says("\"my console\" is no plugin's name"),
        "{}",
        line.message()
    );
    assert_eq!(node.console(&[]).await?.generation(), 1);
    Ok(())
}

#[tokio::test]
async fn a_manifest_with_an_unknown_key_is_refused() -> Result<()> {
    let node = Node::start("console").await?;
    let mut ada = node.console(&[]).await?;
    let manifest = "[policies]\nuids = 'many'";
    node.folder().put_manifest("console", manifest)?;
    stays_as_it_was(&node, &mut ada, "uids").await?;

    let folder = PluginFolder::new()?;
    folder.put("console", "console")?;
    folder.put_manifest("console", manifest)?;
    let output = check(&[&folder.component("console")]).await?;
    assert_eq!(output.code, 1);
    assert!(output.stdout.contains("uids"), "{}", output.stdout);
    Ok(())
}

#[tokio::test]
async fn a_copy_that_stops_midway_loads_when_it_is_complete() -> Result<()> {
    let node = Node::builder()
        .plugin_from("marker", "marker-a")
        .start()
        .await?;
    let mut client = node.client("/marker").await?;
    let whole = built("marker-b")?;
    let (half, rest) = whole.split_at(whole.len() / 2);

    let mut copy = std::fs::File::create(node.folder().component("marker"))?;
    std::io::Write::write_all(&mut copy, half)?;
    let line = node.wait_for_log(|line| line.says("is not loaded")).await?;
    assert!(line.says("copied only in part"), "{}", line.message());
    client.say("1").await?;
    assert_eq!(client.next_text().await?, "a:1:1");

    std::io::Write::write_all(&mut copy, rest)?;
    node.generation_loaded("marker", 2).await?;
    client.say("2").await?;
    assert_eq!(client.next_text().await?, "b:2:2");
    Ok(())
}

#[tokio::test]
async fn a_node_starts_beside_a_bad_file_which_works_once_it_is_mended() -> Result<()> {
    let node = Node::builder()
        .plugin("console")
        .plugin_from("late", "start-traps")
        .start()
        .await?;
    let mut ada = node.console(&[]).await?;
    node.wait_for_log(|line| line.says("is not loaded") && line.text("plugin") == "late")
        .await?;
    assert_eq!(node.refusal("/late").await?.status, 503);

    node.folder().put("late", "console")?;
    node.generation_loaded("late", 1).await?;
    assert_eq!(node.console_named("late", &[]).await?.generation(), 1);
    assert_eq!(generation_of(&mut ada).await?, 1);
    Ok(())
}

#[tokio::test]
async fn check_lists_what_a_good_component_imports_and_exports() -> Result<()> {
    let output = check(&[&component("console")?]).await?;
    assert_eq!(output.code, 0, "{}", output.text());
    for line in [
        "exports jackfield:plugin/handler@0.1.0",
        "imports jackfield:plugin/send@0.1.0",
        "imports wasi:cli/stdout@0.2",
    ] {
        assert!(output.stdout.contains(line), "{line} in {}", output.stdout);
    }
    Ok(())
}

#[tokio::test]
async fn check_reports_every_file_and_fails_if_one_is_bad() -> Result<()> {
    let missing = PluginFolder::new()?.component("missing");
    let output = check(&[&component("start-traps")?, &component("echo")?, &missing]).await?;
    assert_eq!(output.code, 1);
    for words in [
        "no configuration",
        "echo.wasm",
        "missing.wasm",
        "cannot be read",
    ] {
        assert!(
            output.stdout.contains(words),
            "{words} in {}",
            output.text()
        );
    }
    Ok(())
}

#[tokio::test]
async fn check_does_not_read_what_is_larger_than_any_plugin() -> Result<()> {
    let folder = PluginFolder::new()?;
    let path = folder.component("large");
    std::fs::File::create(&path)?.set_len((256 << 20) + 1)?;
    let output = check(&[&path]).await?;
    assert_eq!(output.code, 1);
    assert!(output.stdout.contains("more than the"), "{}", output.text());
    Ok(())
}

#[tokio::test]
async fn a_new_build_takes_over_with_every_client_where_it_was() -> Result<()> {
    let node = Node::start("console").await?;
    let mut ada = node
        .console(&[("uid", "ada"), ("group", "g"), ("info.k", "v")])
        .await?;
    assert_eq!(generation_of(&mut ada).await?, 1);

    let reloaded = reload(&node, "console").await?;

    assert_eq!(generation_of(&mut ada).await?, reloaded);
    assert_eq!(
        ada.ok(json!({ "do": "get-uid-by-client-id" })).await?,
        "ada"
    );
    assert_eq!(
        ada.ok(json!({ "do": "get-info" })).await?,
        json!({ "k": "v" })
    );
    assert_eq!(
        ada.walk(json!({ "do": "get-all-groups" }), 10).await?,
        ["g"]
    );
    assert_eq!(node.console(&[]).await?.generation(), reloaded);
    Ok(())
}

#[tokio::test]
async fn a_change_of_the_manifest_alone_reloads() -> Result<()> {
    let node = Node::start("console").await?;
    let mut ada = node.console(&[("uid", "ada")]).await?;
    let mut bob = node.console(&[("uid", "ada")]).await?;

    node.folder()
        .put_manifest("console", "[policies]\nuid = 'reject-new'")?;
    node.generation_loaded("console", 2).await?;
    assert_eq!(node.refusal("/console?uid=ada").await?.status, 409);

    node.folder()
        .put_manifest("console", "[policies]\nuid = 'many'")?;
    node.generation_loaded("console", 3).await?;
    node.console(&[("uid", "ada")]).await?;
    for client in [&mut ada, &mut bob] {
        assert_eq!(generation_of(client).await?, 3);
    }
    Ok(())
}

#[tokio::test]
async fn the_same_bytes_again_are_no_reload() -> Result<()> {
    let node = Node::start("console").await?;
    node.folder().put("console", "console")?;
    // It has settled when a file that came after it has.
    node.folder().put("later", "echo")?;
    node.generation_loaded("later", 1).await?;
    assert_eq!(reload(&node, "console").await?, 2);
    Ok(())
}

#[tokio::test]
async fn a_removed_plugin_drains_its_clients_and_may_come_back() -> Result<()> {
    let node = Node::builder()
        .plugin("console")
        .plugin("echo")
        .start()
        .await?;
    let mut ada = node.console(&[]).await?;
    let mut echo = node.client("/echo").await?;

    node.folder().remove("console")?;
    assert_eq!(ada.end().await?, End::closed(1001, "the service has ended"));
    let refused = node.refusal("/console").await?.status;
    assert!([404, 503].contains(&refused), "{refused}");
    echo.say("still here").await?;
    assert_eq!(echo.next().await?, text("still here"));

    node.folder().put("console", "console")?;
    node.generation_loaded("console", 2).await?;
    let mut bob = node.console(&[]).await?;
    assert_eq!(generation_of(&mut bob).await?, 2);
    Ok(())
}

#[tokio::test]
async fn what_is_queued_goes_out_before_a_removed_plugins_clients_are_closed() -> Result<()> {
    let node = Node::start("console").await?;
    let mut ada = node.console(&[]).await?;
    for number in 0..50 {
        ada.start(json!({ "do": "send-to-client", "text": number.to_string() }))
            .await?;
    }
    node.folder().remove("console")?;

    let (heard, end) = ada.until_end().await?;
    let texts = (0..50).map(|number| text(&number.to_string()));
    for wanted in texts {
        assert!(heard.contains(&wanted), "{wanted:?}");
    }
    assert_eq!(end.code(), 1001);
    Ok(())
}

#[tokio::test]
async fn a_file_that_is_deleted_and_written_anew_drops_no_socket() -> Result<()> {
    let node = Node::builder()
        .plugin_from("marker", "marker-a")
        .start()
        .await?;
    let mut client = node.client("/marker").await?;

    node.folder().remove("marker")?;
    node.folder().put("marker", "marker-b")?;

    node.generation_loaded("marker", 2).await?;
    client.say("1").await?;
    assert_eq!(client.next_text().await?, "b:2:1");
    Ok(())
}

#[tokio::test]
async fn a_generation_stops_after_the_next_one_has_started() -> Result<()> {
    let node = Node::start("lifecycle").await?;
    let mut client = node.client("/lifecycle").await?;
    client.say("hello").await?;
    assert_eq!(client.next_text().await?, "started here");

    reload(&node, "lifecycle").await?;
    let said = |line: &LogLine| line.text("stream") == "log" && line.text("plugin") == "lifecycle";
    node.log().nth(3, said).await?;
    let stopped = node.stop().await?;

    let lines: Vec<_> = stopped
        .log
        .so_far(said)
        .iter()
        .map(|line| {
            (
                line.message().to_owned(),
                line.number("generation").unwrap_or_default(),
            )
        })
        .collect();
    let lines: Vec<_> = lines
        .iter()
        .map(|(said, generation)| (said.as_str(), *generation))
        .collect();
    assert_eq!(
        lines,
        [
            ("started", 1),
            ("started", 2),
            ("stopped", 1),
            ("stopped", 2)
        ]
    );
    Ok(())
}

#[tokio::test]
async fn an_event_under_way_ends_on_the_generation_it_began_on() -> Result<()> {
    let node = Node::start("console").await?;
    let mut ada = node.console(&[]).await?;
    // Asleep until after the reload.
    let nap = node.put_to_sleep(&mut ada, 3000).await?;
    let identify = ada.start(json!({ "do": "identify" })).await?;

    let reloaded = reload(&node, "console").await?;
    assert_eq!(
        node.console(&[]).await?.generation(),
        reloaded,
        "the others need not wait"
    );

    assert_eq!(ada.answer(nap).await?, json!({ "ok": null }));
    let identity = ada.answer(identify).await?;
    assert_eq!(
        identity["ok"]["generation"], reloaded,
        "its next event is the new one's"
    );
    assert_eq!(node.counters().await?.get("traps_retired")?, 0);
    Ok(())
}

#[tokio::test]
async fn an_event_that_outlasts_its_generation_is_cut() -> Result<()> {
    let node = Node::builder()
        .plugin("console")
        .config("[plugin]\nretire_timeout = '100ms'\nwait_timeout = '1h'")
        .start()
        .await?;
    let [mut ada, mut bob] = node.consoles().await?;
    node.put_to_sleep(&mut ada, 3_600_000).await?;

    reload(&node, "console").await?;

    assert_eq!(ada.end().await?.code(), 1011);
    assert_eq!(generation_of(&mut bob).await?, 2);
    let line = node
        .wait_for_log(|line| line.text("kind") == "retired")
        .await?;
    assert_eq!(line.number("generation"), Some(1));
    assert_eq!(node.counters().await?.get("traps_retired")?, 1);
    Ok(())
}

#[tokio::test]
async fn a_generation_whose_event_was_cut_still_runs_its_on_stop() -> Result<()> {
    let node = Node::builder()
        .plugin("lifecycle")
        .config("[plugin]\nretire_timeout = '100ms'\nwait_timeout = '1h'")
        .start()
        .await?;
    let mut client = node.client("/lifecycle").await?;
    client.say("sleep").await?;
    node.wait_for_log(|line| line.message() == "asleep").await?;

    reload(&node, "lifecycle").await?;

    assert_eq!(client.end().await?.code(), 1011);
    let stopped =
        |line: &LogLine| line.message() == "stopped" && line.number("generation") == Some(1);
    node.wait_for_log(stopped).await?;
    assert_eq!(node.counters().await?.get("traps_retired")?, 1);
    Ok(())
}

#[tokio::test]
async fn other_files_in_the_folder_are_nobodys_business() -> Result<()> {
    let node = Node::start("console").await?;
    for name in ["notes.txt", ".hidden.wasm", "upload.wasm.part", "lone.toml"] {
        std::fs::write(node.folder().path().join(name), "not WebAssembly")?;
    }
    reload(&node, "console").await?;
    let errors = node.log().so_far(|line| line.level() == "ERROR");
    assert!(errors.is_empty(), "{errors:?}");
    Ok(())
}

/// That a node which runs the plugin goes on with it when its file becomes this, and says
/// why, once; and that `jackfield check` says the same.
async fn is_refused(bytes: &[u8], why: &str) -> Result<()> {
    let node = Node::start("console").await?;
    let mut ada = node.console(&[]).await?;
    node.folder().put_bytes("console", bytes)?;
    stays_as_it_was(&node, &mut ada, why).await?;

    let folder = PluginFolder::new()?;
    folder.put_bytes("bad", bytes)?;
    let output = check(&[&folder.component("bad")]).await?;
    assert_eq!(output.code, 1);
    assert!(output.stdout.contains(why), "{why:?} in {}", output.text());
    Ok(())
}

/// Waits for the one line that says why the plugin `console` is not loaded.
async fn stays_as_it_was(node: &Node, client: &mut Console, why: &str) -> Result<()> {
    let is_refusal = |line: &LogLine| line.says("is not loaded");
    let line = node.wait_for_log(is_refusal).await?;
    assert_eq!((line.level(), line.text("plugin")), ("ERROR", "console"));
    assert!(line.says(why), "{why:?} in {:?}", line.message());

    assert_eq!(generation_of(client).await?, 1);
    assert_eq!(node.console(&[]).await?.generation(), 1);
    assert_eq!(node.counters().await?.get("loads_failed")?, 1);

    // Once mended it is the second generation, and nothing was said again meanwhile.
    node.folder().put("console", "console")?;
    assert_eq!(reload(node, "console").await?, 2);
    assert_eq!(generation_of(client).await?, 2);
    assert_eq!(node.log().so_far(is_refusal).len(), 1);
    Ok(())
}

/// Reloads a plugin by a manifest that it did not have, and answers its new generation.
async fn reload(node: &Node, plugin: &str) -> Result<u64> {
    let is_load =
        |line: &LogLine| line.message() == "plugin loaded" && line.text("plugin") == plugin;
    let loads = node.log().so_far(is_load).len();
    node.folder()
        .put_manifest(plugin, "# a change that changes nothing else\n")?;
    let line = node.log().nth(loads + 1, is_load).await?;
    line.number("generation")
        .context("a generation has a number")
}

async fn generation_of(client: &mut Console) -> Result<u64> {
    let identity: Value = client.ok(json!({ "do": "generation" })).await?;
    identity["generation"]
        .as_u64()
        .context("a generation is a number")
}

async fn check(files: &[&std::path::Path]) -> Result<Output> {
    let files = files
        .iter()
        .map(|path| path.to_str().context("a readable path"));
    let arguments: Vec<_> = std::iter::once(Ok("check"))
        .chain(files)
        .collect::<Result<_>>()?;
    run_node_binary(&arguments).await
}

fn built(name: &str) -> Result<Vec<u8>> {
    Ok(std::fs::read(component(name)?)?)
}
