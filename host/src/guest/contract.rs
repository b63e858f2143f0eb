//! The host's side of `wit/0.1`: it decodes what a guest passes, once, and calls the registry.
//!
//! No call here traps: if a guest passes something wrong, it gets an error value that names it. A
//! call waits only if it asks another node, for `ask_timeout` at most, or if it calls another
//! plugin. While a call waits, its instance stays in use.
//!
//! Long because it has every function of the contract, and only those.

use wasmtime::component::{HasSelf, Linker};

use super::bindings::call_handler::exports::jackfield::plugin::call_handler::Caller as CalledBy;
use super::bindings::call_handler::jackfield::plugin::types as called;
use super::bindings::plugin::Plugin;
use super::bindings::wit::{self, types};
use super::call::{CallError, CallErrorCode, Caller};
use super::event_client::EventClient;
use super::instance::Guest;
use crate::delivery::{Delivery, Target};
use crate::id::{ClientId, Incarnation};
use crate::live_trace::SenderGuard;
use crate::mesh::{self, Reason};
use crate::message::{Frame, Message};
use crate::message_queue::MessageSpan;
use crate::registry::{Closer, Ending, Kind, Namespace, Refused, Scope};
use crate::router::{self, Gathered, Page, Router};

/// The interfaces of the contract that a component may import.
pub(super) const SERVED: [&str; 11] = [
    "types", "send", "uids", "groups", "clients", "close", "infos", "runtime", "calls", "timers",
    "turns",
];

/// Serves the imports of the contract to the guests of this linker.
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
        if self.own_client(&client).is_some() {
            return self.send_to_event_client(frame);
        }
        let id = router::client_id(&client)?;
        self.count_send()?;
        let _sender = self.sender();
        Ok(self.router().send_to(id, frame)?)
    }

    fn reply(&mut self, message: types::MessageResult) -> Result<(), types::Error> {
        let frame = self.frame(&message)?;
        self.send_to_event_client(frame)
    }

    fn send_to_uid(
        &mut self,
        uids: Vec<String>,
        message: types::MessageResult,
    ) -> Result<types::Reach, types::Error> {
        self.router().check_names("uids", &uids)?;
        self.deliver(Target::Uids(&uids), &message, &[])
    }

    fn send_to_group(
        &mut self,
        groups: Vec<String>,
        message: types::MessageResult,
        exclude: Vec<String>,
    ) -> Result<types::Reach, types::Error> {
        self.router().check_names("groups", &groups)?;
        self.deliver(Target::Groups(&groups), &message, &exclude)
    }
}

impl wit::turns::Host for Guest {
    fn next(&mut self) -> u64 {
        self.next_message()
            .map_or(MessageSpan::OVER, MessageSpan::to_u64)
    }
}

impl wit::uids::Host for Guest {
    async fn bind_uid(&mut self, client: String, uid: String) -> Result<(), types::Error> {
        let id = self.client(&client)?;
        self.router().check_name("uid", &uid)?;
        Ok(self.router().bind_uid(id, &uid).await?)
    }

    async fn unbind_uid(
        &mut self,
        client: String,
        uid: Option<String>,
    ) -> Result<bool, types::Error> {
        let id = self.client(&client)?;
        if let Some(uid) = &uid {
            self.router().check_name("uid", uid)?;
        }
        Ok(self.router().unbind_uid(id, uid.as_deref()).await?)
    }

    async fn is_uid_online(&mut self, uid: String) -> Result<bool, types::Error> {
        self.router().check_name("uid", &uid)?;
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
        self.router().check_name("uid", &uid)?;
        let limit = router::page_limit(limit)?;
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
        let limit = router::page_limit(limit)?;
        Ok(self
            .router()
            .names(Kind::Uid, cursor.as_deref(), limit)?
            .into())
    }
}

impl wit::groups::Host for Guest {
    async fn join_group(&mut self, client: String, group: String) -> Result<(), types::Error> {
        let id = self.client(&client)?;
        self.router().check_name("group", &group)?;
        Ok(self.router().join_group(id, &group).await?)
    }

    async fn leave_group(&mut self, client: String, group: String) -> Result<(), types::Error> {
        let id = self.client(&client)?;
        self.router().check_name("group", &group)?;
        Ok(self.router().leave_group(id, &group).await?)
    }

    async fn ungroup(&mut self, group: String) -> Result<types::Count, types::Error> {
        self.router().check_name("group", &group)?;
        Ok(self.router().ungroup(&group).await.into())
    }

    async fn get_client_count_by_group(
        &mut self,
        group: String,
    ) -> Result<types::Count, types::Error> {
        self.router().check_name("group", &group)?;
        Ok(self.router().group_count(&group).into())
    }

    async fn get_client_ids_by_group(
        &mut self,
        group: String,
        cursor: Option<String>,
        limit: u32,
    ) -> Result<types::Page, types::Error> {
        self.router().check_name("group", &group)?;
        let limit = router::page_limit(limit)?;
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
        self.router().check_name("group", &group)?;
        let limit = router::page_limit(limit)?;
        let page = self.router().group_uids(&group, cursor.as_deref(), limit);
        Ok(page.await?.into())
    }

    async fn get_uid_count_by_group(
        &mut self,
        group: String,
    ) -> Result<types::Count, types::Error> {
        self.router().check_name("group", &group)?;
        Ok(self.router().group_uid_count(&group).await.into())
    }

    async fn get_all_groups(
        &mut self,
        cursor: Option<String>,
        limit: u32,
    ) -> Result<types::Page, types::Error> {
        let limit = router::page_limit(limit)?;
        Ok(self
            .router()
            .names(Kind::Group, cursor.as_deref(), limit)?
            .into())
    }
}

impl wit::clients::Host for Guest {
    async fn is_online(&mut self, client: String) -> Result<bool, types::Error> {
        let id = router::client_id(&client)?;
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
        self.router().check_name("uid", &uid)?;
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
        self.router().check_name("group", &group)?;
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
            plugin: self.context().plugin().to_owned(),
            generation: self.context().identity.generation,
            node: self.namespace().shared().incarnation().to_string(),
        }
    }

    fn log(&mut self, level: wit::runtime::Level, message: String) {
        self.log_lines(level.into(), &message);
    }
}

impl wit::calls::Host for Guest {
    async fn call(
        &mut self,
        plugin: String,
        method: String,
        payload: Vec<u8>,
    ) -> Result<Vec<u8>, types::CallError> {
        let caller = Caller::Plugin {
            name: self.context().plugin(),
            depth: self.event().depth,
        };
        let answered = match self.context().callees.upgrade() {
            Some(callees) => callees.call(&plugin, caller, &method, &payload).await,
            None => Err(CallError::Absent),
        };
        answered.map_err(|error| types::CallError {
            code: error.code().into(),
            message: error.to_string(),
        })
    }
}

impl wit::timers::Host for Guest {
    fn set_timer(
        &mut self,
        name: String,
        after_ms: u64,
        every_ms: Option<u64>,
        scope: wit::timers::TimerScope,
    ) -> Result<(), types::Error> {
        self.router().check_name("timer", &name)?;
        let now = self.namespace().timers().clock().now();
        let schedule = router::schedule(now, after_ms, every_ms)?;
        let (generation, limit) = (
            self.context().identity.generation,
            self.context().limits.timers,
        );
        let timers = self.namespace().timers();
        Ok(timers.set(generation, scope.into(), &name, schedule, limit)?)
    }

    fn cancel_timer(
        &mut self,
        name: String,
        scope: wit::timers::TimerScope,
    ) -> Result<bool, types::Error> {
        self.router().check_name("timer", &name)?;
        Ok(self.namespace().timers().cancel(scope.into(), &name))
    }
}

impl Guest {
    fn namespace(&self) -> &Namespace {
        self.context().namespace()
    }

    fn router(&self) -> &Router {
        &self.context().router
    }

    fn deliver(
        &mut self,
        to: Target<'_>,
        message: &types::MessageResult,
        exclude: &[String],
    ) -> Result<types::Reach, types::Error> {
        let exclude = router::excluded(exclude)?;
        let frame = self.frame(message)?;
        self.count_send()?;
        let delivery = Delivery::new(to, &exclude, frame);
        let _sender = self.sender();
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
        Ok(router::ending(code.into(), reason, last_message)?)
    }

    /// Encodes a message, if its frame fits into an outbox.
    fn frame(&self, message: &types::MessageResult) -> Result<Frame, types::Error> {
        Ok(self.router().frame(match message {
            types::MessageResult::Text(text) => Message::Text(text),
            types::MessageResult::Binary(bytes) => Message::Binary(bytes),
        })?)
    }

    fn send_to_event_client(&mut self, frame: Frame) -> Result<(), types::Error> {
        let Some(id) = self.event_client().map(EventClient::id) else {
            let message = "this event is no client's: name the client that it is for";
            return Err(error(types::ErrorCode::InvalidArgument, message.to_owned()));
        };
        self.check_present(id)?;
        self.count_send()?;
        let _sender = self.sender();
        match self.event_client() {
            Some(EventClient::Local(client)) => self.namespace().send_to(client, frame)?,
            _ => self.router().send_to(id, frame)?,
        }
        Ok(())
    }

    /// Says that this event sends, to whoever watches those that get it.
    fn sender(&self) -> Option<SenderGuard> {
        let traces = self.namespace().shared().live_traces();
        traces.sends_as(|| match self.event_client() {
            Some(client) => format!("{} {}", self.timer.function().as_str(), client.id()),
            None => self.timer.function().as_str().to_owned(),
        })
    }

    fn count_send(&mut self) -> Result<(), types::Error> {
        let limit = self.context().limits.sends_per_event;
        if self.event().sends >= limit {
            let message = format!("this event has sent {limit} times already (sends_per_event)");
            return Err(error(types::ErrorCode::LimitExceeded, message));
        }
        self.event_mut().sends += 1;
        Ok(())
    }

    /// Parses the id of a client that a call is about. In the client's own `on-close`, the client
    /// has left already, which is an error.
    fn client(&self, id: &str) -> Result<ClientId, types::Error> {
        match self.own_client(id) {
            Some(client) => self.check_present(client.id()).map(|()| client.id()),
            None => Ok(router::client_id(id)?),
        }
    }

    fn check_present(&self, client: ClientId) -> Result<(), types::Error> {
        if self.event().is_last {
            let message = format!("client {client} has left: this is its on-close");
            return Err(error(types::ErrorCode::Closed, message));
        }
        Ok(())
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

impl From<Caller<'_>> for CalledBy {
    fn from(caller: Caller<'_>) -> CalledBy {
        match caller {
            Caller::Api(token) => CalledBy::Api(token.to_owned()),
            Caller::Plugin { name, .. } => CalledBy::Plugin(name.to_owned()),
        }
    }
}

impl From<called::CallErrorCode> for CallErrorCode {
    fn from(code: called::CallErrorCode) -> CallErrorCode {
        match code {
            called::CallErrorCode::UnknownMethod => CallErrorCode::UnknownMethod,
            called::CallErrorCode::InvalidArgument => CallErrorCode::InvalidArgument,
            called::CallErrorCode::NotFound => CallErrorCode::NotFound,
            called::CallErrorCode::Denied => CallErrorCode::Denied,
            called::CallErrorCode::LimitExceeded => CallErrorCode::LimitExceeded,
            called::CallErrorCode::Overloaded => CallErrorCode::Overloaded,
            called::CallErrorCode::Unavailable => CallErrorCode::Unavailable,
            called::CallErrorCode::Failed => CallErrorCode::Failed,
        }
    }
}

impl From<CallErrorCode> for types::CallErrorCode {
    fn from(code: CallErrorCode) -> types::CallErrorCode {
        match code {
            CallErrorCode::UnknownMethod => types::CallErrorCode::UnknownMethod,
            CallErrorCode::InvalidArgument => types::CallErrorCode::InvalidArgument,
            CallErrorCode::NotFound => types::CallErrorCode::NotFound,
            CallErrorCode::Denied => types::CallErrorCode::Denied,
            CallErrorCode::LimitExceeded => types::CallErrorCode::LimitExceeded,
            CallErrorCode::Overloaded => types::CallErrorCode::Overloaded,
            CallErrorCode::Unavailable => types::CallErrorCode::Unavailable,
            CallErrorCode::Failed => types::CallErrorCode::Failed,
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

impl From<wit::timers::TimerScope> for Scope {
    fn from(scope: wit::timers::TimerScope) -> Scope {
        match scope {
            wit::timers::TimerScope::Node => Scope::Node,
            wit::timers::TimerScope::Cluster => Scope::Cluster,
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

impl From<router::RouterError> for types::Error {
    fn from(refused: router::RouterError) -> types::Error {
        use router::RouterError::{
            Here, Invalid, MalformedCursor, There, TooLarge, TooMany, Unanswered,
        };
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
            MalformedCursor | Invalid(_) => types::ErrorCode::InvalidArgument,
            TooMany(_) | TooLarge { .. } => types::ErrorCode::LimitExceeded,
            Here(refused) => code_of(refused),
        };
        error(code, refused.to_string())
    }
}

fn error(code: types::ErrorCode, message: String) -> types::Error {
    types::Error { code, message }
}
