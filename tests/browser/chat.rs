//! The chat's page, as it is shipped.

use std::fs;

use anyhow::{Context, Result, ensure};
use jackfield_tests::{Client, LogLine, Node, component};
use serde_json::json;

use super::browser::{Browser, Screen, Window};
use super::put_page;

#[tokio::test(flavor = "multi_thread")]
async fn two_people_see_each_other_and_talk() -> Result<()> {
    let chat = Chat::start().await?;
    let mut browser = Browser::start().await?;
    let ada = chat.person(&mut browser, Screen::Desktop).await?;
    ada.enter("Ada", "tea").await?;
    let bob = chat.person(&mut browser, Screen::Phone).await?;
    bob.window.shows("#door-rooms", "tea · 1").await?;

    bob.enter("Bob", "tea").await?;
    ada.window.shows("#people", "Bob").await?;
    ada.window.shows("#room-count", "2 people here").await?;
    bob.window.shows("#room-count", "2 people here").await?;
    bob.opens_the_drawer().await?;
    bob.window.shows("#people", "Ada").await?;
    bob.window.click("#side-close").await?;

    ada.say("Is the kettle on? <b>&amp;</b> <script>alert(1)</script>")
        .await?;
    bob.reads("Is the kettle on? <b>&amp;</b> <script>alert(1)</script>")
        .await?;
    bob.say("It is.").await?;
    ada.reads("It is.").await?;

    ada.renames("Countess <i>").await?;
    bob.reads("Ada is called Countess <i> now.").await?;
    ada.window.is_untroubled().await?;
    bob.window.is_untroubled().await?;

    bob.window.close().await?;
    ada.reads("Bob left.").await?;
    ada.window.stops_showing("#people", "Bob").await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_in_reads_what_was_said_before() -> Result<()> {
    let chat = Chat::start().await?;
    let mut browser = Browser::start().await?;
    let ada = chat.person(&mut browser, Screen::Desktop).await?;
    ada.enter("Ada", "tea").await?;
    for text in ["The kettle is on.", "Who wants a cup?"] {
        ada.say(text).await?;
        ada.reads(text).await?;
    }
    let bob = chat.person(&mut browser, Screen::Phone).await?;
    bob.enter("Bob", "tea").await?;
    bob.reads("The kettle is on.").await?;
    bob.reads("Who wants a cup?").await?;

    // A page that is loaded again shows it once, and nobody else sees it again.
    bob.window.run("location.reload()").await?;
    bob.reads("Who wants a cup?").await?;
    bob.say("I do.").await?;
    for person in [&ada, &bob] {
        person.reads("I do.").await?;
        let log = person.window.text("#log").await?;
        ensure!(log.matches("Who wants a cup?").count() == 1, "{log}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_message_is_for_one() -> Result<()> {
    let chat = Chat::start().await?;
    let mut browser = Browser::start().await?;
    let ada = chat.person(&mut browser, Screen::Desktop).await?;
    let bob = chat.person(&mut browser, Screen::Phone).await?;
    let mut cyd = chat.listener("Cyd", "tea").await?;
    ada.enter("Ada", "tea").await?;
    bob.enter("Bob", "tea").await?;

    ada.writes_to("Bob").await?;
    ada.say("The biscuits are behind the flour.").await?;
    bob.reads("The biscuits are behind the flour.").await?;
    bob.window.shows(".private .head", "to you").await?;
    ada.window.shows(".private .head", "Bob").await?;
    ada.window.click("#private-end").await?;
    ada.say("Good morning, all.").await?;

    let heard = cyd.listen_until("Good morning, all.").await?;
    ensure!(
        !heard.contains("biscuits"),
        "Cyd heard what was not for her: {heard}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_name_is_said_at_the_door() -> Result<()> {
    let chat = Chat::start().await?;
    let mut browser = Browser::start().await?;
    let _holder = chat.listener("Ada", "tea").await?;
    let ada = chat.person(&mut browser, Screen::Phone).await?;

    ada.ask_to_enter("Ada", "tea").await?;
    ada.window
        .shows("#door-error", "Somebody here is called Ada")
        .await?;
    ada.enter("Ada II", "tea").await?;

    ada.opens_the_drawer().await?;
    ada.window.shows("#people", "Ada II").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_loaded_again_is_the_same_person() -> Result<()> {
    let chat = Chat::start().await?;
    let mut browser = Browser::start().await?;
    let ada = chat.person(&mut browser, Screen::Desktop).await?;
    ada.enter("Ada", "tea & toast").await?;

    ada.window.run("location.reload()").await?;

    ada.window.shows("#room-name", "tea & toast").await?;
    ada.window.shows("#me", "Ada").await?;
    ada.say("I am still here.").await?;
    ada.reads("I am still here.").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_of_the_plugin_goes_unnoticed() -> Result<()> {
    let chat = Chat::start().await?;
    let mut browser = Browser::start().await?;
    let ada = chat.person(&mut browser, Screen::Desktop).await?;
    let bob = chat.person(&mut browser, Screen::Phone).await?;
    ada.enter("Ada", "tea").await?;
    bob.enter("Bob", "tea").await?;
    ada.say("before").await?;
    bob.reads("before").await?;

    chat.replace_plugin().await?;

    bob.say("after").await?;
    ada.reads("after").await?;
    ada.say("indeed").await?;
    bob.reads("indeed").await?;
    for person in [&ada, &bob] {
        let log = person.window.text("#log").await?;
        // A page that had lost its connection would say so when it has it again.
        ensure!(
            !log.contains("Connected again"),
            "a connection was lost:\n{log}"
        );
        ensure!(!log.contains("left."), "somebody seemed to leave:\n{log}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_come_back_by_themselves() -> Result<()> {
    let chat = Chat::start().await?;
    let mut browser = Browser::start().await?;
    let ada = chat.person(&mut browser, Screen::Desktop).await?;
    let bob = chat.person(&mut browser, Screen::Phone).await?;
    ada.enter("Ada", "tea").await?;
    bob.enter("Bob", "tea").await?;

    chat.remove_plugin()?;
    for person in [&ada, &bob] {
        person.window.shows("#connection", "No connection").await?;
    }
    ada.say("too soon").await?;
    ada.window
        .shows("#text-error", "Your text stays here")
        .await?;
    chat.put_plugin_back().await?;

    for person in [&ada, &bob] {
        person.reads("Connected again").await?;
        person.window.shows("#room-count", "2 people here").await?;
    }
    // The text that stayed is in the field still.
    ada.say(", and now").await?;
    bob.reads("too soon, and now").await
}

/// Somebody in front of a window.
struct Person {
    window: Window,
}

impl Person {
    async fn enter(&self, name: &str, room: &str) -> Result<()> {
        self.ask_to_enter(name, room).await?;
        self.window.shows("#room-name", room).await?;
        self.window.shows("#room-count", "here").await
    }

    async fn ask_to_enter(&self, name: &str, room: &str) -> Result<()> {
        self.window.fill("#door-name", name).await?;
        self.window.fill("#door-room", room).await?;
        self.window.click("#door-form [type=submit]").await
    }

    async fn say(&self, text: &str) -> Result<()> {
        self.window.type_into("#text", text).await?;
        self.window.click("#send").await
    }

    async fn reads(&self, text: &str) -> Result<()> {
        self.window.shows("#log", text).await
    }

    /// On a phone, people and rooms are behind a button.
    async fn opens_the_drawer(&self) -> Result<()> {
        self.window.click("#side-open").await
    }

    /// Makes the next messages private.
    async fn writes_to(&self, name: &str) -> Result<()> {
        self.window
            .click(&format!("#people [data-key={name:?}]"))
            .await?;
        self.window.shows("#private", name).await
    }

    async fn renames(&self, name: &str) -> Result<()> {
        self.window.click("#rename").await?;
        self.window.fill("#rename-name", name).await?;
        self.window.click("#rename-form [type=submit]").await?;
        self.window.shows("#me", name).await
    }
}

/// Somebody without a browser.
struct Listener {
    client: Client,
}

impl Listener {
    /// All that is heard up to the message that has this text.
    async fn listen_until(&mut self, text: &str) -> Result<String> {
        let mut heard = String::new();
        while !heard.contains(text) {
            let next = self.client.next_text().await;
            heard
                .push_str(&next.with_context(|| format!("{text:?} did not come; heard: {heard}"))?);
        }
        Ok(heard)
    }
}

/// A node with the chat, its manifest and its page.
struct Chat {
    node: Node,
}

impl Chat {
    async fn start() -> Result<Chat> {
        let manifest = component("chat")?.with_extension("toml");
        let manifest = fs::read_to_string(manifest).context("chat.toml")?;
        let builder = Node::builder().plugin("chat").manifest("chat", &manifest);
        let node = builder.start().await?;
        put_page(&node, "chat")?;
        Ok(Chat { node })
    }

    /// Somebody who has opened the page, and stands at the door.
    async fn person(&self, browser: &mut Browser, screen: Screen) -> Result<Person> {
        let window = browser.window(screen).await?;
        window
            .open(&format!("http://{}/chat/", self.node.address()))
            .await?;
        Ok(Person { window })
    }

    /// Somebody in a room.
    async fn listener(&self, name: &str, room: &str) -> Result<Listener> {
        let mut client = self.node.client("/chat").await?;
        client
            .say(json!({"do": "enter", "name": name, "room": room}).to_string())
            .await?;
        let mut listener = Listener { client };
        listener.listen_until("people").await?;
        Ok(listener)
    }

    /// Drops another build of the plugin into the folder, and waits until it has taken over.
    async fn replace_plugin(&self) -> Result<()> {
        let mut component = fs::read(component("chat")?)?;
        // A custom section says nothing, and makes it another file: its id, its size, the
        // size of its name, its name.
        component.extend(b"\x00\x06\x05again");
        self.node.folder().put_bytes("chat", &component)?;
        self.loaded(2).await
    }

    fn remove_plugin(&self) -> Result<()> {
        self.node.folder().remove("chat")
    }

    async fn put_plugin_back(&self) -> Result<()> {
        self.node.folder().put("chat", "chat")?;
        self.loaded(2).await
    }

    async fn loaded(&self, generation: u64) -> Result<()> {
        let loaded = |line: &LogLine| {
            line.says("plugin loaded") && line.number("generation") == Some(generation)
        };
        self.node.wait_for_log(loaded).await.map(drop)
    }
}
