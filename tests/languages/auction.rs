//! The auction: calls of a backend, a bucket that two clients change, timers, settings and requests.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use jackfield_tests::{Client, Node, Protocol, within};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

crate::in_each_language!("auction", rust, ts, python, go, c);

/// A call of a backend: its status and the answer, which is JSON.
async fn call(node: &Node, method: &str, payload: &str) -> Result<(u16, Value)> {
    let path = format!("/v1/plugins/auction/call/{method}");
    let api = node.calls(Protocol::Http)?;
    let response = api.http("POST", &path, &[], payload).await?;
    let body = serde_json::from_str(&response.body);
    let body = body.with_context(|| format!("{method}: {response:?}"))?;
    Ok((response.status, body))
}

async fn opened(node: &Node, item: &str, ms: u64) -> Result<()> {
    let order = json!({ "item": item, "price": 100, "ms": ms });
    let expected = json!({ "item": item, "ends_in_ms": ms });
    ensure!(call(node, "open", &order.to_string()).await? == (200, expected));
    Ok(())
}

async fn bid(client: &mut Client, item: &str, amount: u64) -> Result<()> {
    let bid = json!({ "bid": { "item": item, "amount": amount } });
    client.say(bid.to_string()).await
}

async fn hears(client: &mut Client, expected: Value) -> Result<()> {
    let heard: Value = serde_json::from_str(&client.next_text().await?)?;
    ensure!(heard == expected, "{heard}, and not {expected}");
    Ok(())
}

/// The body of the one request that a server is sent.
async fn sent_to(listener: &TcpListener) -> Result<Value> {
    let (mut stream, _) = listener.accept().await?;
    let mut request = Vec::new();
    loop {
        ensure!(
            stream.read_buf(&mut request).await? > 0,
            "the request ended"
        );
        let text = String::from_utf8_lossy(&request);
        let body = text.split_once("\r\n\r\n").map(|(_, body)| body);
        // Some send it in chunks.
        let json = body.and_then(|body| Some(&body[body.find('{')?..=body.rfind('}')?]));
        if let Some(json) = json {
            ensure!(text.starts_with("POST /sold "), "{text}");
            let json = serde_json::from_str(json)?;
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                .await?;
            return Ok(json);
        }
    }
}

async fn works(component: PathBuf) -> Result<()> {
    let shop = TcpListener::bind("127.0.0.1:0").await?;
    let origin = format!("http://{}", shop.local_addr()?);
    let manifest = format!(
        "[keyvalue]\nbuckets = ['auctions']\n[config]\nextend_ms = '200'\nwebhook = '{origin}/sold'\n\
         [http]\nallow = ['{origin}']\n"
    );
    let node = crate::node(&component, "auction", &manifest)?
        .start()
        .await?;
    ensure!(node.refusal("/auction").await?.status == 400);
    let mut ada = node.client("/auction?name=ada").await?;
    let mut bob = node.client("/auction?name=bob").await?;

    opened(&node, "vase", 3_600_000).await?;
    let again = json!({ "item": "vase", "price": 100, "ms": 1000 }).to_string();
    ensure!(
        call(&node, "open", &again).await?.0 == 400,
        "it is open already"
    );
    for (method, payload, status) in [
        ("open", "no JSON", 400),
        ("state", r#"{"item":"lamp"}"#, 404),
        ("close", "{}", 404),
    ] {
        let (answered, problem) = call(&node, method, payload).await?;
        ensure!(answered == status, "{method}: {problem}");
    }
    let state =
        |by: Value, price: u64| json!({ "item": "vase", "price": price, "by": by, "open": true });
    let vase = r#"{"item":"vase"}"#;
    ensure!(call(&node, "state", vase).await? == (200, state(Value::Null, 100)));

    bid(&mut ada, "vase", 120).await?;
    let heard = json!({ "event": "bid", "item": "vase", "amount": 120, "by": "ada" });
    hears(&mut ada, heard.clone()).await?;
    hears(&mut bob, heard).await?;
    // What is refused is for whoever has said it.
    let refused = |why: &str| json!({ "event": "refused", "item": "vase", "why": why });
    bid(&mut bob, "vase", 120).await?;
    hears(&mut bob, refused("the price is 120")).await?;
    bid(&mut bob, "lamp", 500).await?;
    let lamp = json!({ "event": "refused", "item": "lamp", "why": "it is not open" });
    hears(&mut bob, lamp).await?;
    for nonsense in ["hello", "{}", r#"{"bid":{"item":7}}"#, "null"] {
        bob.say(nonsense).await?;
        let heard: Value = serde_json::from_str(&bob.next_text().await?)?;
        ensure!(
            heard["event"] == "refused" && heard["why"].is_string(),
            "{nonsense}: {heard}"
        );
    }
    ensure!(call(&node, "state", vase).await? == (200, state(json!("ada"), 120)));

    // One that ends while somebody bids goes on for a while, and then it is sold, and the shop hears of it.
    opened(&node, "cup", 1_500).await?;
    bid(&mut bob, "cup", 101).await?;
    let heard = json!({ "event": "bid", "item": "cup", "amount": 101, "by": "bob" });
    hears(&mut ada, heard.clone()).await?;
    hears(&mut bob, heard).await?;
    let sold = json!({ "event": "sold", "item": "cup", "amount": 101, "by": "bob" });
    let told = within("the shop", sent_to(&shop)).await?;
    ensure!(told == sold, "{told}");
    hears(&mut ada, sold.clone()).await?;
    hears(&mut bob, sold).await?;
    bid(&mut ada, "cup", 200).await?;
    let over = json!({ "event": "refused", "item": "cup", "why": "it is not open" });
    hears(&mut ada, over).await?;
    // Whom the shop does not answer is logged, and nothing else.
    drop(shop);
    opened(&node, "pen", 50).await?;
    let unsold = json!({ "event": "sold", "item": "pen", "amount": 100, "by": null });
    hears(&mut ada, unsold).await?;
    node.wait_for_log(|line| line.level() == "WARN" && line.text("plugin") == "auction")
        .await?;
    Ok(())
}
