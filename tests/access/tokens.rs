//! `[jwt]`: tokens of all algorithms, good and bad, and their end.

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jackfield_tests::{Client, End, Node, NodeBuilder, ReliableClient};
use serde_json::{Value, json};

use super::sign::{Signer, hs256_with, in_seconds, message};
use super::{enter, refused, replace_manifest, uid, wstest};

#[tokio::test]
async fn hs256() -> Result<()> {
    let signer = Signer::hs256()?;
    let node = asking_for(&signer).start().await?;
    all_sorts(&node, &signer, &Signer::hs256()?).await?;
    let rsa = Signer::rs256()?.token(&claims())?;
    assert_eq!(told(&node, &rsa).await?, INVALID);
    Ok(())
}

#[tokio::test]
async fn rs256() -> Result<()> {
    let signer = Signer::rs256()?;
    let node = asking_for(&signer).start().await?;
    all_sorts(&node, &signer, &Signer::es256()?).await
}

#[tokio::test]
async fn es256() -> Result<()> {
    let signer = Signer::es256()?;
    let node = asking_for(&signer).start().await?;
    all_sorts(&node, &signer, &Signer::es256()?).await
}

#[tokio::test]
async fn ed_dsa() -> Result<()> {
    let signer = Signer::ed_dsa()?;
    let node = asking_for(&signer).start().await?;
    all_sorts(&node, &signer, &Signer::ed_dsa()?).await
}

const INVALID: (u16, &str) = (401, "the token is not valid\n");
const EXPIRED: (u16, &str) = (401, "the token has expired\n");
const MISSING: (u16, &str) = (401, "a token is required\n");

/// The good token, and each way in which another one is not as good.
async fn all_sorts(node: &Node, signer: &Signer, other: &Signer) -> Result<()> {
    let good = signer.token(&claims())?;
    let mut ada = enter(node, &at(&good), &[]).await?;
    assert_eq!(uid(&mut ada).await?, "ada");
    let several = with(&[
        ("aud", json!(["other", "chat"])),
        ("nbf", json!(in_seconds(-5))),
    ]);
    enter(node, &at(&signer.token(&several)?), &[]).await?;

    let header = json!({ "alg": signer.algorithm() });
    let none = message(&json!({ "alg": "none" }), &claims());
    let (signed, signature) = good.rsplit_once('.').unwrap_or_default();
    let mut bytes = URL_SAFE_NO_PAD.decode(signature)?;
    bytes[7] ^= 1;
    let flipped = URL_SAFE_NO_PAD.encode(bytes);
    let others_claims = message(&header, &with(&[("sub", json!("eve"))]));
    // Anybody has a public key; a secret's holder may sign with it.
    let public = match signer {
        Signer::Hs256(_) => other.file()?.1,
        _ => signer.file()?.1,
    };
    for (what, token, expected) in [
        ("a wrong signature", format!("{signed}.{flipped}"), INVALID),
        ("no signature", format!("{signed}."), INVALID),
        (
            "another's claims",
            format!("{others_claims}.{signature}"),
            INVALID,
        ),
        (
            "another key",
            other.token_with(&header, &claims())?,
            INVALID,
        ),
        ("the algorithm none", format!("{none}."), INVALID),
        (
            "none, and a signature",
            format!("{none}.{signature}"),
            INVALID,
        ),
        (
            "a secret that is public",
            hs256_with(public.as_bytes(), &claims()),
            INVALID,
        ),
        (
            "and trimmed",
            hs256_with(public.trim().as_bytes(), &claims()),
            INVALID,
        ),
        ("no secret", hs256_with(b"", &claims()), INVALID),
        (
            "expired",
            signer.token(&with(&[("exp", json!(in_seconds(-60)))]))?,
            EXPIRED,
        ),
        (
            "no expiry",
            signer.token(&with(&[("exp", Value::Null)]))?,
            INVALID,
        ),
        (
            "not yet valid",
            signer.token(&with(&[("nbf", json!(in_seconds(60)))]))?,
            INVALID,
        ),
        (
            "another audience",
            signer.token(&with(&[("aud", json!("other"))]))?,
            INVALID,
        ),
        (
            "no audience",
            signer.token(&with(&[("aud", Value::Null)]))?,
            INVALID,
        ),
        (
            "another issuer",
            signer.token(&with(&[("iss", json!("eve"))]))?,
            INVALID,
        ),
        (
            "no issuer",
            signer.token(&with(&[("iss", Value::Null)]))?,
            INVALID,
        ),
        (
            "no uid",
            signer.token(&with(&[("sub", Value::Null)]))?,
            INVALID,
        ),
        ("no token at all", "a.b.c".to_owned(), INVALID),
        ("dots", "..".to_owned(), INVALID),
        ("too many dots", format!("{good}.{good}"), INVALID),
        ("nothing", String::new(), MISSING),
    ] {
        let told = told(node, &token).await?;
        assert_eq!(told, expected, "{what}");
    }
    Ok(())
}

#[tokio::test]
async fn a_token_comes_as_a_header_in_the_query_or_as_a_subprotocol() -> Result<()> {
    let signer = Signer::hs256()?;
    let node = asking_for(&signer).start().await?;
    let good = signer.token(&claims())?;
    let bearer = format!("Bearer {good}");
    enter(&node, "/wstest", &[("authorization", &bearer)]).await?;
    enter(
        &node,
        "/wstest",
        &[("Authorization", &bearer.replace("Bearer", "bearer"))],
    )
    .await?;
    enter(&node, &format!("/wstest?access_token={good}"), &[]).await?;
    let offer = format!("v1.chat, bearer.{good}");
    let offer = [("sec-websocket-protocol", &*offer)];
    let client = Client::connect(node.address(), "/wstest", &offer).await?;
    assert_eq!(client.subprotocol(), Some("v1.chat"));

    // One that is no good is not made up for by another one.
    let bad = [("authorization", "Bearer a.b.c")];
    assert_eq!(refused(&node, &at(&good), &bad).await?.status, 401);
    let basic = [("authorization", "Basic YTpi")];
    let missing = refused(&node, "/wstest", &basic).await?;
    assert_eq!((missing.status, &*missing.body), MISSING);
    assert_eq!(missing.headers["www-authenticate"], "Bearer");

    let own = manifest(&signer, "query = ['key']\nuid_claim = 'user'")?;
    replace_manifest(&node, &own, 2).await?;
    assert_eq!(refused(&node, &at(&good), &[]).await?.status, 401);
    let token = signer.token(&with(&[("user", json!(42))]))?;
    let mut client = enter(&node, &format!("/wstest?key={token}"), &[]).await?;
    assert_eq!(uid(&mut client).await?, "42");
    Ok(())
}

#[tokio::test]
async fn a_set_of_keys_is_chosen_from_by_kid() -> Result<()> {
    let signers = [
        Signer::hs256()?,
        Signer::rs256()?,
        Signer::es256()?,
        Signer::ed_dsa()?,
    ];
    let mut keys: Vec<_> = signers
        .iter()
        .map(|signer| signer.jwk(signer.algorithm()))
        .collect();
    keys.push(json!({ "kty": "EC", "crv": "P-384", "kid": "p384", "x": "AA", "y": "AA" }));
    keys.push(json!({ "kty": "later", "kid": "later" }));
    let second = Signer::ed_dsa()?;
    keys.push(second.jwk("second"));
    let node = wstest("[jwt]\njwks_file = 'keys.json'")
        .file("keys.json", &json!({ "keys": keys }).to_string())
        .start()
        .await?;
    let claims = json!({ "sub": "ada", "exp": in_seconds(60) });
    for signer in &signers {
        let kid = signer.algorithm();
        let token = signer.token_with(&json!({ "alg": kid, "kid": kid }), &claims)?;
        enter(&node, &at(&token), &[]).await?;
    }
    let said = |kid: Value| second.token_with(&json!({ "alg": "EdDSA", "kid": kid }), &claims);
    enter(&node, &at(&said(json!("second"))?), &[]).await?;
    for kid in [json!("EdDSA"), json!("ES256"), json!("nobody")] {
        assert_eq!(told(&node, &said(kid.clone())?).await?, INVALID, "{kid}");
    }
    // Without one, all of its algorithm may be meant.
    enter(&node, &at(&said(Value::Null)?), &[]).await?;
    let stranger = Signer::ed_dsa()?.token(&claims)?;
    assert_eq!(told(&node, &stranger).await?, INVALID);
    Ok(())
}

/// What is no use here costs nobody else, and the log says once what it is.
#[tokio::test]
async fn a_set_is_used_for_what_is_good_in_it() -> Result<()> {
    let (rsa, ec) = (Signer::rs256()?, Signer::es256()?);
    let keys = json!([
        // 1024 bits.
        { "kty": "RSA", "kid": "old", "use": "sig", "alg": "RS256", "e": "AQAB",
          "n": URL_SAFE_NO_PAD.encode([0xff; 128]) },
        { "kty": "RSA", "kid": "enc", "use": "enc", "alg": "RSA-OAEP", "e": "AQAB", "n": "AQAB" },
        { "kty": "AKP", "kid": "later", "alg": "ML-DSA-65", "pub": "AA" },
        { "kty": "EC", "kid": "k1", "crv": "secp256k1", "x": "AA", "y": "AA" },
        null,
        { "kid": 7 },
        rsa.jwk("a"),
        // One id for two algorithms, and two keys.
        Signer::es256()?.jwk("a"),
        ec.jwk("a"),
    ]);
    let set = json!({ "keys": keys, "more": [] }).to_string();
    let node = wstest("[jwt]\njwks_file = 'keys.json'")
        .file("keys.json", &format!("\u{feff}{set}\r\n"))
        .start()
        .await?;
    let claims = json!({ "sub": "ada", "exp": in_seconds(60) });
    for signer in [&rsa, &ec] {
        for kid in [json!("a"), Value::Null] {
            let header = json!({ "alg": signer.algorithm(), "kid": kid });
            enter(&node, &at(&signer.token_with(&header, &claims)?), &[]).await?;
        }
    }
    let old = ec.token_with(&json!({ "alg": "ES256", "kid": "old" }), &claims)?;
    assert_eq!(told(&node, &old).await?, INVALID);

    let stopped = node.stop().await?;
    let lines = stopped.log.so_far(|line| line.says("keys are passed over"));
    assert_eq!(lines.len(), 1);
    for why in [
        "the key \"old\": an RSA key has 2048",
        "the key \"enc\": its use is \"enc\"",
        "the key \"later\": its kty is \"AKP\"",
        "the key \"k1\": its crv is \"secp256k1\"",
        "key 5: it is no object",
        "key 6: its kid is no text",
    ] {
        assert!(lines[0].says(why), "{}", lines[0].message());
    }
    Ok(())
}

/// A file with the new key beside the old one, in PEM as openssl and Windows write it.
#[tokio::test]
async fn a_pem_file_may_have_several_keys() -> Result<()> {
    let signers = [
        Signer::rs256()?,
        Signer::es256()?,
        Signer::es256()?,
        Signer::ed_dsa()?,
    ];
    let mut text = "Public-Key: (2048 bit)\n".to_owned();
    text += &rcgen::generate_simple_self_signed(["id.example.com".to_owned()])?
        .cert
        .pem();
    for signer in &signers {
        text += &signer.file()?.1;
    }
    let node = wstest("[jwt]\nkey_file = 'keys.pem'")
        .file("keys.pem", &text.replace('\n', "\r\n"))
        .start()
        .await?;
    let claims = json!({ "sub": "ada", "exp": in_seconds(60) });
    for signer in &signers {
        enter(&node, &at(&signer.token(&claims)?), &[]).await?;
    }
    let stranger = Signer::es256()?.token(&claims)?;
    assert_eq!(told(&node, &stranger).await?, INVALID);
    Ok(())
}

#[tokio::test]
async fn a_client_is_closed_when_its_token_expires() -> Result<()> {
    let signer = Signer::es256()?;
    let node = asking_for(&signer).start().await?;
    let long = signer.token(&with(&[("sub", json!("watcher"))]))?;
    let path = format!("{}&group=watch-close", at(&long));
    let mut watcher = enter(&node, &path, &[]).await?;

    let short = signer.token(&with(&[("exp", json!(in_seconds(4)))]))?;
    let mut quiet = enter(&node, &at(&short), &[]).await?;
    let mut busy = enter(&node, &at(&short), &[]).await?;
    assert_eq!(uid(&mut quiet).await?, "ada");

    // One that never pauses is closed, too.
    let end = loop {
        let id = busy.start(json!({ "do": "is-online" })).await?;
        if let Err(end) = busy.answer_or_end(id).await? {
            break end;
        }
    };
    assert_eq!(end, End::closed(4002, "token expired"));
    assert_eq!(quiet.end().await?, End::closed(4002, "token expired"));
    let departure = watcher.departure(quiet.id()).await?;
    assert_eq!(
        (&departure["code"], &departure["by"]),
        (&json!(4002), &json!("node"))
    );
    assert_eq!(told(&node, &short).await?, EXPIRED);
    Ok(())
}

/// The plugin gets all claims of the token, and nobody else can say them.
#[tokio::test]
async fn a_plugin_sees_the_claims_of_the_token() -> Result<()> {
    let signer = Signer::es256()?;
    let node = asking_for(&signer).start().await?;
    let claims = with(&[("role", json!("seller")), ("roles", json!([1, "é"]))]);
    let path = format!("{}&handshake=1", at(&signer.token(&claims)?));
    let made_up = [("jackfield-token-claims", r#"{"role":"admin"}"#)];
    let mut client = Client::connect(node.address(), &path, &made_up).await?;
    let connected: Value = serde_json::from_str(&client.next_text().await?)?;
    let headers = connected["handshake"]["headers"].as_array().cloned();
    let headers = headers.unwrap_or_default().into_iter();
    let said: Vec<_> = headers
        .filter(|header| header[0] == "jackfield-token-claims")
        .collect();
    assert_eq!(said.len(), 1, "{connected}");
    let said: Value = serde_json::from_str(said[0][1].as_str().unwrap_or_default())?;
    assert_eq!(said, claims);
    Ok(())
}

/// A client that may come back does so with a new token, which must be for the same uid.
#[tokio::test]
async fn a_client_comes_back_with_a_new_token() -> Result<()> {
    let signer = Signer::es256()?;
    let manifest = manifest(&signer, "[resume]\nwindow = '10m'\n")?;
    let node = asking_for(&signer).manifest("wstest", &manifest);
    let node = node.alone().start().await?;
    let token = |claims: &[(&str, Value)]| signer.token(&with(claims));
    let short = token(&[("exp", json!(in_seconds(2)))])?;
    let address = node.address();
    let mut ada = ReliableClient::connect(address, &at(&short)).await?;
    let id = ada.id().to_owned();
    ada.next_text().await?;
    assert_eq!(ada.end().await?, End::closed(4002, "token expired"));
    let refused = ada.come_back(address).await;
    let refused = refused.expect_err("the token has expired");
    assert_eq!(jackfield_tests::refusal_status(&refused), Some(401));
    ada.use_path(&at(&token(&[])?));
    assert!(ada.come_back(address).await?);
    assert_eq!(ada.id(), id);
    ada.cut()?;
    ada.use_path(&at(&token(&[("sub", json!("eve"))])?));
    assert!(!ada.come_back(address).await?);
    Ok(())
}

#[tokio::test]
async fn the_log_says_why_and_never_the_token() -> Result<()> {
    let signer = Signer::hs256()?;
    let levels = "info,jackfield=trace,hyper=trace,hyper_util=trace,tungstenite=trace";
    let node = asking_for(&signer)
        .arguments(&["--log", levels])
        .start()
        .await?;
    let good = signer.token(&claims())?;
    let bad = Signer::hs256()?.token(&claims())?;
    let mut ada = enter(&node, &at(&good), &[]).await?;
    ada.leave().await?;
    refused(&node, &at(&bad), &[]).await?;
    refused(
        &node,
        "/wstest",
        &[("authorization", &format!("Bearer {bad}"))],
    )
    .await?;
    refused(&node, &format!("/wstest/nowhere?token={good}"), &[]).await?;
    let mut raw = node.raw().await?;
    raw.write(format!("GET {} HTTP/1.1\r\nbad header\r\n\r\n", at(&good)).as_bytes())
        .await?;
    raw.rest().await?;

    let stopped = node.stop().await?;
    let rejected = stopped.log.so_far(|line| line.says("a token was rejected"));
    assert_eq!(rejected.len(), 2);
    for line in rejected {
        assert!(line.says("its signature is wrong"), "{}", line.message());
        assert_eq!(line.text("plugin"), "wstest");
    }
    let parts: Vec<_> = [&good, &bad]
        .iter()
        .flat_map(|token| token.split('.'))
        .collect();
    let said = stopped.log.so_far(|line| {
        let fields = line.fields().to_string();
        parts.iter().any(|part| fields.contains(part))
    });
    assert!(said.is_empty(), "{said:?}");
    Ok(())
}

#[tokio::test]
async fn a_new_key_counts_when_the_manifest_is_touched() -> Result<()> {
    let (old, new) = (Signer::hs256()?, Signer::hs256()?);
    let node = asking_for(&old).start().await?;
    let mut ada = enter(&node, &at(&old.token(&claims())?), &[]).await?;
    let (_, key) = new.file()?;
    node.folder().put_file("wstest.key", key.as_bytes())?;
    replace_manifest(&node, &manifest(&old, "")?, 2).await?;

    assert_eq!(told(&node, &old.token(&claims())?).await?, INVALID);
    enter(&node, &at(&new.token(&claims())?), &[]).await?;
    assert_eq!(uid(&mut ada).await?, "ada");
    Ok(())
}

#[tokio::test]
async fn a_key_that_is_no_good_is_not_loaded() -> Result<()> {
    let signer = Signer::hs256()?;
    let node = asking_for(&signer).start().await?;
    let private = rcgen::KeyPair::generate()?.serialize_pem();
    let short = "0123456789012345678901234567890\r\n";
    for (key, content, why) in [
        (
            "secret_file",
            short,
            "jwt.secret_file: a secret for HS256 has at least 32 bytes, and this one has 31",
        ),
        (
            "key_file",
            short,
            "jwt.key_file: it has no public key in PEM",
        ),
        (
            "key_file",
            &private,
            "jwt.key_file: it has no public key in PEM",
        ),
        ("jwks_file", "{}", "jwt.jwks_file: it is no JWK set"),
        (
            "jwks_file",
            r#"{"keys":[]}"#,
            "jwt.jwks_file: it has no key for",
        ),
        (
            "jwks_file",
            r#"{"keys":[{"kty":"EC","crv":"P-384","kid":"a"}]}"#,
            "HS256, RS256, ES256 or EdDSA; the key \"a\": its crv is \"P-384\"",
        ),
        (
            "jwks_file",
            r#"{"kty":"EC"}"#,
            "it is one key: write {\"keys\":[…]} around it",
        ),
    ] {
        node.folder().put_file("other.key", content.as_bytes())?;
        let manifest = format!("# {content:?}\n[jwt]\n{key} = 'other.key'");
        node.folder().put_manifest("wstest", &manifest)?;
        node.wait_for_log(|line| line.says("is not loaded") && line.says(why))
            .await?;
    }
    node.folder()
        .put_manifest("wstest", "[jwt]\nkey_file = 'nothing.pem'")?;
    node.wait_for_log(|line| line.says("nothing.pem cannot be read"))
        .await?;
    enter(&node, &at(&signer.token(&claims())?), &[]).await?;
    Ok(())
}

/// A node that lets in whoever has a good token of this key.
fn asking_for(signer: &Signer) -> NodeBuilder {
    let (_, key) = signer.file().expect("a key's file");
    wstest(&manifest(signer, "").expect("a manifest")).file("wstest.key", &key)
}

fn manifest(signer: &Signer, more: &str) -> Result<String> {
    let (name, _) = signer.file()?;
    Ok(format!(
        "subprotocols = ['v1.chat']\n[jwt]\n{name} = 'wstest.key'\nissuer = 'tests'\naudience = 'chat'\n\
         leeway = '0s'\n{more}"
    ))
}

/// What such a token must say.
fn claims() -> Value {
    json!({ "sub": "ada", "iss": "tests", "aud": "chat", "exp": in_seconds(600) })
}

fn with(changes: &[(&str, Value)]) -> Value {
    let mut claims = claims();
    for (name, value) in changes {
        claims[name] = value.clone();
    }
    claims
}

fn at(token: &str) -> String {
    format!("/wstest?token={token}")
}

/// What a client with this token is told, as a status and a body.
async fn told(node: &Node, token: &str) -> Result<(u16, &'static str)> {
    let told = refused(node, &at(token), &[]).await?;
    let known = [INVALID, EXPIRED, MISSING];
    let known = known
        .into_iter()
        .find(|known| *known == (told.status, &*told.body));
    known.ok_or_else(|| anyhow::anyhow!("told otherwise: {told:?}"))
}
