//! The SDK's native stand-in says what a real node says: one script, two wires.
//!
//! Each step is carried out on both. What is compared is everything that anybody saw: the
//! answer, what others heard, who was closed and how, and what `on-close` was told. Client
//! ids become their owners' names, and error messages only their codes; the order of a list
//! means nothing.

mod node;
mod stand_in;
mod wire;

use anyhow::Result;
use jackfield_sdk::testing::UidPolicy;
use serde_json::json;

use wire::{Step, ask, connect, hear_timer, leave, play, vanish};

/// What both say to `script`.
async fn both_say(policy: UidPolicy, script: &[Step]) -> Result<String> {
    let real = play(node::RealNode::start(policy).await?, script).await?;
    let native = play(stand_in::StandIn::start(policy)?, script).await?;
    for (real, native) in real.iter().zip(&native) {
        assert_eq!(native, real, "the stand-in (left) and the node disagree");
    }
    Ok(real.join("\n"))
}

#[tokio::test]
async fn sends() -> Result<()> {
    let said = both_say(
        UidPolicy::Many,
        &[
            connect(
                "ada",
                &[("uid", "ada"), ("group", "tea"), ("group", "cake")],
            ),
            connect("bob", &[("uid", "bob"), ("group", "tea"), ("say", "hello")]),
            connect(
                "eve",
                &[("do", r#"{"id":1,"do":"send-to-all","text":"eve is here"}"#)],
            ),
            ask("ada", r#"{"do":"send-to-all","text":"all"}"#),
            ask(
                "ada",
                r#"{"do":"send-to-all","text":"not eve","exclude":["$eve","$eve"]}"#,
            ),
            ask(
                "ada",
                r#"{"do":"send-to-all","text":"m","exclude":["$eve","eve"]}"#,
            ),
            ask(
                "ada",
                r#"{"do":"send-to-client","client":"$bob","binary":"AQID"}"#,
            ),
            ask("ada", r#"{"do":"send-to-client","text":""}"#),
            ask(
                "ada",
                r#"{"do":"send-to-client","client":"nobody","text":"m"}"#,
            ),
            ask(
                "ada",
                r#"{"do":"send-to-client","client":"7zzzzzzzzzzzzzzzzzzzzzzzzz","text":"m"}"#,
            ),
            ask(
                "eve",
                r#"{"do":"send-to-uid","uids":["ada","bob","ada","dan"],"text":"uids"}"#,
            ),
            ask(
                "eve",
                r#"{"do":"send-to-uid","uids":["ada",""],"text":"m"}"#,
            ),
            ask("eve", r#"{"do":"send-to-uid","uids":[],"text":"m"}"#),
            ask(
                "eve",
                r#"{"do":"send-to-group","groups":["tea","cake"],"text":"groups"}"#,
            ),
            ask(
                "eve",
                r#"{"do":"send-to-group","groups":["tea"],"text":"m","exclude":"$bob"}"#,
            ),
            ask(
                "eve",
                r#"{"do":"send-to-group","groups":["tea",""],"text":"m"}"#,
            ),
            ask("eve", r#"{"do":"send-to-group","group":"none","text":"m"}"#),
            leave("bob", 4000, "dinner"),
            ask(
                "eve",
                r#"{"do":"send-to-client","client":"$bob","text":"m"}"#,
            ),
            ask("eve", r#"{"do":"send-to-uid","uid":"bob","text":"m"}"#),
        ],
    )
    .await?;
    assert!(said.contains("eve is here"));
    Ok(())
}

#[tokio::test]
async fn uids() -> Result<()> {
    let script = [
        connect("ada", &[]),
        connect("bob", &[("uid", "bob")]),
        connect("eve", &[]),
        ask("ada", r#"{"do":"get-uid-by-client-id"}"#),
        ask("ada", r#"{"do":"bind-uid","uid":"ada"}"#),
        ask("ada", r#"{"do":"bind-uid","uid":"ada"}"#),
        ask("ada", r#"{"do":"bind-uid","uid":""}"#),
        ask("ada", r#"{"do":"bind-uid","client":"x","uid":"u"}"#),
        ask(
            "ada",
            r#"{"do":"bind-uid","client":"7zzzzzzzzzzzzzzzzzzzzzzzzz","uid":"u"}"#,
        ),
        ask("ada", r#"{"do":"is-uid-online","uid":"ada"}"#),
        ask("ada", r#"{"do":"get-all-uids"}"#),
        ask("ada", r#"{"do":"get-all-uids","limit":1}"#),
        ask("ada", r#"{"do":"get-all-uids","limit":1,"cursor":"$next"}"#),
        ask("ada", r#"{"do":"get-all-uids","limit":0}"#),
        ask("ada", r#"{"do":"get-all-uids","limit":1001}"#),
        ask("ada", r#"{"do":"get-all-uids","cursor":"nonsense"}"#),
        ask("ada", r#"{"do":"unbind-uid","uid":"bob"}"#),
        ask("ada", r#"{"do":"unbind-uid","uid":""}"#),
        ask("ada", r#"{"do":"bind-uid","uid":"bob"}"#),
        ask("eve", r#"{"do":"get-client-ids-by-uid","uid":"bob"}"#),
        ask("eve", r#"{"do":"get-client-ids-by-uid","uid":"nobody"}"#),
        ask("eve", r#"{"do":"get-client-ids-by-uid","uid":""}"#),
        connect("dan", &[("uid", "bob"), ("group", "g")]),
        ask("eve", r#"{"do":"get-all-client-count"}"#),
        ask("eve", r#"{"do":"unbind-uid","client":"$bob","uid":"bob"}"#),
        ask("eve", r#"{"do":"is-uid-online","uid":"bob"}"#),
        vanish("ada"),
        ask("eve", r#"{"do":"is-uid-online","uid":"bob"}"#),
        ask("eve", r#"{"do":"is-uid-online","uid":""}"#),
        ask("eve", r#"{"do":"get-uid-by-client-id","client":"$ada"}"#),
        ask(
            "eve",
            r#"{"do":"close-uid","uid":"bob","code":4000,"reason":"r","text":"bye"}"#,
        ),
        ask("eve", r#"{"do":"close-uid","uid":"","code":4000}"#),
        ask("eve", r#"{"do":"get-all-uids"}"#),
    ];
    assert!(
        both_say(UidPolicy::KickOld, &script)
            .await?
            .contains("closed with 4001")
    );
    assert!(
        both_say(UidPolicy::RejectNew, &script)
            .await?
            .contains("taken")
    );
    assert!(!both_say(UidPolicy::Many, &script).await?.contains("taken"));
    Ok(())
}

#[tokio::test]
async fn groups() -> Result<()> {
    both_say(
        UidPolicy::Many,
        &[
            connect("ada", &[("uid", "ada")]),
            connect("bob", &[("uid", "bob"), ("group", "tea")]),
            connect("eve", &[("group", "tea")]),
            ask("ada", r#"{"do":"join-group","group":"tea"}"#),
            ask("ada", r#"{"do":"join-group","group":"tea"}"#),
            ask("ada", r#"{"do":"join-group","group":""}"#),
            ask(
                "ada",
                r#"{"do":"join-group","client":"$bob","group":"cake"}"#,
            ),
            ask("ada", r#"{"do":"join-group","client":"x","group":"cake"}"#),
            ask("ada", r#"{"do":"get-client-count-by-group","group":"tea"}"#),
            ask("ada", r#"{"do":"get-uid-count-by-group","group":"tea"}"#),
            ask("ada", r#"{"do":"get-client-ids-by-group","group":"tea"}"#),
            ask(
                "ada",
                r#"{"do":"get-client-ids-by-group","group":"tea","limit":2}"#,
            ),
            ask(
                "ada",
                r#"{"do":"get-client-ids-by-group","group":"tea","limit":2,"cursor":"$next"}"#,
            ),
            ask(
                "ada",
                r#"{"do":"get-client-ids-by-group","group":"tea","cursor":"x"}"#,
            ),
            ask("ada", r#"{"do":"get-uids-by-group","group":"tea"}"#),
            ask("ada", r#"{"do":"get-uids-by-group","group":""}"#),
            ask("ada", r#"{"do":"get-all-groups"}"#),
            ask("ada", r#"{"do":"leave-group","group":"tea"}"#),
            ask("ada", r#"{"do":"leave-group","group":"tea"}"#),
            ask(
                "ada",
                r#"{"do":"leave-group","client":"7zzzzzzzzzzzzzzzzzzzzzzzzz","group":"tea"}"#,
            ),
            ask("ada", r#"{"do":"ungroup","group":"tea"}"#),
            ask("ada", r#"{"do":"ungroup","group":"tea"}"#),
            ask("ada", r#"{"do":"ungroup","group":""}"#),
            ask("ada", r#"{"do":"get-all-groups"}"#),
            ask(
                "ada",
                r#"{"do":"close-group","group":"cake","code":4000,"text":"bye"}"#,
            ),
            ask("ada", r#"{"do":"get-all-groups"}"#),
            ask("ada", r#"{"do":"get-all-client-count"}"#),
        ],
    )
    .await?;
    Ok(())
}

#[tokio::test]
async fn closes() -> Result<()> {
    let long = format!(
        r#"{{"do":"close-client","client":"$bob","reason":"{}"}}"#,
        "r".repeat(124)
    );
    let said = both_say(
        UidPolicy::Many,
        &[
            connect("ada", &[("uid", "ada"), ("info.mood", "good")]),
            connect("bob", &[("group", "tea")]),
            ask("ada", r#"{"do":"is-online","client":"$bob"}"#),
            ask("ada", r#"{"do":"is-online","client":"x"}"#),
            ask(
                "ada",
                r#"{"do":"is-online","client":"7zzzzzzzzzzzzzzzzzzzzzzzzz"}"#,
            ),
            ask(
                "ada",
                r#"{"do":"close-client","client":"$bob","code":1006}"#,
            ),
            ask(
                "ada",
                r#"{"do":"close-client","client":"$bob","code":5000}"#,
            ),
            ask("ada", &long),
            ask("ada", r#"{"do":"close-client","client":"x"}"#),
            ask(
                "ada",
                r#"{"do":"close-client","client":"$bob","code":3000,"reason":"r","text":"bye"}"#,
            ),
            ask("ada", r#"{"do":"close-client","client":"$bob"}"#),
            ask("ada", r#"{"do":"is-online","client":"$bob"}"#),
            ask(
                "ada",
                r#"{"do":"close-client","code":1001,"reason":"myself"}"#,
            ),
            connect(
                "eve",
                &[("info.on-close", r#"{"id":1,"do":"join-group","group":"g"}"#)],
            ),
            leave("eve", 1000, ""),
            connect(
                "dan",
                &[("info.on-close-leave", "g"), ("group", "g"), ("uid", "dan")],
            ),
            vanish("dan"),
            connect(
                "fay",
                &[
                    ("uid", "fay"),
                    ("info.on-close", r#"{"do":"is-uid-online","uid":"fay"}"#),
                ],
            ),
            leave("fay", 4999, "gone"),
        ],
    )
    .await?;
    assert!(said.contains(r#""code":1006"#));
    Ok(())
}

#[tokio::test]
async fn infos() -> Result<()> {
    let set = |value: &str| format!(r#"{{"do":"set-info","info":{{"k":"{value}"}}}}"#);
    both_say(
        UidPolicy::Many,
        &[
            connect("ada", &[("info.a", "1"), ("info.b", "2")]),
            connect("bob", &[]),
            ask("ada", r#"{"do":"get-info"}"#),
            ask("ada", r#"{"do":"get-info","client":"$bob"}"#),
            ask("ada", r#"{"do":"get-info","client":"x"}"#),
            ask(
                "ada",
                r#"{"do":"get-info","client":"7zzzzzzzzzzzzzzzzzzzzzzzzz"}"#,
            ),
            ask(
                "bob",
                r#"{"do":"update-info","client":"$ada","info":{"a":null,"c":"3","d":null}}"#,
            ),
            ask("ada", r#"{"do":"get-info"}"#),
            ask("ada", r#"{"do":"set-info","info":{"x":"y","":""}}"#),
            ask("ada", r#"{"do":"get-info"}"#),
            ask("ada", &set(&"v".repeat(4095))),
            ask("ada", &set(&"v".repeat(4096))),
            ask("ada", r#"{"do":"update-info","info":{"one":"more"}}"#),
            ask("ada", r#"{"do":"update-info","info":{"k":null}}"#),
        ],
    )
    .await?;
    Ok(())
}

#[tokio::test]
async fn handshakes() -> Result<()> {
    let long = "x".repeat(5000);
    let said = both_say(
        UidPolicy::RejectNew,
        &[
            connect(
                "ada",
                &[
                    ("uid", "ada"),
                    ("subprotocol", "v1"),
                    ("say", "a"),
                    ("say", "b"),
                ],
            ),
            connect("bob", &[("refuse", "401"), ("reason", "no")]),
            connect("bob", &[("refuse", "200")]),
            connect("bob", &[("uid", "ada"), ("group", "g")]),
            connect("bob", &[("uid", "")]),
            connect("bob", &[("group", "")]),
            connect("bob", &[("info.k", &long)]),
            connect("bob", &[("subprotocol", "v9")]),
            connect("bob", &[("do", "jump")]),
            connect(
                "bob",
                &[("do", r#"{"id":1,"do":"join-group","group":"g"}"#)],
            ),
            ask("ada", r#"{"do":"get-all-groups"}"#),
            ask("ada", r#"{"do":"get-all-uids"}"#),
            ask("ada", r#"{"do":"get-all-client-count"}"#),
        ],
    )
    .await?;
    assert!(said.contains("refused with 409"));
    Ok(())
}

#[tokio::test]
async fn calls() -> Result<()> {
    let call = |plugin: &str, method: &str, payload: &str| {
        let request =
            json!({ "do": "call", "plugin": plugin, "method": method, "payload": payload });
        ask("ada", &request.to_string())
    };
    let said = both_say(
        UidPolicy::Many,
        &[
            connect("ada", &[("uid", "ada")]),
            call("other", "echo", "hello"),
            call("other", "echo", ""),
            call("other", "caller", ""),
            call("other", "do", "get-all-client-count"),
            call(
                "other",
                "do",
                r#"{"id":1,"do":"send-to-uid","uid":"ada","text":"m"}"#,
            ),
            call("other", "dance", ""),
            call("other", "fail", "not-found"),
            call("other", "fail", "failed"),
            call("other", "bytes", "many"),
            call("other", "bytes", "1048577"),
            call("console", "echo", "itself"),
            call("nobody", "echo", ""),
            call("", "echo", ""),
        ],
    )
    .await?;
    assert!(said.contains("plugin console") && said.contains("denied"));
    Ok(())
}

#[tokio::test]
async fn timers() -> Result<()> {
    let set = |name: &str, more: &str| {
        let request = format!(r#"{{"do":"set-timer","name":"{name}",{more}}}"#);
        ask("ada", &request)
    };
    let cancel = |name: &str| {
        let request = format!(r#"{{"do":"cancel-timer","name":"{name}"}}"#);
        ask("ada", &request)
    };
    let said = both_say(
        UidPolicy::Many,
        &[
            connect("ada", &[("group", "timers")]),
            set("a", r#""after_ms":20"#),
            hear_timer("ada", 20),
            cancel("a"),
            set("b", r#""after_ms":3600000"#),
            set("b", r#""after_ms":20,"scope":"cluster""#),
            hear_timer("ada", 20),
            set("b", r#""after_ms":20"#),
            hear_timer("ada", 20),
            cancel("b"),
            set("c", r#""after_ms":3600000,"every_ms":10"#),
            cancel("c"),
            cancel("c"),
            cancel(""),
            set("", r#""after_ms":20"#),
            set(&"n".repeat(257), r#""after_ms":20"#),
            set("d", r#""after_ms":9"#),
            set("d", r#""after_ms":20,"every_ms":9"#),
            set("d", r#""after_ms":31622400001"#),
            set("d", r#""after_ms":31622400000"#),
            cancel("d"),
        ],
    )
    .await?;
    assert!(said.contains(r#"hears of the timer "b""#));
    Ok(())
}

#[tokio::test]
async fn limits() -> Result<()> {
    let bind = |bytes: usize| format!(r#"{{"do":"bind-uid","uid":"{}"}}"#, "u".repeat(bytes));
    let many =
        r#"{"do":"repeat","times":10001,"request":{"do":"send-to-uid","uid":"x","text":"m"}}"#;
    both_say(
        UidPolicy::Many,
        &[
            connect("ada", &[]),
            ask("ada", &bind(256)),
            ask("ada", &bind(257)),
            // Its answer is one more send of the same event, and cannot come.
            ask("ada", &many.replace("10001", "9999")),
            ask(
                "ada",
                r#"{"do":"repeat","times":3,"request":{"do":"is-online"}}"#,
            ),
            ask("ada", r#"{"do":"hop"}"#),
            ask("ada", r#"{"do":"log","text":"a line"}"#),
        ],
    )
    .await?;
    Ok(())
}
