//! The page `/docs`, as it is served. What a person sees of it is in `tests/browser`.

use std::collections::BTreeSet;

use anyhow::Result;
use jackfield_tests::{Api, Node};

use super::BOTH;

/// What the answer to `method` and these headers begins with, up to its body.
async fn head(api: &Api, method: &str, path: &str, headers: &str) -> Result<String> {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n"
    );
    let answer = api.begin(&request).await?.rest().await?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, _) = answer.split_once("\r\n\r\n").unwrap_or_default();
    Ok(format!("{head}\r\n"))
}

#[tokio::test]
async fn each_file_is_sent_once_and_nothing_else_may_be_loaded_or_frame_it() -> Result<()> {
    let node = Node::start_alone("console").await?;
    let api = node.calls(BOTH[0])?;
    let page = api.http("GET", "/docs", &[], "").await?.body;
    let mut paths: BTreeSet<_> = page
        .split('"')
        .filter(|p| p.starts_with("/docs/"))
        .collect();
    assert_eq!(paths.len(), 4, "{paths:?}");
    paths.insert("/docs");
    for path in paths {
        let first = head(&api, "GET", path, "").await?;
        assert!(first.starts_with("HTTP/1.1 200 "), "{path}: {first}");
        let kind = match path.rsplit_once('.') {
            Some((_, "js")) => "text/javascript",
            Some((_, "css")) => "text/css",
            _ => "text/html",
        };
        for said in [
            &format!("content-type: {kind}; charset=utf-8\r\n"),
            "content-security-policy: default-src 'none'; script-src 'self'; ",
            "frame-ancestors 'none'\r\n",
            "x-content-type-options: nosniff\r\n",
            "cache-control: no-cache\r\n",
        ] {
            assert!(first.contains(said), "{path}: no {said:?} in {first}");
        }
        let etag = first.lines().find_map(|line| line.strip_prefix("etag: "));
        let etag = etag.unwrap_or_default();
        for (known, status) in [
            (etag.to_owned(), 304),
            (format!("\"other\", W/{etag}"), 304),
            ("\"other\"".to_owned(), 200),
        ] {
            let known = format!("if-none-match: {known}\r\n");
            let again = head(&api, "GET", path, &known).await?;
            let status = format!("HTTP/1.1 {status} ");
            assert!(again.starts_with(&status), "{path} {known}: {again}");
        }
        assert_eq!(
            head(&api, "HEAD", path, "").await?.lines().next(),
            first.lines().next()
        );
        let posted = head(&api, "POST", path, "").await?;
        assert!(posted.starts_with("HTTP/1.1 405 "), "{path}: {posted}");
    }
    Ok(())
}
