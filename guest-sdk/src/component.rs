//! This is the component's side: it converts between this crate's words and the bindings'.

pub(crate) mod config;
pub(crate) mod http;
pub(crate) mod keyvalue;

use std::marker::PhantomData;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::bindings::call_handler::exports::jackfield::plugin::call_handler as called;
use crate::bindings::plugin::jackfield::plugin::{
    calls, clients, close, groups, infos, runtime, send, timers, turns, types as wit, uids,
};
use crate::bindings::{lifecycle, plugin, timer_handler, turn_handler};
use crate::{
    Accept, CallError, CallErrorCode, Caller, ClientId, Closer, Count, Departure, Error, ErrorCode,
    Handshake, Identity, Info, Level, Message, Page, Reach, Refuse, TimerScope,
};
use crate::{CallHandler, Lifecycle, Plugin, TimerHandler};

/// `Exported` carries the exports of the plugin `P`, whose crate may not implement the generated
/// traits itself.
pub struct Exported<P>(PhantomData<P>);

impl<P: Plugin> plugin::exports::jackfield::plugin::handler::Guest for Exported<P> {
    fn on_connect(
        client: String,
        handshake: wit::Handshake,
    ) -> Result<wit::Acceptance, wit::Refusal> {
        match P::on_connect(client.into(), handshake.into()) {
            Ok(accept) => Ok(accept.into()),
            Err(Refuse { status, reason }) => Err(wit::Refusal { status, reason }),
        }
    }

    fn on_message(client: String, message: wit::Message) {
        P::on_message(client.into(), message.into());
    }

    fn on_close(client: String, departure: wit::Departure) {
        P::on_close(client.into(), departure.into());
    }
}

impl<P: Plugin> turn_handler::exports::jackfield::plugin::turn_handler::Guest for Exported<P> {
    fn on_turn(client: String, messages: Vec<u8>) {
        let client = ClientId::from(client);
        while let Some(message) = next_message(&messages) {
            P::on_message(client.clone(), message);
        }
    }
}

/// Begins the event of the turn's next message, which `turns.wit` says how to find.
fn next_message(messages: &[u8]) -> Option<Message> {
    let place = turns::next();
    if place == u64::MAX {
        return None;
    }
    let (offset, length) = ((place >> 32) as usize, (place & 0x7fff_ffff) as usize);
    let message = messages[offset..offset + length].to_vec();
    Some(match place & 1 << 31 {
        // SAFETY: the node hands over a text as UTF-8, here as anywhere.
        0 => Message::Text(unsafe { String::from_utf8_unchecked(message) }),
        _ => Message::Binary(message),
    })
}

impl<P: Lifecycle> lifecycle::exports::jackfield::plugin::lifecycle::Guest for Exported<P> {
    fn on_start() -> Result<(), String> {
        P::on_start()
    }

    fn on_stop() {
        P::on_stop();
    }
}

impl<P: CallHandler> called::Guest for Exported<P> {
    fn on_call(
        caller: called::Caller,
        method: String,
        payload: Vec<u8>,
    ) -> Result<Vec<u8>, wit::CallError> {
        Ok(P::on_call(caller.into(), &method, payload)?)
    }
}

impl<P: TimerHandler> timer_handler::exports::jackfield::plugin::timer_handler::Guest
    for Exported<P>
{
    fn on_timer(name: String) {
        P::on_timer(&name);
    }
}

pub(crate) fn send_to_all(message: Message, exclude: &[ClientId]) -> Result<Reach, Error> {
    Ok(send::send_to_all(&message.into(), &texts(exclude))?.into())
}

pub(crate) fn send_to_client(client: &ClientId, message: Message) -> Result<(), Error> {
    Ok(send::send_to_client(client.as_str(), &message.into())?)
}

pub(crate) fn reply(message: Message) -> Result<(), Error> {
    Ok(send::reply(&message.into())?)
}

pub(crate) fn send_to_uid(uids: &[String], message: Message) -> Result<Reach, Error> {
    Ok(send::send_to_uid(uids, &message.into())?.into())
}

pub(crate) fn send_to_group(
    groups: &[String],
    message: Message,
    exclude: &[ClientId],
) -> Result<Reach, Error> {
    Ok(send::send_to_group(groups, &message.into(), &texts(exclude))?.into())
}

pub(crate) fn bind_uid(client: &ClientId, uid: &str) -> Result<(), Error> {
    Ok(uids::bind_uid(client.as_str(), uid)?)
}

pub(crate) fn unbind_uid(client: &ClientId, uid: Option<&str>) -> Result<bool, Error> {
    Ok(uids::unbind_uid(client.as_str(), uid)?)
}

pub(crate) fn is_uid_online(uid: &str) -> Result<bool, Error> {
    Ok(uids::is_uid_online(uid)?)
}

pub(crate) fn get_uid_by_client_id(client: &ClientId) -> Result<Option<String>, Error> {
    Ok(uids::get_uid_by_client_id(client.as_str())?)
}

pub(crate) fn get_client_ids_by_uid(
    uid: &str,
    cursor: Option<&str>,
    limit: u32,
) -> Result<Page<String>, Error> {
    Ok(uids::get_client_ids_by_uid(uid, cursor, limit)?.into())
}

pub(crate) fn get_all_uids(cursor: Option<&str>, limit: u32) -> Result<Page<String>, Error> {
    Ok(uids::get_all_uids(cursor, limit)?.into())
}

pub(crate) fn join_group(client: &ClientId, group: &str) -> Result<(), Error> {
    Ok(groups::join_group(client.as_str(), group)?)
}

pub(crate) fn leave_group(client: &ClientId, group: &str) -> Result<(), Error> {
    Ok(groups::leave_group(client.as_str(), group)?)
}

pub(crate) fn ungroup(group: &str) -> Result<Count, Error> {
    Ok(groups::ungroup(group)?.into())
}

pub(crate) fn get_client_count_by_group(group: &str) -> Result<Count, Error> {
    Ok(groups::get_client_count_by_group(group)?.into())
}

pub(crate) fn get_client_ids_by_group(
    group: &str,
    cursor: Option<&str>,
    limit: u32,
) -> Result<Page<String>, Error> {
    Ok(groups::get_client_ids_by_group(group, cursor, limit)?.into())
}

pub(crate) fn get_uids_by_group(
    group: &str,
    cursor: Option<&str>,
    limit: u32,
) -> Result<Page<String>, Error> {
    Ok(groups::get_uids_by_group(group, cursor, limit)?.into())
}

pub(crate) fn get_uid_count_by_group(group: &str) -> Result<Count, Error> {
    Ok(groups::get_uid_count_by_group(group)?.into())
}

pub(crate) fn get_all_groups(cursor: Option<&str>, limit: u32) -> Result<Page<String>, Error> {
    Ok(groups::get_all_groups(cursor, limit)?.into())
}

pub(crate) fn is_online(client: &ClientId) -> Result<bool, Error> {
    Ok(clients::is_online(client.as_str())?)
}

pub(crate) fn get_all_client_count() -> Result<Count, Error> {
    Ok(clients::get_all_client_count()?.into())
}

pub(crate) fn close_client(
    client: &ClientId,
    code: u16,
    reason: &str,
    last_message: Option<Message>,
) -> Result<(), Error> {
    let last_message = last_message.map(wit::Message::from);
    Ok(close::close_client(
        client.as_str(),
        code,
        reason,
        last_message.as_ref(),
    )?)
}

pub(crate) fn close_uid(
    uid: &str,
    code: u16,
    reason: &str,
    last_message: Option<Message>,
) -> Result<Count, Error> {
    let last_message = last_message.map(wit::Message::from);
    Ok(close::close_uid(uid, code, reason, last_message.as_ref())?.into())
}

pub(crate) fn close_group(
    group: &str,
    code: u16,
    reason: &str,
    last_message: Option<Message>,
) -> Result<Count, Error> {
    let last_message = last_message.map(wit::Message::from);
    Ok(close::close_group(group, code, reason, last_message.as_ref())?.into())
}

pub(crate) fn get_info(client: &ClientId) -> Result<Info, Error> {
    Ok(infos::get_info(client.as_str())?.into_iter().collect())
}

pub(crate) fn set_info(client: &ClientId, info: &Info) -> Result<(), Error> {
    let info: Vec<_> = info
        .iter()
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    Ok(infos::set_info(client.as_str(), &info)?)
}

pub(crate) fn update_info(
    client: &ClientId,
    changes: &[(&str, Option<&str>)],
) -> Result<Info, Error> {
    let changes: Vec<_> = changes
        .iter()
        .map(|(key, value)| ((*key).to_owned(), value.map(str::to_owned)))
        .collect();
    Ok(infos::update_info(client.as_str(), &changes)?
        .into_iter()
        .collect())
}

pub(crate) fn call(plugin: &str, method: &str, payload: &[u8]) -> Result<Vec<u8>, CallError> {
    Ok(calls::call(plugin, method, payload)?)
}

pub(crate) fn set_timer(
    name: &str,
    after_ms: u64,
    every_ms: Option<u64>,
    scope: TimerScope,
) -> Result<(), Error> {
    Ok(timers::set_timer(name, after_ms, every_ms, scope.into())?)
}

pub(crate) fn cancel_timer(name: &str, scope: TimerScope) -> Result<bool, Error> {
    Ok(timers::cancel_timer(name, scope.into())?)
}

pub(crate) fn now_ms() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since_1970.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

pub(crate) fn identify() -> Identity {
    let runtime::Identity {
        plugin,
        generation,
        node,
    } = runtime::identify();
    Identity {
        plugin,
        generation,
        node,
    }
}

pub(crate) fn log(level: Level, message: &str) {
    let level = match level {
        Level::Trace => runtime::Level::Trace,
        Level::Debug => runtime::Level::Debug,
        Level::Info => runtime::Level::Info,
        Level::Warn => runtime::Level::Warn,
        Level::Error => runtime::Level::Error,
    };
    runtime::log(level, message);
}

fn texts(ids: &[ClientId]) -> Vec<String> {
    ids.iter().map(|id| id.as_str().to_owned()).collect()
}

impl From<wit::Message> for Message {
    fn from(message: wit::Message) -> Message {
        match message {
            wit::Message::Text(text) => Message::Text(text),
            wit::Message::Binary(bytes) => Message::Binary(bytes),
        }
    }
}

impl From<Message> for wit::Message {
    fn from(message: Message) -> wit::Message {
        match message {
            Message::Text(text) => wit::Message::Text(text),
            Message::Binary(bytes) => wit::Message::Binary(bytes),
        }
    }
}

impl From<wit::Handshake> for Handshake {
    fn from(handshake: wit::Handshake) -> Handshake {
        let wit::Handshake {
            path,
            query,
            headers,
            remote_address,
            subprotocols,
            uid,
        } = handshake;
        Handshake {
            path,
            query,
            headers,
            remote_address,
            subprotocols,
            uid,
        }
    }
}

impl From<Accept> for wit::Acceptance {
    fn from(accept: Accept) -> wit::Acceptance {
        let Accept {
            subprotocol,
            uid,
            groups,
            info,
        } = accept;
        wit::Acceptance {
            subprotocol,
            uid,
            groups,
            info: info.into_iter().collect(),
        }
    }
}

impl From<wit::Departure> for Departure {
    fn from(departure: wit::Departure) -> Departure {
        let wit::Departure {
            code,
            reason,
            by,
            uid,
            groups,
            info,
        } = departure;
        let by = match by {
            wit::Closer::Client => Closer::Client,
            wit::Closer::Plugin => Closer::Plugin,
            wit::Closer::Node => Closer::Node,
            wit::Closer::Network => Closer::Network,
        };
        Departure {
            code,
            reason,
            by,
            uid,
            groups,
            info: info.into_iter().collect(),
        }
    }
}

impl From<wit::Error> for Error {
    fn from(error: wit::Error) -> Error {
        let code = match error.code {
            wit::ErrorCode::InvalidArgument => ErrorCode::InvalidArgument,
            wit::ErrorCode::NotFound => ErrorCode::NotFound,
            wit::ErrorCode::Closed => ErrorCode::Closed,
            wit::ErrorCode::Taken => ErrorCode::Taken,
            wit::ErrorCode::Overloaded => ErrorCode::Overloaded,
            wit::ErrorCode::LimitExceeded => ErrorCode::LimitExceeded,
            wit::ErrorCode::Unreachable => ErrorCode::Unreachable,
            wit::ErrorCode::TimedOut => ErrorCode::TimedOut,
            wit::ErrorCode::Denied => ErrorCode::Denied,
            wit::ErrorCode::Internal => ErrorCode::Internal,
        };
        Error {
            code,
            message: error.message,
        }
    }
}

impl From<TimerScope> for timers::TimerScope {
    fn from(scope: TimerScope) -> timers::TimerScope {
        match scope {
            TimerScope::Node => timers::TimerScope::Node,
            TimerScope::Cluster => timers::TimerScope::Cluster,
        }
    }
}

impl From<called::Caller> for Caller {
    fn from(caller: called::Caller) -> Caller {
        match caller {
            called::Caller::Api(token) => Caller::Api(token),
            called::Caller::Plugin(name) => Caller::Plugin(name),
        }
    }
}

impl From<wit::CallError> for CallError {
    fn from(error: wit::CallError) -> CallError {
        let code = match error.code {
            wit::CallErrorCode::UnknownMethod => CallErrorCode::UnknownMethod,
            wit::CallErrorCode::InvalidArgument => CallErrorCode::InvalidArgument,
            wit::CallErrorCode::NotFound => CallErrorCode::NotFound,
            wit::CallErrorCode::Denied => CallErrorCode::Denied,
            wit::CallErrorCode::LimitExceeded => CallErrorCode::LimitExceeded,
            wit::CallErrorCode::Overloaded => CallErrorCode::Overloaded,
            wit::CallErrorCode::Unavailable => CallErrorCode::Unavailable,
            wit::CallErrorCode::Failed => CallErrorCode::Failed,
        };
        CallError {
            code,
            message: error.message,
        }
    }
}

impl From<CallError> for wit::CallError {
    fn from(error: CallError) -> wit::CallError {
        let code = match error.code {
            CallErrorCode::UnknownMethod => wit::CallErrorCode::UnknownMethod,
            CallErrorCode::InvalidArgument => wit::CallErrorCode::InvalidArgument,
            CallErrorCode::NotFound => wit::CallErrorCode::NotFound,
            CallErrorCode::Denied => wit::CallErrorCode::Denied,
            CallErrorCode::LimitExceeded => wit::CallErrorCode::LimitExceeded,
            CallErrorCode::Overloaded => wit::CallErrorCode::Overloaded,
            CallErrorCode::Unavailable => wit::CallErrorCode::Unavailable,
            CallErrorCode::Failed => wit::CallErrorCode::Failed,
        };
        wit::CallError {
            code,
            message: error.message,
        }
    }
}

impl From<wit::Reach> for Reach {
    fn from(reach: wit::Reach) -> Reach {
        let wit::Reach {
            clients,
            dropped,
            missing,
        } = reach;
        Reach {
            clients,
            dropped,
            missing,
        }
    }
}

impl From<wit::Count> for Count {
    fn from(count: wit::Count) -> Count {
        let wit::Count { value, missing } = count;
        Count { value, missing }
    }
}

impl From<wit::Page> for Page<String> {
    fn from(page: wit::Page) -> Page<String> {
        let wit::Page {
            items,
            next,
            missing,
        } = page;
        Page {
            items,
            next,
            missing,
        }
    }
}
