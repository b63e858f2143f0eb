//! Whatever comes: a node answers, and goes on.

use anyhow::{Context as _, Result};
use jackfield_tests::{Api, Console, Node};
use proptest::collection::{hash_map, vec};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, Value, json};

use super::BOTH;

/// Requests for each protocol, if `JACKFIELD_FUZZ_CASES` says nothing else.
const CASES: u32 = 768;

const FUNCTIONS: [&str; 27] = [
    "send-to-all",
    "send-to-client",
    "send-to-uid",
    "send-to-group",
    "bind-uid",
    "unbind-uid",
    "is-uid-online",
    "get-uid-by-client-id",
    "get-client-ids-by-uid",
    "get-all-uids",
    "join-group",
    "leave-group",
    "ungroup",
    "get-client-count-by-group",
    "get-client-ids-by-group",
    "get-uids-by-group",
    "get-uid-count-by-group",
    "get-all-groups",
    "is-online",
    "get-all-client-count",
    "close-client",
    "close-uid",
    "close-group",
    "get-info",
    "set-info",
    "update-info",
    "call",
];

/// Every field that some request has, so that some of them fit.
const FIELDS: [&str; 20] = [
    "plugin",
    "message",
    "exclude",
    "idempotency_key",
    "client",
    "uids",
    "uid",
    "groups",
    "group",
    "cursor",
    "limit",
    "code",
    "reason",
    "last_message",
    "info",
    "set",
    "delete",
    "text",
    "binary",
    "operations",
];

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        select(vec![
            "ada",
            "g",
            "AAH/",
            "console",
            "7zzzzzzzzzzzzzzzzzzzzzzzzz"
        ])
        .prop_map(Value::from),
    ];
    let names = prop_oneof![
        8 => select(FIELDS.to_vec()).prop_map(str::to_owned),
        1 => any::<String>(),
    ];
    leaf.prop_recursive(4, 32, 6, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            hash_map(names.clone(), inner, 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

fn functions() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => select(FUNCTIONS.to_vec()).prop_map(str::to_owned),
        1 => "[ -~]{0,40}",
    ]
}

/// As few characters as a request line must not have are left out.
fn paths() -> impl Strategy<Value = String> {
    let queries = prop_oneof![
        Just(String::new()),
        "[!-~]{0,60}".prop_map(|query| format!("?{query}")),
    ];
    let paths = prop_oneof![
        8 => functions().prop_map(|function| format!("/v1/plugins/console/{}", function.replace(' ', "-"))),
        1 => Just("/v1/batch".to_owned()),
        1 => "/[!-~]{0,60}",
    ];
    (paths, queries).prop_map(|(path, query)| path.replace('#', "-") + &query.replace('#', "-"))
}

fn bodies() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => values().prop_map(|value| value.to_string()),
        1 => any::<String>(),
    ]
}

/// Whether the node is as it was: somebody who asks is answered.
async fn goes_on(node: &Node, console: &mut Console) -> Result<()> {
    // Whatever was sent, closed or bound meanwhile: a new one is served.
    *console = node.console(&[]).await?;
    let id = console.ok(json!({ "do": "get-all-client-count" })).await?;
    anyhow::ensure!(id["value"].as_u64().is_some_and(|count| count > 0), "{id}");
    Ok(())
}

fn cases() -> Result<u32> {
    match std::env::var("JACKFIELD_FUZZ_CASES") {
        Ok(cases) => cases.parse().context("JACKFIELD_FUZZ_CASES is no number"),
        Err(_) => Ok(CASES),
    }
}

fn fuzz<S: Strategy>(
    strategy: S,
    case: impl AsyncFn(&Api, S::Value) -> Result<()>,
    protocol: usize,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (node, api, mut console) = runtime.block_on(async {
        let node = Node::builder()
            .alone()
            .plugin("console")
            .config("limits.connects_per_second = 0\n")
            .start()
            .await?;
        let api = node.calls(BOTH[protocol])?;
        let console = node.console(&[("uid", "ada"), ("group", "g")]).await?;
        anyhow::Ok((node, api, console))
    })?;
    let config = Config {
        failure_persistence: None,
        ..Config::with_cases(cases()?)
    };
    let found = TestRunner::new(config).run(&strategy, |value| {
        let ended = runtime.block_on(case(&api, value));
        ended.map_err(|error| TestCaseError::fail(format!("{error:#}")))
    });
    found.map_err(|found| anyhow::anyhow!("{found}"))?;
    runtime
        .block_on(goes_on(&node, &mut console))
        .context("after all of them")?;
    let panicked = node
        .log()
        .so_far(|line| line.message().contains("panicked"));
    anyhow::ensure!(panicked.is_empty(), "{panicked:?}");
    Ok(())
}

#[test]
fn no_path_and_no_body_is_the_node_s_fault() -> Result<()> {
    let requests = (select(vec!["GET", "POST", "PUT"]), paths(), bodies());
    let case = async |api: &Api, (method, path, body): (&str, String, String)| {
        // Its answer has no end.
        if path.starts_with("/v1/events") {
            return Ok(());
        }
        let json = [("content-type", "application/json")];
        let response = api.http(method, &path, &json, &body).await?;
        anyhow::ensure!(
            response.status < 500,
            "{method} {path} {body}: {response:?}"
        );
        Ok(())
    };
    fuzz(requests, case, 0)
}

#[test]
fn no_message_is_the_node_s_fault() -> Result<()> {
    let requests = (select(FUNCTIONS.to_vec()), vec(any::<u8>(), 0..200));
    let case = async |api: &Api, (function, bytes): (&str, Vec<u8>)| {
        // What is no message at all is tonic's to refuse; what is one is ours.
        if let Err(refusal) = api.bytes(function, bytes.clone()).await? {
            let ours = ["Internal", "Unknown"].contains(&&*refusal.status);
            let is_decoding = refusal.message.contains("failed to decode");
            anyhow::ensure!(!ours || is_decoding, "{function} {bytes:?}: {refusal:?}");
        }
        Ok(())
    };
    fuzz(requests, case, 1)
}
