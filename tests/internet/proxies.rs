use std::net::IpAddr;

use anyhow::Result;
use jackfield_tests::{
    Authority, Client, Nginx, Node, NodeBuilder, ProxyServer, Raw, refusal_status, tls_connect,
    upgrade_request,
};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::rustls::version::TLS13;

use crate::handshake;

fn node(proxy: &str) -> NodeBuilder {
    let builder = Node::builder().plugin("console").alone();
    builder.config(&format!("[proxy]\ntrusted = ['127.0.0.1']\n{proxy}\n"))
}

/// What the plugin takes for the client's address. A port that no header says is 0.
async fn seen_from(stream: TcpStream, headers: &[(&str, &str)]) -> Result<String> {
    let (_, seen) = handshake(stream, headers).await?;
    Ok(seen["remote_address"]
        .as_str()
        .unwrap_or_default()
        .to_owned())
}

/// A connection from an address of this machine that is no trusted proxy's.
async fn from(source: &str, node: &Node) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((source.parse::<IpAddr>()?, 0).into())?;
    Ok(socket.connect(node.address()).await?)
}

#[tokio::test]
async fn nginx_names_its_clients_in_either_header() -> Result<()> {
    for (config, header) in [
        (
            "header = 'x-forwarded-for'",
            "X-Forwarded-For $proxy_add_x_forwarded_for",
        ),
        (
            "header = 'forwarded'",
            "Forwarded \"for=$remote_addr;proto=http\"",
        ),
    ] {
        let node = node(config).start().await?;
        let nginx = Nginx::start(&format!(
            "server {{ listen 80; location / {{
                 proxy_pass http://{}; proxy_http_version 1.1;
                 proxy_set_header Upgrade websocket; proxy_set_header Connection Upgrade;
                 proxy_set_header Host localhost; proxy_set_header {header};
             }} }}",
            node.address()
        ))
        .await?;
        let socket = TcpSocket::new_v4()?;
        socket.bind(("127.0.0.7".parse::<IpAddr>()?, 0).into())?;
        let stream = socket.connect(nginx.address()).await?;
        // What the client itself has written before is not believed.
        let forged = [("x-forwarded-for", "203.0.113.9")];
        assert_eq!(seen_from(stream, &forged).await?, "127.0.0.7:0", "{config}");
    }
    Ok(())
}

#[tokio::test]
async fn haproxy_names_its_clients_over_both_versions_of_its_protocol() -> Result<()> {
    let node = node("protocol = true").start().await?;
    for option in ["send-proxy", "send-proxy-v2", "send-proxy-v2-ssl-cn"] {
        let haproxy = ProxyServer::haproxy(&format!("{} {option}", node.address())).await?;
        let socket = TcpSocket::new_v4()?;
        socket.bind(("127.0.0.7".parse::<IpAddr>()?, 0).into())?;
        let stream = socket.connect(haproxy.address()).await?;
        let address = stream.local_addr()?.to_string();
        assert_eq!(seen_from(stream, &[]).await?, address, "{option}");
    }
    Ok(())
}

#[tokio::test]
async fn stunnel_ends_tls_and_names_its_clients() -> Result<()> {
    let authority = Authority::new()?;
    let issued = authority.issue("proxy", &["proxy.test"])?;
    let node = node("protocol = true").start().await?;
    let stunnel = ProxyServer::stunnel(node.address(), &issued).await?;
    let config = authority.client(&[&TLS13], None)?;
    let stream = tls_connect(stunnel.address(), "proxy.test", &config).await?;
    let address = stream.get_ref().0.local_addr()?.to_string();
    let (_, seen) = handshake(stream, &[]).await?;
    assert_eq!(seen["remote_address"], address);
    Ok(())
}

/// HAProxy passes TLS on as it is, and the node ends it: the header comes before.
#[tokio::test]
async fn a_header_comes_before_tls() -> Result<()> {
    let authority = Authority::new()?;
    let issued = authority.issue("node", &["node.test"])?;
    let tls = format!(
        "[tls]\nlisten = '127.0.0.1:0'\ncertificates = [{}]\n",
        issued.entry()
    );
    let node = node("protocol = true").config(&tls).start().await?;
    let haproxy = ProxyServer::haproxy(&format!("{} send-proxy-v2", node.tls_address()?)).await?;
    let config = authority.client(&[&TLS13], None)?;
    let stream = tls_connect(haproxy.address(), "node.test", &config).await?;
    let address = stream.get_ref().0.local_addr()?.to_string();
    let (_, seen) = handshake(stream, &[]).await?;
    assert_eq!(seen["remote_address"], address);
    Ok(())
}

#[tokio::test]
async fn nobody_else_is_believed() -> Result<()> {
    let node = node("header = 'x-forwarded-for'").start().await?;
    let stream = from("127.0.0.7", &node).await?;
    let address = stream.local_addr()?.to_string();
    let forged = [
        ("x-forwarded-for", "203.0.113.9"),
        ("forwarded", "for=203.0.113.9"),
    ];
    assert_eq!(seen_from(stream, &forged).await?, address);
    // A header of the PROXY protocol is no request.
    let mut raw = Raw::connect_from("127.0.0.7".parse()?, node.address()).await?;
    let header = "PROXY TCP4 203.0.113.9 127.0.0.1 1 2\r\n";
    raw.write((header.to_owned() + &upgrade_request("/console", &[])).as_bytes())
        .await?;
    assert_eq!(raw.response().await?.status, 400);
    Ok(())
}

#[tokio::test]
async fn a_trusted_proxy_without_its_header_is_refused_with_a_line() -> Result<()> {
    let node = node("protocol = true").start().await?;
    let mut raw = Raw::connect(node.address()).await?;
    raw.write(upgrade_request("/console", &[]).as_bytes())
        .await?;
    assert_eq!(raw.rest().await?, b"");
    node.wait_for_log(|line| line.says("let it send the PROXY protocol"))
        .await?;
    // Everybody else needs none.
    let stream = from("127.0.0.7", &node).await?;
    let address = stream.local_addr()?.to_string();
    assert_eq!(seen_from(stream, &[]).await?, address);
    Ok(())
}

#[tokio::test]
async fn limits_count_the_client_s_address_and_not_the_proxy_s() -> Result<()> {
    let node = node("header = 'x-forwarded-for'\n[limits]\nclients_per_address = 1");
    let node = node.start().await?;
    let connect = |client: &'static str| {
        let headers = [("x-forwarded-for", client)];
        let address = node.address();
        async move { Client::connect(address, "/console", &headers).await }
    };
    let _first = connect("192.0.2.1").await?;
    let _second = connect("192.0.2.2").await?;
    // An address of IPv4 is the same over IPv6.
    for again in ["192.0.2.1", "::ffff:192.0.2.2"] {
        let refused = connect(again).await.expect_err("one too many");
        assert_eq!(refusal_status(&refused), Some(429), "{again}");
    }
    Ok(())
}
