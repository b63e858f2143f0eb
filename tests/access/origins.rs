//! `origins`: whose pages may connect.

use anyhow::Result;

use super::{enter, refused, replace_manifest, wstest};

#[tokio::test]
async fn pages_of_other_origins_are_403() -> Result<()> {
    let list = r#"origins = ["https://example.com", "https://*.example.com"]"#;
    let node = wstest(list).start().await?;
    for origin in [
        "https://example.com",
        "https://a.example.com",
        "https://a.b.example.com",
    ] {
        enter(&node, "/wstest", &[("origin", origin)]).await?;
    }
    for origin in [
        "https://example.org",
        "http://example.com",
        "https://evilexample.com",
        "null",
    ] {
        let told = refused(&node, "/wstest", &[("origin", origin)]).await?;
        assert_eq!(told.status, 403, "{origin}");
        assert_eq!(told.body, "pages of this origin may not connect\n");
    }
    let both = [
        ("origin", "https://example.com"),
        ("origin", "https://example.org"),
    ];
    assert_eq!(refused(&node, "/wstest", &both).await?.status, 403);

    let both = [("origin", "https://example.com"); 2];
    let told = refused(&node, "/wstest", &both).await?;
    assert_eq!(
        (told.status, &*told.body),
        (400, "the header Origin may be there once\n")
    );
    // A page that others led to says all of them, and anybody can write what looks like one.
    for (origin, allowed) in [
        ("https://example.com https://a.example.com", true),
        ("https://example.com https://example.org", false),
        ("https://example.org https://a.example.com", false),
        ("https://example.org/.example.com", false),
    ] {
        let header = [("origin", origin)];
        match allowed {
            true => drop(enter(&node, "/wstest", &header).await?),
            false => assert_eq!(refused(&node, "/wstest", &header).await?.status, 403),
        }
    }

    // What is no page says no origin; whether it must is the manifest's word.
    enter(&node, "/wstest", &[]).await?;
    replace_manifest(&node, &format!("{list}\nrequire_origin = true"), 2).await?;
    let told = refused(&node, "/wstest", &[]).await?;
    assert_eq!(told.status, 403);
    assert_eq!(
        told.body,
        "only pages may connect, and they say their Origin\n"
    );
    enter(&node, "/wstest", &[("origin", "https://example.com")]).await?;
    Ok(())
}
