//! `wasi:config`: what a manifest gives its plugin to read.

use anyhow::Result;
use jackfield_tests::{Client, Node, component, run_node_binary};

const SECRET: &str = "s3cret-of-the-test";

#[tokio::test]
async fn text_and_files_are_read() -> Result<()> {
    let node = Node::builder()
        .alone()
        .plugin("settings")
        .file("api.key", &format!("{SECRET}\n"))
        .manifest(
            "settings",
            "[config]\ngreeting = 'hello'\nkey = { file = 'api.key' }",
        )
        .start()
        .await?;
    let mut client = node.client("/settings").await?;
    assert_eq!(ask(&mut client, "greeting").await?, "1: Some(\"hello\")");
    assert_eq!(ask(&mut client, "farewell").await?, "1: None");
    let all = format!("1: {{\"greeting\": \"hello\", \"key\": \"{SECRET}\"}}");
    assert_eq!(ask(&mut client, "*").await?, all);
    Ok(())
}

#[tokio::test]
async fn without_any_there_are_none() -> Result<()> {
    let node = Node::start_alone("settings").await?;
    let mut client = node.client("/settings").await?;
    assert_eq!(ask(&mut client, "greeting").await?, "1: None");
    assert_eq!(ask(&mut client, "*").await?, "1: {}");
    Ok(())
}

#[tokio::test]
async fn a_change_of_a_setting_or_of_its_file_is_a_reload() -> Result<()> {
    let manifest = |greeting: &str| format!("[config]\na = '{greeting}'\nb = {{ file = 'b' }}");
    let node = Node::builder()
        .alone()
        .plugin("settings")
        .file("b", "1")
        .manifest("settings", &manifest("one"))
        .start()
        .await?;
    let mut client = node.client("/settings").await?;
    node.folder().put_manifest("settings", &manifest("two"))?;
    node.generation_loaded("settings", 2).await?;
    assert_eq!(ask(&mut client, "a").await?, "2: Some(\"two\")");

    // The same manifest again has its files read again.
    node.folder().put_file("b", b"2")?;
    node.folder().put_manifest("settings", &manifest("two"))?;
    node.generation_loaded("settings", 3).await?;
    assert_eq!(ask(&mut client, "b").await?, "3: Some(\"2\")");
    Ok(())
}

#[tokio::test]
async fn a_secret_is_nowhere_in_the_log() -> Result<()> {
    let manifest = "[config]\nkey = { file = 'api.key' }\nport = 5";
    let node = Node::builder()
        .alone()
        .plugin("settings")
        .file("api.key", SECRET)
        .manifest("settings", manifest)
        .arguments(&["--log", "jackfield=trace"])
        .start()
        .await?;
    let line = node.wait_for_log(|line| line.says("is not loaded")).await?;
    assert!(line.says("write it in quotes"), "{}", line.message());
    let good = manifest.replace("5", "'5'");
    node.folder().put_manifest("settings", &good)?;
    node.generation_loaded("settings", 1).await?;
    let mut client = node.client("/settings").await?;
    assert_eq!(ask(&mut client, "port").await?, "1: Some(\"5\")");
    let stopped = node.stop().await?;
    let all = stopped.log.so_far(|_| true);
    assert!(all.len() > 2);
    for line in all {
        assert!(!line.fields().to_string().contains(SECRET), "{line:?}");
    }
    Ok(())
}

#[tokio::test]
async fn who_does_not_ask_does_not_import_it() -> Result<()> {
    for (name, imports) in [("echo", false), ("settings", true)] {
        let path = component(name)?;
        let shown = run_node_binary(&["check", &path.to_string_lossy()]).await?;
        assert_eq!(
            shown
                .stdout
                .contains("imports wasi:config/store@0.2.0-rc.1"),
            imports,
            "{}",
            shown.stdout
        );
    }
    Ok(())
}

async fn ask(client: &mut Client, name: &str) -> Result<String> {
    client.say(name).await?;
    client.next_text().await
}
