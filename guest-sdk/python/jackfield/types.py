"""The values that pass between a node and a plugin."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, Literal

from .checks import LONE_SURROGATE, Info, Name, Names, OptionalName, Status, check_fields

CallErrorCode = Literal[
    "unknown-method",
    "invalid-argument",
    "not-found",
    "denied",
    "limit-exceeded",
    "overloaded",
    "unavailable",
    "failed",
]


@dataclass(frozen=True)
class Error:
    """Why a call had no effect. It is returned and never raised: look with `isinstance(x, Error)`.

    The contract's codes are `invalid-argument`, `not-found`, `closed`, `taken`, `overloaded`,
    `limit-exceeded`, `unreachable`, `timed-out`, `denied` and `internal`. Buckets, requests and
    `read_json` have codes of their own.
    """

    code: str
    message: str

    def __str__(self) -> str:
        return f"{self.message} ({self.code})"


@dataclass(frozen=True)
class CallError(Error):
    """Why a call of a plugin has no answer; `on_call` returns it, and `call` does."""

    code: CallErrorCode
    message: str

    __str__ = Error.__str__

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class Handshake:
    """A client that asks to come in, as its HTTP request said it."""

    path: str
    """The request's path, percent-encoded as it came."""
    query: list[tuple[str, str]]
    """The query's names and values, in order, percent-decoded."""
    headers: list[tuple[str, str]]
    """The headers, in order, with their names in lower case."""
    remote_address: str
    """The client's address and port."""
    subprotocols: list[str]
    """The offered subprotocols, in the client's order of preference."""
    uid: str | None
    """The uid that the node has found, where the manifest says how."""

    def param(self, name: str) -> str | None:
        """The first value of a query parameter."""
        return next((value for key, value in self.query if key == name), None)

    def params(self, name: str) -> list[str]:
        """All values of a query parameter."""
        return [value for key, value in self.query if key == name]

    def header(self, name: str) -> str | None:
        """The first value of a header; the case of its name does not matter."""
        name = name.lower()
        return next((value for key, value in self.headers if key == name), None)


@dataclass(frozen=True)
class Accept:
    """The client comes in; all of it is optional."""

    uid: OptionalName = None
    groups: Names = ()
    info: Info = field(default_factory=dict)
    subprotocol: OptionalName = None

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class Refuse:
    """The client is turned away with an HTTP status, 400 to 599, and a sentence."""

    status: Status
    reason: Name

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class Departure:
    """A client that has left, as it was."""

    code: int
    """The close frame's code. 1005: a frame without one; 1006: no frame."""
    reason: str
    by: Literal["client", "plugin", "node", "network"]
    """Who ended the connection."""
    uid: str | None
    groups: list[str]
    info: dict[str, str]


@dataclass(frozen=True)
class Caller:
    """Who calls: a backend by the name of its token, or a plugin by its own name."""

    kind: Literal["api", "plugin"]
    name: str


@dataclass(frozen=True)
class Reach:
    """Whom a send reached."""

    clients: int
    dropped: int
    """Clients that lost the message because their outbox was full."""
    missing: list[str]
    """Nodes that could not be told."""


@dataclass(frozen=True)
class Count:
    """A number, gathered in the whole cluster."""

    value: int
    missing: list[str]
    """Nodes that did not answer."""


@dataclass(frozen=True)
class Page:
    """A part of a list; `next` is the cursor for the next part, None at the end."""

    items: list[str]
    next: str | None
    missing: list[str]
    """Nodes that did not answer."""


@dataclass(frozen=True)
class Identity:
    """What runs, and where."""

    plugin: str
    generation: int
    node: str


_DEPTH = 200
"""How deep a JSON text may be nested. Far deeper ones overflow the stack, which Python does not see."""
_TOKENS = re.compile(r'"(?:[^"\\]|\\.)*+"|[\[{]|[\]}]', re.DOTALL)
_SURROGATE = re.compile(rf"\\u[dD][89a-fA-F]|{LONE_SURROGATE.pattern}")


def read_json(text: str | bytes) -> Any:
    """The value of a JSON text; an `Error` with the code `invalid-json` where it is none.

    A lone surrogate, which JSON can write and which is no Unicode, becomes U+FFFD.
    """
    try:
        text = text if isinstance(text, str) else text.decode()
        if text.count("[") + text.count("{") > _DEPTH and _depth(text) > _DEPTH:
            return Error("invalid-json", f"this is JSON nested deeper than {_DEPTH}")
        value = json.loads(text)
        return _without_lone_surrogates(value) if _SURROGATE.search(text) else value
    except ValueError as wrong:  # it is no JSON, or no UTF-8
        return Error("invalid-json", f"this is no JSON: {wrong}")


def _depth(text: str) -> int:
    depth = deepest = 0
    for token in _TOKENS.findall(text):
        depth += 1 if token in "[{" else -1 if token in "]}" else 0
        deepest = max(deepest, depth)
    return deepest


def _without_lone_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return LONE_SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_without_lone_surrogates(item) for item in value]
    if isinstance(value, dict):
        items = value.items()
        return {_without_lone_surrogates(key): _without_lone_surrogates(item) for key, item in items}
    return value
