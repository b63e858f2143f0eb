//! What is read at the clients' port without a WebSocket: pages, and the list of them; and what
//! of all this a proxy passes on.

use std::net::IpAddr;

use anyhow::Result;
use jackfield_tests::{
    Client, Console, LogLine, Nginx, Node, NodeBuilder, Raw, Response, count, within,
};
use serde_json::json;

/// Puts a page beside a plugin.
fn put_page(node: &Node, plugin: &str) -> Result<()> {
    let folder = node.folder().path().join(plugin);
    std::fs::create_dir(&folder)?;
    Ok(std::fs::write(folder.join("index.html"), plugin)?)
}

async fn ask(node: &Node, method: &str, path: &str) -> Result<Response> {
    ask_at(node.raw().await?, method, path).await
}

async fn ask_at(mut raw: Raw, method: &str, path: &str) -> Result<Response> {
    let request = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    raw.write(request.as_bytes()).await?;
    match method {
        // Its length is that of the body that it does not have.
        "HEAD" => {
            let head = String::from_utf8(raw.rest().await?)?;
            assert!(head.ends_with("\r\n\r\n"), "a body: {head}");
            let mut lines = head.lines();
            let status = lines.next().and_then(|line| line.get(9..12));
            let headers = lines.filter_map(|line| line.split_once(": "));
            Ok(Response {
                status: status.unwrap_or_default().parse()?,
                headers: headers.map(|(n, v)| (n.to_owned(), v.to_owned())).collect(),
                body: String::new(),
            })
        }
        _ => raw.response().await,
    }
}

fn plugins(names: &[&str]) -> NodeBuilder {
    let start = Node::builder().alone();
    names
        .iter()
        .fold(start, |node, name| node.plugin_from(name, "console"))
}

#[tokio::test]
async fn the_root_lists_the_pages_that_there_are_now() -> Result<()> {
    let node = plugins(&["b-2", "A_1", "none"]).start().await?;
    assert_eq!(ask(&node, "GET", "/").await?.status, 404);
    // None of a plugin, none that can be opened, and none at all.
    put_page(&node, "stray")?;
    std::fs::create_dir(node.folder().path().join("none"))?;
    assert_eq!(ask(&node, "GET", "/").await?.status, 404);
    put_page(&node, "b-2")?;
    put_page(&node, "A_1")?;
    for path in ["/", "/?a=b"] {
        let list = ask(&node, "GET", path).await?;
        assert_eq!(list.status, 200);
        let links = list.body.split("href=\"/").skip(1);
        let links: Vec<_> = links.filter_map(|link| link.split('"').next()).collect();
        assert_eq!(links, ["A_1/", "b-2/"], "{path}");
    }
    let head = ask(&node, "HEAD", "/").await?;
    let mut got = ask(&node, "GET", "/").await?;
    for response in [&head, &got] {
        assert_eq!(response.headers["content-type"], "text/html; charset=utf-8");
        assert_eq!(response.headers["cache-control"], "no-cache");
        assert_eq!(response.headers["x-content-type-options"], "nosniff");
        let policy = &response.headers["content-security-policy"];
        assert!(policy.starts_with("default-src 'none'; "), "{policy}");
    }
    got.headers.remove("date");
    let length = got.body.len().to_string();
    assert_eq!(head.headers["content-length"], length);
    for path in ["/", "/A_1/"] {
        let posted = ask(&node, "POST", path).await?;
        assert_eq!(posted.status, 405, "{path}");
        assert_eq!(posted.headers["allow"], "GET,HEAD");
    }
    // A page goes with its plugin.
    node.folder().remove("A_1")?;
    let gone = async {
        while ask(&node, "GET", "/").await?.body.contains("A_1") {}
        anyhow::Ok(())
    };
    within("the page to leave the list", gone).await?;
    // Two plugins are left, so `/` is neither's.
    let list = ask(&node, "GET", "/").await?;
    assert!(list.body.contains("/b-2/"), "{}", list.body);
    Ok(())
}

#[tokio::test]
async fn only_what_is_in_the_folder_and_not_hidden_is_a_page() -> Result<()> {
    let node = plugins(&["chat"]).start().await?;
    put_page(&node, "chat")?;
    let folder = node.folder().path().join("chat");
    std::fs::create_dir_all(folder.join("sub/.git"))?;
    for file in ["a b.txt", "sub/.env", "sub/.git/config", "sub/100%.txt"] {
        std::fs::write(folder.join(file), file)?;
    }
    std::fs::write(node.folder().path().join("chat.toml"), "# secret")?;
    for (link, to) in [
        ("inside", "a b.txt"),
        ("outside", "../chat.toml"),
        ("away", "/etc"),
        ("sub/index.html", "/etc/hostname"),
    ] {
        std::os::unix::fs::symlink(to, folder.join(link))?;
    }
    for (path, status) in [
        ("a%20b.txt", 200),
        ("sub%2f100%25.txt", 200),
        ("inside", 200),
        ("", 200),
        ("sub/.env", 404),
        ("sub%2f.env", 404),
        ("sub%2F%2Eenv", 404),
        ("%2e%2e/chat.toml", 404),
        ("..%2fchat.toml", 404),
        ("sub%2f.git/config", 404),
        ("sub%252f.env", 404),
        ("outside", 404),
        ("away/hostname", 404),
        ("sub/", 404),
        ("a%00", 404),
        ("%ff", 404),
        ("nothing", 404),
    ] {
        let got = ask(&node, "GET", &format!("/chat/{path}")).await?;
        assert_eq!(got.status, status, "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn the_root_leads_to_the_page_of_its_plugin() -> Result<()> {
    let only = plugins(&["only"]).start().await?;
    put_page(&only, "only")?;
    let default = plugins(&["default", "other"]).start().await?;
    put_page(&default, "default")?;
    put_page(&default, "other")?;
    let routed = plugins(&["routed", "other"]);
    let routed = routed.manifest("routed", "routes = ['/']").start().await?;
    put_page(&routed, "routed")?;
    for (node, page) in [(&only, "only"), (&default, "default"), (&routed, "routed")] {
        for method in ["GET", "HEAD"] {
            let led = ask(node, method, "/").await?;
            // Another plugin may have it tomorrow: no browser may remember this.
            assert_eq!(led.status, 307, "{page}: {led:?}");
            assert_eq!(led.headers["location"], format!("/{page}/"));
        }
        assert_eq!(ask(node, "GET", &format!("/{page}/")).await?.body, page);
    }
    Ok(())
}

#[tokio::test]
async fn the_root_stays_a_websocket() -> Result<()> {
    let node = plugins(&["default", "other"]).start().await?;
    let refused = ask(&node, "GET", "/").await?;
    assert_eq!(
        (refused.status, refused.headers["upgrade"].as_str()),
        (426, "websocket")
    );
    // The plugin at `/` has no page: those of the others are listed.
    put_page(&node, "other")?;
    let list = ask(&node, "GET", "/").await?;
    assert!(list.body.contains("href=\"/other/\""), "{list:?}");
    Console::greet(node.client("/").await?).await.map(drop)
}

/// nginx as `docs/operator.md` sets it up: sockets, pages and their list.
#[tokio::test]
async fn a_proxy_passes_on_sockets_and_pages() -> Result<()> {
    let node = plugins(&["console", "other"]).start().await?;
    put_page(&node, "other")?;
    let page = include_str!("../../docs/operator.md");
    let replaced = [("127.0.0.1:8080", node.address())];
    let nginx = Nginx::start_as_documented(page, "proxy_set_header Upgrade", &replaced).await?;
    let client = Client::connect(nginx.address(), "/console", &[]).await?;
    let mut ada = Console::greet(client).await?;
    let clients = json!({ "do": "get-all-client-count" });
    assert_eq!(ada.ok(clients).await?, count(1));
    for (path, shown) in [("/", "href=\"/other/\""), ("/other/", "other")] {
        let raw = Raw::connect(nginx.address()).await?;
        let read = ask_at(raw, "GET", path).await?;
        assert!(read.body.contains(shown), "{path}: {read:?}");
    }
    Ok(())
}

/// Far more than a connection's buffers take.
const LARGE: usize = 20 << 20;

/// Readers of a large page that read nothing, all of one address.
#[tokio::test]
async fn readers_that_do_not_read_hold_little_and_keep_nobody_else_out() -> Result<()> {
    let node = Node::builder().alone().plugin("echo");
    // What is cut here is cut for others, and not for its time.
    let node = node.config("[limits]\nhandshake_timeout = '10m'");
    let node = node.start().await?;
    put_page(&node, "echo")?;
    std::fs::write(node.folder().path().join("echo/large"), vec![7; LARGE])?;
    let mut well = node.client("/echo").await?;
    let (before, files) = (node.resident_bytes()?, node.open_files()?);
    let request = "GET /echo/large HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let flooder = IpAddr::from([127, 0, 0, 2]);
    let mut deaf = Vec::new();
    for _ in 0..40 {
        for _ in 0..100 {
            let mut raw = Raw::connect_from(flooder, node.address()).await?;
            raw.write(request.as_bytes()).await?;
            deaf.push(raw);
        }
        assert_eq!(ask(&node, "GET", "/echo/").await?.body, "echo");
        let mut newcomer = node.client("/echo").await?;
        for client in [&mut newcomer, &mut well] {
            client.say("here").await?;
            assert_eq!(client.next_text().await?, "here");
        }
    }
    let grown = node.resident_bytes()?.saturating_sub(before);
    let opened = node.open_files()?.saturating_sub(files);
    eprintln!("measured: 4,000 readers that do not read: {grown} bytes, {opened} files");
    assert!(grown < 150 << 20, "the node has grown by {grown} bytes");
    // A quarter of `handshakes`, with a connection and a page each.
    assert!(opened <= 2 * 4096 / 4 + 100, "{opened} files");
    let limited = node.counters().await?.get("handshakes_limited")?;
    assert!(limited >= 2_900, "{limited} were refused or cut");
    drop(deaf);
    within("the memory to go back", async {
        while node.resident_bytes()? > before + (24 << 20) {
            tokio::task::yield_now().await;
        }
        anyhow::Ok(())
    })
    .await
}

#[tokio::test]
async fn whoever_reads_a_page_slowly_gives_way_to_another_address() -> Result<()> {
    let node = Node::builder().alone().plugin("echo");
    // Two pages at a time.
    let node = node.config("[limits]\nhandshakes = 8").start().await?;
    put_page(&node, "echo")?;
    std::fs::write(node.folder().path().join("echo/large"), vec![7; LARGE])?;
    let request = "GET /echo/large HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let flooder = IpAddr::from([127, 0, 0, 2]);
    let mut deaf = Vec::new();
    for _ in 0..2 {
        let mut raw = Raw::connect_from(flooder, node.address()).await?;
        raw.write(request.as_bytes()).await?;
        // Its answer has begun.
        assert_eq!(raw.bytes(12).await?, b"HTTP/1.1 200");
        deaf.push(raw);
    }
    let third = Raw::connect_from(flooder, node.address()).await?;
    assert_eq!(ask_at(third, "GET", "/echo/").await?.status, 503);
    assert_eq!(ask(&node, "GET", "/echo/").await?.body, "echo");
    // The older one was cut in the middle.
    let cut = deaf.remove(0).rest().await?;
    assert!(cut.len() < LARGE, "all of it came");
    let line = |line: &LogLine| line.says("requests are refused or cut");
    assert_eq!(node.log().so_far(line).len(), 1);
    Ok(())
}
