//! One test per promise of the contract, by calling it from outside and from events.

mod calls;
mod keyvalue;
mod manifest;
mod timers;

use super::{Client, Host, Limits, UidPolicy};
use crate::*;

/// Lets everybody in and does nothing.
struct Quiet;

impl Plugin for Quiet {}

/// Its handshake says how it is let in: each query parameter is one field of [`Accept`].
struct Door;

impl Plugin for Door {
    fn on_connect(client: ClientId, handshake: Handshake) -> Result<Accept, Refuse> {
        let mut accept = Accept::new();
        for (name, value) in handshake.query {
            accept = match name.as_str() {
                "uid" => accept.uid(value),
                "group" => accept.group(value),
                "subprotocol" => accept.subprotocol(value),
                "info" => accept.info("info", value),
                "hello" => {
                    send_to_client(&client, value).expect("a client exists from on-connect on");
                    join_group(&client, "early").expect("a client exists from on-connect on");
                    accept
                }
                "close" => {
                    close_client(&client, 4000, &value, None).expect("a client may be closed");
                    accept
                }
                _ => return Err(Refuse::new(value.parse().expect("a status"), name)),
            };
        }
        Ok(accept)
    }

    fn on_close(client: ClientId, departure: Departure) {
        log(Level::Info, &format!("{client} {departure:?}"));
    }
}

fn door(host: &Host<Door>, query: &[(&str, &str)]) -> Result<Client<Door>, Refuse> {
    host.connect_with(Handshake {
        query: query
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect(),
        subprotocols: vec!["v1".to_owned(), "v2".to_owned()],
        ..Handshake::default()
    })
}

fn quiet(host: &Host<Quiet>) -> Client<Quiet> {
    host.connect("/").expect("everybody is let in")
}

fn code<T: std::fmt::Debug>(result: Result<T, Error>) -> ErrorCode {
    result.expect_err("an error was due").code
}

fn texts<P: Plugin>(client: &Client<P>) -> Vec<String> {
    let texts = client.received().into_iter();
    texts
        .map(|message| message.as_text().expect("only text was sent").to_owned())
        .collect()
}

/// 26 characters that no host gave out.
const NOBODY: &str = "7zzzzzzzzzzzzzzzzzzzzzzzzz";

#[test]
fn ids_are_26_characters_and_never_come_again() {
    let mut seen = std::collections::BTreeSet::new();
    for host in [Host::of::<Quiet>(), Host::of::<Quiet>()] {
        for _ in 0..100 {
            let client = quiet(&host);
            assert_eq!(client.id().as_str().len(), 26);
            assert_eq!(host.run(|| is_online(client.id())), Ok(true), "well-formed");
            assert!(
                seen.insert(client.id().clone()),
                "{} came twice",
                client.id()
            );
        }
    }
}

#[test]
fn a_malformed_id_is_told_from_an_unknown_one() {
    Host::new().run(|| {
        for id in [
            "",
            "nobody",
            "80000000000000000000000000",
            "0000000000000000000000000u",
        ] {
            let error = join_group(&id.into(), "g").expect_err("malformed");
            assert_eq!(error.code, ErrorCode::InvalidArgument);
            assert!(error.message.contains(id) && error.message.starts_with("client id"));
        }
        assert_eq!(is_online(&NOBODY.into()), Ok(false));
        assert_eq!(code(join_group(&NOBODY.into(), "g")), ErrorCode::NotFound);
        assert_eq!(code(get_info(&NOBODY.into())), ErrorCode::NotFound);
        assert_eq!(
            code(send_to_all("m", &["nobody".into()])),
            ErrorCode::InvalidArgument
        );
    });
}

#[test]
fn an_acceptance_is_applied() {
    let host = Host::of::<Door>();
    let query = [
        ("uid", "ada"),
        ("group", "a"),
        ("group", "b"),
        ("info", "i"),
        ("hello", "hi"),
    ];
    let client = door(&host, &[&query[..], &[("subprotocol", "v2")]].concat()).expect("let in");

    assert_eq!(client.subprotocol(), Some("v2"));
    assert_eq!(texts(&client), ["hi"]);
    host.run(|| {
        assert_eq!(
            get_uid_by_client_id(client.id()),
            Ok(Some("ada".to_owned()))
        );
        assert_eq!(
            get_all_groups(None, 10)
                .map(|page| page.items)
                .expect("groups")
                .len(),
            3
        );
        assert_eq!(get_info(client.id()).expect("info")["info"], "i");
    });
}

#[test]
fn a_refused_client_was_never_there() {
    let host = Host::of::<Door>();
    let refused = door(&host, &[("hello", "hi"), ("401", "401")]).expect_err("refused");

    assert_eq!(refused, Refuse::new(401, "401"));
    assert_eq!(
        door(&host, &[("odd", "200")]).expect_err("refused").status,
        403
    );
    assert_eq!(host.run(get_all_client_count).expect("a number").value, 0);
    assert!(
        host.run(|| get_all_groups(None, 10))
            .expect("groups")
            .items
            .is_empty()
    );
    assert!(host.logs().is_empty(), "no on-close");
}

#[test]
fn what_an_acceptance_can_not_have_refuses_the_client() {
    let host = Host::of::<Door>().uid_policy(UidPolicy::RejectNew);
    door(&host, &[("uid", "ada")]).expect("let in");

    for (query, status) in [
        (("uid", "ada"), 409),
        (("uid", ""), 400),
        (("group", ""), 400),
        (("subprotocol", "v3"), 500),
        (("info", &*"x".repeat(4_096)), 500),
    ] {
        let refused = door(&host, &[("group", "g"), query]).expect_err("refused");
        assert_eq!(refused.status, status, "{refused:?}");
        assert_eq!(
            host.run(|| get_client_count_by_group("g"))
                .expect("a number")
                .value,
            0
        );
    }
    assert!(host.logs().is_empty(), "no on-close");
}

#[test]
fn a_client_closed_in_its_own_on_connect_has_an_on_close() {
    let host = Host::of::<Door>();
    let client = door(&host, &[("hello", "hi"), ("close", "bye"), ("group", "g")]).expect("let in");

    assert_eq!(client.closed(), Some((4000, "bye".to_owned())));
    assert_eq!(texts(&client), ["hi"]);
    assert_eq!(
        host.run(|| get_client_count_by_group("g"))
            .expect("a number")
            .value,
        0
    );
    assert_eq!(host.logs().len(), 1);
}

#[test]
fn a_departure_is_as_things_were() {
    let host = Host::of::<Door>();
    let client = door(&host, &[("uid", "ada"), ("group", "g"), ("info", "i")]).expect("let in");
    let other = door(&host, &[]).expect("let in");

    client.leave_with(4000, "dinner");
    client.leave(); // has left
    let info = Info::from([("info".to_owned(), "i".to_owned())]);
    let departure = Departure {
        code: 4000,
        reason: "dinner".to_owned(),
        by: Closer::Client,
        uid: Some("ada".to_owned()),
        groups: vec!["g".to_owned()],
        info,
    };
    let line = format!("{} {departure:?}", client.id());
    assert_eq!(host.logs(), [(Level::Info, line)]);

    other.vanish();
    assert!(
        host.logs()[0]
            .1
            .contains("code: 1006, reason: \"\", by: Network")
    );
    assert_eq!(host.run(|| is_uid_online("ada")), Ok(false));
}

#[test]
fn sends_reach_each_client_once() {
    let host = Host::of::<Quiet>();
    let [ada, bob, eve] = [(); 3].map(|()| quiet(&host));
    host.run(|| {
        bind_uid(ada.id(), "a").expect("bound");
        bind_uid(bob.id(), "b").expect("bound");
        for client in [&ada, &bob] {
            join_group(client.id(), "red").expect("joined");
            join_group(client.id(), "blue").expect("joined");
        }
        let reached = |reach: Result<Reach, Error>| reach.expect("sent").clients;
        assert_eq!(reached(send_to_all("all", &[eve.id().clone()])), 2);
        assert_eq!(reached(send_to_uid(&["a", "a", "x"], "uid")), 1);
        assert_eq!(
            reached(send_to_group(
                &["red", "blue"],
                "group",
                &[bob.id().clone()]
            )),
            1
        );
        assert_eq!(reached(send_to_group(&["empty"], "empty", &[])), 0);
        send_to_client(eve.id(), vec![1, 2]).expect("sent");
    });
    assert_eq!(texts(&ada), ["all", "uid", "group"]);
    assert_eq!(texts(&bob), ["all"]);
    assert_eq!(eve.received(), [Message::Binary(vec![1, 2])]);
}

#[test]
fn one_bad_target_and_nobody_gets_it() {
    let host = Host::of::<Quiet>();
    let client = quiet(&host);
    let long = "u".repeat(257);
    host.run(|| {
        bind_uid(client.id(), "a").expect("bound");
        join_group(client.id(), "g").expect("joined");
        for bad in ["", &long] {
            assert_eq!(
                code(send_to_uid(&["a", bad], "m")),
                ErrorCode::InvalidArgument
            );
            assert_eq!(
                code(send_to_group(&["g", bad], "m", &[])),
                ErrorCode::InvalidArgument
            );
            assert_eq!(code(bind_uid(client.id(), bad)), ErrorCode::InvalidArgument);
            assert_eq!(
                code(join_group(client.id(), bad)),
                ErrorCode::InvalidArgument
            );
            assert_eq!(code(is_uid_online(bad)), ErrorCode::InvalidArgument);
        }
        bind_uid(client.id(), &long[1..]).expect("256 bytes are a uid");
    });
    assert!(client.received().is_empty());
}

#[test]
fn binding_replaces_and_unbinding_knows_which() {
    let host = Host::of::<Quiet>();
    let [old, new] = [(); 2].map(|()| quiet(&host));
    host.run(|| {
        bind_uid(old.id(), "a").expect("bound");
        bind_uid(old.id(), "b").expect("bound instead");
        assert_eq!(is_uid_online("a"), Ok(false));
        bind_uid(new.id(), "b").expect("many may share one");
        assert_eq!(
            get_client_ids_by_uid("b", None, 10)
                .expect("clients")
                .items
                .len(),
            2
        );

        assert_eq!(unbind_uid(old.id(), Some("a")), Ok(false));
        assert_eq!(unbind_uid(old.id(), Some("b")), Ok(true));
        assert_eq!(unbind_uid(new.id(), None), Ok(true));
        assert_eq!(unbind_uid(new.id(), None), Ok(false));
        assert_eq!(get_uid_by_client_id(new.id()), Ok(None));
        assert_eq!(is_uid_online("b"), Ok(false));
    });
}

#[test]
fn reject_new_leaves_the_old_one() {
    let host = Host::of::<Quiet>().uid_policy(UidPolicy::RejectNew);
    let [old, new] = [(); 2].map(|()| quiet(&host));
    host.run(|| {
        bind_uid(old.id(), "a").expect("bound");
        bind_uid(old.id(), "a").expect("again is no error");
        assert_eq!(code(bind_uid(new.id(), "a")), ErrorCode::Taken);
        assert_eq!(get_uid_by_client_id(new.id()), Ok(None));
    });
}

#[test]
fn kick_old_closes_the_old_one() {
    let host = Host::of::<Door>().uid_policy(UidPolicy::KickOld);
    let old = door(&host, &[("uid", "a")]).expect("let in");
    let new = door(&host, &[("uid", "a")]).expect("let in");

    assert_eq!(old.closed(), Some((4001, "uid taken over".to_owned())));
    let line = &host.logs()[0].1;
    assert!(line.contains("by: Plugin, uid: Some(\"a\")"), "{line}");
    let clients = host
        .run(|| get_client_ids_by_uid("a", None, 10))
        .expect("clients")
        .items;
    assert_eq!(clients, [new.id().clone()]);
}

#[test]
fn groups_come_and_go_with_their_members() {
    let host = Host::of::<Quiet>();
    let [ada, bob] = [(); 2].map(|()| quiet(&host));
    host.run(|| {
        for client in [&ada, &ada, &bob] {
            join_group(client.id(), "g").expect("joined");
        }
        bind_uid(ada.id(), "a").expect("bound");
        assert_eq!(get_client_count_by_group("g").expect("a number").value, 2);
        assert_eq!(get_uids_by_group("g", None, 10).expect("uids").items, ["a"]);
        assert_eq!(get_uid_count_by_group("g").expect("a number").value, 1);
        leave_group(ada.id(), "g").expect("left");
        leave_group(ada.id(), "g").expect("again is no error");
        assert_eq!(ungroup("g").expect("a number").value, 1);
        assert_eq!(is_online(bob.id()), Ok(true));
        assert!(get_all_groups(None, 10).expect("groups").items.is_empty());
    });
}

#[test]
fn pages_list_everything_once() {
    let host = Host::of::<Quiet>();
    let client = quiet(&host);
    host.run(|| {
        for number in 0..25 {
            join_group(client.id(), &format!("g{number}")).expect("joined");
        }
        let mut groups = all_pages(|cursor| get_all_groups(cursor, 10)).expect("groups");
        groups.sort();
        groups.dedup();
        assert_eq!(groups.len(), 25);
        assert_eq!(get_all_groups(None, 25).expect("groups").next, None);

        let cursor = get_all_groups(None, 10).expect("groups").next;
        assert_eq!(
            code(get_all_uids(cursor.as_deref(), 10)),
            ErrorCode::InvalidArgument
        );
        assert_eq!(
            code(get_all_groups(Some("g3"), 10)),
            ErrorCode::InvalidArgument
        );
        for limit in [0, 1_001] {
            assert_eq!(
                code(get_all_groups(None, limit)),
                ErrorCode::InvalidArgument
            );
        }
    });
}

#[test]
fn info_is_replaced_merged_and_limited() {
    let host = Host::of::<Quiet>().limits(Limits {
        info_bytes: 8,
        ..Limits::default()
    });
    let client = quiet(&host);
    host.run(|| {
        let id = client.id();
        assert_eq!(get_info(id), Ok(Info::new()));
        set_info(id, &Info::from([("a".into(), "1".into())])).expect("set");
        let merged = Info::from([("b".into(), "2".into())]);
        assert_eq!(
            update_info(id, &[("a", None), ("b", Some("2"))]),
            Ok(merged.clone())
        );
        assert_eq!(
            code(update_info(id, &[("c", Some("1234567"))])),
            ErrorCode::LimitExceeded
        );
        assert_eq!(get_info(id), Ok(merged), "nothing by halves");
    });
}

#[test]
fn limits_hold() {
    let host = Host::of::<Quiet>().limits(Limits {
        groups_per_client: 1,
        clients_per_uid: 1,
        sends_per_event: 2,
        log_lines_per_event: 1,
        ..Limits::default()
    });
    let [ada, bob] = [(); 2].map(|()| quiet(&host));
    host.run(|| {
        join_group(ada.id(), "g").expect("joined");
        join_group(ada.id(), "g").expect("is in it");
        assert_eq!(code(join_group(ada.id(), "h")), ErrorCode::LimitExceeded);
        bind_uid(ada.id(), "a").expect("bound");
        assert_eq!(code(bind_uid(bob.id(), "a")), ErrorCode::LimitExceeded);
        send_to_all("1", &[]).expect("sent");
        send_to_client(ada.id(), "2").expect("sent");
        assert_eq!(code(send_to_uid(&["a"], "3")), ErrorCode::LimitExceeded);
        log(Level::Info, &"ä".repeat(8 << 10));
        log(Level::Info, "one too many");
    });
    host.run(|| send_to_all("4", &[]))
        .expect("another event, another count");
    assert_eq!(texts(&ada), ["1", "2", "4"]);
    let logs = host.logs();
    assert_eq!((logs.len(), logs[0].1.len()), (1, 8 << 10));
}

#[test]
fn a_closed_client_has_left_at_once() {
    let host = Host::of::<Door>();
    let client = door(&host, &[("uid", "a"), ("group", "g")]).expect("let in");
    host.run(|| {
        close_client(client.id(), 1000, "bye", Some("last".into())).expect("closed");
        assert_eq!(is_online(client.id()), Ok(false));
        assert_eq!(is_uid_online("a"), Ok(false));
        assert_eq!(code(send_to_client(client.id(), "m")), ErrorCode::NotFound);
        assert_eq!(
            code(close_client(client.id(), 1000, "", None)),
            ErrorCode::NotFound
        );
    });
    assert_eq!(texts(&client), ["last"]);
    assert_eq!(client.closed(), Some((1000, "bye".to_owned())));
    assert_eq!(host.logs().len(), 1, "one on-close");
}

#[test]
fn closes_count_and_check_what_they_send() {
    let host = Host::of::<Door>();
    let clients: Vec<_> = (0..3)
        .map(|_| door(&host, &[("uid", "a"), ("group", "g")]).expect("let in"))
        .collect();
    host.run(|| {
        for code_sent in [0, 999, 1004, 1005, 1006, 1015, 2999, 5000] {
            assert_eq!(
                code(close_uid("a", code_sent, "", None)),
                ErrorCode::InvalidArgument
            );
        }
        let long = "r".repeat(124);
        assert_eq!(
            code(close_group("g", 1000, &long, None)),
            ErrorCode::InvalidArgument
        );
        close_client(clients[0].id(), 4999, &long[1..], None).expect("closed");
        assert_eq!(close_uid("a", 1000, "", None).expect("closed").value, 2);
        assert_eq!(
            close_group("g", 1000, "", None).expect("nobody left").value,
            0
        );
    });
    assert_eq!(host.logs().len(), 3);
}

/// What is closed takes the next of its group along.
struct Domino;

impl Plugin for Domino {
    fn on_message(client: ClientId, _: Message) {
        close_client(&client, 1000, "", None).expect("closed");
        log(Level::Info, "said");
    }

    fn on_close(client: ClientId, _: Departure) {
        log(Level::Info, "fell");
        for call in [
            send_to_client(&client, "m"),
            bind_uid(&client, "u"),
            leave_group(&client, "g"),
            close_client(&client, 1000, "", None),
            set_info(&client, &Info::new()),
        ] {
            assert_eq!(code(call), ErrorCode::Closed);
        }
        assert_eq!(is_online(&client), Ok(false));
        for next in get_client_ids_by_group("g", None, 1)
            .expect("members")
            .items
        {
            close_client(&next, 1000, "", None).expect("closed");
        }
    }
}

#[test]
fn close_events_wait_for_the_event_and_for_each_other() {
    let host = Host::of::<Domino>();
    let clients: Vec<_> = (0..3).map(|_| host.connect("/").expect("let in")).collect();
    host.run(|| {
        clients
            .iter()
            .try_for_each(|client| join_group(client.id(), "g"))
    })
    .expect("joined");

    clients[0].say("push");
    clients[0].say("has left: nothing happens");

    let lines: Vec<_> = host.logs().into_iter().map(|(_, line)| line).collect();
    assert_eq!(lines, ["said", "fell", "fell", "fell"]);
    assert_eq!(host.run(get_all_client_count).expect("a number").value, 0);
}

struct Trouble;

impl Lifecycle for Trouble {
    fn on_start() -> Result<(), String> {
        Err(format!("{} has no database", identify().plugin))
    }

    fn on_stop() {
        log(Level::Debug, "stopped");
    }
}

#[test]
fn a_lifecycle_starts_and_stops() {
    let host = Host::of::<Trouble>().plugin_name("chat");
    assert_eq!(host.start(), Err("chat has no database".to_owned()));
    host.stop();
    assert_eq!(host.logs(), [(Level::Debug, "stopped".to_owned())]);
}

#[test]
#[should_panic(expected = "no host is running")]
fn a_call_without_a_host_says_what_to_do() {
    let _ = get_all_client_count();
}
