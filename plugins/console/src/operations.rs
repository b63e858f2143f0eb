//! The table of operations: a name, its arguments, and the few lines that carry it out.

use std::hint::black_box;
use std::time::Duration;

use jackfield_sdk as node;
use jackfield_sdk::{ClientId, Error};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::answer::{Failure, Outcome};
use crate::arguments as take;
use crate::arguments::{clients, last_message, message};
use crate::misbehave;
use crate::request::{Request, invalid};

/// What a request's `do` may name.
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    /// Its arguments, for error messages: `?` marks those that may be left out.
    pub(crate) takes: &'static str,
    pub(crate) run: fn(Call<'_>) -> Result<Outcome, Failure>,
}

/// One request for an operation.
pub(crate) struct Call<'a> {
    pub(crate) caller: &'a ClientId,
    pub(crate) operation: &'static Operation,
    pub(crate) arguments: Value,
}

pub(crate) const OPERATIONS: &[Operation] = &[
    op("send-to-all", "text or binary, exclude?", send_to_all),
    op("send-to-client", "client?, text or binary", send_to_client),
    op("reply", "text or binary", reply),
    op("send-to-uid", "uid or uids, text or binary", send_to_uid),
    op(
        "send-to-group",
        "group or groups, text or binary, exclude?",
        send_to_group,
    ),
    op("bind-uid", "client?, uid", bind_uid),
    op("unbind-uid", "client?, uid?", unbind_uid),
    op("is-uid-online", "uid", is_uid_online),
    op("get-uid-by-client-id", "client?", get_uid_by_client_id),
    op(
        "get-client-ids-by-uid",
        "uid, cursor?, limit?",
        get_client_ids_by_uid,
    ),
    op("get-all-uids", "cursor?, limit?", get_all_uids),
    op("join-group", "client?, group", join_group),
    op("leave-group", "client?, group", leave_group),
    op("ungroup", "group", ungroup),
    op(
        "get-client-count-by-group",
        "group",
        get_client_count_by_group,
    ),
    op(
        "get-client-ids-by-group",
        "group, cursor?, limit?",
        get_client_ids_by_group,
    ),
    op(
        "get-uids-by-group",
        "group, cursor?, limit?",
        get_uids_by_group,
    ),
    op("get-uid-count-by-group", "group", get_uid_count_by_group),
    op("get-all-groups", "cursor?, limit?", get_all_groups),
    op("is-online", "client?", is_online),
    op("get-all-client-count", "nothing", get_all_client_count),
    op(
        "close-client",
        "client?, code?, reason?, text? or binary?",
        close_client,
    ),
    op(
        "close-uid",
        "uid, code?, reason?, text? or binary?",
        close_uid,
    ),
    op(
        "close-group",
        "group, code?, reason?, text? or binary?",
        close_group,
    ),
    op("get-info", "client?", get_info),
    op("set-info", "client?, info", set_info),
    op("update-info", "client?, info", update_info),
    op("call", "plugin, method, payload?", call),
    op("set-timer", "name, after_ms, every_ms?, scope?", set_timer),
    op("cancel-timer", "name, scope?", cancel_timer),
    op("identify", "nothing", identify),
    op("generation", "nothing", identify),
    op("log", "level?, text", log),
    op("print", "text", print),
    op("sleep", "ms?, log?", sleep),
    op("repeat", "times, request", repeat),
    op("panic", "message?", panic),
    op("unreachable", "nothing", unreachable),
    op("spin", "ms?", spin),
    op("spin-host", "nothing", spin_host),
    op("overflow-stack", "nothing", overflow_stack),
    op("eat-memory", "bytes?", eat_memory),
    op("grow-memory", "bytes", grow_memory),
    op("exit", "code?", exit),
];

pub(crate) fn find(name: &str) -> Result<&'static Operation, Error> {
    OPERATIONS
        .iter()
        .find(|operation| operation.name == name)
        .ok_or_else(|| {
            let names: Vec<_> = OPERATIONS.iter().map(|operation| operation.name).collect();
            invalid(format!(
                "`do` can't be `{name}`; it is one of {}",
                names.join(", ")
            ))
        })
}

const fn op(
    name: &'static str,
    takes: &'static str,
    run: fn(Call<'_>) -> Result<Outcome, Failure>,
) -> Operation {
    Operation { name, takes, run }
}

impl Call<'_> {
    fn arguments<T: DeserializeOwned>(&mut self) -> Result<T, Error> {
        serde_json::from_value(self.arguments.take()).map_err(|error| {
            let Operation { name, takes, .. } = self.operation;
            invalid(format!("{name} takes {takes}: {error}"))
        })
    }

    fn client_or_caller(&self, client: Option<String>) -> ClientId {
        client.map_or_else(|| self.caller.clone(), ClientId::from)
    }
}

fn send_to_all(mut call: Call<'_>) -> Result<Outcome, Failure> {
    let take::ToAll {
        text,
        binary,
        exclude,
    } = call.arguments()?;
    Ok(node::send_to_all(message(text, binary)?, &clients(exclude))?.into())
}

fn send_to_client(mut call: Call<'_>) -> Result<Outcome, Failure> {
    let take::ToClient {
        client,
        text,
        binary,
    } = call.arguments()?;
    let client = call.client_or_caller(client);
    Ok(node::send_to_client(&client, message(text, binary)?)?.into())
}

fn reply(mut call: Call<'_>) -> Result<Outcome, Failure> {
    let take::Reply { text, binary } = call.arguments()?;
    Ok(node::reply(message(text, binary)?)?.into())
}

fn send_to_uid(mut call: Call<'_>) -> Result<Outcome, Failure> {
    let take::ToUids { uid, text, binary } = call.arguments()?;
    Ok(node::send_to_uid(&uid, message(text, binary)?)?.into())
}

fn send_to_group(mut call: Call<'_>) -> Result<Outcome, Failure> {
    let take::ToGroups {
        group,
        text,
        binary,
        exclude,
    } = call.arguments()?;
    Ok(node::send_to_group(&group, message(text, binary)?, &clients(exclude))?.into())
}

fn bind_uid(mut call: Call<'_>) -> Result<Outcome, Failure> {
    let take::ClientUid { client, uid } = call.arguments()?;
    Ok(node::bind_uid(&call.client_or_caller(client), &uid)?.into())
}

fn unbind_uid(mut call: Call<'_>) -> Result<Outcome, Failure> {
    let take::ClientMaybeUid { client, uid } = call.arguments()?;
    Ok(node::unbind_uid(&call.client_or_caller(client), uid.as_deref())?.into())
}

fn is_uid_online(mut call: Call<'_>) -> Result<Outcome, Failure> {
    let take::OfUid { uid } = call.arguments()?;
    Ok(node::is_uid_online(&uid)?.into())
}

fn get_uid_by_client_id(mut call: Call<'_>) -> Result<Outcome, Failure> {
    let take::OfClient { client } = call.arguments()?;
    Ok(node::get_uid_by_client_id(&call.client_or_caller(client))?.into())
}

fn get_client_ids_by_uid(mut call: Call<'_>) -> Result<Outcome, Failure> {
    let take::UidPage { uid, cursor, limit } = call.arguments()?;
    Ok(node::get_client_ids_by_uid(&uid, cursor.as_deref(), limit)?.into())
}

fn get_all_uids(mut call: Call<'_>) -> Result<Outcome, Failure> {
    let take::AnyPage { cursor, limit } = call.arguments()?;
    Ok(node::get_all_uids(cursor.as_deref(), limit)?.into())
}

fn join_group(mut call: Call<'_>) -> Result<Outcome, Failure> {
    let take::ClientGroup { client, group } = call.arguments()?;
    Ok(node::join_group(&call.client_or_caller(client), &group)?.into())
}

fn leave_group(mut call: Call<'_>) -> Result<Outcome, Failure> {
    let take::ClientGroup { client, group } = call.arguments()?;
    Ok(node::leave_group(&call.client_or_caller(client), &group)?.into())
}

fn ungroup(mut call: Call<'_>) -> Result<Outcome, Failure> {
    let take::OfGroup { group } = call.arguments()?;
    Ok(node::ungroup(&group)?.into())
}

fn get_client_count_by_group(mut call: Call<'_>) -> Result<Outcome, Failure> {
    let take::OfGroup { group } = call.arguments()?;
    Ok(node::get_client_count_by_group(&group)?.into())
}

fn get_client_ids_by_group(mut call: Call<'_>) -> Result<Outcome, Failure> {
    let take::GroupPage {
        group,
        cursor,
        limit,
    } = call.arguments()?;
    Ok(node::get_client_ids_by_group(&group, cursor.as_deref(), limit)?.into())
}

fn get_uids_by_group(mut call: Call<'_>) -> Result<Outcome, Failure> {
    let take::GroupPage {
        group,
        cursor,
        limit,
    } = call.arguments()?;
    Ok(node::get_uids_by_group(&group, cursor.as_deref(), limit)?.into())
}

fn get_uid_count_by_group(mut call: Call<'_>) -> Result<Outcome, Failure> {
    let take::OfGroup { group } = call.arguments()?;
    Ok(node::get_uid_count_by_group(&group)?.into())
}

fn get_all_groups(mut call: Call<'_>) -> Result<Outcome, Failure> {
    let take::AnyPage { cursor, limit } = call.arguments()?;
    Ok(node::get_all_groups(cursor.as_deref(), limit)?.into())
}

fn is_online(mut call: Call<'_>) -> Result<Outcome, Failure> {
    let take::OfClient { client } = call.arguments()?;
    Ok(node::is_online(&call.client_or_caller(client))?.into())
}

fn get_all_client_count(mut call: Call<'_>) -> Result<Outcome, Failure> {
    let take::Nothing {} = call.arguments()?;
    Ok(node::get_all_client_count()?.into())
}

fn close_client(mut call: Call<'_>) -> Result<Outcome, Failure> {
    let take::CloseClient {
        client,
        code,
        reason,
        text,
        binary,
    } = call.arguments()?;
    let client = call.client_or_caller(client);
    Ok(node::close_client(&client, code, &reason, last_message(text, binary)?)?.into())
}

fn close_uid(mut call: Call<'_>) -> Result<Outcome, Failure> {
    let take::CloseUid {
        uid,
        code,
        reason,
        text,
        binary,
    } = call.arguments()?;
    Ok(node::close_uid(&uid, code, &reason, last_message(text, binary)?)?.into())
}

fn close_group(mut call: Call<'_>) -> Result<Outcome, Failure> {
    let take::CloseGroup {
        group,
        code,
        reason,
        text,
        binary,
    } = call.arguments()?;
    Ok(node::close_group(&group, code, &reason, last_message(text, binary)?)?.into())
}

fn get_info(mut call: Call<'_>) -> Result<Outcome, Failure> {
    let take::OfClient { client } = call.arguments()?;
    Ok(node::get_info(&call.client_or_caller(client))?.into())
}

fn set_info(mut call: Call<'_>) -> Result<Outcome, Failure> {
    let take::ClientInfo { client, info } = call.arguments()?;
    Ok(node::set_info(&call.client_or_caller(client), &info)?.into())
}

fn update_info(mut call: Call<'_>) -> Result<Outcome, Failure> {
    let take::ClientChanges { client, info } = call.arguments()?;
    let changes: Vec<_> = info
        .iter()
        .map(|(key, value)| (&**key, value.as_deref()))
        .collect();
    Ok(node::update_info(&call.client_or_caller(client), &changes)?.into())
}

fn call(mut call: Call<'_>) -> Result<Outcome, Failure> {
    let take::ToPlugin {
        plugin,
        method,
        payload,
    } = call.arguments()?;
    let answer = node::call(&plugin, &method, payload)?;
    Ok(Outcome::Text(String::from_utf8_lossy(&answer).into_owned()))
}

fn set_timer(mut call: Call<'_>) -> Result<Outcome, Failure> {
    let take::SetTimer {
        name,
        after_ms,
        every_ms,
        scope,
    } = call.arguments()?;
    let after = Duration::from_millis(after_ms);
    let every = every_ms.map(Duration::from_millis);
    Ok(node::set_timer(&name, after, every, scope.into())?.into())
}

fn cancel_timer(mut call: Call<'_>) -> Result<Outcome, Failure> {
    let take::OfTimer { name, scope } = call.arguments()?;
    Ok(node::cancel_timer(&name, scope.into())?.into())
}

fn identify(mut call: Call<'_>) -> Result<Outcome, Failure> {
    let take::Nothing {} = call.arguments()?;
    Ok(node::identify().into())
}

fn log(mut call: Call<'_>) -> Result<Outcome, Failure> {
    let take::LogLine { level, text } = call.arguments()?;
    node::log(level.into(), &text);
    Ok(().into())
}

#[expect(
    clippy::print_stdout,
    reason = "a node turns it into log lines: this is how to see that"
)]
fn print(mut call: Call<'_>) -> Result<Outcome, Failure> {
    let take::Print { text } = call.arguments()?;
    println!("{text}");
    eprintln!("{text}");
    Ok(().into())
}

fn sleep(mut call: Call<'_>) -> Result<Outcome, Failure> {
    let take::Sleep { ms, log } = call.arguments()?;
    if let Some(text) = log {
        node::log(take::LevelName::default().into(), &text);
    }
    std::thread::sleep(Duration::from_millis(ms));
    Ok(().into())
}

/// The same request many times within one event; the answer is the last one's.
fn repeat(mut call: Call<'_>) -> Result<Outcome, Failure> {
    let take::Repeat { times, request } = call.arguments()?;
    let mut outcome = Outcome::from(());
    for _ in 0..times {
        outcome = Request::from_object(request.clone()).run(call.caller)?;
    }
    Ok(outcome)
}

fn panic(mut call: Call<'_>) -> Result<Outcome, Failure> {
    let take::Panic { message } = call.arguments()?;
    panic!("{message}");
}

fn unreachable(mut call: Call<'_>) -> Result<Outcome, Failure> {
    let take::Nothing {} = call.arguments()?;
    misbehave::unreachable()
}

fn spin(mut call: Call<'_>) -> Result<Outcome, Failure> {
    let take::Spin { ms } = call.arguments()?;
    misbehave::spin(ms.map(Duration::from_millis));
    Ok(().into())
}

fn spin_host(mut call: Call<'_>) -> Result<Outcome, Failure> {
    let take::Nothing {} = call.arguments()?;
    misbehave::spin_host(call.caller)
}

fn overflow_stack(mut call: Call<'_>) -> Result<Outcome, Failure> {
    let take::Nothing {} = call.arguments()?;
    black_box(misbehave::overflow_stack(black_box(0)));
    Ok(().into())
}

fn eat_memory(mut call: Call<'_>) -> Result<Outcome, Failure> {
    let take::EatMemory { bytes } = call.arguments()?;
    misbehave::eat_memory(bytes.map(addressable).transpose()?);
    Ok(().into())
}

fn grow_memory(mut call: Call<'_>) -> Result<Outcome, Failure> {
    let take::GrowMemory { bytes } = call.arguments()?;
    Ok(misbehave::grow_memory(addressable(bytes)?).into())
}

fn exit(mut call: Call<'_>) -> Result<Outcome, Failure> {
    let take::Exit { code } = call.arguments()?;
    std::process::exit(code)
}

fn addressable(bytes: u64) -> Result<usize, Error> {
    usize::try_from(bytes).map_err(|_| invalid(format!("`bytes`: {bytes} is beyond any memory")))
}
