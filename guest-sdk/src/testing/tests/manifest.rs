//! What the stand-in does of a manifest, and what it leaves.

use std::fs;

use super::{Quiet, code};
use crate::testing::{Host, ManifestError};
use crate::*;

const AUCTION: &str = r#"
# Keys that the stand-in does not know are ignored.
routes = ["/auction"]
origins = ["https://example.com"]
require_uid = { header = "businessId", query = "name" }

[limits]
memory_bytes = 33554432
event_timeout = "500ms"
timers = 1
sends_per_event = 2
call_bytes = 8
keyvalue_key_bytes = 3
keyvalue_value_bytes = 4
keyvalue_bytes = 140
log_lines_per_event = 1

[policies]
uid = "kick-old"
overflow = "conflate"

[calls]
allow = ["shop"]

[config]
greeting = "hello"
key = { file = "auction.key" }
missing = { file = "elsewhere.key" }

[keyvalue]
buckets = ["bids", "sold"]

[http]
allow = ["https://api.example.com"]
"#;

struct Auction;

impl Plugin for Auction {}

impl CallHandler for Auction {
    fn on_call(_: Caller, _: &str, payload: Vec<u8>) -> Result<Vec<u8>, CallError> {
        Ok(payload)
    }
}

fn auction() -> Host<Auction> {
    let host = Host::of::<Auction>().manifest_text(AUCTION);
    host.expect("a manifest")
}

#[test]
fn a_manifest_bounds_what_it_bounds_on_a_node() {
    let host = auction();
    host.run(|| {
        let second = std::time::Duration::from_secs(1);
        set_timer("a", second, None, TimerScope::Node).expect("the first one");
        let timer = set_timer("b", second, None, TimerScope::Node);
        assert_eq!(code(timer), ErrorCode::LimitExceeded);
        for _ in 0..2 {
            send_to_all("m", &[]).expect("sent");
        }
        assert_eq!(code(send_to_all("m", &[])), ErrorCode::LimitExceeded);
        let bids = keyvalue::open("bids").expect("it is granted");
        assert!(bids.set("long", "").is_err());
        assert!(bids.set("k", "large").is_err());
        bids.set("a", "1").expect("66 bytes");
        bids.set("b", "1").expect("66 bytes more");
        let sold = keyvalue::open("sold").expect("it is granted");
        assert!(sold.set("c", "1").is_err(), "132 bytes, and 66 more");
        assert!(keyvalue::open("default").is_err());
        log(Level::Info, "one");
        log(Level::Info, "one too many");
    });
    assert_eq!(host.logs().len(), 1);
}

#[test]
fn a_manifest_says_who_may_call() {
    let call = |caller: &str, payload: &str| {
        let caller = Caller::Plugin(caller.to_owned());
        auction().call(caller, "echo", payload)
    };
    assert_eq!(call("shop", "1234"), Ok(b"1234".to_vec()));
    assert_eq!(
        call("shop", "12345").expect_err("9 bytes").code,
        CallErrorCode::LimitExceeded
    );
    assert_eq!(
        call("chat", "").expect_err("not named").code,
        CallErrorCode::Denied
    );
}

#[test]
fn a_manifest_says_where_the_uid_is() {
    let host = auction();
    let uid = |client: &ClientId| host.run(|| get_uid_by_client_id(client));
    let old = host.connect("/auction?NAME=ada").expect("a uid");
    assert_eq!(uid(old.id()), Ok(Some("ada".to_owned())));

    // Another spelling of the header, and the query comes first.
    let headers = vec![("bussinessid".to_owned(), "bob".to_owned())];
    let with = |target: &str| Handshake {
        headers: headers.clone(),
        ..Handshake::get(target)
    };
    let bob = host.connect_with(with("/auction?name=")).expect("a uid");
    assert_eq!(uid(bob.id()), Ok(Some("bob".to_owned())));
    host.connect_with(with("/auction?name=ada")).expect("a uid");
    assert_eq!(old.closed().map(|(code, _)| code), Some(4001), "kick-old");

    let refused = host.connect("/auction?name=%20").expect_err("no uid");
    let reason = "the query parameter name or the header businessId is missing or empty";
    assert_eq!(refused, Refuse::new(400, reason));

    // A token that a test need not sign.
    let handshake = Handshake {
        uid: Some("eve".to_owned()),
        ..Handshake::get("/")
    };
    let eve = host.connect_with(handshake).expect("a uid");
    assert_eq!(uid(eve.id()), Ok(Some("eve".to_owned())));
}

#[test]
fn a_manifest_is_read_from_its_file() {
    let folder = std::env::temp_dir().join(format!("jackfield-sdk-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join("auction.toml");
    fs::write(&path, AUCTION).expect("written");
    fs::write(folder.join("auction.key"), "s3cret\r\n").expect("written");

    let host = Host::of::<Quiet>().manifest(&path).expect("a manifest");
    let host = host.config(&[("missing", "from the test"), ("greeting", "hi")]);
    assert_eq!(host.run(identify).plugin, "auction");
    let expected = [
        ("greeting", "hi"),
        ("key", "s3cret"),
        ("missing", "from the test"),
    ];
    let found = host.run(config::all);
    let found = found.iter().map(|(name, text)| (&**name, &**text));
    assert!(found.eq(expected));

    fs::write(&path, "[policies\n").expect("written");
    let error = Host::new().manifest(&path).expect_err("no TOML").message;
    assert!(
        error.contains("auction.toml: ") && error.contains("line 1"),
        "{error}"
    );
    fs::remove_dir_all(&folder).expect("removed");
    let error = Host::new().manifest(&path).expect_err("no file").message;
    assert!(error.contains("auction.toml: "), "{error}");
}

#[test]
fn what_is_wrong_is_named_with_its_line() {
    let error = |text: &str| {
        let host = Host::new().manifest_text(text);
        host.expect_err(text)
    };
    for (text, named) in [
        ("\nkey", "line 2"),
        ("[policies]\nuid = 'kick'", "line 2"),
        ("[policies]\nuid = 'kick'", "kick-old"),
        ("[limits]\n\ntimers = '5'", "line 3"),
        ("[calls]\nallow = 'chat'", "line 2"),
        ("[config]\na = 1", "a setting is a text in quotes"),
        ("require_uid = 'name'", "line 1"),
        ("require_uid = true", "require_uid"),
    ] {
        let ManifestError { message } = error(text);
        assert!(message.contains(named), "{text}: {message}");
        assert!(message.starts_with("the manifest: "), "{message}");
    }
    // As `expect` shows it: in lines.
    assert!(!format!("{:?}", error("\nkey")).contains("\\n"));
}

#[test]
fn a_manifest_without_keys_changes_nothing() {
    for text in ["", "require_uid = false\njwt = false\n[limits]\n"] {
        let host = Host::of::<Quiet>().manifest_text(text).expect("a manifest");
        assert!(host.connect("/").is_ok(), "{text}");
        assert_eq!(host.run(identify).plugin, "plugin");
    }
}
