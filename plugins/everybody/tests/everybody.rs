//! Against the SDK's in-memory stand-in for the node.

use everybody::Everybody;
use jackfield_sdk::Message;
use jackfield_sdk::testing::Host;

#[test]
fn all_hear_who_comes_what_they_say_and_that_they_leave() {
    let host = Host::of::<Everybody>();
    let ada = host.connect("/everybody").expect("in");
    let bob = host.connect("/everybody").expect("in");
    ada.say("hello");
    let (ada_id, bob_id) = (ada.id().to_string(), bob.id().to_string());
    bob.leave();
    let heard = [
        format!("{ada_id} has come"),
        format!("{bob_id} has come"),
        format!("{ada_id}: hello"),
        format!("{bob_id} has left"),
    ];
    assert_eq!(ada.received(), heard.map(Message::from));
}

#[test]
fn bytes_are_no_text_and_nobody_hears_them() {
    let host = Host::of::<Everybody>();
    let ada = host.connect("/everybody").expect("in");
    ada.received();
    ada.say(vec![1, 2, 3]);
    assert!(ada.received().is_empty());
}
