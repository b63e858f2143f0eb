//! The functions of the contract, as the component's side has them, on the running [`Host`].
//!
//! [`Host`]: super::Host

use std::collections::BTreeSet;

use super::checks::{Close, check_count, check_id, check_ids, check_limit, error, timer_time};
use super::current;
use super::node::{Node, count};
use super::pages::List;
use crate::{
    CallError, CallErrorCode, Caller, ClientId, Count, Error, ErrorCode, Identity, Info, Level,
    Message, Page, Reach, TimerScope,
};

/// Bytes of one line of the log. Beyond: cut.
const LOG_LINE_BYTES: usize = 8 << 10;

pub(crate) fn send_to_all(message: Message, exclude: &[ClientId]) -> Result<Reach, Error> {
    current(|node| {
        check_ids(exclude)?;
        node.send(&message, exclude, |_| true)
    })
}

pub(crate) fn send_to_client(client: &ClientId, message: Message) -> Result<(), Error> {
    current(|node| {
        check_id(client)?;
        node.check_message(&message)?;
        node.count_send()?;
        node.record(client)?.receive(message);
        Ok(())
    })
}

pub(crate) fn reply(message: Message) -> Result<(), Error> {
    let client = current(|node| {
        let turn = node.turn.as_ref();
        let client = turn.and_then(|turn| turn.client.clone());
        client.ok_or_else(|| {
            let message = "this event is no client's: name the client that it is for";
            error(ErrorCode::InvalidArgument, message.to_owned())
        })
    });
    send_to_client(&client?, message)
}

pub(crate) fn send_to_uid(uids: &[String], message: Message) -> Result<Reach, Error> {
    current(|node| {
        check_count("uids", uids.len())?;
        uids.iter()
            .try_for_each(|uid| node.check_name("uid", uid))?;
        node.send(&message, &[], |record| {
            record.uid.as_ref().is_some_and(|uid| uids.contains(uid))
        })
    })
}

pub(crate) fn send_to_group(
    groups: &[String],
    message: Message,
    exclude: &[ClientId],
) -> Result<Reach, Error> {
    current(|node| {
        check_ids(exclude)?;
        check_count("groups", groups.len())?;
        groups
            .iter()
            .try_for_each(|group| node.check_name("group", group))?;
        node.send(&message, exclude, |record| {
            groups.iter().any(|group| record.groups.contains(group))
        })
    })
}

pub(crate) fn bind_uid(client: &ClientId, uid: &str) -> Result<(), Error> {
    current(|node| node.bind(client, uid))
}

pub(crate) fn unbind_uid(client: &ClientId, uid: Option<&str>) -> Result<bool, Error> {
    current(|node| {
        uid.map_or(Ok(()), |uid| node.check_name("uid", uid))?;
        let bound = &mut node.record(client)?.uid;
        let meant = uid.is_none() || bound.as_deref() == uid;
        Ok(meant && bound.take().is_some())
    })
}

pub(crate) fn is_uid_online(uid: &str) -> Result<bool, Error> {
    current(|node| Ok(!clients_of_uid(node, uid)?.is_empty()))
}

pub(crate) fn get_uid_by_client_id(client: &ClientId) -> Result<Option<String>, Error> {
    current(|node| Ok(node.record(client)?.uid.clone()))
}

pub(crate) fn get_client_ids_by_uid(
    uid: &str,
    cursor: Option<&str>,
    limit: u32,
) -> Result<Page<String>, Error> {
    current(|node| {
        let clients = clients_of_uid(node, uid)?;
        node.pages.part(
            List::ClientsOfUid(uid.to_owned()),
            texts(clients),
            cursor,
            limit,
        )
    })
}

pub(crate) fn get_all_uids(cursor: Option<&str>, limit: u32) -> Result<Page<String>, Error> {
    current(|node| {
        let uids = node
            .records()
            .filter_map(|(_, record)| record.uid.clone())
            .collect();
        node.pages.part(List::AllUids, uids, cursor, limit)
    })
}

pub(crate) fn join_group(client: &ClientId, group: &str) -> Result<(), Error> {
    current(|node| node.join(client, group))
}

pub(crate) fn leave_group(client: &ClientId, group: &str) -> Result<(), Error> {
    current(|node| {
        node.check_name("group", group)?;
        node.record(client)?.groups.remove(group);
        Ok(())
    })
}

pub(crate) fn ungroup(group: &str) -> Result<Count, Error> {
    current(|node| {
        let members = members(node, group)?;
        for client in &members {
            node.record(client)?.groups.remove(group);
        }
        Ok(count(members.len()))
    })
}

pub(crate) fn get_client_count_by_group(group: &str) -> Result<Count, Error> {
    current(|node| Ok(count(members(node, group)?.len())))
}

pub(crate) fn get_client_ids_by_group(
    group: &str,
    cursor: Option<&str>,
    limit: u32,
) -> Result<Page<String>, Error> {
    current(|node| {
        let members = members(node, group)?;
        node.pages.part(
            List::ClientsOfGroup(group.to_owned()),
            texts(members),
            cursor,
            limit,
        )
    })
}

pub(crate) fn get_uids_by_group(
    group: &str,
    cursor: Option<&str>,
    limit: u32,
) -> Result<Page<String>, Error> {
    current(|node| {
        let uids = uids_of_group(node, group)?;
        node.pages
            .part(List::UidsOfGroup(group.to_owned()), uids, cursor, limit)
    })
}

pub(crate) fn get_uid_count_by_group(group: &str) -> Result<Count, Error> {
    current(|node| Ok(count(uids_of_group(node, group)?.len())))
}

pub(crate) fn get_all_groups(cursor: Option<&str>, limit: u32) -> Result<Page<String>, Error> {
    current(|node| {
        let groups = node
            .records()
            .flat_map(|(_, record)| record.groups.clone())
            .collect();
        node.pages.part(List::AllGroups, groups, cursor, limit)
    })
}

pub(crate) fn is_online(client: &ClientId) -> Result<bool, Error> {
    current(|node| {
        check_id(client)?;
        Ok(node.has(client))
    })
}

pub(crate) fn get_all_client_count() -> Result<Count, Error> {
    current(|node| Ok(count(node.records().count())))
}

pub(crate) fn close_client(
    client: &ClientId,
    code: u16,
    reason: &str,
    last_message: Option<Message>,
) -> Result<(), Error> {
    current(|node| {
        let last = last_message.as_ref();
        last.map_or(Ok(()), |last| node.check_message(last))?;
        let close = Close::new(code, reason, last_message)?;
        node.record(client)?;
        node.close(client, &close);
        Ok(())
    })
}

pub(crate) fn close_uid(
    uid: &str,
    code: u16,
    reason: &str,
    last_message: Option<Message>,
) -> Result<Count, Error> {
    current(|node| {
        let last = last_message.as_ref();
        last.map_or(Ok(()), |last| node.check_message(last))?;
        let close = Close::new(code, reason, last_message)?;
        let clients = clients_of_uid(node, uid)?;
        Ok(node.close_all(clients, &close))
    })
}

pub(crate) fn close_group(
    group: &str,
    code: u16,
    reason: &str,
    last_message: Option<Message>,
) -> Result<Count, Error> {
    current(|node| {
        let last = last_message.as_ref();
        last.map_or(Ok(()), |last| node.check_message(last))?;
        let close = Close::new(code, reason, last_message)?;
        let members = members(node, group)?;
        Ok(node.close_all(members, &close))
    })
}

pub(crate) fn get_info(client: &ClientId) -> Result<Info, Error> {
    current(|node| Ok(node.record(client)?.info.clone()))
}

pub(crate) fn set_info(client: &ClientId, info: &Info) -> Result<(), Error> {
    current(|node| node.set_info(client, info.clone()))
}

pub(crate) fn update_info(
    client: &ClientId,
    changes: &[(&str, Option<&str>)],
) -> Result<Info, Error> {
    current(|node| {
        let mut info = node.record(client)?.info.clone();
        for (key, value) in changes {
            match value {
                Some(value) => info.insert((*key).to_owned(), (*value).to_owned()),
                None => info.remove(*key),
            };
        }
        node.set_info(client, info.clone())?;
        Ok(info)
    })
}

pub(crate) fn call(plugin: &str, method: &str, payload: &[u8]) -> Result<Vec<u8>, CallError> {
    let (callees, caller, depth) = current(|node| {
        let depth = node.turn.get_or_insert_default().depth + 1;
        let caller = Caller::Plugin(node.plugin.clone());
        (node.callees.clone(), caller, depth)
    });
    // The caller's node has been let go of: what is called may call it, or be it.
    let Some((callee, on_call)) = callees.iter().find_map(|callee| callee.named(plugin)) else {
        let message = format!("no plugin {plugin:?} runs here");
        return Err(CallError::new(CallErrorCode::Unavailable, message));
    };
    callee.on_call(on_call, depth, caller, method, payload)
}

pub(crate) fn set_timer(
    name: &str,
    after_ms: u64,
    every_ms: Option<u64>,
    scope: TimerScope,
) -> Result<(), Error> {
    current(|node| {
        node.check_name("timer", name)?;
        let after = timer_time("after-ms", after_ms)?;
        let every = every_ms.map(|ms| timer_time("every-ms", ms)).transpose()?;
        if !node.timers.has(scope, name) {
            check_limit("timers", node.timers.count() + 1, node.limits.timers)?;
        }
        node.timers.set(scope, name, after, every);
        Ok(())
    })
}

pub(crate) fn cancel_timer(name: &str, scope: TimerScope) -> Result<bool, Error> {
    current(|node| {
        node.check_name("timer", name)?;
        Ok(node.timers.cancel(scope, name))
    })
}

pub(crate) fn identify() -> Identity {
    current(|node| Identity {
        plugin: node.plugin.clone(),
        generation: 1,
        node: node.incarnation.clone(),
    })
}

pub(crate) fn log(level: Level, message: &str) {
    current(|node| {
        let most = node.limits.log_lines_per_event;
        let turn = node.turn.get_or_insert_default();
        turn.log_lines += 1;
        if most == 0 || turn.log_lines <= most {
            let end = message.floor_char_boundary(LOG_LINE_BYTES);
            node.logs.push((level, message[..end].to_owned()));
        }
    });
}

fn clients_of_uid(node: &Node, uid: &str) -> Result<Vec<ClientId>, Error> {
    node.check_name("uid", uid)?;
    Ok(node.ids(|record| record.uid.as_deref() == Some(uid)))
}

fn members(node: &Node, group: &str) -> Result<Vec<ClientId>, Error> {
    node.check_name("group", group)?;
    Ok(node.ids(|record| record.groups.contains(group)))
}

fn uids_of_group(node: &Node, group: &str) -> Result<BTreeSet<String>, Error> {
    node.check_name("group", group)?;
    let members = node
        .records()
        .map(|(_, record)| record)
        .filter(|record| record.groups.contains(group));
    Ok(members.filter_map(|record| record.uid.clone()).collect())
}

fn texts(clients: Vec<ClientId>) -> BTreeSet<String> {
    clients.iter().map(ClientId::to_string).collect()
}
