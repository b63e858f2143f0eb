//! What nodes know of each other's clients, uids and groups.

use std::sync::Arc;

use super::network::Network;
use super::test_node::{CHAT, Setting, TestNode, heard};
use super::{eventually, next_millisecond, scenarios};
use crate::close_code::CloseCode;
use crate::limits::Limits;
use crate::mesh::ask;
use crate::registry::{Client, Close, Closer, Kind};

scenarios!(
    a_newcomer_is_told_everything_and_tells_everything,
    every_change_is_told,
    a_message_finds_the_groups_that_its_sender_has_joined_before,
    a_question_is_answered_by_the_node_of_its_client,
    a_uid_that_one_client_may_have_moves_to_the_newest,
);

async fn a_newcomer_is_told_everything_and_tells_everything(network: &Arc<Network>) {
    let [here] = TestNode::group(network, &Limits::default()).await;
    let clients: Vec<_> = (0..3_000).map(|n| here.member(&format!("g{n}"))).collect();
    for (n, client) in clients.iter().enumerate() {
        let bound = here.chat.bind_uid(client.id(), &format!("u{n}"), 0);
        bound.expect("the uid is free");
    }
    let newcomer = TestNode::start(network, Setting::default()).await;
    let _zoe = newcomer.member("g0");
    newcomer.dials(&here);
    newcomer.knows([&here]).await;
    here.knows([&newcomer]).await;
    let sizes = newcomer.mesh.interest().sizes(here.own());
    assert_eq!(
        (sizes.clients, sizes.uids, sizes.groups),
        (3_000, 3_000, 3_000)
    );
    assert_eq!(newcomer.elsewhere(Kind::Uid, "u2999"), 1);
    assert_eq!(here.elsewhere(Kind::Group, "g0"), 1);
}

async fn every_change_is_told(network: &Arc<Network>) {
    let [here, there] = TestNode::group(network, &Limits::default()).await;
    let (ada, bob) = (here.client(), here.client());
    for client in [&ada, &bob] {
        here.chat.join_group(client.id(), "g").expect("it is here");
        here.chat.bind_uid(client.id(), "u", 0).expect("many may");
    }
    there.sees(Kind::Group, "g", 2).await;
    there.sees(Kind::Uid, "u", 2).await;
    here.chat.leave_group(ada.id(), "g").expect("it is here");
    here.chat.unbind_uid(ada.id(), None).expect("it is here");
    there.sees(Kind::Group, "g", 1).await;
    there.sees(Kind::Uid, "u", 1).await;
    let (code, reason, by) = (CloseCode::Normal, String::new(), Closer::Client);
    here.chat.leave(&bob, &Close { code, reason, by });
    there.sees(Kind::Group, "g", 0).await;
    there.sees(Kind::Uid, "u", 0).await;
    let sizes = || there.mesh.interest().sizes(here.own());
    eventually("one client", || sizes().clients == 1).await;
    assert_eq!((sizes().uids, sizes().groups), (0, 0));
}

async fn a_message_finds_the_groups_that_its_sender_has_joined_before(network: &Arc<Network>) {
    let [here, there] = TestNode::group(network, &Limits::default()).await;
    let bob = there.member("g");
    here.sees(Kind::Group, "g", 1).await;
    let ada = here.client();
    for number in 0..100 {
        let group = format!("reply {number}");
        here.chat.join_group(ada.id(), &group).expect("room");
        here.sends("g", &number.to_string());
    }
    // Whoever has the message knows the group, and can answer to it at once.
    let mut answered = 0;
    let ticks = async {
        while answered < 100 {
            for number in heard(&bob) {
                assert_eq!(there.sends(&format!("reply {number}"), &number).clients, 1);
                answered += 1;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(super::PATIENCE, ticks)
        .await
        .expect("all of them");
    let answers = std::cell::RefCell::new(Vec::new());
    let has_all = || {
        answers.borrow_mut().extend(heard(&ada));
        answers.borrow().len() == 100
    };
    eventually("the answers", has_all).await;
}

async fn a_question_is_answered_by_the_node_of_its_client(network: &Arc<Network>) {
    let [here, there] = TestNode::group(network, &Limits::default()).await;
    let bob = there.client();
    let node = there.own();
    let mesh = &here.mesh;
    mesh.ask(node, CHAT, ask::bind_uid(bob.id(), "bob"))
        .await
        .expect("free");
    // The peer's own change comes before its answer.
    assert_eq!(here.elsewhere(Kind::Uid, "bob"), 1);
    mesh.ask(node, CHAT, ask::join_group(bob.id(), "g"))
        .await
        .expect("it is there");
    assert_eq!(here.elsewhere(Kind::Group, "g"), 1);
    let uid = mesh.ask(node, CHAT, ask::uid(bob.id())).await;
    assert_eq!(uid.expect("an answer").as_deref(), Some("bob"));
    let nobody = mesh.ask(node, "unknown", ask::uid(bob.id())).await;
    assert!(nobody.is_err(), "no such plugin is there");
    let online = mesh.ask(node, CHAT, ask::is_online(bob.id())).await;
    assert!(online.expect("an answer"));
    // A thousand at once keep their answers apart.
    let clients: Vec<_> = (0..1_000).map(|_| there.client()).collect();
    let questions = clients.iter().enumerate().map(async |(number, client)| {
        let info = [("n".to_owned(), number.to_string())].into();
        let set = mesh.ask(node, CHAT, ask::set_info(client.id(), info));
        set.await.expect("it is there");
        let info = mesh.ask(node, CHAT, ask::info(client.id())).await;
        assert_eq!(info.expect("an answer")["n"], number.to_string());
    });
    futures_util::future::join_all(questions).await;
}

async fn a_uid_that_one_client_may_have_moves_to_the_newest(network: &Arc<Network>) {
    let [here, there] = TestNode::group(network, &Limits::default()).await;
    for node in [&here, &there] {
        node.kicks_old();
    }
    let nodes = [&here, &there];
    let mut before: Option<Arc<Client>> = None;
    for number in 0..10 {
        let node = nodes[number % 2];
        let client = node.client();
        next_millisecond();
        node.mesh
            .bind_uid(&node.chat, client.id(), "ada")
            .expect("it moves");
        if let Some(before) = before.replace(client) {
            eventually("the older client to be closed", || before.has_left()).await;
        }
        nodes[(number + 1) % 2].sees(Kind::Uid, "ada", 1).await;
        node.sees(Kind::Uid, "ada", 0).await;
    }
    assert!(before.is_some_and(|last| !last.has_left()));
}
