"""The functions of the contract. What fails returns an `Error`, and nothing is done by halves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from wit_world.imports import (
    jackfield_plugin_calls_0_1_0 as calls,
    jackfield_plugin_clients_0_1_0 as clients,
    jackfield_plugin_close_0_1_0 as close,
    jackfield_plugin_groups_0_1_0 as groups,
    jackfield_plugin_infos_0_1_0 as infos,
    jackfield_plugin_runtime_0_1_0 as runtime,
    jackfield_plugin_send_0_1_0 as send,
    jackfield_plugin_timers_0_1_0 as timers,
    jackfield_plugin_uids_0_1_0 as uids,
)

from .checks import (
    Changes,
    Info,
    Limit,
    Message,
    Milliseconds,
    Name,
    Names,
    OptionalMessage,
    OptionalMilliseconds,
    OptionalName,
    Status,
    as_list,
)
from .contract import checked, code_of, contract, to_bytes, to_message, to_optional_message
from .types import CallError, Count, Error, Identity, Page, Reach

Scope = Literal["node", "cluster"]
Level = Literal["trace", "debug", "info", "warn", "error"]


def _reach(reach: Any) -> Reach:
    return Reach(reach.clients, reach.dropped, reach.missing)


def _count(count: Any) -> Count:
    return Count(count.value, count.missing)


def _page(page: Any) -> Page:
    return Page(page.items, page.next, page.missing)


@contract
def send_to_all(message: Message, exclude: Names = ()) -> Reach | Error:
    """To all clients of this plugin in the cluster, but those in `exclude`."""
    return _reach(send.send_to_all(to_message(message), as_list(exclude)))


@contract
def send_to_client(client: Name, message: Message) -> Error | None:
    """To one client."""
    send.send_to_client(client, to_message(message))
    return None


@contract
def reply(message: Message) -> Error | None:
    """To the client whose event this is."""
    send.reply(to_message(message))
    return None


@contract
def send_to_uid(uid: Names, message: Message) -> Reach | Error:
    """To every client of a uid, or of several uids, once each."""
    return _reach(send.send_to_uid(as_list(uid), to_message(message)))


@contract
def send_to_group(group: Names, message: Message, exclude: Names = ()) -> Reach | Error:
    """To the members of a group, or of several groups, once each, but those in `exclude`."""
    return _reach(send.send_to_group(as_list(group), to_message(message), as_list(exclude)))


@contract
def bind_uid(client: Name, uid: Name) -> Error | None:
    """Gives the client this uid in place of the one it had."""
    uids.bind_uid(client, uid)
    return None


@contract
def unbind_uid(client: Name, uid: OptionalName = None) -> bool | Error:
    """Takes the client's uid away; with `uid`, only if it is that one. Whether one was taken."""
    return bool(uids.unbind_uid(client, uid))


@contract
def is_uid_online(uid: Name) -> bool | Error:
    """Whether any client has this uid."""
    return bool(uids.is_uid_online(uid))


@contract
def get_uid_by_client_id(client: Name) -> str | None | Error:
    """The client's uid; None where it has none."""
    uid: str | None = uids.get_uid_by_client_id(client)
    return uid


@contract
def get_client_ids_by_uid(uid: Name, cursor: OptionalName = None, limit: Limit = 1000) -> Page | Error:
    """The clients with this uid. `limit`: 1 to 1,000 items."""
    return _page(uids.get_client_ids_by_uid(uid, cursor, limit))


@contract
def get_all_uids(cursor: OptionalName = None, limit: Limit = 1000) -> Page | Error:
    """All uids that some client has, each once. `limit`: 1 to 1,000 items."""
    return _page(uids.get_all_uids(cursor, limit))


@contract
def join_group(client: Name, group: Name) -> Error | None:
    """Puts the client into the group."""
    groups.join_group(client, group)
    return None


@contract
def leave_group(client: Name, group: Name) -> Error | None:
    """Takes the client out of the group."""
    groups.leave_group(client, group)
    return None


@contract
def ungroup(group: Name) -> Count | Error:
    """Dissolves the group; its members stay connected. The answer counts them."""
    return _count(groups.ungroup(group))


@contract
def get_client_count_by_group(group: Name) -> Count | Error:
    """How many clients are in the group."""
    return _count(groups.get_client_count_by_group(group))


@contract
def get_client_ids_by_group(group: Name, cursor: OptionalName = None, limit: Limit = 1000) -> Page | Error:
    """The clients in the group. `limit`: 1 to 1,000 items."""
    return _page(groups.get_client_ids_by_group(group, cursor, limit))


@contract
def get_uids_by_group(group: Name, cursor: OptionalName = None, limit: Limit = 1000) -> Page | Error:
    """The uids in the group, each once. `limit`: 1 to 1,000 items."""
    return _page(groups.get_uids_by_group(group, cursor, limit))


@contract
def get_uid_count_by_group(group: Name) -> Count | Error:
    """How many different uids are in the group."""
    return _count(groups.get_uid_count_by_group(group))


@contract
def get_all_groups(cursor: OptionalName = None, limit: Limit = 1000) -> Page | Error:
    """All groups that have members. `limit`: 1 to 1,000 items."""
    return _page(groups.get_all_groups(cursor, limit))


def all_pages(page: Callable[[str | None], Page | Error]) -> list[str] | Error:
    """The items of all pages: `all_pages(lambda cursor: get_all_groups(cursor))`."""
    items: list[str] = []
    cursor = None
    while True:
        part = page(cursor)
        if isinstance(part, Error):
            return part
        items += part.items
        cursor = part.next
        if cursor is None:
            return items


@contract
def is_online(client: Name) -> bool | Error:
    """Whether this client is connected."""
    return bool(clients.is_online(client))


@contract
def get_all_client_count() -> Count | Error:
    """How many clients this plugin has in the cluster."""
    return _count(clients.get_all_client_count())


@contract
def close_client(
    client: Name, code: Status = 1000, reason: Name = "", last_message: OptionalMessage = None
) -> Error | None:
    """Closes the client: what is queued goes out, then `last_message`, then a close frame."""
    close.close_client(client, code, reason, to_optional_message(last_message))
    return None


@contract
def close_uid(
    uid: Name, code: Status = 1000, reason: Name = "", last_message: OptionalMessage = None
) -> Count | Error:
    """Closes every client of the uid; the answer counts them."""
    return _count(close.close_uid(uid, code, reason, to_optional_message(last_message)))


@contract
def close_group(
    group: Name, code: Status = 1000, reason: Name = "", last_message: OptionalMessage = None
) -> Count | Error:
    """Closes every client in the group; the answer counts them."""
    return _count(close.close_group(group, code, reason, to_optional_message(last_message)))


@contract
def get_info(client: Name) -> dict[str, str] | Error:
    """The client's info; empty when nothing was set."""
    return dict(infos.get_info(client))


@contract
def set_info(client: Name, info: Info) -> Error | None:
    """Replaces the client's info."""
    infos.set_info(client, list(info.items()))
    return None


@contract
def update_info(client: Name, changes: Changes) -> dict[str, str] | Error:
    """Sets each key to its value, and deletes those that are None. The whole info after it."""
    return dict(infos.update_info(client, list(changes.items())))


def identify() -> Identity:
    """The plugin's name, its generation on this node, and the node."""
    identity = runtime.identify()
    return Identity(identity.plugin, identity.generation, identity.node)


_LEVELS = {code_of(level): level for level in runtime.Level}
_SCOPES = {code_of(scope): scope for scope in timers.TimerScope}


@contract
def log(level: Level, message: object) -> None:
    """One line for the node's log."""
    # A log never fails: what is no Unicode is shown as `?`.
    text = str(message).encode(errors="replace").decode()
    runtime.log(_LEVELS[level], text)


@checked(lambda error: CallError(code_of(error.code), error.message))  # type: ignore[arg-type]
def call(plugin: Name, method: Name, payload: Message = b"") -> bytes | CallError:
    """Calls another plugin of the same node and waits for its answer."""
    return bytes(calls.call(plugin, method, to_bytes(payload)))


@contract
def set_timer(
    name: Name, after_ms: Milliseconds, every_ms: OptionalMilliseconds = None, scope: Scope = "node"
) -> Error | None:
    """Calls `on_timer` after a time, and then every so often, in place of a timer of this name."""
    timers.set_timer(name, after_ms, every_ms, _SCOPES[scope])
    return None


@contract
def cancel_timer(name: Name, scope: Scope = "node") -> bool | Error:
    """Ends a timer. Whether there was one."""
    return bool(timers.cancel_timer(name, _SCOPES[scope]))
