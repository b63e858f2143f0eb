//! Requests and their answers as text, the way a client sees them, against the SDK's stand-in.

use std::time::Duration;

use jackfield_sdk::testing::{Client, Host};
use jackfield_sdk::{CallErrorCode, Caller, Handshake, Level, Message, Refuse};

use super::Console;
use super::operations::{OPERATIONS, Operation};

fn connect(host: &Host<Console>, query: &[(&str, &str)]) -> Result<Client<Console>, Refuse> {
    host.connect_with(Handshake {
        path: "/console".to_owned(),
        query: query
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect(),
        subprotocols: vec!["v1".to_owned()],
        ..Handshake::default()
    })
}

/// A client that has heard its `connected` event.
fn client(host: &Host<Console>, query: &[(&str, &str)]) -> Client<Console> {
    let client = connect(host, query).expect("let in");
    assert!(
        texts(&client)
            .last()
            .expect("an event")
            .starts_with(r#"{"event":"connected""#)
    );
    client
}

fn texts(client: &Client<Console>) -> Vec<String> {
    let messages = client.received().into_iter();
    messages
        .map(|message| message.as_text().expect("text").to_owned())
        .collect()
}

/// The one answer to a request.
fn ask(client: &Client<Console>, request: &str) -> String {
    client.say(request);
    let mut answers = texts(client);
    assert_eq!(answers.len(), 1, "{request}: {answers:?}");
    answers.remove(0)
}

const ONE: &str = r#"{"value":1,"missing":[]}"#;
const NONE: &str = r#"{"clients":0,"dropped":0,"missing":[]}"#;

/// Requests and what `ok` is, in an order that makes sense.
const STEPS: &[(&str, &str)] = &[
    (
        r#""do":"send-to-all","text":"m","exclude":["$me"]"#,
        r#"{"clients":1,"dropped":0,"missing":[]}"#,
    ),
    (
        r#""do":"send-to-client","client":"$other","binary":"AQID""#,
        "null",
    ),
    (r#""do":"spin","ms":1"#, "null"),
    (r#""do":"send-to-uid","uids":["x","y"],"text":"m""#, NONE),
    (r#""do":"send-to-uid","uid":"x","text":"m""#, NONE),
    (r#""do":"send-to-group","group":"none","text":"m""#, NONE),
    (
        r#""do":"send-to-group","groups":["tea"],"text":"m","exclude":"$other""#,
        NONE,
    ),
    (r#""do":"bind-uid","uid":"ada""#, "null"),
    (r#""do":"is-uid-online","uid":"ada""#, "true"),
    (r#""do":"get-uid-by-client-id""#, r#""ada""#),
    (
        r#""do":"get-client-ids-by-uid","uid":"ada""#,
        r#"{"items":["$me"],"next":null,"missing":[]}"#,
    ),
    (
        r#""do":"get-all-uids","limit":1000"#,
        r#"{"items":["ada","bob"],"next":null,"missing":[]}"#,
    ),
    (r#""do":"join-group","group":"g""#, "null"),
    (r#""do":"get-client-count-by-group","group":"g""#, ONE),
    (
        r#""do":"get-client-ids-by-group","group":"g""#,
        r#"{"items":["$me"],"next":null,"missing":[]}"#,
    ),
    (
        r#""do":"get-uids-by-group","group":"g""#,
        r#"{"items":["ada"],"next":null,"missing":[]}"#,
    ),
    (r#""do":"get-uid-count-by-group","group":"g""#, ONE),
    (
        r#""do":"get-all-groups","cursor":null"#,
        r#"{"items":["g","tea"],"next":null,"missing":[]}"#,
    ),
    (r#""do":"leave-group","group":"g""#, "null"),
    (r#""do":"ungroup","group":"tea""#, ONE),
    (r#""do":"unbind-uid","uid":"other""#, "false"),
    (r#""do":"unbind-uid""#, "true"),
    (r#""do":"get-uid-by-client-id""#, "null"),
    (r#""do":"is-online""#, "true"),
    (
        r#""do":"get-all-client-count""#,
        r#"{"value":2,"missing":[]}"#,
    ),
    (r#""do":"set-info","info":{"a":"1","b":"2"}"#, "null"),
    (
        r#""do":"update-info","info":{"a":null,"c":"3"}"#,
        r#"{"b":"2","c":"3"}"#,
    ),
    (r#""do":"get-info""#, r#"{"b":"2","c":"3"}"#),
    (
        r#""do":"close-uid","uid":"bob","code":4000,"reason":"r","text":"bye""#,
        ONE,
    ),
    (
        r#""do":"close-group","group":"g""#,
        r#"{"value":0,"missing":[]}"#,
    ),
    (
        r#""do":"call","plugin":"plugin","method":"echo","payload":"p""#,
        r#""p""#,
    ),
    (r#""do":"set-timer","name":"t","after_ms":10"#, "null"),
    (
        r#""do":"set-timer","name":"t","after_ms":10,"every_ms":20,"scope":"cluster""#,
        "null",
    ),
    (r#""do":"cancel-timer","name":"t""#, "true"),
    (
        r#""do":"cancel-timer","name":"t","scope":"cluster""#,
        "true",
    ),
    (r#""do":"cancel-timer","name":"t""#, "false"),
    (r#""do":"log","level":"warn","text":"l""#, "null"),
    (r#""do":"print","text":"p""#, "null"),
    (r#""do":"sleep","ms":0"#, "null"),
    (
        r#""do":"repeat","times":3,"request":{"do":"is-online"}"#,
        "true",
    ),
    (r#""do":"eat-memory","bytes":1000"#, "null"),
    (r#""do":"grow-memory","bytes":1000"#, "false"),
];

#[test]
fn every_operation_answers() {
    let host = Host::of::<Console>().allow_calls(&["plugin"]);
    host.beside(&host);
    let me = client(&host, &[]);
    let other = client(&host, &[("uid", "bob"), ("group", "tea")]);
    let named = |text: &str| {
        text.replace("$me", me.id().as_str())
            .replace("$other", other.id().as_str())
    };
    for (number, (request, ok)) in STEPS.iter().enumerate() {
        let request = format!(r#"{{"id":{number},{}}}"#, named(request));
        let answer = format!(r#"{{"id":{number},"ok":{}}}"#, named(ok));
        assert_eq!(ask(&me, &request), answer, "{request}");
    }
    let heard = [
        Message::from("m"),
        Message::from(vec![1, 2, 3]),
        Message::from("bye"),
    ];
    assert_eq!(other.received(), heard);
    assert_eq!(other.closed(), Some((4000, "r".to_owned())));
    assert_eq!(host.logs(), [(Level::Warn, "l".to_owned())]);
}

#[test]
fn it_can_be_called() {
    let host = Host::of::<Console>();
    let call = |method, payload: &str| {
        let backend = Caller::Api("t".to_owned());
        let answer = host.call(backend, method, payload);
        answer.map(|answer| String::from_utf8(answer).expect("text"))
    };
    for (method, payload, answer) in [
        ("echo", "p", "p"),
        ("caller", "", "api t"),
        ("bytes", "3", "..."),
        (
            "do",
            "get-all-client-count",
            r#"{"id":null,"ok":{"value":0,"missing":[]}}"#,
        ),
    ] {
        assert_eq!(call(method, payload).as_deref(), Ok(answer), "{method}");
    }
    let join = call("do", r#"{"id":1,"do":"join-group","group":"g"}"#).expect("an answer");
    let start = r#"{"id":1,"error":{"code":"invalid-argument""#;
    assert!(join.starts_with(start), "nobody joins: {join}");
    for (method, payload, code) in [
        ("fail", "denied", CallErrorCode::Denied),
        ("fail", "so", CallErrorCode::InvalidArgument),
        ("bytes", "many", CallErrorCode::InvalidArgument),
        ("dance", "", CallErrorCode::UnknownMethod),
    ] {
        assert_eq!(call(method, payload).expect_err(method).code, code);
    }
}

#[test]
fn the_plugin_says_who_it_is() {
    let host = Host::of::<Console>();
    let client = client(&host, &[]);
    for name in ["identify", "generation"] {
        let answer = ask(&client, &format!(r#"{{"do":"{name}"}}"#));
        let start = r#"{"id":null,"ok":{"plugin":"plugin","generation":1,"node":""#;
        assert!(answer.starts_with(start), "{answer}");
    }
}

#[test]
fn a_reply_comes_before_the_answer() {
    let client = client(&Host::of::<Console>(), &[]);
    client.say(r#"{"id":1,"do":"reply","text":"m"}"#);
    assert_eq!(texts(&client), ["m", r#"{"id":1,"ok":null}"#]);
}

#[test]
fn no_answer_reaches_a_client_that_closed_itself() {
    let host = Host::of::<Console>();
    let client = client(&host, &[]);
    client.say(r#"{"do":"close-client","code":4001}"#);
    assert_eq!(client.closed(), Some((4001, String::new())));
    assert!(texts(&client).is_empty());
    assert!(host.logs().is_empty(), "and that is no news");
}

#[test]
fn every_operation_is_tried() {
    let elsewhere = ["reply", "close-client", "identify", "generation", "panic"];
    // These end the process, or never end.
    let on_a_node_only = ["unreachable", "spin-host", "overflow-stack", "exit"];
    for Operation { name, .. } in OPERATIONS {
        let start = format!(r#""do":"{name}""#);
        let here = STEPS.iter().any(|(request, _)| request.starts_with(&start));
        let known = here || elsewhere.contains(name) || on_a_node_only.contains(name);
        assert!(known, "{name} is not tried");
    }
}

#[test]
fn errors_say_what_was_expected() {
    let host = Host::of::<Console>();
    let client = client(&host, &[]);
    for (request, id, words) in [
        ("hello", "null", "a JSON object"),
        ("[1]", "null", "a JSON object"),
        (r#"{"id":[1,"a"]}"#, r#"[1,"a"]"#, r#"\"do\":"#),
        (
            r#"{"id":"x","do":"jump"}"#,
            r#""x""#,
            "send-to-all, send-to-client",
        ),
        (
            r#"{"id":1,"do":"join-group"}"#,
            "1",
            "client?, group: missing field `group`",
        ),
        (
            r#"{"id":1,"do":"join-group","grup":"g"}"#,
            "1",
            "unknown field `grup`",
        ),
        (
            r#"{"id":1,"do":"join-group","group":7}"#,
            "1",
            "integer `7`, expected a string",
        ),
        (
            r#"{"id":1,"do":"get-all-uids","limit":-1}"#,
            "1",
            "integer `-1`, expected u32",
        ),
        (
            r#"{"id":1,"do":"close-client","code":70000}"#,
            "1",
            "integer `70000`, expected u16",
        ),
        (
            r#"{"id":1,"do":"send-to-uid","uid":7,"text":""}"#,
            "1",
            "a string or an array of strings",
        ),
        (
            r#"{"id":1,"do":"send-to-all"}"#,
            "1",
            "give `text`, or `binary` in base64",
        ),
        (
            r#"{"id":1,"do":"send-to-all","binary":"?"}"#,
            "1",
            "not base64",
        ),
        (
            r#"{"id":1,"do":"send-to-all","binary":"","text":""}"#,
            "1",
            "not both",
        ),
        (
            r#"{"id":1,"do":"log","level":"loud","text":""}"#,
            "1",
            "unknown variant `loud`",
        ),
        (
            r#"{"id":1,"do":"repeat","times":2,"request":{"do":"hop"}}"#,
            "1",
            "`hop`",
        ),
        (r#"{"id":1,"do":"bind-uid","uid":""}"#, "1", "uid"),
    ] {
        let answer = ask(&client, request);
        let start = format!(r#"{{"id":{id},"error":{{"code":"invalid-argument","message":""#);
        assert!(answer.starts_with(&start), "{request}: {answer}");
        assert!(answer.contains(words), "{request}: {answer}");
    }
    client.say(vec![0xff]);
    assert!(texts(&client)[0].contains("this was a binary message"));
    let answer = ask(
        &client,
        r#"{"do":"get-info","client":"7zzzzzzzzzzzzzzzzzzzzzzzzz"}"#,
    );
    assert!(
        answer.starts_with(r#"{"id":null,"error":{"code":"not-found""#),
        "{answer}"
    );
}

#[test]
fn the_query_steers_the_handshake() {
    let host = Host::of::<Console>();
    let query = [
        ("say", "hi"),
        ("do", r#"{"id":1,"do":"is-online"}"#),
        ("uid", "ada"),
        ("group", "a"),
        ("group", "b"),
        ("info.k", "v"),
        ("subprotocol", "v1"),
    ];
    let client = connect(&host, &query).expect("let in");
    let id = client.id();
    let connected = format!(r#"{{"event":"connected","client":"{id}","generation":1}}"#);
    assert_eq!(texts(&client), ["hi", r#"{"id":1,"ok":true}"#, &connected]);
    assert_eq!(client.subprotocol(), Some("v1"));
    assert_eq!(
        ask(&client, r#"{"do":"get-info"}"#),
        r#"{"id":null,"ok":{"k":"v"}}"#
    );
    assert_eq!(
        ask(&client, r#"{"do":"get-uid-by-client-id"}"#),
        r#"{"id":null,"ok":"ada"}"#
    );
    assert!(ask(&client, r#"{"do":"get-all-groups"}"#).contains(r#"["a","b"]"#));

    for (query, status, reason) in [
        (&[("refuse", "403"), ("reason", "no")][..], 403, "no"),
        (
            &[("refuse", "403"), ("reason", "no"), ("times", "2")],
            403,
            "nono",
        ),
        (&[("refuse", "no")], 400, "give an HTTP status"),
        (&[("do", "jump")], 400, "it is one of send-to-all"),
        (&[("subprotocol", "v2")], 500, "v2"),
    ] {
        let refused = connect(&host, query).expect_err("refused");
        assert_eq!(refused.status, status);
        assert!(refused.reason.contains(reason), "{refused:?}");
    }
}

#[test]
fn a_handshake_is_shown_when_asked_for() {
    let host = Host::of::<Console>();
    let client = connect(&host, &[("handshake", "1")]).expect("let in");
    let shown = r#""handshake":{"path":"/console","query":[["handshake","1"]],"headers":[],"remote_address":"","subprotocols":["v1"],"uid":null}}"#;
    assert!(texts(&client)[0].ends_with(shown));
}

#[test]
#[should_panic(expected = "asked to panic")]
fn on_connect_can_be_asked_to_panic() {
    let _ = connect(&Host::of::<Console>(), &[("do", "panic")]);
}

#[test]
#[should_panic(expected = "with this")]
fn a_panic_says_what_it_was_asked_to_say() {
    client(&Host::of::<Console>(), &[]).say(r#"{"do":"panic","message":"with this"}"#);
}

#[test]
#[should_panic(expected = "asked to panic")]
fn on_close_can_be_asked_to_panic() {
    client(&Host::of::<Console>(), &[("info.on-close", "panic")]).leave();
}

#[test]
fn watchers_hear_who_has_left() {
    let host = Host::of::<Console>();
    let watcher = client(&host, &[("group", "watch-close")]);
    let query = [
        ("uid", "ada"),
        ("group", "g"),
        ("info.on-close-leave", "g"),
        ("info.on-close", r#"{"id":5,"do":"bind-uid","uid":"u"}"#),
    ];
    let leaver = client(&host, &query);
    leaver.leave_with(4000, "dinner");

    let heard = texts(&watcher);
    let id = leaver.id();
    let closed = format!(
        r#"{{"event":"closed","client":"{id}","code":4000,"reason":"dinner","by":"client","uid":"ada","groups":["g"],"info":"#
    );
    assert!(heard[0].starts_with(&closed), "{}", heard[0]);
    let left = r#"{"event":"on-close-leave","error":{"code":"closed","message":""#;
    assert!(heard[1].starts_with(left), "{}", heard[1]);
    let bound = r#"{"event":"on-close","id":5,"error":{"code":"closed","message":""#;
    assert!(heard[2].starts_with(bound), "{}", heard[2]);
}

#[test]
fn timers_are_heard_and_do_what_their_names_say() {
    let host = Host::of::<Console>();
    let watcher = client(&host, &[("group", "timers")]);
    for name in [
        "tea",
        r#"do:{\"id\":1,\"do\":\"is-uid-online\",\"uid\":\"u\"}"#,
    ] {
        let set = format!(r#"{{"do":"set-timer","name":"{name}","after_ms":10}}"#);
        assert_eq!(ask(&watcher, &set), r#"{"id":null,"ok":null}"#);
    }
    host.advance(Duration::from_millis(10));
    let heard = texts(&watcher);
    let fired = r#"{"event":"timer","name":"tea","generation":1,"node":""#;
    assert!(heard[0].starts_with(fired), "{}", heard[0]);
    assert!(heard[1].starts_with(r#"{"event":"timer","name":"do:{"#));
    let done = r#"{"event":"on-timer","name":"do:{\"id\":1,\"do\":\"is-uid-online\",\"uid\":\"u\"}","id":1,"ok":false}"#;
    assert_eq!(heard[2..], [done]);
}

#[test]
fn the_table_has_every_function_of_the_contract() {
    let wit = concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit/0.1");
    let mut functions = 0;
    for file in std::fs::read_dir(wit).expect("the contract is there") {
        let path = file.expect("a file").path();
        if path.ends_with("handler.wit") || path.ends_with("turns.wit") {
            continue; // what plugins export, and what is called for them
        }
        for line in std::fs::read_to_string(path).expect("text").lines() {
            if let Some((name, _)) = line.trim().split_once(": func(") {
                functions += 1;
                let there = OPERATIONS.iter().any(|operation| operation.name == name);
                assert!(there, "{name} is in the contract and not in the table");
            }
        }
    }
    assert!(functions > 25, "the contract was read");
}

#[test]
fn the_readme_has_every_operation() {
    let readme = include_str!("../README.md");
    for operation in OPERATIONS {
        let name = operation.name;
        assert!(
            readme.contains(&format!("`{name}`")),
            "{name} is not in the README"
        );
    }
}
