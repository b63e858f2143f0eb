//! silky's example from outside: sessions, and the backend that echoes to them.
//!
//! It runs against the SDK's in-memory stand-in for the node, with `wstest.toml`. That a node
//! finds the business id in the same way is known from real ones (`tests/ancestors`).

use jackfield_sdk::testing::{Client, Host};
use jackfield_sdk::{CallError, CallErrorCode, Caller, Message};
use wstest::WsTest;

#[test]
fn every_session_of_the_business_id_gets_the_message_and_no_other() {
    let host = host();
    let (desk, phone) = (session(&host, "100"), session(&host, "100"));
    let other = session(&host, "200");

    let answer = call(&host, "Echo", r#"{"businessId": "100", "msg": "hello"}"#);

    assert_eq!(answer, Ok(Vec::new()));
    for session in [&desk, &phone] {
        assert_eq!(session.received(), [pushed("hello", session)]);
    }
    assert!(other.received().is_empty());
}

#[test]
fn nobody_comes_in_without_a_business_id() {
    let refused = host().connect("/wstest").unwrap_err();
    assert_eq!(refused.status, 400);
}

#[test]
fn a_business_id_that_nobody_has_is_named_to_the_caller() {
    let host = host();
    session(&host, "100").leave();
    session(&host, "200");

    let error = call(&host, "Echo", r#"{"businessId": "100", "msg": "hello"}"#).unwrap_err();

    assert_eq!(error.code, CallErrorCode::NotFound);
    assert_eq!(error.message, "there is no session with the businessId 100");
}

#[test]
fn what_a_session_says_comes_back_to_it_alone() {
    let host = host();
    let (desk, phone) = (session(&host, "100"), session(&host, "100"));

    desk.say("hello");
    desk.say(Message::Binary(vec![0, 255]));

    assert_eq!(desk.received(), [pushed("hello", &desk)]);
    assert!(phone.received().is_empty());
}

#[test]
fn a_call_that_is_wrong_is_told_why() {
    let host = host();
    session(&host, "100");
    for (method, payload, code, named) in [
        ("Ehco", "{}", CallErrorCode::UnknownMethod, "Ehco"),
        ("Echo", "", CallErrorCode::InvalidArgument, "EOF"),
        (
            "Echo",
            r#"{"businessId": "100"}"#,
            CallErrorCode::InvalidArgument,
            "msg",
        ),
        (
            "Echo",
            r#"{"businessId": "", "msg": "hello"}"#,
            CallErrorCode::InvalidArgument,
            "uid",
        ),
    ] {
        let error = call(&host, method, payload).unwrap_err();
        assert_eq!(error.code, code, "{error}");
        assert!(error.message.contains(named), "{error}");
    }
}

fn host() -> Host<WsTest> {
    let host = Host::of::<WsTest>().manifest("wstest.toml");
    host.expect("a manifest")
}

/// A session of this business id.
fn session(host: &Host<WsTest>, business_id: &str) -> Client<WsTest> {
    let session = host.connect(&format!("/wstest?businessId={business_id}"));
    session.expect("a business id")
}

fn call(host: &Host<WsTest>, method: &str, payload: &str) -> Result<Vec<u8>, CallError> {
    host.call(Caller::Api("orders".to_owned()), method, payload)
}

fn pushed(msg: &str, session: &Client<WsTest>) -> Message {
    format!("message:{msg},sessionId:{}", session.id()).into()
}
