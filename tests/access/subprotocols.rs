//! `subprotocols`: which one is spoken.

use anyhow::Result;
use jackfield_tests::Client;

use super::{refused, replace_manifest, wstest};

#[tokio::test]
async fn the_first_that_is_offered_is_spoken() -> Result<()> {
    let list = r#"subprotocols = ["v2.chat", "v1.chat"]"#;
    let node = wstest(list).start().await?;
    for (offer, path, spoken) in [
        ("v1.chat, v2.chat", "/wstest", Some("v2.chat")),
        ("v0.chat, v1.chat", "/wstest", Some("v1.chat")),
        // on-connect's own choice counts, and none of them may fit.
        ("v2.chat, other", "/wstest?subprotocol=other", Some("other")),
    ] {
        let offer = [("sec-websocket-protocol", offer)];
        let client = Client::connect(node.address(), path, &offer).await?;
        assert_eq!(client.subprotocol(), spoken, "{offer:?}");
    }
    let mut raw = node.raw().await?;
    let offer = [("sec-websocket-protocol", "v0.chat")];
    let request = jackfield_tests::upgrade_request("/wstest", &offer);
    raw.write(request.as_bytes()).await?;
    let response = raw.response().await?;
    assert_eq!(response.status, 101);
    assert!(!response.headers.contains_key("sec-websocket-protocol"));

    replace_manifest(&node, &format!("{list}\nrequire_subprotocol = true"), 2).await?;
    for headers in [&offer[..], &[]] {
        let told = refused(&node, "/wstest", headers).await?;
        assert_eq!(told.status, 400);
        assert_eq!(
            told.body,
            "offer one of these subprotocols: v2.chat, v1.chat\n"
        );
    }
    Ok(())
}
