"""The table of operations: a name, its arguments, and the few lines that carry it out."""

import os
import sys
import time
from collections.abc import Callable
from typing import Any, Literal, cast

import jackfield
from arguments import Caller, OneOrMany, U16, U32, U64, Wrong, last_message, message

OPERATIONS: dict[str, tuple[str, Callable[..., Any]]] = {}
"""What a request's `do` may name. The arguments are for error messages; `?` may be left out."""


def operation(name: str, takes: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        OPERATIONS[name] = (takes, function)
        return function

    return add


@operation("send-to-all", "text or binary, exclude?")
def send_to_all(
    text: str | None = None, binary: str | None = None, exclude: OneOrMany = OneOrMany()
) -> Any:
    return jackfield.send_to_all(message(text, binary), exclude)


@operation("send-to-client", "client?, text or binary")
def send_to_client(client: Caller, text: str | None = None, binary: str | None = None) -> Any:
    return jackfield.send_to_client(client, message(text, binary))


@operation("reply", "text or binary")
def reply(text: str | None = None, binary: str | None = None) -> Any:
    return jackfield.reply(message(text, binary))


@operation("send-to-uid", "uid or uids, text or binary")
def send_to_uid(uid: OneOrMany, text: str | None = None, binary: str | None = None) -> Any:
    return jackfield.send_to_uid(uid, message(text, binary))


@operation("send-to-group", "group or groups, text or binary, exclude?")
def send_to_group(
    group: OneOrMany,
    text: str | None = None,
    binary: str | None = None,
    exclude: OneOrMany = OneOrMany(),
) -> Any:
    return jackfield.send_to_group(group, message(text, binary), exclude)


@operation("bind-uid", "client?, uid")
def bind_uid(client: Caller, uid: str) -> Any:
    return jackfield.bind_uid(client, uid)


@operation("unbind-uid", "client?, uid?")
def unbind_uid(client: Caller, uid: str | None = None) -> Any:
    return jackfield.unbind_uid(client, uid)


@operation("is-uid-online", "uid")
def is_uid_online(uid: str) -> Any:
    return jackfield.is_uid_online(uid)


@operation("get-uid-by-client-id", "client?")
def get_uid_by_client_id(client: Caller) -> Any:
    return jackfield.get_uid_by_client_id(client)


@operation("get-client-ids-by-uid", "uid, cursor?, limit?")
def get_client_ids_by_uid(uid: str, cursor: str | None = None, limit: U32 = U32(100)) -> Any:
    return jackfield.get_client_ids_by_uid(uid, cursor, limit)


@operation("get-all-uids", "cursor?, limit?")
def get_all_uids(cursor: str | None = None, limit: U32 = U32(100)) -> Any:
    return jackfield.get_all_uids(cursor, limit)


@operation("join-group", "client?, group")
def join_group(client: Caller, group: str) -> Any:
    return jackfield.join_group(client, group)


@operation("leave-group", "client?, group")
def leave_group(client: Caller, group: str) -> Any:
    return jackfield.leave_group(client, group)


@operation("ungroup", "group")
def ungroup(group: str) -> Any:
    return jackfield.ungroup(group)


@operation("get-client-count-by-group", "group")
def get_client_count_by_group(group: str) -> Any:
    return jackfield.get_client_count_by_group(group)


@operation("get-client-ids-by-group", "group, cursor?, limit?")
def get_client_ids_by_group(group: str, cursor: str | None = None, limit: U32 = U32(100)) -> Any:
    return jackfield.get_client_ids_by_group(group, cursor, limit)


@operation("get-uids-by-group", "group, cursor?, limit?")
def get_uids_by_group(group: str, cursor: str | None = None, limit: U32 = U32(100)) -> Any:
    return jackfield.get_uids_by_group(group, cursor, limit)


@operation("get-uid-count-by-group", "group")
def get_uid_count_by_group(group: str) -> Any:
    return jackfield.get_uid_count_by_group(group)


@operation("get-all-groups", "cursor?, limit?")
def get_all_groups(cursor: str | None = None, limit: U32 = U32(100)) -> Any:
    return jackfield.get_all_groups(cursor, limit)


@operation("is-online", "client?")
def is_online(client: Caller) -> Any:
    return jackfield.is_online(client)


@operation("get-all-client-count", "nothing")
def get_all_client_count() -> Any:
    return jackfield.get_all_client_count()


@operation("close-client", "client?, code?, reason?, text? or binary?")
def close_client(
    client: Caller,
    code: U16 = U16(1000),
    reason: str = "",
    text: str | None = None,
    binary: str | None = None,
) -> Any:
    return jackfield.close_client(client, code, reason, last_message(text, binary))


@operation("close-uid", "uid, code?, reason?, text? or binary?")
def close_uid(
    uid: str,
    code: U16 = U16(1000),
    reason: str = "",
    text: str | None = None,
    binary: str | None = None,
) -> Any:
    return jackfield.close_uid(uid, code, reason, last_message(text, binary))


@operation("close-group", "group, code?, reason?, text? or binary?")
def close_group(
    group: str,
    code: U16 = U16(1000),
    reason: str = "",
    text: str | None = None,
    binary: str | None = None,
) -> Any:
    return jackfield.close_group(group, code, reason, last_message(text, binary))


@operation("get-info", "client?")
def get_info(client: Caller) -> Any:
    return jackfield.get_info(client)


@operation("set-info", "client?, info")
def set_info(client: Caller, info: dict[str, str]) -> Any:
    return jackfield.set_info(client, info)


@operation("update-info", "client?, info")
def update_info(client: Caller, info: dict[str, str | None]) -> Any:
    return jackfield.update_info(client, info)


@operation("call", "plugin, method, payload?")
def call(plugin: str, method: str, payload: str = "") -> Any:
    answer = jackfield.call(plugin, method, payload)
    return answer if isinstance(answer, jackfield.Error) else answer.decode(errors="replace")


@operation("set-timer", "name, after_ms, every_ms?, scope?")
def set_timer(name: str, after_ms: U64, every_ms: U64 | None = None, scope: str = "node") -> Any:
    return jackfield.set_timer(name, after_ms, every_ms, _scope(scope))


@operation("cancel-timer", "name, scope?")
def cancel_timer(name: str, scope: str = "node") -> Any:
    return jackfield.cancel_timer(name, _scope(scope))


def _scope(name: str) -> Literal["node", "cluster"]:
    return cast(Literal["node", "cluster"], _one_of(name, ["node", "cluster"]))


def _one_of(name: str, names: list[str]) -> str:
    if name not in names:
        raise Wrong(f"unknown variant `{name}`, expected one of {', '.join(names)}")
    return name


@operation("identify", "nothing")
@operation("generation", "nothing")
def identify() -> Any:
    return jackfield.identify()


@operation("log", "level?, text")
def log(text: str, level: str = "info") -> Any:
    level = _one_of(level, ["trace", "debug", "info", "warn", "error"])
    jackfield.log(cast(jackfield.Level, level), text)


@operation("print", "text")
def print_(text: str) -> Any:
    """A node turns both into lines of its log."""
    print(text)
    print(text, file=sys.stderr)


@operation("sleep", "ms?, log?")
def sleep(ms: U64 = U64(1000), log: str | None = None) -> Any:
    if log is not None:
        jackfield.log("info", log)
    time.sleep(ms / 1000)


@operation("panic", "message?")
def panic(message: str = "asked to panic") -> Any:
    raise RuntimeError(message)


@operation("unreachable", "nothing")
def unreachable() -> Any:
    os.abort()


@operation("spin", "ms?")
def spin(ms: U64 | None = None) -> Any:
    """Works for this time, or for ever."""
    end = None if ms is None else time.monotonic() + ms / 1000
    while end is None or time.monotonic() < end:
        pass


@operation("spin-host", "nothing")
def spin_host() -> Any:
    """Never ends either, but keeps coming back to the node."""
    while True:
        jackfield.get_all_client_count()


@operation("overflow-stack", "nothing")
def overflow_stack() -> Any:
    """Endless recursion. Python keeps its calls on the heap: it is the memory that runs out."""
    sys.setrecursionlimit(2**31 - 1)

    def deeper(depth: int) -> int:
        return deeper(depth + 1) + 1

    return deeper(0)


@operation("eat-memory", "bytes?")
def eat_memory(bytes: U64 | None = None) -> Any:
    """One allocation of this size, or more and more until something gives way."""
    if bytes is not None:
        bytearray(b"\1") * bytes
        return
    eaten = []
    while True:
        eaten.append(bytearray(b"\1") * (1 << 20))


@operation("exit", "code?")
def exit(code: int = 1) -> Any:
    os._exit(code)
