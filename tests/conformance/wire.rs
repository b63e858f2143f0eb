//! The script's language, and how it is played on a wire.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use jackfield_tests::End;
use serde_json::{Value, json};

/// One thing that happens.
pub(crate) struct Step {
    who: &'static str,
    what: What,
}

enum What {
    Connect(Vec<(String, String)>),
    Ask(String),
    Leave(u16, &'static str),
    Vanish,
    HearTimer(u64),
}

/// A client comes, with this query.
pub(crate) fn connect(who: &'static str, query: &[(&str, &str)]) -> Step {
    let query = query
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Step {
        who,
        what: What::Connect(query.collect()),
    }
}

/// A client sends a request; `$ada` in it stands for Ada's client id, and `$next` for the
/// cursor of the page before.
pub(crate) fn ask(who: &'static str, request: &str) -> Step {
    Step {
        who,
        what: What::Ask(request.to_owned()),
    }
}

/// A client leaves with a close frame.
pub(crate) fn leave(who: &'static str, code: u16, reason: &'static str) -> Step {
    Step {
        who,
        what: What::Leave(code, reason),
    }
}

/// A client's connection breaks.
pub(crate) fn vanish(who: &'static str) -> Step {
    Step {
        who,
        what: What::Vanish,
    }
}

/// Time passes, so many milliseconds at least, until a client of the group `timers` has heard of
/// one that fires.
pub(crate) fn hear_timer(who: &'static str, ms: u64) -> Step {
    Step {
        who,
        what: What::HearTimer(ms),
    }
}

/// Somewhere the plugin `console` runs.
pub(crate) trait Wire {
    /// A client that was let in.
    type Client;

    /// A client comes; otherwise the status it was refused with.
    async fn connect(&mut self, query: &[(String, String)]) -> Result<Result<Self::Client, u16>>;

    fn id(&self, client: &Self::Client) -> String;

    /// What the request is answered, or how the connection ended instead.
    async fn ask(
        &mut self,
        client: &mut Self::Client,
        request: Value,
    ) -> Result<Result<Value, End>>;

    /// Time passes until the client has heard something more, where it has not yet.
    async fn until_heard(&mut self, client: &mut Self::Client, ms: u64) -> Result<String>;

    /// What has been sent to the client and was no answer.
    async fn take_heard(&mut self, client: &mut Self::Client) -> Result<Vec<String>>;

    async fn leave(&mut self, client: Self::Client, code: u16, reason: &str) -> Result<()>;

    async fn vanish(&mut self, client: Self::Client) -> Result<()>;
}

/// Plays the script; a line for everything that anybody saw.
pub(crate) async fn play<W: Wire>(wire: W, script: &[Step]) -> Result<Vec<String>> {
    let mut stage = Stage::new(wire).await?;
    for step in script {
        stage
            .play(step)
            .await
            .with_context(|| format!("{} at {:#?}", step.who, stage.lines))?;
    }
    Ok(stage.lines)
}

struct Stage<W: Wire> {
    wire: W,
    /// In the group `watch-close`, and not of the play.
    watcher: W::Client,
    clients: BTreeMap<&'static str, W::Client>,
    names: BTreeMap<String, String>,
    next_cursor: Value,
    lines: Vec<String>,
}

impl<W: Wire> Stage<W> {
    async fn new(mut wire: W) -> Result<Stage<W>> {
        let query = [("group".to_owned(), "watch-close".to_owned())];
        let watcher = wire
            .connect(&query)
            .await?
            .ok()
            .context("the watcher is let in")?;
        let names = BTreeMap::from([(wire.id(&watcher), "$watcher".to_owned())]);
        Ok(Stage {
            wire,
            watcher,
            clients: BTreeMap::new(),
            names,
            next_cursor: Value::Null,
            lines: Vec::new(),
        })
    }

    async fn play(&mut self, step: &Step) -> Result<()> {
        let who = step.who;
        if !self.clients.contains_key(who) && !matches!(step.what, What::Connect(_)) {
            // Closed by now, under one policy and not under another.
            self.lines.push(format!("{who} is not here"));
            return Ok(());
        }
        let ended = match &step.what {
            What::Connect(query) => {
                self.connect(who, query).await?;
                None
            }
            What::Ask(request) => self.ask(who, request).await?,
            What::HearTimer(ms) => {
                let client = self.clients.get_mut(who).context("not here")?;
                let heard = self.wire.until_heard(client, *ms).await?;
                let event: Value = serde_json::from_str(&heard)?;
                let line = format!("{who} hears of the timer {}", event["name"]);
                self.lines.push(line);
                None
            }
            What::Leave(code, reason) => {
                let client = self.clients.remove(who).context("not here")?;
                self.wire.leave(client, *code, reason).await?;
                Some(who)
            }
            What::Vanish => {
                let client = self.clients.remove(who).context("not here")?;
                self.wire.vanish(client).await?;
                Some(who)
            }
        };
        let mut gone = self.look_around().await?;
        gone.extend(ended);
        self.departures(gone.len()).await
    }

    async fn connect(&mut self, who: &'static str, query: &[(String, String)]) -> Result<()> {
        let line = match self.wire.connect(query).await? {
            Ok(client) => {
                self.names.insert(self.wire.id(&client), format!("${who}"));
                self.clients.insert(who, client);
                format!("{who} comes")
            }
            Err(status) => format!("{who} is refused with {status}"),
        };
        self.lines.push(line);
        Ok(())
    }

    /// The name of the client if it was closed for an answer.
    async fn ask(&mut self, who: &'static str, request: &str) -> Result<Option<&'static str>> {
        let mut named = request.to_owned();
        for (id, name) in &self.names {
            named = named.replace(name, id);
        }
        let mut request: Value = serde_json::from_str(&named)?;
        let is_part = request.get("cursor").is_some();
        if request["cursor"] == "$next" {
            request["cursor"] = self.next_cursor.clone();
        }
        if !is_part {
            request
                .as_object_mut()
                .context("a request is an object")?
                .remove("cursor");
        }
        let client = self.clients.get_mut(who).context("not here")?;
        match self.wire.ask(client, request).await? {
            Ok(answer) => {
                let answer = self.normal(answer, is_part);
                self.lines.push(format!("{who} asks {named}: {answer}"));
                self.rename_last();
                Ok(None)
            }
            Err(end) => {
                self.closed(who, &end).await?;
                Ok(Some(who))
            }
        }
    }

    /// What everybody has heard by now, and who has been closed.
    async fn look_around(&mut self) -> Result<Vec<&'static str>> {
        let mut gone = Vec::new();
        let everybody: Vec<_> = self.clients.keys().copied().collect();
        for who in everybody {
            let client = self.clients.get_mut(who).context("was here")?;
            let here = self.wire.ask(client, json!({ "do": "is-online" })).await?;
            if let Err(end) = here {
                self.closed(who, &end).await?;
                gone.push(who);
            } else {
                self.heard(who).await?;
            }
        }
        Ok(gone)
    }

    async fn heard(&mut self, who: &'static str) -> Result<()> {
        let client = self.clients.get_mut(who).context("was here")?;
        for message in self.wire.take_heard(client).await? {
            self.lines.push(format!("{who} hears {message}"));
            self.rename_last();
        }
        Ok(())
    }

    async fn closed(&mut self, who: &'static str, end: &End) -> Result<()> {
        self.heard(who).await?;
        self.clients.remove(who);
        let line = match end {
            End::Closed { code, reason } => format!("{who} is closed with {code} {reason:?}"),
            End::Cut => format!("{who} is cut"),
        };
        self.lines.push(line);
        Ok(())
    }

    /// What the watcher hears of those who have left, in no certain order: each client's
    /// `on-close` is its own event.
    async fn departures(&mut self, count: usize) -> Result<()> {
        let (mut lines, mut wanted) = (Vec::new(), count);
        while lines.len() < wanted {
            let asked = self
                .wire
                .ask(&mut self.watcher, json!({ "do": "is-online" }))
                .await?;
            anyhow::ensure!(asked.is_ok(), "the watcher stays");
            for heard in self.wire.take_heard(&mut self.watcher).await? {
                let Ok(event) = serde_json::from_str::<Value>(&heard) else {
                    continue;
                };
                let Some(kind) = event["event"].as_str().map(str::to_owned) else {
                    continue;
                };
                if kind == "closed" {
                    let more = ["on-close", "on-close-leave"];
                    wanted += more
                        .iter()
                        .filter(|key| event["info"][**key].is_string())
                        .count();
                }
                lines.push(format!("the watcher hears {}", self.normal(event, false)));
            }
        }
        lines.sort();
        for line in lines {
            self.lines.push(line);
            self.rename_last();
        }
        Ok(())
    }

    /// Without what may differ: an error's words, a list's order, a cursor; of a part of a
    /// list only how long it is.
    fn normal(&mut self, mut answer: Value, is_part: bool) -> Value {
        if let Some(error) = answer.get_mut("error").and_then(Value::as_object_mut) {
            error.remove("message");
        }
        if let Some(groups) = answer.get_mut("groups").and_then(Value::as_array_mut) {
            groups.sort_by_key(Value::to_string);
        }
        if let Some(page) = answer.get_mut("ok").filter(|ok| ok.get("items").is_some()) {
            self.normal_page(page, is_part);
        }
        answer
    }

    fn normal_page(&mut self, page: &mut Value, is_part: bool) {
        self.next_cursor = page["next"].take();
        let is_last = self.next_cursor.is_null();
        page["next"] = (!is_last).into();
        let Some(items) = page["items"].as_array_mut() else {
            return;
        };
        if is_part || !is_last {
            page["items"] = format!("{} of them", items.len()).into();
            return;
        }
        let name = |item: &Value| {
            let text = item.as_str().unwrap_or_default();
            self.names.get(text).map_or(text, String::as_str).to_owned()
        };
        items.sort_by_key(name);
    }

    /// Ids become names.
    fn rename_last(&mut self) {
        if let Some(line) = self.lines.last_mut() {
            for (id, name) in &self.names {
                *line = line.replace(id, name);
            }
        }
    }
}
