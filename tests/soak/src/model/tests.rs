//! Each promise is broken once, and found; and what may happen is not taken for a fault.

use super::*;

const GROUP: Name = Name::Group(7);

/// Two nodes, with a client at each, both in the group, which both nodes know.
struct Scene {
    model: Model,
    ada: SessionId,
    bob: SessionId,
}

impl Scene {
    fn new() -> Scene {
        let mut model = Model::default();
        let [ada, bob] = [0, 1].map(|node| {
            let client = model.connect(node);
            model.connected(client);
            model.join(client, GROUP);
            model.joined(client, GROUP);
            client
        });
        let mut scene = Scene { model, ada, bob };
        scene.pass_epoch();
        scene
    }

    fn pass_epoch(&mut self) {
        let begun = self.model.begin_epoch();
        self.model.end_epoch(begun);
    }

    /// Ada's, which has been answered.
    fn send(&mut self, name: Name) -> MessageId {
        let id = self.model.send(self.ada, &[name]);
        self.model.answered(id);
        id
    }

    fn barrier(&mut self) -> Result<(), Violation> {
        self.model.finish_abandoned();
        self.pass_epoch();
        self.model.pass_barrier()
    }

    fn came(&mut self, to: SessionId, id: MessageId) -> Result<(), Violation> {
        self.model.came(to, id).map(drop)
    }
}

#[test]
fn what_comes_to_all_members_once_and_in_order_is_well() {
    let mut scene = Scene::new();
    let (ada, bob) = (scene.ada, scene.bob);
    for name in [GROUP, Name::All, GROUP] {
        let id = scene.send(name);
        assert_eq!(scene.came(ada, id), Ok(()));
        assert_eq!(scene.came(bob, id), Ok(()));
    }
    let id = scene.send(Name::Client(bob));
    assert_eq!(scene.came(bob, id), Ok(()));
    assert_eq!(scene.barrier(), Ok(()));
    let tally = &scene.model.tally;
    assert_eq!((tally.sent, tally.had_to_come, tally.came), (4, 7, 7));
    assert!(tally.allowed.is_empty(), "{tally:?}");
}

#[test]
fn a_lost_message_is_found() {
    for lost_by in [0, 1] {
        let mut scene = Scene::new();
        let clients = [scene.ada, scene.bob];
        let id = scene.send(GROUP);
        assert_eq!(scene.came(clients[1 - lost_by], id), Ok(()));
        let lost = Violation::Lost(clients[lost_by], id);
        assert_eq!(scene.barrier(), Err(lost));
    }
}

#[test]
fn a_doubled_message_is_found_also_after_a_barrier() {
    let mut scene = Scene::new();
    let (ada, bob) = (scene.ada, scene.bob);
    let id = scene.send(GROUP);
    assert_eq!(scene.came(ada, id), Ok(()));
    assert_eq!(scene.came(bob, id), Ok(()));
    assert_eq!(scene.came(bob, id), Err(Violation::Doubled(bob, id)));
    assert_eq!(scene.barrier(), Ok(()));
    assert_eq!(scene.came(bob, id), Err(Violation::Late(bob, id)));
}

#[test]
fn a_reordered_message_is_found_and_two_senders_have_no_order() {
    let mut scene = Scene::new();
    let (ada, bob) = (scene.ada, scene.bob);
    let (first, second) = (scene.send(GROUP), scene.send(Name::All));
    let bobs = scene.model.send(bob, &[GROUP]);
    assert_eq!(scene.came(ada, bobs), Ok(()));
    assert_eq!(scene.came(ada, first), Ok(()));
    assert_eq!(scene.came(bob, second), Ok(()));
    let reordered = Violation::Reordered {
        receiver: bob,
        id: first,
        after: second,
    };
    assert_eq!(scene.came(bob, first), Err(reordered));
}

#[test]
fn a_message_to_others_is_found() {
    let mut scene = Scene::new();
    let (ada, bob) = (scene.ada, scene.bob);
    let to_ada = scene.send(Name::Client(ada));
    assert_eq!(scene.came(bob, to_ada), Err(Violation::Stray(bob, to_ada)));
    let never = to_ada + 1;
    assert_eq!(
        scene.came(bob, never),
        Err(Violation::NeverSent(bob, never))
    );

    scene.model.leave(bob, GROUP);
    scene.model.left(bob, GROUP);
    let later = scene.send(GROUP);
    assert_eq!(scene.came(bob, later), Err(Violation::Stray(bob, later)));
}

#[test]
fn who_joins_or_leaves_meanwhile_may_get_it_and_need_not() {
    for comes in [false, true] {
        let mut scene = Scene::new();
        let (ada, bob) = (scene.ada, scene.bob);
        let before = scene.send(GROUP);
        scene.model.leave(bob, GROUP);
        let during = scene.send(GROUP);
        scene.model.left(bob, GROUP);
        // It was sent before Bob comes again, and is still under way.
        let between = scene.send(GROUP);
        scene.model.join(bob, GROUP);
        for id in [before, during, between] {
            assert_eq!(scene.came(ada, id), Ok(()));
            if comes {
                assert_eq!(scene.came(bob, id), Ok(()));
            }
        }
        assert_eq!(scene.barrier(), Ok(()));
        let not_come = scene.model.tally.allowed.get(&Reason::Membership);
        assert_eq!(not_come, (!comes).then_some(&3));
    }
}

#[test]
fn what_has_arrived_before_a_leave_had_to_come() {
    let mut scene = Scene::new();
    let (ada, bob) = (scene.ada, scene.bob);
    let id = scene.send(GROUP);
    assert_eq!(scene.came(ada, id), Ok(()));
    scene.pass_epoch();
    scene.model.leave(bob, GROUP);
    scene.model.left(bob, GROUP);
    assert_eq!(scene.barrier(), Err(Violation::Lost(bob, id)));
}

#[test]
fn a_membership_counts_at_its_own_node_at_once_and_elsewhere_after_an_epoch() {
    let mut scene = Scene::new();
    let [near, far] = [0, 1].map(|node| {
        let client = scene.model.connect(node);
        scene.model.connected(client);
        scene.model.join(client, Name::Uid(3));
        scene.model.joined(client, Name::Uid(3));
        client
    });
    let untold = scene.send(Name::Uid(3));
    assert_eq!(scene.came(near, untold), Ok(()));
    assert_eq!(scene.barrier(), Ok(()));
    assert_eq!(scene.model.tally.allowed.get(&Reason::Untold), Some(&1));
    let told = scene.send(Name::Uid(3));
    assert_eq!(scene.came(near, told), Ok(()));
    assert_eq!(scene.barrier(), Err(Violation::Lost(far, told)));
}

#[test]
fn who_is_closed_gets_first_what_had_arrived_and_who_goes_need_not() {
    let lost = Ending::Lost(Reason::ClientLeft);
    for (ending, has_arrived, is_fault) in [
        (Ending::Served, true, true),
        (Ending::Served, false, false),
        (lost, true, false),
        (lost, false, false),
    ] {
        let mut scene = Scene::new();
        let (ada, bob) = (scene.ada, scene.bob);
        let id = scene.send(GROUP);
        assert_eq!(scene.came(ada, id), Ok(()));
        if has_arrived {
            scene.pass_epoch();
        }
        scene.model.end(bob, ending);
        let ended = scene.model.ended(bob);
        assert_eq!(ended.is_err(), is_fault, "{ending:?} {has_arrived}");
        if !is_fault {
            assert_eq!(scene.barrier(), Ok(()));
        }
    }
}

#[test]
fn a_killed_node_may_lose_what_it_had_sent_and_nothing_else() {
    let mut scene = Scene::new();
    let (ada, bob) = (scene.ada, scene.bob);
    let third = scene.model.connect(2);
    scene.model.connected(third);
    scene.pass_epoch();
    let from_the_dead = scene.send(Name::Client(bob));
    let from_others = scene.model.send(third, &[Name::Client(bob)]);
    scene.model.answered(from_others);
    scene.model.kill(0);
    assert_eq!(scene.model.ended(ada), Ok(()));
    let lost = Violation::Lost(bob, from_others);
    assert_eq!(scene.barrier(), Err(lost), "{from_the_dead} is not missed");
}

#[test]
fn a_cut_link_may_lose_messages_between_its_nodes_only() {
    let mut scene = Scene::new();
    let ada = scene.ada;
    let before = scene.send(GROUP);
    scene.model.cut(0, 1);
    let during = scene.send(GROUP);
    for id in [before, during] {
        assert_eq!(scene.came(ada, id), Ok(()));
    }
    scene.model.reconnect();
    assert_eq!(scene.barrier(), Ok(()));
    assert_eq!(scene.model.tally.allowed.get(&Reason::LinkCut), Some(&2));

    scene.model.cut(0, 1);
    let here = scene.send(Name::Client(ada));
    assert_eq!(scene.barrier(), Err(Violation::Lost(ada, here)));
}

#[test]
fn what_was_never_answered_may_come_until_the_barrier() {
    let mut scene = Scene::new();
    let (ada, bob) = (scene.ada, scene.bob);
    let id = scene.model.send(ada, &[Name::Client(bob)]);
    scene.model.end(ada, Ending::Lost(Reason::ClientLeft));
    assert_eq!(scene.model.ended(ada), Ok(()));
    scene.pass_epoch();
    let unfinished = Violation::Unfinished(id);
    assert_eq!(scene.model.pass_barrier(), Err(unfinished));
    assert_eq!(scene.came(bob, id), Ok(()));
    assert_eq!(scene.barrier(), Ok(()));
    assert_eq!(scene.came(bob, id), Err(Violation::Late(bob, id)));
}

#[test]
fn a_refused_send_reaches_nobody_for_sure() {
    let mut scene = Scene::new();
    let bob = scene.bob;
    let id = scene.model.send(scene.ada, &[Name::Client(bob)]);
    scene.model.refused(id);
    assert_eq!(scene.barrier(), Ok(()));
    assert_eq!(scene.model.tally.allowed.get(&Reason::Refused), Some(&1));
}
