//! The host's side of `wit/0.1`: decodes what a guest passes, once, and asks the registry.
//!
//! Nothing here traps: what a guest gets wrong is an error value that names it. A call waits
//! only where it has to ask another node, for `ask_timeout` at most, and keeps its instance.

use std::sync::Arc;

use wasmtime::component::{HasSelf, Linker};

use self::generated::plugin::jackfield::plugin as wit;
use super::instance::Guest;
use crate::delivery::{Delivery, Target};
use crate::id::{ClientId, Incarnation};
use crate::limits::{PAGE_ITEMS, PluginLimits, TARGETS_A_SEND};
use crate::mesh::{self, Reason};
use crate::message::{CLOSE_REASON_BYTES, Frame, Message, may_be_sent};
use crate::registry::{Client, Close, Closer, Ending, Info, Kind, Namespace, Refused};
use crate::router::{self, Gathered, Page, Router};

pub(super) use self::generated::lifecycle::WithLifecycle;
pub(super) use self::generated::plugin::{Plugin, PluginPre};
pub(super) use self::wit::types;

/// What a component must export, and what it may.
pub(super) const HANDLER: &str = "jackfield:plugin/handler@0.1.0";
pub(super) const LIFECYCLE: &str = "jackfield:plugin/lifecycle@0.1.0";

/// Interfaces of ours that a component may import.
pub(super) const SERVED: [&str; 8] = [
    "types", "send", "uids", "groups", "clients", "close", "infos", "runtime",
];

/// Generated from `wit/0.1`.
#[allow(
    missing_docs,
    unreachable_pub,
    unused,
    unused_qualifications,
    clippy::all
)]
mod generated {
    pub mod plugin {
        wasmtime::component::bindgen!({
            path: "../wit/0.1",
            world: "plugin",
            ownership: Borrowing { duplicate_if_necessary: true },
            // What may have to ask another node, or concerns many clients.
            imports: {
                "jackfield:plugin/uids": async,
                "jackfield:plugin/groups": async,
                "jackfield:plugin/clients": async,
                "jackfield:plugin/close": async,
                "jackfield:plugin/infos": async,
            },
            exports: { default: async },
        });
    }
    pub mod lifecycle {
        wasmtime::component::bindgen!({
            path: "../wit/0.1",
            world: "with-lifecycle",
            exports: { default: async },
        });
    }
}

/// Serves the contract's imports.
pub(super) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    Plugin::add_to_linker::<_, HasSelf<_>>(linker, |guest| guest)
}

impl types::Host for Guest {}

impl wit::send::Host for Guest {
    fn send_to_all(
        &mut self,
        message: types::MessageResult,
        exclude: Vec<String>,
    ) -> Result<types::Reach, types::Error> {
        self.deliver(Target::All, &message, &exclude)
    }

    fn send_to_client(
        &mut self,
        client: String,
        message: types::MessageResult,
    ) -> Result<(), types::Error> {
        let frame = self.frame(&message)?;
        match self.own_client(&client) {
            Some(client) => {
                self.check_present(client)?;
                let client = client.clone();
                self.count_send()?;
                Ok(self.namespace().send_to(&client, frame)?)
            }
            None => {
                let id = parse_id(&client)?;
                self.count_send()?;
                Ok(self.router().send_to(id, frame)?)
            }
        }
    }

    fn send_to_uid(
        &mut self,
        uids: Vec<String>,
        message: types::MessageResult,
    ) -> Result<types::Reach, types::Error> {
        self.check_names("uids", &uids)?;
        self.deliver(Target::Uids(&uids), &message, &[])
    }

    fn send_to_group(
        &mut self,
        groups: Vec<String>,
        message: types::MessageResult,
        exclude: Vec<String>,
    ) -> Result<types::Reach, types::Error> {
        self.check_names("groups", &groups)?;
        self.deliver(Target::Groups(&groups), &message, &exclude)
    }
}

impl wit::uids::Host for Guest {
    async fn bind_uid(&mut self, client: String, uid: String) -> Result<(), types::Error> {
        let id = self.client(&client)?;
        self.check_name("uid", &uid)?;
        Ok(self.router().bind_uid(id, &uid).await?)
    }

    async fn unbind_uid(
        &mut self,
        client: String,
        uid: Option<String>,
    ) -> Result<bool, types::Error> {
        let id = self.client(&client)?;
        if let Some(uid) = &uid {
            self.check_name("uid", uid)?;
        }
        Ok(self.router().unbind_uid(id, uid.as_deref()).await?)
    }

    async fn is_uid_online(&mut self, uid: String) -> Result<bool, types::Error> {
        self.check_name("uid", &uid)?;
        Ok(self.router().is_uid_online(&uid))
    }

    async fn get_uid_by_client_id(
        &mut self,
        client: String,
    ) -> Result<Option<String>, types::Error> {
        let id = self.client(&client)?;
        Ok(self.router().uid(id).await?)
    }

    async fn get_client_ids_by_uid(
        &mut self,
        uid: String,
        cursor: Option<String>,
        limit: u32,
    ) -> Result<types::Page, types::Error> {
        self.check_name("uid", &uid)?;
        let limit = page_limit(limit)?;
        let page = self
            .router()
            .clients(Kind::Uid, &uid, cursor.as_deref(), limit);
        Ok(page.await?.into())
    }

    async fn get_all_uids(
        &mut self,
        cursor: Option<String>,
        limit: u32,
    ) -> Result<types::Page, types::Error> {
        let limit = page_limit(limit)?;
        Ok(self
            .router()
            .names(Kind::Uid, cursor.as_deref(), limit)?
            .into())
    }
}

impl wit::groups::Host for Guest {
    async fn join_group(&mut self, client: String, group: String) -> Result<(), types::Error> {
        let id = self.client(&client)?;
        self.check_name("group", &group)?;
        Ok(self.router().join_group(id, &group).await?)
    }

    async fn leave_group(&mut self, client: String, group: String) -> Result<(), types::Error> {
        let id = self.client(&client)?;
        self.check_name("group", &group)?;
        Ok(self.router().leave_group(id, &group).await?)
    }

    async fn ungroup(&mut self, group: String) -> Result<types::Count, types::Error> {
        self.check_name("group", &group)?;
        Ok(self.router().ungroup(&group).await.into())
    }

    async fn get_client_count_by_group(
        &mut self,
        group: String,
    ) -> Result<types::Count, types::Error> {
        self.check_name("group", &group)?;
        Ok(self.router().group_count(&group).into())
    }

    async fn get_client_ids_by_group(
        &mut self,
        group: String,
        cursor: Option<String>,
        limit: u32,
    ) -> Result<types::Page, types::Error> {
        self.check_name("group", &group)?;
        let limit = page_limit(limit)?;
        let page = self
            .router()
            .clients(Kind::Group, &group, cursor.as_deref(), limit);
        Ok(page.await?.into())
    }

    async fn get_uids_by_group(
        &mut self,
        group: String,
        cursor: Option<String>,
        limit: u32,
    ) -> Result<types::Page, types::Error> {
        self.check_name("group", &group)?;
        let limit = page_limit(limit)?;
        let page = self.router().group_uids(&group, cursor.as_deref(), limit);
        Ok(page.await?.into())
    }

    async fn get_uid_count_by_group(
        &mut self,
        group: String,
    ) -> Result<types::Count, types::Error> {
        self.check_name("group", &group)?;
        Ok(self.router().group_uid_count(&group).await.into())
    }

    async fn get_all_groups(
        &mut self,
        cursor: Option<String>,
        limit: u32,
    ) -> Result<types::Page, types::Error> {
        let limit = page_limit(limit)?;
        Ok(self
            .router()
            .names(Kind::Group, cursor.as_deref(), limit)?
            .into())
    }
}

impl wit::clients::Host for Guest {
    async fn is_online(&mut self, client: String) -> Result<bool, types::Error> {
        let id = parse_id(&client)?;
        Ok(self.router().is_online(id).await?)
    }

    async fn get_all_client_count(&mut self) -> Result<types::Count, types::Error> {
        Ok(self.router().client_count().into())
    }
}

impl wit::close::Host for Guest {
    async fn close_client(
        &mut self,
        client: String,
        code: u16,
        reason: String,
        last_message: Option<types::MessageResult>,
    ) -> Result<(), types::Error> {
        let id = self.client(&client)?;
        let ending = self.ending(code, reason, last_message)?;
        Ok(self.router().close_client(id, &ending).await?)
    }

    async fn close_uid(
        &mut self,
        uid: String,
        code: u16,
        reason: String,
        last_message: Option<types::MessageResult>,
    ) -> Result<types::Count, types::Error> {
        self.check_name("uid", &uid)?;
        let ending = self.ending(code, reason, last_message)?;
        Ok(self
            .router()
            .close_all(Kind::Uid, &uid, &ending)
            .await
            .into())
    }

    async fn close_group(
        &mut self,
        group: String,
        code: u16,
        reason: String,
        last_message: Option<types::MessageResult>,
    ) -> Result<types::Count, types::Error> {
        self.check_name("group", &group)?;
        let ending = self.ending(code, reason, last_message)?;
        Ok(self
            .router()
            .close_all(Kind::Group, &group, &ending)
            .await
            .into())
    }
}

impl wit::infos::Host for Guest {
    async fn get_info(&mut self, client: String) -> Result<types::InfoResult, types::Error> {
        let id = self.client(&client)?;
        Ok(self.router().info(id).await?.into_iter().collect())
    }

    async fn set_info(
        &mut self,
        client: String,
        info: types::InfoResult,
    ) -> Result<(), types::Error> {
        let id = self.client(&client)?;
        Ok(self
            .router()
            .set_info(id, info.into_iter().collect())
            .await?)
    }

    async fn update_info(
        &mut self,
        client: String,
        changes: Vec<(String, Option<String>)>,
    ) -> Result<types::InfoResult, types::Error> {
        let id = self.client(&client)?;
        let info = self.router().update_info(id, changes).await?;
        Ok(info.into_iter().collect())
    }
}

impl wit::runtime::Host for Guest {
    fn identify(&mut self) -> wit::runtime::Identity {
        wit::runtime::Identity {
            plugin: self.host().plugin().to_owned(),
            generation: self.host().generation,
            node: self.namespace().registry().incarnation().to_string(),
        }
    }

    fn log(&mut self, level: wit::runtime::Level, message: String) {
        self.log_lines(level.into(), &message);
    }
}

impl Guest {
    fn namespace(&self) -> &Namespace {
        self.host().namespace()
    }

    fn router(&self) -> &Router {
        &self.host().router
    }

    fn deliver(
        &mut self,
        to: Target<'_>,
        message: &types::MessageResult,
        exclude: &[String],
    ) -> Result<types::Reach, types::Error> {
        check_count("clients to exclude", exclude.len())?;
        let exclude = exclude
            .iter()
            .map(|id| parse_id(id))
            .collect::<Result<Vec<_>, _>>()?;
        let frame = self.frame(message)?;
        self.count_send()?;
        let delivery = Delivery {
            to,
            exclude: &exclude,
            frame,
        };
        let reached = self.router().deliver(&delivery);
        Ok(types::Reach {
            clients: reached.clients,
            dropped: reached.dropped,
            missing: nodes(&reached.missing),
        })
    }

    fn ending(
        &self,
        code: u16,
        reason: String,
        last_message: Option<types::MessageResult>,
    ) -> Result<Ending, types::Error> {
        let last_message = last_message
            .map(|message| self.frame(&message))
            .transpose()?;
        ending(code, reason, last_message)
    }

    /// Encodes a message, if an outbox could hold it.
    fn frame(&self, message: &types::MessageResult) -> Result<Frame, types::Error> {
        let frame = Frame::message(match message {
            types::MessageResult::Text(text) => Message::Text(text),
            types::MessageResult::Binary(bytes) => Message::Binary(bytes),
        });
        let limit = self.namespace().registry().limits().outbox_bytes;
        match frame.as_bytes().len() {
            bytes if bytes > limit => Err(too_many(
                "bytes in the message",
                bytes,
                limit,
                "outbox_bytes",
            )),
            _ => Ok(frame),
        }
    }

    fn count_send(&mut self) -> Result<(), types::Error> {
        let limit = self.host().limits.sends_per_event;
        if self.event().sends >= limit {
            let message = format!("this event has sent {limit} times already (sends_per_event)");
            return Err(error(types::ErrorCode::LimitExceeded, message));
        }
        self.event_mut().sends += 1;
        Ok(())
    }

    /// A client that a call is about; the one whose `on-close` this is has left.
    fn client(&self, id: &str) -> Result<ClientId, types::Error> {
        match self.own_client(id) {
            Some(client) => self.check_present(client).map(|()| client.id()),
            None => parse_id(id),
        }
    }

    fn check_present(&self, client: &Client) -> Result<(), types::Error> {
        if self.event().is_last {
            let message = format!("client {} has left: this is its on-close", client.id());
            return Err(error(types::ErrorCode::Closed, message));
        }
        Ok(())
    }

    fn check_name(&self, what: &str, name: &str) -> Result<(), types::Error> {
        let limit = self.namespace().registry().limits().name_bytes;
        check_name(what, name, limit)
    }

    fn check_names(&self, what: &str, names: &[String]) -> Result<(), types::Error> {
        check_count(what, names.len())?;
        names
            .iter()
            .try_for_each(|name| self.check_name(what.trim_end_matches('s'), name))
    }
}

/// Applies what `on-connect` accepted with, by the rules of the calls it stands for. The uid
/// comes last: with `kick-old` it is what can't be taken back.
pub(super) async fn admit(
    router: &Router,
    id: ClientId,
    acceptance: types::Acceptance,
) -> Result<(), types::Error> {
    let limit = router.namespace().registry().limits().name_bytes;
    let names = acceptance.groups.iter().map(|group| ("group", group));
    for (what, name) in names.chain(acceptance.uid.iter().map(|uid| ("uid", uid))) {
        check_name(what, name, limit)?;
    }
    match apply(router, id, acceptance).await {
        // Closed meanwhile, by on-connect itself or by another client's event: it is let in to
        // be told so.
        Err(router::Refused::Here(Refused::NotFound(_))) => Ok(()),
        applied => Ok(applied?),
    }
}

async fn apply(
    router: &Router,
    id: ClientId,
    acceptance: types::Acceptance,
) -> Result<(), router::Refused> {
    for group in &acceptance.groups {
        router.join_group(id, group).await?;
    }
    if !acceptance.info.is_empty() {
        let info = acceptance.info.into_iter().collect::<Info>();
        router.set_info(id, info).await?;
    }
    match &acceptance.uid {
        Some(uid) => router.bind_uid(id, uid).await,
        None => Ok(()),
    }
}

impl<'a> From<Message<'a>> for types::MessageParam<'a> {
    fn from(message: Message<'a>) -> types::MessageParam<'a> {
        match message {
            Message::Text(text) => types::MessageParam::Text(text),
            Message::Binary(bytes) => types::MessageParam::Binary(bytes),
        }
    }
}

impl From<Closer> for types::Closer {
    fn from(closer: Closer) -> types::Closer {
        match closer {
            Closer::Client => types::Closer::Client,
            Closer::Plugin => types::Closer::Plugin,
            Closer::Node => types::Closer::Node,
            Closer::Network => types::Closer::Network,
        }
    }
}

impl From<wit::runtime::Level> for tracing::Level {
    fn from(level: wit::runtime::Level) -> tracing::Level {
        match level {
            wit::runtime::Level::Trace => tracing::Level::TRACE,
            wit::runtime::Level::Debug => tracing::Level::DEBUG,
            wit::runtime::Level::Info => tracing::Level::INFO,
            wit::runtime::Level::Warn => tracing::Level::WARN,
            wit::runtime::Level::Error => tracing::Level::ERROR,
        }
    }
}

impl From<Gathered<Page>> for types::Page {
    fn from(page: Gathered<Page>) -> types::Page {
        types::Page {
            items: page.value.items,
            next: page.value.next,
            missing: nodes(&page.missing),
        }
    }
}

impl From<Gathered<u64>> for types::Count {
    fn from(count: Gathered<u64>) -> types::Count {
        types::Count {
            value: count.value,
            missing: nodes(&count.missing),
        }
    }
}

fn nodes(nodes: &[Incarnation]) -> Vec<String> {
    nodes.iter().map(ToString::to_string).collect()
}

fn code_of(refused: &Refused) -> types::ErrorCode {
    match refused {
        Refused::NotFound(_) => types::ErrorCode::NotFound,
        Refused::Taken(_) => types::ErrorCode::Taken,
        Refused::Overloaded(_) => types::ErrorCode::Overloaded,
        Refused::LimitExceeded { .. } => types::ErrorCode::LimitExceeded,
    }
}

impl From<Refused> for types::Error {
    fn from(refused: Refused) -> types::Error {
        error(code_of(&refused), refused.to_string())
    }
}

impl From<router::Refused> for types::Error {
    fn from(refused: router::Refused) -> types::Error {
        use router::Refused::{Here, MalformedCursor, There, Unanswered};
        let code = match &refused {
            There { reason, .. } => match reason {
                Reason::NotFound => types::ErrorCode::NotFound,
                Reason::Taken => types::ErrorCode::Taken,
                Reason::LimitExceeded => types::ErrorCode::LimitExceeded,
                Reason::Internal | Reason::Unspecified => types::ErrorCode::Internal,
            },
            Unanswered(mesh::Unanswered::NoNode(_)) => types::ErrorCode::NotFound,
            Unanswered(mesh::Unanswered::Unreachable(_)) => types::ErrorCode::Unreachable,
            Unanswered(mesh::Unanswered::TimedOut(_)) => types::ErrorCode::TimedOut,
            MalformedCursor => types::ErrorCode::InvalidArgument,
            Here(refused) => code_of(refused),
        };
        error(code, refused.to_string())
    }
}

fn error(code: types::ErrorCode, message: String) -> types::Error {
    types::Error { code, message }
}

fn invalid(message: String) -> types::Error {
    error(types::ErrorCode::InvalidArgument, message)
}

fn too_many(what: &str, count: usize, limit: usize, name: &str) -> types::Error {
    let message = format!("{count} {what}, more than {limit} ({name})");
    error(types::ErrorCode::LimitExceeded, message)
}

fn check_count(what: &str, count: usize) -> Result<(), types::Error> {
    if count > TARGETS_A_SEND {
        return Err(too_many(what, count, TARGETS_A_SEND, "a call's most"));
    }
    Ok(())
}

fn parse_id(text: &str) -> Result<ClientId, types::Error> {
    text.parse().map_err(|malformed| {
        let shown: String = text.chars().take(64).collect();
        invalid(format!("{shown:?} is {malformed}"))
    })
}

pub(super) fn check_name(what: &str, name: &str, limit: usize) -> Result<(), types::Error> {
    match name.len() {
        0 => Err(invalid(format!("the {what} is empty"))),
        bytes if bytes > limit => Err(invalid(format!(
            "the {what} has {bytes} bytes, more than {limit} (name_bytes)"
        ))),
        _ => Ok(()),
    }
}

fn page_limit(limit: u32) -> Result<usize, types::Error> {
    match limit as usize {
        limit @ 1..=PAGE_ITEMS => Ok(limit),
        limit => Err(invalid(format!(
            "limit is {limit}, but a page has 1 to {PAGE_ITEMS} items"
        ))),
    }
}

fn ending(code: u16, reason: String, last_message: Option<Frame>) -> Result<Ending, types::Error> {
    if !may_be_sent(code) {
        let allowed = "1000 to 1003, 1007 to 1014 and 3000 to 4999";
        return Err(invalid(format!(
            "{code} is no close code that may be sent: {allowed} are"
        )));
    }
    if reason.len() > CLOSE_REASON_BYTES {
        let bytes = reason.len();
        return Err(invalid(format!(
            "the reason has {bytes} bytes, more than the {CLOSE_REASON_BYTES} of a close frame"
        )));
    }
    let close = Close {
        code,
        reason,
        by: Closer::Plugin,
    };
    Ok(Ending::new(close, last_message))
}

/// What of a guest's host the contract needs.
pub(super) struct Host {
    /// Which load of it this is.
    pub(super) generation: u64,
    /// The way to the plugin's clients, here and at other nodes.
    pub(super) router: Router,
    /// Its limits.
    pub(super) limits: PluginLimits,
    /// `event_timeout`, in ticks.
    pub(super) event_ticks: u64,
}

impl Host {
    /// The plugin's clients here.
    pub(super) fn namespace(&self) -> &Arc<Namespace> {
        self.router.namespace()
    }

    /// The plugin's name.
    pub(super) fn plugin(&self) -> &str {
        self.namespace().name()
    }
}

/// Whether an exported lifecycle has the contract's type.
pub(super) fn check_lifecycle(
    pre: &wasmtime::component::InstancePre<Guest>,
) -> wasmtime::Result<()> {
    generated::lifecycle::WithLifecyclePre::new(pre.clone()).map(drop)
}
