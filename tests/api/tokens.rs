//! Who may do what: every function without a token, with a wrong one, and with each scope.

use std::path::Path;

use anyhow::Result;
use jackfield_tests::{Api, LogLine, Node, Protocol, answer, run_node_binary, within};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::BOTH;

/// Each is called NAME, and the token is `NAME-token`; the digests are what
/// `printf %s NAME-token | sha256sum` prints.
pub(super) const TOKENS: &str = r#"
[[token]]
name = "read"
sha256 = "0328587016f9e316b9c31c94f944a2c453e1494a564062b5eab68039c75b58bf"
scopes = ["read"]

[[token]]
name = "send"
sha256 = "85db1657a3d9476cdd07babfbd470539a1dc03a213f6b496d3ae0e1a3bfd995c"
scopes = ["send"]

[[token]]
name = "manage"
sha256 = "393f15c3bdfe28fd06f2c7784a68f17bce725b13b3ef017655e1cbe98cb765fe"
scopes = ["manage"]

[[token]]
name = "operate"
sha256 = "2de8e6cbdda43d8f8c4f33e79b7296ad4159d03cf42dbdf39c1e48ba6547fc61"
scopes = ["operate"]

[[token]]
name = "inspect"
sha256 = "848bc99cc4456a69e7042c4beb81d0c32985dfcb1c5b1128d7bf114c12dacda5"
scopes = ["inspect"]

[[token]]
name = "chat"
sha256 = "f782c6855e3280eaef1d6f6de3556ffd08decd912ef0a064e4466b1c28d3fb13"
scopes = ["read", "send", "manage", "inspect", "operate"]
plugins = ["chat"]

[[token]]
name = "old"
sha256 = "9bdf10a691a1cfda89d9ff66629d1609ab176cec9b6a3146a8929f28937a9fce"
scopes = ["read", "send", "manage", "inspect", "operate"]
expires = "2001-01-01T00:00:00Z"
"#;

/// Each function, a request that is well formed, and the scope it needs.
fn functions() -> Vec<(&'static str, Value, &'static str)> {
    const ID: &str = "7zzzzzzzzzzzzzzzzzzzzzzzzz";
    let message = json!({ "text": "m" });
    vec![
        ("send-to-all", json!({ "message": message }), "send"),
        (
            "send-to-client",
            json!({ "client": ID, "message": message }),
            "send",
        ),
        (
            "send-to-uid",
            json!({ "uids": ["u"], "message": message }),
            "send",
        ),
        (
            "send-to-group",
            json!({ "groups": ["g"], "message": message }),
            "send",
        ),
        ("bind-uid", json!({ "client": ID, "uid": "u" }), "manage"),
        ("unbind-uid", json!({ "client": ID }), "manage"),
        ("is-uid-online", json!({ "uid": "u" }), "read"),
        ("get-uid-by-client-id", json!({ "client": ID }), "read"),
        ("get-client-ids-by-uid", json!({ "uid": "u" }), "read"),
        ("get-all-uids", json!({}), "read"),
        (
            "join-group",
            json!({ "client": ID, "group": "g" }),
            "manage",
        ),
        (
            "leave-group",
            json!({ "client": ID, "group": "g" }),
            "manage",
        ),
        ("ungroup", json!({ "group": "g" }), "manage"),
        ("get-client-count-by-group", json!({ "group": "g" }), "read"),
        ("get-client-ids-by-group", json!({ "group": "g" }), "read"),
        ("get-uids-by-group", json!({ "group": "g" }), "read"),
        ("get-uid-count-by-group", json!({ "group": "g" }), "read"),
        ("get-all-groups", json!({}), "read"),
        ("is-online", json!({ "client": ID }), "read"),
        ("get-all-client-count", json!({}), "read"),
        ("close-client", json!({ "client": ID }), "manage"),
        ("close-uid", json!({ "uid": "u" }), "manage"),
        ("close-group", json!({ "group": "g" }), "manage"),
        ("get-info", json!({ "client": ID }), "read"),
        ("set-info", json!({ "client": ID, "info": {} }), "manage"),
        ("update-info", json!({ "client": ID }), "manage"),
        ("call", json!({ "method": "echo" }), "send"),
        ("get-all-client-ids", json!({}), "read"),
        ("get-client", json!({ "client": ID }), "read"),
        ("get-timers", json!({}), "read"),
        ("get-builds", json!({}), "read"),
        ("rollback", json!({ "digest": "none" }), "operate"),
    ]
}

/// A node with these tokens, and their file.
pub(super) async fn guarded(tokens: &str) -> Result<(Node, NamedTempFile)> {
    let file = NamedTempFile::new()?;
    std::fs::write(file.path(), tokens)?;
    let path = file.path().to_string_lossy().into_owned();
    let node = Node::builder()
        .alone()
        .plugin("console")
        .arguments(&["--api-tokens", &path])
        .start()
        .await?;
    Ok((node, file))
}

async fn reason(api: &Api, function: &str, request: &Value) -> Result<Option<String>> {
    let answer = api.call("console", function, request.clone()).await?;
    Ok(answer.err().map(|refusal| refusal.reason))
}

#[tokio::test]
async fn every_function_needs_its_scope_over_both_protocols() -> Result<()> {
    let (node, _file) = guarded(TOKENS).await?;
    for protocol in BOTH {
        let nobody = node.calls(protocol)?;
        for (function, request, needed) in functions() {
            for api in [
                nobody.clone(),
                nobody.with_token("made-up-token"),
                nobody.with_token("old-token"),
                nobody.with_token("read"),
            ] {
                let refused = reason(&api, function, &request).await?;
                assert_eq!(refused.as_deref(), Some("UNAUTHENTICATED"), "{function}");
            }
            let chat = nobody.with_token("chat-token");
            let refused = reason(&chat, function, &request).await?;
            assert_eq!(refused.as_deref(), Some("DENIED"), "{function}");
            for scope in ["read", "send", "manage", "inspect", "operate"] {
                let api = nobody.with_token(&format!("{scope}-token"));
                let refused = reason(&api, function, &request).await?;
                let is_denied = refused.as_deref() == Some("DENIED");
                assert_eq!(
                    is_denied,
                    scope != needed,
                    "{function} with {scope}: {refused:?}"
                );
            }
        }
        // In a batch each operation needs its own.
        let operations = json!([
            { "get_all_client_count": { "plugin": "console" } },
            { "ungroup": { "plugin": "console", "group": "g" } },
        ]);
        let reader = nobody.with_token("read-token");
        let done = reader.batch(operations.clone()).await?.expect("a batch");
        assert_eq!(done["outcomes"][0]["count"]["value"], 0);
        assert_eq!(done["outcomes"][1]["error"]["reason"], "DENIED");
        let refused = nobody.batch(operations).await?.expect_err("no token");
        assert_eq!(refused.reason, "UNAUTHENTICATED");
    }
    Ok(())
}

#[tokio::test]
async fn each_call_that_changes_something_leaves_a_line() -> Result<()> {
    let (node, _file) = guarded(TOKENS).await?;
    let is_audit = |line: &LogLine| line.says("a call of the API that changes something");
    let mut expected = Vec::new();
    for protocol in BOTH {
        let nobody = node.calls(protocol)?;
        for (function, request, scope) in functions() {
            for caller in ["manage", "operate", "read"] {
                let api = nobody.with_token(&format!("{caller}-token"));
                let refused = reason(&api, function, &request).await?;
                if ["manage", "operate"].contains(&scope) {
                    let named = |name: &str| request[name].as_str().unwrap_or_default().to_owned();
                    expected.push([
                        caller.to_owned(),
                        function.replace('-', "_"),
                        "console".to_owned(),
                        named("client"),
                        named("uid"),
                        named("group"),
                        refused.unwrap_or("ok".to_owned()),
                    ]);
                }
            }
        }
        // In a batch as well.
        let operations = json!([{ "ungroup": { "plugin": "console", "group": "tea" } }]);
        let manager = nobody.with_token("manage-token");
        manager.batch(operations).await?.expect("a batch");
        let line = ["manage", "ungroup", "console", "", "", "tea", "ok"];
        expected.push(line.map(str::to_owned));
    }
    within("the last line", async {
        while node.log().so_far(is_audit).len() < expected.len() {
            tokio::task::yield_now().await;
        }
        anyhow::Ok(())
    })
    .await?;
    let fields = [
        "caller", "function", "plugin", "client", "uid", "group", "outcome",
    ];
    let lines = node.log().so_far(is_audit).into_iter();
    let lines: Vec<_> = lines
        .map(|line| fields.map(|field| line.text(field).to_owned()))
        .collect();
    assert_eq!(lines, expected);
    Ok(())
}

#[tokio::test]
async fn what_operators_ask_needs_a_token_and_what_probes_ask_does_not() -> Result<()> {
    let (node, _file) = guarded(TOKENS).await?;
    let nobody = node.calls(BOTH[0])?;
    for path in ["/live", "/ready", "/openapi.json", "/docs"] {
        let response = nobody.http("GET", path, &[], "").await?;
        assert_eq!(response.status, 200, "{path}");
    }
    for path in ["/v1/nodes", "/v1/events", "/metrics"] {
        let response = nobody.http("GET", path, &[], "").await?;
        assert_eq!(response.status, 401, "{path}");
        assert_eq!(response.headers["www-authenticate"], "Bearer");
        let sender = nobody.with_token("send-token");
        let response = sender.http("GET", path, &[], "").await?;
        assert_eq!(response.status, 403, "{path}");
    }
    let nodes = nobody
        .with_token("chat-token")
        .http("GET", "/v1/nodes", &[], "")
        .await?;
    let nodes = answer(&nodes)?.expect("nodes");
    assert_eq!(nodes["node"]["plugins"], json!([]), "its plugins only");
    Ok(())
}

/// Only who may do so with all plugins may end the node.
#[tokio::test]
async fn the_end_of_a_node_needs_a_token_for_all_plugins() -> Result<()> {
    let (node, _file) = guarded(TOKENS).await?;
    let nobody = node.calls(BOTH[0])?;
    let drain = async |api: &Api| {
        let response = api.http("POST", "/v1/drain", &[], "").await?;
        anyhow::Ok(response.status)
    };
    assert_eq!(drain(&nobody).await?, 401);
    for token in ["read-token", "send-token", "manage-token", "chat-token"] {
        assert_eq!(drain(&nobody.with_token(token)).await?, 403, "{token}");
    }
    let refused = nobody.http("GET", "/v1/drain", &[], "").await?;
    assert_eq!(refused.status, 405);
    let mut ada = node.console(&[]).await?;
    assert_eq!(drain(&nobody.with_token("operate-token")).await?, 200);
    assert_eq!(ada.end().await?.code(), 1012);
    let stopped = node.wait().await?;
    assert!(stopped.status.success(), "{:?}", stopped.status);
    let is_drain = |line: &LogLine| line.text("function") == "drain";
    let lines = stopped.log.so_far(is_drain);
    assert_eq!(lines.len(), 5, "each try with a token leaves a line");
    Ok(())
}

#[tokio::test]
async fn tokens_are_read_again_when_their_file_changes() -> Result<()> {
    let (node, file) = guarded(TOKENS).await?;
    let reader = node.calls(BOTH[0])?.with_token("read-token");
    let count = json!({});
    assert_eq!(reason(&reader, "get-all-client-count", &count).await?, None);

    std::fs::write(file.path(), "no tokens at all")?;
    node.wait_for_log(stay_as_they_were).await?;
    assert_eq!(reason(&reader, "get-all-client-count", &count).await?, None);

    std::fs::write(file.path(), TOKENS.replace("0", "1"))?;
    until_refused(&reader).await
}

/// Whatever `stat` says of the file: a token that was taken away is refused.
#[tokio::test]
async fn a_file_of_the_same_length_and_times_takes_tokens_away() -> Result<()> {
    let revoked = revoked();
    for by_rename in [false, true] {
        let (node, file) = guarded(TOKENS).await?;
        let reader = node.calls(BOTH[0])?.with_token("read-token");
        assert_eq!(
            reason(&reader, "get-all-client-count", &json!({})).await?,
            None
        );
        let times = std::fs::FileTimes::new().set_modified(file.as_file().metadata()?.modified()?);
        let path = match by_rename {
            true => file.path().with_extension("new"),
            false => file.path().to_owned(),
        };
        std::fs::write(&path, &revoked)?;
        std::fs::File::options()
            .write(true)
            .open(&path)?
            .set_times(times)?;
        if by_rename {
            std::fs::rename(&path, file.path())?;
        }
        until_refused(&reader).await?;
    }
    Ok(())
}

/// As Kubernetes changes a secret: the file is a link through `..data`, which is replaced.
#[tokio::test]
async fn tokens_of_a_mounted_secret_are_read_again() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let versions = [("..one", TOKENS.to_owned()), ("..two", revoked())];
    for (version, text) in &versions {
        std::fs::create_dir(folder.path().join(version))?;
        std::fs::write(folder.path().join(version).join("tokens.toml"), text)?;
    }
    let lead_to = |version: &str| {
        let link = folder.path().join("..data_tmp");
        std::os::unix::fs::symlink(version, &link)?;
        std::fs::rename(link, folder.path().join("..data"))
    };
    lead_to("..one")?;
    let file = folder.path().join("tokens.toml");
    std::os::unix::fs::symlink("..data/tokens.toml", &file)?;
    let node = Node::builder()
        .alone()
        .plugin("console")
        .arguments(&["--api-tokens", &file.to_string_lossy()])
        .start()
        .await?;
    let reader = node.calls(BOTH[0])?.with_token("read-token");
    assert_eq!(
        reason(&reader, "get-all-client-count", &json!({})).await?,
        None
    );
    lead_to("..two")?;
    until_refused(&reader).await
}

#[tokio::test]
async fn tokens_stay_while_their_file_says_none_and_the_log_says_so_once() -> Result<()> {
    let (node, file) = guarded(TOKENS).await?;
    let reader = node.calls(BOTH[0])?.with_token("read-token");
    let told = |why: &'static str| {
        move |line: &LogLine| stay_as_they_were(line) && line.text("error").contains(why)
    };
    type Break = fn(&Path) -> std::io::Result<()>;
    let broken: [(&'static str, Break); 5] = [
        ("has no [[token]]", |path| std::fs::write(path, "")),
        ("invalid utf-8", |path| std::fs::write(path, [0xff])),
        ("more than the 1048576", |path| {
            std::fs::write(path, "#".repeat(2 << 20))
        }),
        ("is a directory", |path| {
            std::fs::remove_file(path)?;
            std::fs::create_dir(path)
        }),
        ("No such file", |path| std::fs::remove_dir(path)),
    ];
    for (why, break_it) in broken {
        break_it(file.path())?;
        node.wait_for_log(told(why)).await?;
        assert_eq!(
            reason(&reader, "get-all-client-count", &json!({})).await?,
            None
        );
        let unknown = node.calls(BOTH[0])?.with_token("made-up-token");
        let refused = reason(&unknown, "get-all-client-count", &json!({})).await?;
        assert_eq!(refused.as_deref(), Some("UNAUTHENTICATED"));
    }
    // It is right again, and says what it said: the log tells that as well.
    std::fs::write(file.path(), TOKENS)?;
    node.wait_for_log(|line| line.says("tokens were read again"))
        .await?;
    let complaints = node.log().so_far(stay_as_they_were);
    assert_eq!(complaints.len(), 5, "{complaints:?}");
    std::fs::write(file.path(), revoked())?;
    until_refused(&reader).await
}

/// Of the same length as `TOKENS`, and another secret under each name.
fn revoked() -> String {
    TOKENS.replace("0", "1")
}

fn stay_as_they_were(line: &LogLine) -> bool {
    line.says("tokens stay as they were")
}

async fn until_refused(api: &Api) -> Result<()> {
    let refused = async {
        while reason(api, "get-all-client-count", &json!({}))
            .await?
            .is_none()
        {}
        anyhow::Ok(())
    };
    within("the token to be refused", refused).await
}

#[tokio::test]
async fn a_stream_of_events_ends_with_its_token() -> Result<()> {
    for protocol in BOTH {
        let (node, file) = guarded(TOKENS).await?;
        let reader = node.calls(protocol)?.with_token("read-token");
        let mut events = reader.watch(&[]).await?;
        let ada = node.console(&[]).await?;
        let connected = events.next().await?.expect("an event");
        assert_eq!(connected["client_connected"]["client"], ada.id());
        // Another secret under the same name.
        std::fs::write(file.path(), TOKENS.replace("0", "1"))?;
        match events.next().await {
            Ok(last) => assert_eq!((protocol, last), (Protocol::Http, None)),
            Err(error) => {
                let error = format!("{error:#}");
                assert_eq!(protocol, Protocol::Grpc);
                assert!(
                    error.contains("the token has expired, or has changed"),
                    "{error}"
                );
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn without_tokens_only_this_machine_and_this_port_s_own_page_are_listened_to() -> Result<()> {
    let output =
        run_node_binary(&["node", "--listen", "127.0.0.1:0", "--api", "0.0.0.0:0"]).await?;
    assert_ne!(output.code, 0);
    assert!(output.text().contains("--api-tokens"), "{}", output.text());

    let node = Node::start_alone("console").await?;
    let api = node.calls(BOTH[0])?;
    let path = "/v1/plugins/console/get-all-client-count";
    let page = [
        ("origin", "http://evil.example"),
        ("content-type", "application/json"),
    ];
    let response = api.http("POST", path, &page, "{}").await?;
    assert_eq!(response.status, 403);
    // A browser's page, and one whose own name leads here: what they send says so.
    for (headers, status) in [
        ("host: evil.example:8081", 403),
        ("host: localhost.evil.example", 403),
        ("host: 10.0.0.1", 403),
        ("host: localhost\r\nsec-fetch-site: cross-site", 403),
        ("host: localhost:3000\r\nsec-fetch-site: same-site", 403),
        ("host: localhost:8081\r\nsec-fetch-site: same-origin", 200),
        ("host: localhost:8081\r\norigin: http://localhost:8081", 200),
        ("host: localhost:8081\r\norigin: http://localhost:3000", 403),
        ("host: localhost:8081\r\norigin: http://127.0.0.1:8081", 403),
        // A node whose API has TLS is asked so.
        (
            "host: localhost:8081\r\norigin: https://localhost:8081",
            200,
        ),
        (
            "host: localhost:8081\r\norigin: https://localhost:3000",
            403,
        ),
        ("host: localhost:8081\r\norigin: null", 403),
        ("host: localhost:8081\r\norigin:", 403),
        (
            "host: localhost:8081\r\norigin: http://localhost:8081\r\norigin: http://evil.example",
            403,
        ),
        (
            "host: localhost:8081\r\norigin: http://localhost:8081\r\nsec-fetch-site: cross-site",
            403,
        ),
        (
            "host: evil.example\r\norigin: http://evil.example\r\nsec-fetch-site: same-origin",
            403,
        ),
        ("host: 127.0.0.1:8081\r\nsec-fetch-site: none", 200),
        ("host: [::1]:8081", 200),
        ("host: LOCALHOST", 200),
    ] {
        let request = format!("GET {path} HTTP/1.1\r\n{headers}\r\nconnection: close\r\n\r\n");
        let answer = api.exchange(&request).await?;
        let wanted = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&wanted), "{headers}: {answer}");
    }
    // What a page may send unasked is no JSON.
    let form = [("content-type", "text/plain")];
    let response = api.http("POST", path, &form, "{}").await?;
    assert_eq!(response.status, 415);
    Ok(())
}

#[tokio::test]
async fn a_wrong_file_of_tokens_keeps_the_node_from_starting() -> Result<()> {
    let file = NamedTempFile::new()?;
    std::fs::write(
        file.path(),
        "[[token]]\nname = 'a'\nsha256 = 'b'\nscopes = []\n",
    )?;
    let path = file.path().to_string_lossy();
    let arguments = [
        "node",
        "--listen",
        "127.0.0.1:0",
        "--api",
        "127.0.0.1:0",
        "--api-tokens",
        &path,
    ];
    let output = run_node_binary(&arguments).await?;
    assert_ne!(output.code, 0);
    assert!(
        output.text().contains("sha256 of \"a\""),
        "{}",
        output.text()
    );
    Ok(())
}
