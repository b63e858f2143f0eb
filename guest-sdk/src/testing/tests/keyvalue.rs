//! Updates of buckets, and who comes first.

use std::cell::Cell;

use crate::keyvalue::{self, Bucket, UpdateError};
use crate::testing::{Host, Limits};

fn with_bucket(host: &Host, work: impl FnOnce(&Bucket)) {
    host.run(|| work(&keyvalue::open("default").expect("it is granted")));
}

fn host() -> Host {
    Host::new().buckets(&["default"])
}

#[test]
fn a_refused_update_writes_nothing() {
    with_bucket(&host(), |bucket| {
        let refused = bucket.try_update("k", |value| match value {
            None => Err("there is none"),
            Some(value) => Ok(value),
        });
        assert_eq!(refused, Err(UpdateError::Refused("there is none")));
        assert_eq!(bucket.exists("k"), Ok(false));

        bucket.set("k", "1").expect("set");
        let refused = bucket.try_update("k", |_| Err::<Vec<u8>, _>(7));
        assert_eq!(refused, Err(UpdateError::Refused(7)));
        assert_eq!(bucket.get("k"), Ok(Some(b"1".to_vec())));
    });
}

#[test]
fn an_update_decides_anew_where_another_one_came_first() {
    with_bucket(&host(), |bucket| {
        bucket.set("seats", "2").expect("set");
        let calls = Cell::new(0);
        // Two others take a seat each while this one decides.
        let taken = bucket.try_update("seats", |seats| {
            calls.set(calls.get() + 1);
            if calls.get() <= 2 {
                bucket.increment("seats", -1).expect("a number");
            }
            match seats.expect("it is set").as_slice() {
                b"0" => Err("the house is full"),
                _ => Ok(b"taken".to_vec()),
            }
        });
        assert_eq!(taken, Err(UpdateError::Refused("the house is full")));
        assert_eq!(calls.get(), 3);
        assert_eq!(bucket.get("seats"), Ok(Some(b"0".to_vec())));
    });
}

#[test]
fn an_update_gives_up_where_others_are_always_first() {
    with_bucket(&host(), |bucket| {
        let failed = bucket.try_update("k", |value| {
            bucket.increment("k", 1).expect("a number");
            Ok::<_, ()>(value.unwrap_or_default())
        });
        let Err(UpdateError::Failed(error)) = failed else {
            panic!("{failed:?}");
        };
        assert!(error.message.contains("100 times"), "{error}");
        let failed = bucket.update("k", |value| {
            bucket.increment("k", 1).expect("a number");
            value.unwrap_or_default()
        });
        assert_eq!(failed.expect_err("the same"), error);
    });
}

#[test]
fn an_update_that_the_bucket_cannot_have_fails() {
    let limits = Limits {
        keyvalue_value_bytes: 3,
        ..Limits::default()
    };
    with_bucket(&host().limits(limits), |bucket| {
        let long = bucket.try_update("k", |_| Ok::<_, String>(b"long".to_vec()));
        let no_key = bucket.try_update("", |_| Ok::<_, String>(Vec::new()));
        for failed in [long, no_key] {
            assert!(matches!(failed, Err(UpdateError::Failed(_))), "{failed:?}");
        }
    });
}

#[test]
#[cfg(feature = "json")]
fn json_is_updated_or_refused() {
    with_bucket(&host(), |bucket| {
        let join = |name: &str| {
            bucket.update_json("players", |players: Option<Vec<String>>| {
                let mut players = players.unwrap_or_default();
                if players.len() == 2 {
                    return Err(format!("{name} is one too many"));
                }
                players.push(name.to_owned());
                Ok(players)
            })
        };
        assert_eq!(join("ada"), Ok(vec!["ada".to_owned()]));
        assert_eq!(join("bob").expect("the second").len(), 2);
        let refused = join("cyd").expect_err("the third");
        assert_eq!(refused.to_string(), "cyd is one too many");
        assert_eq!(
            bucket.get("players"),
            Ok(Some(br#"["ada","bob"]"#.to_vec()))
        );
    });
}

#[test]
#[cfg(feature = "json")]
fn a_value_that_is_no_such_json_fails_and_stays() {
    with_bucket(&host(), |bucket| {
        bucket.set("players", "7").expect("set");
        let updated = bucket.update_json("players", |players: Option<Vec<String>>| {
            Ok::<_, String>(players.unwrap_or_default())
        });
        let Err(UpdateError::Failed(error)) = updated else {
            panic!("{updated:?}");
        };
        assert!(
            error.message.contains("\"players\": invalid type"),
            "{error}"
        );
        assert_eq!(bucket.get_json::<Vec<String>>("players"), Err(error));
        assert_eq!(bucket.get_json::<u8>("players"), Ok(Some(7)));
    });
}
