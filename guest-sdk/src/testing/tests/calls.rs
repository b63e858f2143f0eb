//! Calls between plugins, and from backends.

use crate::testing::{Host, Limits};
use crate::*;

/// Answers with who called; `relay` calls on, to whom the payload names.
struct Relay;

impl Plugin for Relay {
    fn on_connect(_: ClientId, _: Handshake) -> Result<Accept, Refuse> {
        Ok(Accept::new().group("all"))
    }

    fn on_close(_: ClientId, _: Departure) {
        log(Level::Info, "has left");
    }
}

impl CallHandler for Relay {
    fn on_call(caller: Caller, method: &str, payload: Vec<u8>) -> Result<Vec<u8>, CallError> {
        match method {
            "who" => Ok(format!("{caller:?}").into()),
            "relay" => call(
                std::str::from_utf8(&payload).expect("a name"),
                "relay",
                &payload,
            ),
            "long" => Ok(vec![0; 101]),
            "close" => {
                close_group("all", 4000, "", None).expect("a group");
                Ok(Vec::new())
            }
            _ => Err(CallError::unknown_method(method)),
        }
    }
}

fn who<P>(host: &Host<P>) -> Result<Vec<u8>, CallError> {
    host.run(|| call("orders", "who", ""))
}

fn call_code(result: Result<Vec<u8>, CallError>) -> CallErrorCode {
    result.expect_err("an error was due").code
}

#[test]
fn a_call_is_answered_by_the_plugin_beside_if_it_wants_to() {
    let orders = Host::of::<Relay>()
        .plugin_name("orders")
        .allow_calls(&["chat"]);
    let (chat, other) = (Host::new().plugin_name("chat"), Host::new());
    for caller in [&chat, &other] {
        caller.beside(&orders);
    }
    assert_eq!(who(&chat).expect("allowed"), br#"Plugin("chat")"#);
    assert_eq!(call_code(who(&other)), CallErrorCode::Denied);
    assert_eq!(call_code(who(&orders)), CallErrorCode::Unavailable);
    let backend = || Caller::Api("billing".to_owned());
    let answer = orders.call(backend(), "who", "");
    assert_eq!(answer.expect("backends may"), br#"Api("billing")"#);
    let unknown = chat.run(|| call("orders", "open", ""));
    assert_eq!(call_code(unknown), CallErrorCode::UnknownMethod);
    drop(orders);
    assert_eq!(call_code(who(&chat)), CallErrorCode::Unavailable);
}

#[test]
fn calls_have_so_many_bytes_and_go_so_deep() {
    let limits = Limits {
        call_bytes: 100,
        ..Limits::default()
    };
    let host = Host::of::<Relay>().limits(limits).allow_calls(&["plugin"]);
    host.beside(&host);
    let who = |bytes: usize| host.run(|| call("plugin", "who", vec![b'x'; bytes]));
    assert!(who(97).is_ok());
    assert_eq!(call_code(who(98)), CallErrorCode::LimitExceeded);
    let long = host.run(|| call("plugin", "long", ""));
    assert_eq!(call_code(long), CallErrorCode::LimitExceeded);

    let error = host
        .run(|| call("plugin", "relay", "plugin"))
        .expect_err("it never ends");
    assert_eq!(error.code, CallErrorCode::LimitExceeded);
    assert!(error.message.contains("within 4 others"), "{error}");
    assert!(who(1).is_ok(), "and the next event is no call");
}

#[test]
fn what_a_call_closes_has_its_on_close() {
    let host = Host::of::<Relay>();
    let client = host.connect("/").expect("let in");
    host.call(Caller::Api(String::new()), "close", "")
        .expect("an answer");
    assert_eq!(client.closed(), Some((4000, String::new())));
    assert_eq!(host.logs().len(), 1, "the on_close");
}
