//! The page of a node, `/` of the API's port: what an operator sees there, and does.

use anyhow::{Context as _, Result, ensure};
use jackfield_tests::{Client, Cluster, Console, Node, component, text};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::browser::{Browser, Screen, Window};

/// The digest is what `printf %s read-token | sha256sum` prints.
const TOKENS: &str = "[[token]]\nname = 'reader'\nscopes = ['read']\n\
     sha256 = '0328587016f9e316b9c31c94f944a2c453e1494a564062b5eab68039c75b58bf'\n";

async fn open_page(node: &Node, browser: &mut Browser, screen: Screen) -> Result<Window> {
    let window = browser.window(screen).await?;
    let address = node.api_address();
    window.open(&format!("http://{address}/")).await?;
    Ok(window)
}

/// The row of a table that begins with this text.
fn row(table: &str, begins: &str) -> String {
    format!("#{table} tr[data-key^='{begins}']")
}

/// Whether the page is wider than its window, so that a person has to scroll sideways.
async fn is_too_wide(window: &Window) -> Result<bool> {
    let script = "return document.documentElement.scrollWidth > innerWidth";
    Ok(window.run(script).await? == json!(true))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cluster_is_seen_on_any_screen() -> Result<()> {
    let cluster = Cluster::start(2, |node| node.plugin("console")).await?;
    cluster[0].wait_for_plugins_of(&cluster[1]).await?;
    let mut ada = cluster[1]
        .console(&[("uid", "ada"), ("group", "lobby")])
        .await?;
    let mut browser = Browser::start().await?;
    let other = cluster[1].incarnation().await?;
    for screen in [Screen::Desktop, Screen::Phone] {
        let window = open_page(&cluster[0], &mut browser, screen).await?;
        window.shows("#live", "live").await?;
        window.shows("#stage", "ready").await?;
        window.shows(&row("nodes", &other), "alive").await?;
        window.shows("#links", &other[..6]).await?;
        let plugin = row("plugins", &format!("console@{other}"));
        window.shows(&plugin, "folder").await?;
        window.shows("#clients tbody", ada.id()).await?;
        window.shows("#clients tbody", "lobby").await?;
        window.shows("#clients-now", "1").await?;
        ensure!(
            !is_too_wide(&window).await?,
            "the page is wider than its window"
        );
        // It is read by what happens, too.
        let mut bob = cluster[0].console(&[("uid", "bob")]).await?;
        window
            .shows("#events", "uid-online elsewhere=0 uid=bob")
            .await?;
        window.shows("#clients-now", "2").await?;
        bob.call(json!({ "do": "identify" })).await?;
        window.shows("#p99-now", "s").await?;
        bob.vanish()?;
        window
            .shows("#events", "uid-offline elsewhere=0 uid=bob")
            .await?;
        window.is_untroubled().await?;
        window.close().await?;
    }
    ada.call(json!({ "do": "identify" })).await?;
    Ok(())
}

async fn clients_are(window: &Window, clients: &[&Console], others: &[&Console]) -> Result<()> {
    for client in clients {
        window.shows("#clients tbody", client.id()).await?;
    }
    for other in others {
        window.stops_showing("#clients tbody", other.id()).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_found_traced_and_closed() -> Result<()> {
    let node = Node::start_alone("console").await?;
    let mut ada = node.console(&[("uid", "ada"), ("group", "lobby")]).await?;
    let bob = node.console(&[("uid", "bob")]).await?;
    let mut browser = Browser::start().await?;
    let window = open_page(&node, &mut browser, Screen::Desktop).await?;
    clients_are(&window, &[&ada, &bob], &[]).await?;
    let choose = async |kind: &str, value: &str| {
        let select = format!(
            "const kind = document.getElementById('filter-kind');
             kind.value = '{kind}'; kind.dispatchEvent(new Event('change'))"
        );
        window.run(&select).await?;
        if kind != "all" {
            window.fill("#filter-value", value).await?;
        }
        window.click("#filter button").await
    };
    choose("uid", "ada").await?;
    clients_are(&window, &[&ada], &[&bob]).await?;
    choose("uid", "nobody").await?;
    window.shows("#clients-more", "There are none.").await?;
    choose("group", "lobby").await?;
    clients_are(&window, &[&ada], &[&bob]).await?;
    choose("address", "192.0.2.0/24").await?;
    clients_are(&window, &[], &[&ada, &bob]).await?;
    choose("client", bob.id()).await?;
    clients_are(&window, &[&bob], &[&ada]).await?;
    choose("all", "").await?;
    clients_are(&window, &[&ada, &bob], &[]).await?;

    window
        .click(&format!("{} button", row("clients", ada.id())))
        .await?;
    window.shows("#client-facts", "lobby").await?;
    window.click("#payloads").await?;
    window.click("#trace").await?;
    window.shows("#steps", "watching").await?;
    ada.call(json!({ "do": "identify" })).await?;
    window.shows("#steps", "identify").await?;
    window.shows("#steps", "on-message").await?;
    window.click("#trace").await?;
    window.shows("#trace", "Trace").await?;
    // Nobody asks a person in a test.
    window.run("window.confirm = () => true").await?;
    window.click("#kick").await?;
    window.shows("#notice", "is closed").await?;
    let end = ada.end().await?;
    ensure!(end.code() == 1000, "{end:?}");
    clients_are(&window, &[&bob], &[&ada]).await?;
    window.is_untroubled().await
}

#[tokio::test(flavor = "multi_thread")]
async fn builds_are_deployed_and_gone_back_to() -> Result<()> {
    let node = Node::builder().alone().plugin_from("marker", "marker-a");
    let node = node.start().await?;
    let mut browser = Browser::start().await?;
    let window = open_page(&node, &mut browser, Screen::Desktop).await?;
    let marker = row("plugins", "marker@");
    window.shows(&marker, "folder").await?;
    let answered = async |mark: &str| {
        let mut client = node.client("/marker").await?;
        client.say(text("1")).await?;
        let answer = client.next_text().await?;
        ensure!(answer.starts_with(mark), "{answer}");
        Ok(())
    };
    let build = component("marker-b")?.display().to_string();
    window.type_into("#deploy-component", &build).await?;
    window.fill("#deploy-name", "marker").await?;
    window.click("#deploy button").await?;
    window.shows("#notice", "runs on 1 of 1 nodes").await?;
    window.shows(&marker, "deployment").await?;
    answered("b:2").await?;

    // What cannot run changes nothing, and the page says why.
    let wrong = NamedTempFile::with_suffix(".toml")?;
    std::fs::write(&wrong, "rout = []")?;
    let wrong = wrong.path().display().to_string();
    window.type_into("#deploy-component", &build).await?;
    window.fill("#deploy-name", "marker").await?;
    window.type_into("#deploy-manifest", &wrong).await?;
    window.click("#deploy button").await?;
    window.shows("#notice", "its manifest is wrong").await?;
    answered("b:2").await?;

    window.click(&format!("{marker} button")).await?;
    window
        .shows("#builds-title", "deployed from marker-b.wasm")
        .await?;
    window.click("#builds tbody button").await?;
    window.shows("#notice", "as generation 3").await?;
    window.shows(&marker, "kept").await?;
    answered("a:3").await?;
    window.click(&format!("{marker} button")).await?;
    window.click("#builds-everywhere").await?;
    window.click("#builds tbody button").await?;
    window.shows("#notice", "runs on 1 of 1 nodes").await?;
    answered("b:4").await?;
    window.click(&format!("{marker} button")).await?;
    window.click("#undeploy").await?;
    window.shows("#notice", "is not deployed any more").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_is_deployed_changed_promoted_and_withdrawn() -> Result<()> {
    let node = Node::builder().alone().plugin_from("marker", "marker-a");
    let node = node.start().await?;
    let mut browser = Browser::start().await?;
    let window = open_page(&node, &mut browser, Screen::Desktop).await?;
    let deploy = async |source: &str| {
        let build = component(source)?.display().to_string();
        window.type_into("#deploy-component", &build).await?;
        window.fill("#deploy-name", "marker").await?;
        window.fill("#deploy-percent", "25").await?;
        window.click("#deploy button").await?;
        window.shows("#notice", "runs on 1 of 1 nodes").await
    };
    let mut clients = Vec::new();
    for _ in 0..40 {
        clients.push(node.client("/marker").await?);
    }
    let answered_by_b = async |clients: &mut Vec<Client>| {
        let mut marked = 0;
        for client in clients {
            client.say(text("1")).await?;
            marked += usize::from(client.next_text().await?.starts_with('b'));
        }
        anyhow::Ok(marked)
    };
    deploy("marker-b").await?;
    let canary = row("plugins", "marker@") + "[data-key$='/canary']";
    window.shows(&canary, "canary 25 %").await?;
    window.shows("#events", "plugin-canary").await?;
    // Of forty clients, give or take one.
    let taken = answered_by_b(&mut clients).await?;
    assert!((9..=11).contains(&taken), "{taken}");
    window.click(&format!("{canary} button")).await?;
    window
        .shows("#canary-title", "for 25 % of the clients")
        .await?;
    let [few, others] = [taken, 40 - taken].map(|number| number.to_string());
    let row = |build: &str| format!("#canary tr[data-key$='/{build}']");
    window.shows(&row("canary"), &few).await?;
    window.shows(&row("stable"), &others).await?;
    window.fill("#canary-percent", "50").await?;
    window.click("#canary-change button").await?;
    window.shows("#notice", "for 50 % of the clients").await?;
    let taken = answered_by_b(&mut clients).await?;
    assert!((19..=21).contains(&taken), "{taken}");
    window.shows(&canary, "canary 50 %").await?;
    window.click(&format!("{canary} button")).await?;
    window.click("#canary-promote").await?;
    window.shows("#notice", "is for all clients now").await?;
    assert_eq!(answered_by_b(&mut clients).await?, 40);
    deploy("marker-a").await?;
    window.shows(&canary, "canary 25 %").await?;
    let left = answered_by_b(&mut clients).await?;
    assert!((29..=31).contains(&left), "{left}");
    window.click(&format!("{canary} button")).await?;
    window.click("#canary-withdraw").await?;
    window.shows("#notice", "has ended").await?;
    assert_eq!(answered_by_b(&mut clients).await?, 40);
    window.is_untroubled().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_asked_for_and_says_what_can_be_done() -> Result<()> {
    let file = NamedTempFile::new()?;
    std::fs::write(file.path(), TOKENS)?;
    let tokens = file.path().to_string_lossy().into_owned();
    let node = Node::builder().alone().plugin("console");
    let node = node.arguments(&["--api-tokens", &tokens]).start().await?;
    let ada = node.console(&[]).await?;
    let mut browser = Browser::start().await?;
    let window = open_page(&node, &mut browser, Screen::Desktop).await?;
    window.shows("#login", "Token of the API").await?;
    window.is_untroubled().await?;
    window.type_into("#token", "read-token").await?;
    window.click("#login button").await?;
    window.shows("#caller", "as reader").await?;
    window
        .click(&format!("{} button", row("clients", ada.id())))
        .await?;
    window
        .shows("#client-facts", ada.id().get(..13).context("a node")?)
        .await?;
    let hidden = "return ['deploy', 'kick', 'payloads-label'].every((id) => document.getElementById(id).hidden)";
    assert_eq!(window.run(hidden).await?, json!(true));
    window.click("#client [data-close]").await?;
    window.is_untroubled().await?;
    // It is kept in this tab, until somebody wants it forgotten.
    window.run("location.reload()").await?;
    window.shows("#caller", "as reader").await?;
    window.click("#forget").await?;
    window.shows("#login", "Token of the API").await?;
    window.type_into("#token", "another").await?;
    window.click("#login button").await?;
    window.shows("#login-error", "token").await
}

/// The page loads nothing from elsewhere, and nobody may show it in a frame.
#[tokio::test]
async fn its_files_are_all_from_this_port() -> Result<()> {
    let node = Node::start_alone("console").await?;
    for path in ["/", "/page.js", "/page.css"] {
        let answer = node.api(path).await?;
        ensure!(answer.status == 200, "{path}: {}", answer.status);
        let policy = answer.headers.get("content-security-policy");
        let policy = policy.context("a policy")?;
        assert!(policy.starts_with("default-src 'none'"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
    }
    let nodes: Value = serde_json::from_str(&node.api("/v1/nodes").await?.body)?;
    assert_eq!(
        nodes["caller"]["scopes"]
            .as_array()
            .context("scopes")?
            .len(),
        5
    );
    Ok(())
}
