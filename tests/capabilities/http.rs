//! `wasi:http`: the hosts that a manifest allows, and no others, within limits.

use anyhow::Result;
use jackfield_tests::{Client, LogLine, Node, NodeBuilder, run_node_binary, within};

use crate::web::Web;

#[tokio::test]
async fn an_allowed_host_is_asked_and_answers() -> Result<()> {
    let web = Web::start().await?;
    let origin = web.origin();
    let node = fetcher(&[&origin], "").start().await?;
    let mut ada = node.client("/fetcher").await?;
    let host = origin.trim_start_matches("http://").to_owned();
    for (command, answer) in [
        (
            format!("GET {origin}/echo?a=b&c"),
            format!("200 GET /echo?a=b&c HTTP/1.1; host: {host}; 0 bytes"),
        ),
        (
            format!("post-bytes 100000 {origin}/echo"),
            format!("200 POST /echo HTTP/1.1; host: {host}; 100000 bytes"),
        ),
        (
            format!("PURGE {origin}/echo"),
            format!("200 PURGE /echo HTTP/1.1; host: {host}; 0 bytes"),
        ),
        (format!("GET {origin}/nothing"), "404 ".to_owned()),
        (format!("GET {origin}"), "404 ".to_owned()),
        (
            format!("size {origin}/bytes?300000"),
            "200 300000".to_owned(),
        ),
    ] {
        assert_eq!(ask(&mut ada, &command).await?, answer, "{command}");
    }
    let counters = node.counters().await?;
    assert_eq!(counters.get("http_requests")?, 6);
    assert_eq!(
        counters.get("http_denied")? + counters.get("http_failed")?,
        0
    );
    Ok(())
}

#[tokio::test]
async fn what_is_not_allowed_is_denied_and_nobody_is_asked() -> Result<()> {
    let (web, other) = (Web::start().await?, Web::start().await?);
    let node = fetcher(&[&web.origin()], "").start().await?;
    let mut ada = node.client("/fetcher").await?;
    let denied = [
        other.origin(),
        format!("http://localhost:{}", web.port()),
        format!("https://127.0.0.1:{}", web.port()),
        format!("http://127.0.0.2:{}", web.port()),
        "http://127.0.0.1".to_owned(),
        "https://example.com".to_owned(),
    ];
    for origin in &denied {
        let said = ask(&mut ada, &format!("GET {origin}/echo")).await?;
        let words =
            format!("{origin} is not allowed: write \"{origin}\" under http.allow in fetcher.toml");
        assert!(said.contains(&words), "{said}");
    }
    for (command, words) in [
        (format!("CONNECT {}/", web.origin()), "MethodInvalid"),
        (
            format!("GET http://user@127.0.0.1:{}/", web.port()),
            "UriInvalid",
        ),
        (
            format!("header host other.example {}/echo", web.origin()),
            "a header is wrong",
        ),
        ("GET ftp://127.0.0.1/".to_owned(), "is no URL"),
    ] {
        let said = ask(&mut ada, &command).await?;
        assert!(
            said.starts_with("error: ") && said.contains(words),
            "{said}"
        );
    }
    // The last one that is asked for is the first that is heard of.
    ask(&mut ada, &format!("GET {}/echo", web.origin())).await?;
    assert_eq!(web.asked(), ["GET /echo HTTP/1.1"]);
    assert_eq!(other.asked(), [""; 0]);
    let counters = node.counters().await?;
    assert_eq!(counters.get("http_denied")?, denied.len() as u64);
    // Said once for each generation.
    let is_denied = |line: &LogLine| line.says("a request is denied: http.allow");
    let lines = node.log().so_far(is_denied);
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0].text("target"), denied[0]);
    Ok(())
}

#[tokio::test]
async fn a_redirect_off_the_list_is_denied_when_it_is_followed() -> Result<()> {
    let (web, other) = (Web::start().await?, Web::start().await?);
    let node = fetcher(&[&web.origin()], "").start().await?;
    let mut ada = node.client("/fetcher").await?;
    let (within, off) = (
        format!("{}/to?{}/echo", web.origin(), web.origin()),
        format!("{}/to?{}/echo", web.origin(), other.origin()),
    );
    assert_eq!(ask(&mut ada, &format!("GET {off}")).await?, "302 ");
    let said = ask(&mut ada, &format!("follow {off}")).await?;
    assert!(
        said.contains("http.allow") && said.contains(&other.origin()),
        "{said}"
    );
    let said = ask(&mut ada, &format!("follow {within}")).await?;
    assert!(said.starts_with("200 GET /echo"), "{said}");
    assert_eq!(other.asked(), [""; 0]);
    Ok(())
}

#[tokio::test]
async fn a_server_that_is_slow_broken_or_gone_is_an_error_soon() -> Result<()> {
    let web = Web::start().await?;
    let origin = web.origin();
    let gone = Web::start().await?.origin();
    let node = fetcher(&[&origin, &gone], "http_timeout = '300ms'")
        .plugin("echo")
        .start()
        .await?;
    let mut ada = node.client("/fetcher").await?;
    let mut bob = node.client("/echo").await?;
    ada.say(format!("GET {origin}/silent")).await?;
    // Others are served while it waits.
    for number in 0..100 {
        bob.say(number.to_string()).await?;
        assert_eq!(bob.next_text().await?, number.to_string());
    }
    let said = ada.next_text().await?;
    assert!(said.contains("ResponseTimeout"), "{said}");
    let failing = [
        ("drip", "response timeout"),
        ("hang-up", "ConnectionTerminated"),
        ("no-http", "the answer is no HTTP"),
        ("endless-head", "error: "),
    ];
    for (path, words) in failing {
        let said = ask(&mut ada, &format!("GET {origin}/{path}")).await?;
        assert!(
            said.starts_with("error: ") && said.contains(words),
            "{path}: {said}"
        );
    }
    let said = ask(&mut ada, &format!("GET {gone}/")).await?;
    assert!(said.contains("ConnectionRefused"), "{said}");
    let said = ask(&mut ada, &format!("GET {origin}/echo")).await?;
    assert!(said.starts_with("200 "), "{said}");
    Ok(())
}

#[tokio::test]
async fn requests_and_answers_have_a_size() -> Result<()> {
    let web = Web::start().await?;
    let origin = web.origin();
    let limits = "http_request_bytes = 1000\nhttp_response_bytes = 2000";
    let node = fetcher(&[&origin], limits).start().await?;
    let mut ada = node.client("/fetcher").await?;
    let said = ask(&mut ada, &format!("post-bytes 1000 {origin}/echo")).await?;
    assert!(said.contains("1000 bytes"), "{said}");
    let said = ask(&mut ada, &format!("size {origin}/bytes?2000")).await?;
    assert_eq!(said, "200 2000");
    for (command, words) in [
        (
            format!("post-bytes 1001 {origin}/echo"),
            "RequestBodySize(Some(1000))",
        ),
        (
            format!("post-bytes 100000 {origin}/echo"),
            "RequestBodySize(Some(1000))",
        ),
        (
            format!("size {origin}/bytes?2001"),
            "ResponseBodySize(Some(2000))",
        ),
        (
            format!("size {origin}/endless"),
            "body size exceeds limit: 2000 bytes",
        ),
    ] {
        let said = ask(&mut ada, &command).await?;
        assert!(
            said.starts_with("error: ") && said.contains(words),
            "{command}: {said}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn headers_have_a_size() -> Result<()> {
    let web = Web::start().await?;
    let origin = web.origin();
    let node = fetcher(&[&origin], "").start().await?;
    let (mut ada, mut bob) = (
        node.client("/fetcher").await?,
        node.client("/fetcher").await?,
    );
    let header = |bytes: usize| format!("header x {} {origin}/echo", "y".repeat(bytes));
    assert!(ask(&mut ada, &header(15 << 10)).await?.starts_with("200 "));
    ada.say(header(16 << 10)).await?;
    assert_eq!(ada.end().await?.code(), 1011);
    assert_eq!(node.counters().await?.get("traps_other")?, 1);
    assert!(ask(&mut bob, &header(1)).await?.starts_with("200 "));
    assert_eq!(web.asked().len(), 2);
    Ok(())
}

#[tokio::test]
async fn so_many_are_under_way_at_once() -> Result<()> {
    let web = Web::start().await?;
    let limits = "http_requests = 2\nhttp_timeout = '5s'\nwait_timeout = '1h'";
    let node = fetcher(&[&web.origin()], limits);
    let refused = "2 requests are under way already (http_requests)";
    is_full_after(2, node, &web, refused).await
}

/// A request is two open files, and of 256 those of plugins are 16.
#[tokio::test]
async fn a_process_of_few_files_has_fewer_under_way() -> Result<()> {
    let web = Web::start().await?;
    let limits = "http_timeout = '5s'\nwait_timeout = '1h'";
    let node = fetcher(&[&web.origin()], limits).alone();
    let node = node.after_script("ulimit -n 256");
    is_full_after(8, node, &web, "no open files left for requests").await
}

async fn is_full_after(most: usize, node: NodeBuilder, web: &Web, refused: &str) -> Result<()> {
    let (node, origin) = (node.start().await?, web.origin());
    let mut ada = node.client("/fetcher").await?;
    let mut waiting = Vec::new();
    for _ in 0..most {
        let mut client = node.client("/fetcher").await?;
        client.say(format!("GET {origin}/silent")).await?;
        waiting.push(client);
    }
    let all = async {
        while web.asked().len() < most {
            tokio::task::yield_now().await;
        }
        anyhow::Ok(())
    };
    within("the requests", all).await?;
    let said = ask(&mut ada, &format!("GET {origin}/echo")).await?;
    assert!(said.contains(refused), "{said}");
    // Those that have ended make room.
    for client in &mut waiting {
        let said = client.next_text().await?;
        assert!(said.contains("ResponseTimeout"), "{said}");
    }
    let said = ask(&mut ada, &format!("GET {origin}/echo")).await?;
    assert!(said.starts_with("200 "), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_name_may_not_lead_to_this_machine_unless_that_is_written() -> Result<()> {
    let web = Web::start().await?;
    let port = web.port();
    // `localhost` is meant where it is written; a name below it leads to loopback as well.
    let name = format!("http://jackfield.localhost:{port}");
    let localhost = format!("http://localhost:{port}");
    let node = fetcher(&[&localhost, &format!("http://*.localhost:{port}")], "")
        .start()
        .await?;
    let mut ada = node.client("/fetcher").await?;
    let said = ask(&mut ada, &format!("GET {localhost}/echo")).await?;
    assert!(said.starts_with("200 "), "{said}");
    let said = ask(&mut ada, &format!("GET {name}/echo")).await?;
    // Where the resolver does not know the name at all, that is as good.
    assert!(
        said.contains("http.allow_private") || said.contains("DnsError"),
        "{said}"
    );
    assert_eq!(web.asked().len(), 1);
    Ok(())
}

#[tokio::test]
async fn tls_trusts_whom_browsers_do_and_whom_the_operator_names() -> Result<()> {
    let web = Web::start_with_tls().await?;
    let origin = format!("https://localhost:{}", web.port());
    let stranger = fetcher(&[&origin], "").start().await?;
    let mut ada = stranger.client("/fetcher").await?;
    let said = ask(&mut ada, &format!("GET {origin}/echo")).await?;
    assert!(
        said.contains("TLS with") && said.contains("certificate"),
        "{said}"
    );

    let folder = tempfile::tempdir()?;
    let file = folder.path().join("authorities.pem");
    std::fs::write(&file, &web.certificate)?;
    let set = format!("http.authorities={}", file.display());
    let node = fetcher(&[&origin], "")
        .arguments(&["--set", &set])
        .start()
        .await?;
    let mut ada = node.client("/fetcher").await?;
    let said = ask(&mut ada, &format!("GET {origin}/echo")).await?;
    assert!(said.starts_with("200 GET /echo"), "{said}");
    // For the name that it is for.
    let other = format!("https://127.0.0.1:{}", web.port());
    node.folder()
        .put_manifest("fetcher", &manifest(&[&other], ""))?;
    node.generation_loaded("fetcher", 2).await?;
    let said = ask(&mut ada, &format!("GET {other}/echo")).await?;
    assert!(said.contains("TLS with"), "{said}");
    assert_eq!(web.asked().len(), 1);
    Ok(())
}

#[tokio::test]
async fn what_is_not_granted_does_not_load_and_the_key_is_named() -> Result<()> {
    let node = Node::builder().alone().plugin("fetcher").start().await?;
    let refused = |line: &LogLine| line.says("is not loaded");
    let line = node.wait_for_log(refused).await?;
    for words in ["wasi:http/", "[http] with allow = ["] {
        assert!(line.says(words), "{}", line.message());
    }
    let component = node.folder().component("fetcher");
    let output = run_node_binary(&["check", &component.to_string_lossy()]).await?;
    assert_eq!(output.code, 1);
    assert!(
        output.stdout.contains("[http] with allow"),
        "{}",
        output.stdout
    );

    // For toolchains that import it always: it loads, and is denied.
    node.folder().put_manifest("fetcher", "[http]")?;
    node.generation_loaded("fetcher", 1).await?;
    let mut ada = node.client("/fetcher").await?;
    let said = ask(&mut ada, "GET http://127.0.0.1:1/").await?;
    assert!(said.contains("under http.allow in fetcher.toml"), "{said}");
    Ok(())
}

fn fetcher(allow: &[&str], limits: &str) -> NodeBuilder {
    Node::builder()
        .alone()
        .plugin("fetcher")
        .manifest("fetcher", &manifest(allow, limits))
}

fn manifest(allow: &[&str], limits: &str) -> String {
    format!("[http]\nallow = {allow:?}\n[limits]\n{limits}")
}

async fn ask(client: &mut Client, command: &str) -> Result<String> {
    client.say(command).await?;
    client.next_text().await
}
