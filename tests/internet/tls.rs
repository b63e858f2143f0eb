use std::sync::Arc;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jackfield_tests::{
    Authority, CertificateFile, Client, End, Node, NodeBuilder, Raw, text, tls_connect, tls_over,
};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, HandshakeKind, ProtocolVersion};

use crate::{echoes, handshake, header};

/// A node with TLS and these certificates; `more` stands in its section `[tls]`.
fn with_certificates(certificates: &[&CertificateFile], more: &str) -> NodeBuilder {
    let entries: Vec<_> = certificates.iter().map(|issued| issued.entry()).collect();
    let entries = entries.join(", ");
    let tls = format!("[tls]\nlisten = '127.0.0.1:0'\ncertificates = [{entries}]\n{more}\n");
    Node::builder()
        .plugin("console")
        .plugin("echo")
        .alone()
        .config(&tls)
}

/// The certificate that a node shows for a name.
async fn shown(node: &Node, name: &'static str, config: &Arc<ClientConfig>) -> Result<Vec<u8>> {
    let stream = tls_connect(node.tls_address()?, name, config).await?;
    let shown = stream.get_ref().1.peer_certificates();
    Ok(shown.context("a certificate")?[0].to_vec())
}

#[tokio::test]
async fn clients_talk_over_either_version_and_the_plain_port_stays() -> Result<()> {
    let authority = Authority::new()?;
    let issued = authority.issue("node", &["node.test"])?;
    let node = with_certificates(&[&issued], "").start().await?;
    for (version, expected) in [
        (&TLS12, ProtocolVersion::TLSv1_2),
        (&TLS13, ProtocolVersion::TLSv1_3),
    ] {
        let config = authority.client(&[version], None)?;
        let stream = tls_connect(node.tls_address()?, "node.test", &config).await?;
        assert_eq!(stream.get_ref().1.protocol_version(), Some(expected));
        let mut client = Client::over(stream, "/echo", &[]).await?;
        // The longest takes several records.
        for message in ["", "hello", &"x".repeat(64 << 10)] {
            client.say(text(message)).await?;
            assert_eq!(client.next_text().await?, message);
        }
        assert_eq!(
            client.leave_with(4000, "bye").await?,
            End::closed(4000, "bye")
        );
    }
    let mut plain = node.client("/echo").await?;
    plain.say(text("hello")).await?;
    assert_eq!(plain.next_text().await?, "hello");
    Ok(())
}

#[tokio::test]
async fn a_version_or_a_protocol_that_is_not_offered_is_refused() -> Result<()> {
    let authority = Authority::new()?;
    let issued = authority.issue("node", &["node.test"])?;
    let node = with_certificates(&[&issued], "min_version = '1.3'")
        .start()
        .await?;
    let address = node.tls_address()?;
    let old = authority.client(&[&TLS12], None)?;
    let refused = tls_connect(address, "node.test", &old).await;
    let refused = format!("{:#}", refused.expect_err("an old version"));
    assert!(refused.contains("ProtocolVersion"), "{refused}");

    let mut http2 = (*authority.client(&[&TLS13], None)?).clone();
    http2.alpn_protocols = vec![b"h2".to_vec()];
    let refused = tls_connect(address, "node.test", &Arc::new(http2.clone())).await;
    let refused = format!("{:#}", refused.expect_err("another protocol"));
    assert!(refused.contains("NoApplicationProtocol"), "{refused}");
    http2.alpn_protocols.push(b"http/1.1".to_vec());
    let stream = tls_connect(address, "node.test", &Arc::new(http2)).await?;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));

    // Who speaks without TLS gets an alert, and no answer in plain text.
    let mut plain = Raw::connect(address).await?;
    plain.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await?;
    let answer = plain.rest().await?;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn each_name_has_its_certificate_and_the_first_is_for_all_others() -> Result<()> {
    let authority = Authority::new()?;
    let first = authority.issue("first", &["first.test"])?;
    let second = authority.issue("second", &["second.test", "*.second.test"])?;
    let node = with_certificates(&[&first, &second], "").start().await?;
    let config = authority.client(&[&TLS13], None)?;
    for (name, issued) in [
        ("first.test", &first),
        ("second.test", &second),
        ("a.second.test", &second),
    ] {
        assert_eq!(shown(&node, name, &config).await?, *issued.der()?, "{name}");
    }
    let refused = shown(&node, "third.test", &config).await;
    let refused = format!("{:#}", refused.expect_err("another name"));
    assert!(refused.contains("first.test"), "{refused}");
    Ok(())
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_to_new_clients_and_the_others_stay() -> Result<()> {
    let authority = Authority::new()?;
    let issued = authority.issue("node", &["node.test"])?;
    let first = issued.der()?;
    let node = with_certificates(&[&issued], "").start().await?;
    let config = authority.client(&[&TLS13], None)?;
    assert_eq!(shown(&node, "node.test", &config).await?, *first);
    let stream = tls_connect(node.tls_address()?, "node.test", &config).await?;
    let mut client = Client::over(stream, "/echo", &[]).await?;

    // A key that does not belong to it, as in the middle of a renewal.
    let key = std::fs::read(&issued.key)?;
    authority.issue("node", &["node.test"])?;
    let renewed_key = std::fs::read(&issued.key)?;
    std::fs::write(&issued.key, &key)?;
    let complaint = node.wait_for_log(|line| line.says("the certificates stay as they were"));
    let complaint = complaint.await?;
    let error = complaint.text("error");
    assert!(error.contains("node.pem with the key"), "{error}");
    assert_eq!(shown(&node, "node.test", &config).await?, *first);

    std::fs::write(&issued.key, renewed_key)?;
    node.wait_for_log(|line| line.says("the certificates were read again"))
        .await?;
    let renewed = issued.der()?;
    assert_ne!(renewed, first);
    assert_eq!(shown(&node, "node.test", &config).await?, *renewed);
    echoes(&mut client).await?;
    Ok(())
}

#[tokio::test]
async fn an_address_that_begins_with_tls_too_often_is_cut_and_no_other() -> Result<()> {
    let authority = Authority::new()?;
    let issued = authority.issue("node", &["node.test"])?;
    let limits = "[limits]\ntls_handshakes_per_second_per_address = 3";
    let node = with_certificates(&[&issued], limits).start().await?;
    let config = authority.client(&[&TLS13], None)?;
    let address = node.tls_address()?;
    // Far more than three in the seconds that this takes.
    let mut refused = 0;
    for _ in 0..1000 {
        let begun = tls_connect(address, "node.test", &config).await;
        refused += u64::from(begun.is_err());
        if refused > 0 {
            break;
        }
    }
    assert_eq!(refused, 1);
    let other = Raw::connect_from([127, 0, 0, 2].into(), address).await?;
    let stream = tls_over(other.into_stream(), "node.test", &config).await?;
    let mut client = Client::over(stream, "/echo", &[]).await?;
    echoes(&mut client).await?;
    // Without TLS there is nothing to count.
    node.client("/echo").await?;
    assert_eq!(node.counters().await?.get("handshakes_limited")?, refused);
    Ok(())
}

#[tokio::test]
async fn a_port_without_tls_may_send_everyone_to_the_one_with_it() -> Result<()> {
    let authority = Authority::new()?;
    let issued = authority.issue("node", &["node.test"])?;
    let node = with_certificates(&[&issued], "redirect = 'https://node.test:8443'")
        .start()
        .await?;
    let mut plain = node.raw().await?;
    plain
        .write(b"GET /console/a%20b?c=d HTTP/1.1\r\nhost: other\r\n\r\n")
        .await?;
    let answer = plain.response().await?;
    assert_eq!(answer.status, 308);
    let location = &answer.headers["location"];
    assert_eq!(location, "https://node.test:8443/console/a%20b?c=d");
    let answer = node.refusal("/echo").await?;
    assert_eq!(answer.status, 308);

    let config = authority.client(&[&TLS13], None)?;
    let stream = tls_connect(node.tls_address()?, "node.test", &config).await?;
    let mut client = Client::over(stream, "/echo", &[]).await?;
    echoes(&mut client).await?;
    Ok(())
}

#[tokio::test]
async fn a_file_that_is_too_large_is_no_certificate() -> Result<()> {
    let authority = Authority::new()?;
    let issued = authority.issue("node", &["node.test"])?;
    let node = with_certificates(&[&issued], "").start().await?;
    let der = issued.der()?;
    std::fs::write(&issued.certificate, vec![b'\n'; (1 << 20) + 1])?;
    let complaint = node.wait_for_log(|line| line.says("the certificates stay as they were"));
    let complaint = complaint.await?;
    let error = complaint.text("error");
    assert!(error.contains("more than the 1048576"), "{error}");
    let config = authority.client(&[&TLS13], None)?;
    assert_eq!(shown(&node, "node.test", &config).await?, *der);
    Ok(())
}

#[tokio::test]
async fn a_caller_of_the_api_that_does_not_end_its_handshake_is_cut() -> Result<()> {
    let authority = Authority::new()?;
    let issued = authority.issue("node", &["node.test"])?;
    let node = with_certificates(&[&issued], "api = true").start().await?;
    let mut silent = Raw::connect(node.api_address()).await?;
    // A record of a handshake that never comes to its end.
    silent.write(&[0x16, 3, 1, 2, 0, 1]).await?;
    assert_eq!(silent.rest().await?, b"");
    Ok(())
}

#[tokio::test]
async fn a_client_that_comes_again_needs_no_whole_handshake() -> Result<()> {
    let authority = Authority::new()?;
    let issued = authority.issue("node", &["node.test"])?;
    let node = with_certificates(&[&issued], "").start().await?;
    for version in [&TLS12, &TLS13] {
        let config = authority.client(&[version], None)?;
        for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let stream = tls_connect(node.tls_address()?, "node.test", &config).await?;
            assert_eq!(stream.get_ref().1.handshake_kind(), Some(expected));
            // Its ticket comes with the first bytes that are read.
            let mut client = Client::over(stream, "/echo", &[]).await?;
            echoes(&mut client).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_plugin_may_require_a_client_s_certificate_and_sees_it() -> Result<()> {
    let (authority, other) = (Authority::new()?, Authority::new()?);
    let issued = authority.issue("node", &["node.test"])?;
    let ada = authority.issue("ada", &["ada"])?;
    let authorities = format!("client_authorities = '{}'", authority.file().display());
    let builder = with_certificates(&[&issued], &authorities);
    let builder = builder.plugin_from("strict", "console");
    let strict = builder.manifest("strict", "require_client_certificate = true");
    let node = strict.start().await?;
    let address = node.tls_address()?;

    let config = authority.client(&[&TLS13], Some(&ada))?;
    let stream = tls_connect(address, "node.test", &config).await?;
    let forged = [("client-cert", ":Zm9yZ2Vk:"), ("client-cert-chain", "x")];
    let (_, seen) = handshake(stream, &forged).await?;
    let encoded = format!(":{}:", STANDARD.encode(ada.der()?));
    assert_eq!(header(&seen, "client-cert"), Some(&*encoded));
    let stream = tls_connect(address, "node.test", &config).await?;
    Client::over(stream, "/strict", &[]).await?;

    // Without one, other plugins let a client in, and nobody can write the header.
    let nobody = authority.client(&[&TLS13], None)?;
    let stream = tls_connect(address, "node.test", &nobody).await?;
    let (_, seen) = handshake(stream, &forged).await?;
    assert_eq!(header(&seen, "client-cert"), None);
    assert_eq!(header(&seen, "client-cert-chain"), None);
    let stream = tls_connect(address, "node.test", &nobody).await?;
    let refused = Client::over(stream, "/strict", &forged)
        .await
        .expect_err("refused");
    assert_eq!(jackfield_tests::refusal_status(&refused), Some(400));
    let refused = node.refusal_with("/strict", &forged).await?;
    assert_eq!(refused.status, 400);
    assert!(
        refused.body.contains("a client certificate is required"),
        "{refused:?}"
    );

    // One of another authority ends the connection. In TLS 1.3 the client learns of it late.
    let theirs = other.issue("eve", &["eve"])?;
    let foreign = authority.client(&[&TLS13], Some(&theirs))?;
    let connected = tls_connect(address, "node.test", &foreign).await;
    if let Ok(mut stream) = connected {
        let read = stream.read_u8().await.expect_err("an alert");
        assert!(read.to_string().contains("fatal alert"), "{read}");
    }
    Ok(())
}

/// More than any socket holds, for a client that begins to read late: everything comes, in order,
/// also what TLS had encrypted when the socket was full.
#[tokio::test]
async fn a_slow_reader_gets_everything_that_was_encrypted() -> Result<()> {
    const MESSAGES: usize = 200;
    let authority = Authority::new()?;
    let issued = authority.issue("node", &["node.test"])?;
    let builder = with_certificates(&[&issued], "");
    let node = builder.config("[limits]\noutbox_bytes = 16_777_216\nmessage_bytes = 131_072\n");
    let node = node.start().await?;
    let config = authority.client(&[&TLS13], None)?;
    let stream = tls_connect(node.tls_address()?, "node.test", &config).await?;
    let (mut reader, _) = handshake(stream, &[]).await?;
    let mut ada = node.console(&[]).await?;
    let all = format!("{:>60000}", "");
    for number in 0..MESSAGES {
        let text = format!("{number}{all}");
        ada.ok(json!({ "do": "send-to-all", "text": text, "exclude": [ada.id()] }))
            .await?;
    }
    for number in 0..MESSAGES {
        let message = reader.next_text().await?;
        assert_eq!(message.trim_end(), number.to_string());
    }
    ada.ok(json!({ "do": "send-to-all", "text": "last", "exclude": [ada.id()] }))
        .await?;
    assert_eq!(reader.next_text().await?, "last");
    Ok(())
}

/// A connection that says nothing, or not enough, is cut like one without TLS.
#[tokio::test]
async fn a_silent_connection_is_cut() -> Result<()> {
    let authority = Authority::new()?;
    let issued = authority.issue("node", &["node.test"])?;
    let builder = with_certificates(&[&issued], "");
    let node = builder
        .config("[limits]\nhandshake_timeout = '200ms'\n")
        .start()
        .await?;
    let silent = Raw::connect(node.tls_address()?).await?;
    assert_eq!(silent.rest().await?, b"");
    let config = authority.client(&[&TLS13], None)?;
    let mut stream = tls_connect(node.tls_address()?, "node.test", &config).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    assert!(answer.starts_with(b"HTTP/1.1 408"), "{answer:?}");
    node.wait_for_counter("handshakes_timed_out", 2).await
}

#[tokio::test]
async fn the_api_answers_over_tls_in_both_versions_of_http() -> Result<()> {
    let authority = Authority::new()?;
    let issued = authority.issue("node", &["localhost"])?;
    let node = with_certificates(&[&issued], "api = true").start().await?;
    let mut config = (*authority.client(&[&TLS12, &TLS13], None)?).clone();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let config = Arc::new(config);
    let mut stream = tls_connect(node.api_address(), "localhost", &config).await?;
    let request = "GET /ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    let pem = std::fs::read_to_string(authority.file())?;
    let tls = tonic::transport::ClientTlsConfig::new()
        .ca_certificate(tonic::transport::Certificate::from_pem(pem))
        .domain_name("localhost");
    let endpoint = format!("https://{}", node.api_address());
    let channel = tonic::transport::Endpoint::from_shared(endpoint)?.tls_config(tls)?;
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel.connect().await?);
    let request = tonic_health::pb::HealthCheckRequest::default();
    let answer = health.check(request).await?.into_inner();
    assert_eq!(
        answer.status(),
        tonic_health::pb::health_check_response::ServingStatus::Serving
    );
    Ok(())
}

/// What an idle client with TLS takes of the node's memory.
#[tokio::test]
async fn an_idle_client_takes_little_memory() -> Result<()> {
    const CLIENTS: usize = 1_000;
    let authority = Authority::new()?;
    let issued = authority.issue("node", &["node.test"])?;
    let node = with_certificates(&[&issued], "").start().await?;
    let config = authority.client(&[&TLS13], None)?;
    let connect = || async {
        let stream = tls_connect(node.tls_address()?, "node.test", &config).await?;
        Client::over(stream, "/echo", &[]).await
    };
    // What is paid once is paid by the first.
    let _first = connect().await?;
    let before = node.resident_bytes()?;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(connect().await?);
    }
    let each = node.resident_bytes()?.saturating_sub(before) / CLIENTS as u64;
    eprintln!("measured: {each} bytes for each of {CLIENTS} idle clients with TLS");
    assert!(each < 32 << 10, "{each} bytes");
    Ok(())
}
