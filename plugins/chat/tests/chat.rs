//! The chat from outside: what people say, and what the others hear.
//!
//! It runs against the SDK's in-memory stand-in for the node, with `chat.toml`.

use chat::Chat;
use jackfield_sdk::testing::{Client, Host, UidPolicy};
use jackfield_sdk::{close_client, get_all_groups};
use serde_json::{Value, json};

const KEY: &str = "a-key-that-nobody-guesses";

#[test]
fn people_see_each_other_and_talk() {
    let house = House::new();
    let ada = house.enter("Ada", "tea");
    let bob = house.enter("Bob", "tea");
    assert_eq!(ada.heard(), [came("Bob", "tea")]);

    ada.say("hello");

    let said = json!({"event": "said", "from": "Ada", "room": "tea", "text": "hello"});
    let heard = timeless(ada.heard());
    assert_eq!(heard, [said]);
    assert_eq!(timeless(bob.heard()), heard);
}

#[test]
fn who_comes_in_hears_where_they_are_and_then_who_is_there() {
    let house = House::new();
    house.enter("Bob", "tea");
    let ada = house.arrive();

    ada.ask(json!({"do": "enter", "name": " Ada ", "room": "tea"}));

    let entered = json!({"event": "entered", "name": "Ada", "room": "tea"});
    assert_eq!(
        ada.heard(),
        [entered, people("tea", &["Ada", "Bob"]), came("Ada", "tea")]
    );
}

#[test]
fn who_comes_in_is_shown_what_was_said_last() {
    let house = House::new();
    let ada = house.enter("Ada", "tea");
    for number in 0..60 {
        ada.say(&number.to_string());
    }
    let heard = ada.heard();
    let bob = house.arrive();
    bob.ask(json!({"do": "enter", "name": "Bob", "room": "tea"}));

    let shown = earlier(&bob.heard());
    let texts: Vec<_> = shown.iter().map(|said| said["text"].as_str()).collect();
    let last: Vec<_> = (10..60).map(|number| number.to_string()).collect();
    assert_eq!(
        texts,
        last.iter().map(|t| Some(t.as_str())).collect::<Vec<_>>()
    );
    // By its number a message is known to be the one that was heard.
    for (shown, heard) in shown.iter().zip(&heard[10..]) {
        for part in ["number", "from", "text", "at"] {
            assert_eq!(shown[part], heard[part]);
        }
    }
    // It stays when all have left, and is the room's alone.
    ada.leave();
    bob.ask(json!({"do": "move", "room": "coffee"}));
    assert!(earlier(&bob.heard()).is_empty());
    bob.ask(json!({"do": "move", "room": "tea"}));
    assert_eq!(earlier(&bob.heard()), shown);
}

#[test]
fn rooms_whose_names_are_alike_have_a_history_each() {
    let house = House::new();
    let ada = house.enter("Ada", "1#tea");
    ada.say("hash");
    ada.ask(json!({"do": "move", "room": "tea"}));
    ada.say("tea");
    ada.heard();
    for (room, said) in [("1#tea", "hash"), ("tea", "tea")] {
        ada.ask(json!({"do": "move", "room": room}));
        let shown = earlier(&ada.heard());
        assert_eq!(shown.len(), 1);
        assert_eq!(shown[0]["text"], said);
    }
}

/// Whoever opens rooms without end fills nothing: they share what there is.
#[test]
fn what_is_kept_has_a_bound_however_many_rooms_there_are() {
    let house = House::new();
    let ada = house.enter("Ada", "room 0");
    for number in 1..=300 {
        ada.say("hello");
        ada.say("again");
        ada.ask(json!({"do": "move", "room": format!("room {number}")}));
        ada.heard();
    }
    let keys = house.0.run(|| {
        let bucket = jackfield_sdk::keyvalue::open("history").expect("the bucket");
        bucket.keys().expect("its keys")
    });
    let counters = keys.iter().filter(|key| key.starts_with("n#")).count();
    assert!((50..=100).contains(&counters), "{counters}");
    assert!(keys.len() <= 100 * 51, "{}", keys.len());
    // And what was said last is there.
    ada.say("last");
    let bob = house.enter("Bob", "tea");
    bob.ask(json!({"do": "move", "room": "room 300"}));
    let shown = earlier(&bob.heard());
    assert_eq!(shown.last().expect("a message")["text"], "last");
}

#[test]
fn without_its_bucket_people_still_talk_and_the_log_says_so_once() {
    let house = House(Host::of::<Chat>().uid_policy(UidPolicy::RejectNew));
    let ada = house.enter("Ada", "tea");
    ada.say("hello");
    ada.say("again");
    let heard = ada.heard();
    assert_eq!(heard.len(), 2);
    assert!(heard.iter().all(|said| said.get("number").is_none()));
    let logs = house.0.logs();
    assert_eq!(logs.len(), 1, "{logs:?}");
    assert!(logs[0].1.contains("keyvalue.buckets"), "{logs:?}");
}

#[test]
fn rooms_do_not_hear_each_other() {
    let house = House::new();
    let ada = house.enter("Ada", "tea");
    let bob = house.enter("Bob", "coffee");

    bob.say("anyone?");
    bob.leave();

    assert!(ada.heard().is_empty());
}

#[test]
fn moving_is_leaving_and_coming() {
    let house = House::new();
    let ada = house.enter("Ada", "tea");
    let bob = house.enter("Bob", "tea");
    let cyd = house.enter("Cyd", "coffee");
    house.forget(&[&ada, &bob, &cyd]);

    bob.ask(json!({"do": "move", "room": "coffee"}));

    assert_eq!(ada.heard(), [left("Bob", "tea")]);
    assert_eq!(cyd.heard(), [came("Bob", "coffee")]);
    let entered = json!({"event": "entered", "name": "Bob", "room": "coffee"});
    assert_eq!(
        bob.heard(),
        [
            entered,
            people("coffee", &["Bob", "Cyd"]),
            came("Bob", "coffee")
        ]
    );
}

#[test]
fn whoever_leaves_is_seen_to_leave() {
    let house = House::new();
    let ada = house.enter("Ada", "tea");
    let bob = house.enter("Bob", "tea");
    ada.heard();

    bob.leave();

    assert_eq!(ada.heard(), [left("Bob", "tea")]);
    ada.ask(json!({"do": "who"}));
    assert_eq!(ada.heard(), [people("tea", &["Ada"])]);
}

#[test]
fn a_private_message_reaches_one_person_in_any_room_and_comes_back_to_its_sender() {
    let house = House::new();
    let ada = house.enter("Ada", "tea");
    let bob = house.enter("Bob", "coffee");
    let cyd = house.enter("Cyd", "tea");
    house.forget(&[&ada, &bob, &cyd]);

    ada.ask(json!({"do": "tell", "to": "Bob", "text": "<b>&"}));

    let told = json!({"event": "told", "from": "Ada", "to": "Bob", "text": "<b>&"});
    let heard = timeless(bob.heard());
    assert_eq!(heard, [told]);
    assert_eq!(timeless(ada.heard()), heard);
    assert!(cyd.heard().is_empty());
}

#[test]
fn a_private_message_to_nobody_or_to_oneself_is_refused() {
    let house = House::new();
    let ada = house.enter("Ada", "tea");

    ada.ask(json!({"do": "tell", "to": "Zoe", "text": "hi"}));
    assert_eq!(ada.problems(), ["tell: not-here"]);
    ada.ask(json!({"do": "tell", "to": "Ada", "text": "hi"}));
    assert_eq!(ada.problems(), ["tell: yourself"]);
}

#[test]
fn a_name_is_one_persons_until_they_leave() {
    let house = House::new();
    let ada = house.enter("Ada", "tea");
    let other = house.arrive();

    other.ask(json!({"do": "enter", "name": "Ada", "room": "coffee"}));
    assert_eq!(other.problems(), ["enter: taken"]);
    other.say("is this on?");
    assert_eq!(other.problems(), ["say: not-entered"]);
    assert!(ada.heard().is_empty());

    ada.leave();
    other.ask(json!({"do": "enter", "name": "Ada", "room": "coffee"}));
    assert!(other.problems().is_empty());
}

#[test]
fn who_comes_back_with_their_key_has_their_name_at_once() {
    let house = House::new();
    let bob = house.enter("Bob", "tea");
    let broken = house.arrive();
    broken.ask(json!({"do": "enter", "name": "Ada", "room": "tea", "key": KEY}));
    bob.heard();

    let back = house.arrive();
    back.ask(json!({"do": "enter", "name": "Ada", "room": "tea", "key": KEY}));

    assert!(back.problems().is_empty());
    assert_eq!(broken.client.closed().map(|(code, _)| code), Some(4001));
    // The end of the old connection comes last, and must not take Ada away.
    assert_eq!(presence(&bob.heard(), "Ada"), Some(true));
    bob.ask(json!({"do": "who"}));
    assert_eq!(bob.heard(), [people("tea", &["Ada", "Bob"])]);
}

#[test]
fn a_wrong_key_opens_nothing() {
    let house = House::new();
    let ada = house.arrive();
    ada.ask(json!({"do": "enter", "name": "Ada", "room": "tea", "key": KEY}));
    let bob = house.enter("Bob", "tea");
    let thief = house.arrive();

    thief.ask(json!({"do": "enter", "name": "Ada", "room": "tea", "key": "another-key-entirely"}));
    assert_eq!(thief.problems(), ["enter: taken"]);
    // Bob gave no key, which is not a key that is empty.
    thief.ask(json!({"do": "enter", "name": "Bob", "room": "tea", "key": ""}));
    assert_eq!(thief.problems(), ["enter: malformed"]);
    assert_eq!((ada.client.closed(), bob.client.closed()), (None, None));
}

#[test]
fn renaming_is_seen_and_frees_the_old_name() {
    let house = House::new();
    let ada = house.enter("Ada", "tea");
    let bob = house.enter("Bob", "tea");
    house.forget(&[&ada, &bob]);

    ada.ask(json!({"do": "rename", "name": "Bob"}));
    assert_eq!(ada.problems(), ["rename: taken"]);

    ada.ask(json!({"do": "rename", "name": "Countess"}));
    let renamed = json!({"event": "renamed", "from": "Ada", "to": "Countess", "room": "tea"});
    let heard = bob.heard();
    assert_eq!(heard, [renamed]);
    assert_eq!(ada.heard(), heard);

    house.enter("Ada", "tea");
    assert_eq!(bob.heard(), [came("Ada", "tea")]);
    ada.leave();
    assert_eq!(bob.heard(), [left("Countess", "tea")]);
}

#[test]
fn rooms_are_listed_to_everybody_with_the_fullest_first() {
    let house = House::new();
    house.enter("Ada", "tea");
    house.enter("Bob", "coffee");
    house.enter("Cyd", "coffee");
    let guest = house.arrive();

    guest.ask(json!({"do": "rooms"}));

    let rooms = json!([{"name": "coffee", "people": 2}, {"name": "tea", "people": 1}]);
    assert_eq!(guest.heard(), [json!({"event": "rooms", "rooms": rooms})]);
}

#[test]
fn nothing_is_left_of_people_who_have_left() {
    let house = House::new();
    let people = [house.enter("Ada", "tea"), house.enter("Bob", "coffee")];
    people.iter().for_each(Someone::leave);

    let groups = house.0.run(|| get_all_groups(None, 10)).expect("a list");

    assert!(groups.items.is_empty());
    assert!(house.0.logs().is_empty());
}

#[test]
fn what_is_no_request_gets_a_clear_answer_and_harms_nobody() {
    let house = House::new();
    let ada = house.enter("Ada", "tea");

    for text in [
        "",
        "hello",
        "[]",
        "{}",
        r#"{"do":"dance"}"#,
        r#"{"do":"say"}"#,
        r#"{"do":"say","text":7}"#,
    ] {
        ada.client.say(text);
        assert_eq!(ada.problems(), ["malformed"], "{text}");
    }
    ada.client.say(vec![1, 2, 3]);
    assert_eq!(ada.problems(), ["malformed"]);
    ada.ask(json!({"do": "say", "text": "hi", "txet": "hi"}));
    assert_eq!(ada.problems(), ["malformed"]);
    ada.say("still here");
    assert_eq!(ada.heard().len(), 1);
}

#[test]
fn limits_hold_at_every_door() {
    let house = House::new();
    let ada = house.arrive();
    let long = "x".repeat(33);

    ada.ask(json!({"do": "enter", "name": long, "room": "tea"}));
    assert_eq!(ada.problems(), ["enter: too-long"]);
    ada.ask(json!({"do": "enter", "name": "Ada", "room": " "}));
    assert_eq!(ada.problems(), ["enter: empty"]);
    ada.ask(json!({"do": "enter", "name": "A\u{7}da", "room": "tea"}));
    assert_eq!(ada.problems(), ["enter: bad-character"]);

    ada.ask(json!({"do": "enter", "name": "Ada", "room": "tea"}));
    ada.heard();
    ada.say(&"x".repeat(2_001));
    assert_eq!(ada.problems(), ["say: too-long"]);
    ada.ask(json!({"do": "move", "room": long}));
    assert_eq!(ada.problems(), ["move: too-long"]);
    ada.ask(json!({"do": "rename", "name": ""}));
    assert_eq!(ada.problems(), ["rename: empty"]);
}

#[test]
fn entering_twice_changes_nothing() {
    let house = House::new();
    let ada = house.enter("Ada", "tea");

    ada.ask(json!({"do": "enter", "name": "Eve", "room": "coffee"}));

    assert_eq!(ada.problems(), ["enter: already-entered"]);
    ada.ask(json!({"do": "who"}));
    assert_eq!(ada.heard(), [people("tea", &["Ada"])]);
}

#[test]
fn who_is_closed_by_the_operator_is_seen_to_leave() {
    let house = House::new();
    let ada = house.enter("Ada", "tea");
    let bob = house.enter("Bob", "tea");
    ada.heard();

    house
        .0
        .run(|| close_client(bob.client.id(), 1008, "enough", None))
        .expect("bob is here");

    assert_eq!(ada.heard(), [left("Bob", "tea")]);
}

/// A node with the chat.
struct House(Host<Chat>);

impl House {
    fn new() -> House {
        let host = Host::of::<Chat>().manifest("chat.toml");
        House(host.expect("a manifest"))
    }

    fn arrive(&self) -> Someone {
        Someone {
            client: self.0.connect("/chat").expect("the chat lets everybody in"),
        }
    }

    /// Somebody in a room, who has heard what one hears then.
    fn enter(&self, name: &str, room: &str) -> Someone {
        let someone = self.arrive();
        someone.ask(json!({"do": "enter", "name": name, "room": room}));
        assert!(someone.problems().is_empty());
        someone
    }

    fn forget(&self, people: &[&Someone]) {
        people.iter().for_each(|someone| drop(someone.heard()));
    }
}

struct Someone {
    client: Client<Chat>,
}

impl Someone {
    fn ask(&self, request: Value) {
        self.client.say(request.to_string());
    }

    fn say(&self, text: &str) {
        self.ask(json!({"do": "say", "text": text}));
    }

    fn leave(&self) {
        self.client.leave();
    }

    fn heard(&self) -> Vec<Value> {
        let heard = self.client.received().into_iter();
        heard.map(|message| message.json().expect("JSON")).collect()
    }

    /// The requests that failed, and with which code; forgets all else.
    fn problems(&self) -> Vec<String> {
        let errors = self
            .heard()
            .into_iter()
            .filter(|event| event["event"] == "error");
        errors
            .map(
                |error| match (error["do"].as_str(), error["code"].as_str()) {
                    (Some(asked), Some(code)) => format!("{asked}: {code}"),
                    (_, code) => code.unwrap_or("an error without a code").to_owned(),
                },
            )
            .collect()
    }
}

fn came(name: &str, room: &str) -> Value {
    json!({"event": "came", "name": name, "room": room})
}

fn left(name: &str, room: &str) -> Value {
    json!({"event": "left", "name": name, "room": room})
}

/// What somebody who has heard this was shown of what was said before.
fn earlier(heard: &[Value]) -> Vec<Value> {
    let shown = heard.iter().find(|event| event["event"] == "earlier");
    shown.map_or_else(Vec::new, |shown| {
        shown["said"].as_array().expect("a list").clone()
    })
}

fn people(room: &str, names: &[&str]) -> Value {
    json!({"event": "people", "room": room, "names": names, "total": names.len()})
}

/// Whether a person is there, for somebody who has heard this.
fn presence(heard: &[Value], name: &str) -> Option<bool> {
    let about = heard.iter().rfind(|event| event["name"] == name)?;
    Some(about["event"] == "came")
}

/// Without the times, which must be there, and the numbers.
fn timeless(mut events: Vec<Value>) -> Vec<Value> {
    for event in &mut events {
        event.as_object_mut().map(|event| event.remove("number"));
        let at = event.as_object_mut().and_then(|event| event.remove("at"));
        assert!(
            at.is_some_and(|at| at.as_u64() > Some(1_700_000_000_000)),
            "a time is missing"
        );
    }
    events
}
