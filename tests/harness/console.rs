//! A client of the plugin `console`: the whole contract, asked for from outside.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::client::Ended;
use crate::{Barrier, Client, End};

/// A client that has heard its `connected` event.
///
/// What others send is kept while it waits for an answer. An answer comes after everything
/// that was sent to it before the request: so `heard` has all of that, and nothing is
/// missed or waited for in vain.
#[derive(Debug)]
pub struct Console {
    client: Client,
    kept: VecDeque<Message>,
    id: String,
    generation: u64,
    requests: u64,
    /// Passed after each answer, where several nodes stand for one.
    barrier: Option<Arc<Barrier>>,
}

impl Console {
    pub(crate) async fn connect(
        address: SocketAddr,
        path: &str,
        query: &[(&str, &str)],
    ) -> anyhow::Result<Console> {
        let path = format!("{path}{}", self::query(query));
        Console::greet(Client::connect(address, &path, &[]).await?).await
    }

    /// Reads up to the `connected` event of a client that was let in.
    pub async fn greet(client: Client) -> anyhow::Result<Console> {
        let mut console = Console {
            client,
            kept: VecDeque::new(),
            id: String::new(),
            generation: 0,
            requests: 0,
            barrier: None,
        };
        let connected = console
            .wait_for(|value| value["event"] == "connected")
            .await?;
        console.id = connected["client"]
            .as_str()
            .context("no client id")?
            .to_owned();
        console.generation = connected["generation"].as_u64().context("no generation")?;
        Ok(console)
    }

    /// The client's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The generation that let it in.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// From here on, what an answer says is known everywhere.
    pub(crate) async fn behind(mut self, barrier: Option<Arc<Barrier>>) -> anyhow::Result<Console> {
        self.barrier = barrier;
        self.pass().await?;
        Ok(self)
    }

    async fn pass(&self) -> anyhow::Result<()> {
        match &self.barrier {
            // Boxed: the barrier's own clients are consoles, too.
            Some(barrier) => Box::pin(barrier.pass()).await,
            None => Ok(()),
        }
    }

    /// Asks for what must succeed, whoever knows of it.
    pub(crate) async fn ok_at_once(&mut self, request: Value) -> anyhow::Result<()> {
        let id = self.start(request).await?;
        let is_answer = |value: &Value| value["id"] == id && value.get("event").is_none();
        let answer = self.wait_for(is_answer).await?;
        ensure!(answer.get("ok").is_some(), "it answered {answer}");
        Ok(())
    }

    /// Asks, and answers `{"ok":…}` or `{"error":{"code":…,"message":…}}`.
    pub async fn call(&mut self, request: Value) -> anyhow::Result<Value> {
        let id = self.start(request).await?;
        self.answer(id).await
    }

    /// Asks for what must succeed, and answers what is under `ok`.
    pub async fn ok(&mut self, request: Value) -> anyhow::Result<Value> {
        let shown = request.to_string();
        let mut answer = self.call(request).await?;
        match answer.get_mut("ok") {
            Some(ok) => Ok(comparable(ok.take())),
            None => bail!("{shown} answered {answer}"),
        }
    }

    /// Asks for what must fail, and answers the error's code.
    pub async fn error(&mut self, request: Value) -> anyhow::Result<String> {
        let shown = request.to_string();
        let answer = self.call(request).await?;
        let code = error_code(&answer).with_context(|| format!("{shown} answered {answer}"))?;
        Ok(code.to_owned())
    }

    /// Walks all pages of a list, `limit` items each.
    pub async fn walk(&mut self, mut request: Value, limit: usize) -> anyhow::Result<Vec<String>> {
        request["limit"] = json!(limit);
        let mut all = Vec::new();
        loop {
            let page = self.ok(request.clone()).await?;
            let items = page["items"].as_array().context("a page has items")?;
            ensure!(
                items.len() <= limit,
                "a page has {} items, not {limit}",
                items.len()
            );
            all.extend(items.iter().filter_map(Value::as_str).map(str::to_owned));
            request["cursor"] = page["next"].clone();
            if page["next"].is_null() {
                return Ok(all);
            }
            ensure!(!items.is_empty(), "an empty page that is not the last");
        }
    }

    /// Sends a request without waiting for its answer, whose id is returned.
    pub async fn start(&mut self, mut request: Value) -> anyhow::Result<u64> {
        self.requests += 1;
        request["id"] = json!(self.requests);
        self.client.say(request.to_string()).await?;
        Ok(self.requests)
    }

    /// Sends requests in one piece, without waiting for their answers, whose ids are returned: what
    /// the node reads at once.
    pub async fn start_all(
        &mut self,
        requests: impl IntoIterator<Item = Value>,
    ) -> anyhow::Result<Vec<u64>> {
        let mut ids = Vec::new();
        for mut request in requests {
            self.requests += 1;
            request["id"] = json!(self.requests);
            self.client.feed(request.to_string()).await?;
            ids.push(self.requests);
        }
        self.client.flush().await?;
        Ok(ids)
    }

    /// The answer to a request that was started.
    pub async fn answer(&mut self, id: u64) -> anyhow::Result<Value> {
        let is_answer = |value: &Value| value["id"] == id && value.get("event").is_none();
        let mut answer = self.wait_for(is_answer).await?;
        let fields = answer.as_object_mut().context("an answer is an object")?;
        fields.remove("id");
        self.pass().await?;
        Ok(answer)
    }

    /// The answer to a request that was started; or what its connection ended with instead.
    pub async fn answer_or_end(&mut self, id: u64) -> anyhow::Result<Result<Value, End>> {
        match self.answer(id).await {
            Err(error) => match error.downcast::<Ended>() {
                Ok(Ended(end)) => Ok(Err(end)),
                Err(error) => Err(error),
            },
            answered => answered.map(Ok),
        }
    }

    /// What was sent to it and has not been looked at.
    pub fn take_kept(&mut self) -> Vec<Message> {
        self.kept.drain(..).collect()
    }

    /// Everything that was sent to it until now, but answers.
    pub async fn heard(&mut self) -> anyhow::Result<Vec<Message>> {
        self.pass().await?;
        self.ok(json!({ "do": "is-online" })).await?;
        Ok(self.take_kept())
    }

    /// The next message that is no answer.
    pub async fn next(&mut self) -> anyhow::Result<Message> {
        match self.kept.pop_front() {
            Some(message) => Ok(message),
            None => self.client.next().await,
        }
    }

    /// The next message, which must be JSON.
    pub async fn next_event(&mut self) -> anyhow::Result<Value> {
        let message = self.next().await?;
        as_json(&message).with_context(|| format!("JSON was awaited: {message:?}"))
    }

    /// What the group `watch-close`, which it is in, hears of a client that has left.
    pub async fn departure(&mut self, client: &str) -> anyhow::Result<Value> {
        let is_it =
            |value: &Value| value["event"] == "closed" && value["client"].as_str() == Some(client);
        if let Some(at) = self
            .kept
            .iter()
            .position(|m| as_json(m).is_some_and(|v| is_it(&v)))
        {
            return Ok(self
                .kept
                .remove(at)
                .as_ref()
                .and_then(as_json)
                .unwrap_or_default());
        }
        let departure = self.wait_for(is_it).await?;
        self.pass().await?;
        Ok(departure)
    }

    /// Sends a message that need not be a request.
    pub async fn say(&mut self, message: impl Into<Message>) -> anyhow::Result<()> {
        self.client.say(message).await
    }

    /// Reads to the end of the connection.
    pub async fn end(&mut self) -> anyhow::Result<End> {
        self.client.end().await
    }

    /// Reads to the end of the connection: what came before it, and how it ended.
    pub async fn until_end(&mut self) -> anyhow::Result<(Vec<Message>, End)> {
        let (messages, end) = self.client.until_end().await?;
        Ok((self.kept.drain(..).chain(messages).collect(), end))
    }

    /// Leaves as a browser's `close()` does.
    pub async fn leave(&mut self) -> anyhow::Result<End> {
        self.client.leave().await
    }

    /// Leaves with a close frame's code and reason.
    pub async fn leave_with(&mut self, code: u16, reason: &str) -> anyhow::Result<End> {
        self.client.leave_with(code, reason).await
    }

    /// The connection breaks: no close frame.
    pub fn vanish(self) -> anyhow::Result<()> {
        self.client.vanish()
    }

    /// The client itself.
    pub fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    async fn wait_for(&mut self, wanted: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        loop {
            let message = self.client.next().await?;
            match as_json(&message) {
                Some(value) if wanted(&value) => return Ok(value),
                _ => self.kept.push_back(message),
            }
            ensure!(self.kept.len() < 100_000, "too much was sent meanwhile");
        }
    }
}

/// Whom a send reached, when nobody lost it, as `comparable` has it.
pub fn reach(clients: u64) -> Value {
    match crate::node::is_one_node() {
        true => json!({ "clients": clients, "dropped": 0, "missing": [] }),
        false => json!({ "dropped": 0, "missing": [] }),
    }
}

/// What is under `ok` in an answer, as `Console::ok` has it: where several nodes stand for
/// one, the number of clients that a send reached is what the others have told, and not exact.
pub fn comparable(mut ok: Value) -> Value {
    if !crate::node::is_one_node()
        && let Some(fields) = ok.as_object_mut()
        && fields.contains_key("dropped")
    {
        fields.remove("clients");
    }
    ok
}

/// A number, gathered everywhere.
pub fn count(value: u64) -> Value {
    json!({ "value": value, "missing": [] })
}

/// The code of the error in an answer, if it is one.
pub fn error_code(answer: &Value) -> Option<&str> {
    answer["error"]["code"].as_str()
}

/// A query as a URL has it, with its question mark; empty without pairs.
pub fn query(pairs: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in pairs {
        let mark = if text.is_empty() { '?' } else { '&' };
        text.push_str(&format!("{mark}{}={}", encoded(name), encoded(value)));
    }
    text
}

fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

fn as_json(message: &Message) -> Option<Value> {
    serde_json::from_str(message.to_text().ok()?).ok()
}
