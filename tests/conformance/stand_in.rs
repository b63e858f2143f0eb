//! The wire to the SDK's stand-in, where the plugin runs natively in this process.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Context as _, Result};
use console::Console;
use jackfield_sdk::testing::{Client, Host, UidPolicy};
use jackfield_sdk::{Handshake, Message};
use jackfield_tests::End;
use serde_json::Value;

use crate::wire::Wire;

pub(crate) struct StandIn {
    host: Host<Console>,
    /// The plugin that the other one calls.
    _other: Host<Console>,
    requests: u64,
}

/// A client, and what it has heard that was no answer.
pub(crate) struct Listener {
    client: Client<Console>,
    kept: VecDeque<String>,
}

impl StandIn {
    pub(crate) fn start(policy: UidPolicy) -> Result<StandIn> {
        let host = Host::of().plugin_name("console").uid_policy(policy);
        let other = Host::of().plugin_name("other").allow_calls(&["console"]);
        host.beside(&host);
        host.beside(&other);
        Ok(StandIn {
            host,
            _other: other,
            requests: 0,
        })
    }
}

impl Wire for StandIn {
    type Client = Listener;

    async fn connect(&mut self, query: &[(String, String)]) -> Result<Result<Listener, u16>> {
        let handshake = Handshake {
            path: "/console".to_owned(),
            query: query.to_vec(),
            subprotocols: vec!["v1".to_owned()],
            ..Handshake::default()
        };
        let client = match self.host.connect_with(handshake) {
            Ok(client) => client,
            Err(refuse) => return Ok(Err(refuse.status)),
        };
        let mut listener = Listener {
            client,
            kept: VecDeque::new(),
        };
        listener.listen(|event| event["event"] == "connected");
        Ok(Ok(listener))
    }

    fn id(&self, client: &Listener) -> String {
        client.client.id().to_string()
    }

    async fn ask(
        &mut self,
        listener: &mut Listener,
        mut request: Value,
    ) -> Result<Result<Value, End>> {
        self.requests += 1;
        let id = Value::from(self.requests);
        request["id"] = id.clone();
        listener.client.say(request.to_string());
        let answer = listener.listen(|event| event["id"] == id && event.get("event").is_none());
        if let Some((code, reason)) = listener.client.closed() {
            return Ok(Err(End::closed(code, &reason)));
        }
        let mut answer = answer.with_context(|| format!("no answer to {request}"))?;
        answer
            .as_object_mut()
            .context("an answer is an object")?
            .remove("id");
        Ok(Ok(answer))
    }

    async fn until_heard(&mut self, listener: &mut Listener, ms: u64) -> Result<String> {
        self.host.advance(Duration::from_millis(ms));
        listener.listen(|_| false);
        listener.kept.pop_front().context("nothing was heard")
    }

    async fn take_heard(&mut self, listener: &mut Listener) -> Result<Vec<String>> {
        Ok(listener.kept.drain(..).collect())
    }

    async fn leave(&mut self, listener: Listener, code: u16, reason: &str) -> Result<()> {
        listener.client.leave_with(code, reason);
        Ok(())
    }

    async fn vanish(&mut self, listener: Listener) -> Result<()> {
        listener.client.vanish();
        Ok(())
    }
}

impl Listener {
    /// Takes in what was sent, and picks out what is wanted.
    fn listen(&mut self, wanted: impl Fn(&Value) -> bool) -> Option<Value> {
        let mut picked = None;
        for message in self.client.received() {
            let text = match message {
                Message::Text(text) => text,
                Message::Binary(bytes) => format!("{bytes:?}"),
            };
            match serde_json::from_str(&text) {
                Ok(value) if wanted(&value) => picked = Some(value),
                _ => self.kept.push_back(text),
            }
        }
        picked
    }
}
