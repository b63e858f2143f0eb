"""The arguments of the operations, decoded by the annotations of the function that takes them.

A name that an operation does not take is an error, so that a typo is seen.
"""

import base64
import binascii
import inspect
from collections.abc import Callable, Mapping
from typing import Any


class Wrong(Exception):
    """A request that cannot be carried out, with what was expected."""


class Caller(str):
    """The client that is meant where no client is named."""


class OneOrMany(list[str]):
    """A string or an array of strings; the plural of the argument's name is taken as well."""


class U16(int):
    """A number of 16 bits."""


class U32(int):
    """A number of 32 bits."""


class U64(int):
    """A number of 64 bits."""


def _of(kind: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kind) and not isinstance(value, bool)


def _up_to(bits: int) -> Callable[[Any], bool]:
    return lambda value: _of(int)(value) and 0 <= value < 1 << bits


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_map(value: Any, test: Callable[[Any], bool]) -> bool:
    return isinstance(value, dict) and all(map(test, value.values()))


KINDS: dict[Any, tuple[str, Callable[[Any], bool]]] = {
    str: ("a string", _is_text),
    str | None: ("a string", lambda value: value is None or _is_text(value)),
    Caller: ("a string", lambda value: value is None or _is_text(value)),
    OneOrMany: (
        "a string or an array of strings",
        lambda value: _is_text(value) or isinstance(value, list) and all(map(_is_text, value)),
    ),
    U16: ("a number from 0 to 65535", _up_to(16)),
    U32: ("a number from 0 to 4294967295", _up_to(32)),
    U64: ("a number of 64 bits", _up_to(64)),
    U64 | None: ("a number of 64 bits", lambda value: value is None or _up_to(64)(value)),
    int: ("a whole number", _of(int)),
    dict[str, str]: ("an object of strings", lambda value: _is_map(value, _is_text)),
    dict[str, str | None]: (
        "an object of strings and nulls",
        lambda value: _is_map(value, lambda item: item is None or _is_text(item)),
    ),
    dict[str, Any]: ("an object", lambda value: isinstance(value, dict)),
}


def decode(function: Callable[..., Any], given: Mapping[str, Any], caller: str) -> dict[str, Any]:
    """The arguments that `function` takes, out of a request's."""
    left = dict(given)
    found: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        kind = parameter.annotation
        key = f"{name}s" if kind is OneOrMany and f"{name}s" in left else name
        if key not in left:
            if kind is Caller:
                found[name] = caller
            elif parameter.default is parameter.empty:
                raise Wrong(f"missing field `{name}`")
            continue
        value = left.pop(key)
        words, test = KINDS[kind]
        if not test(value):
            raise Wrong(f"`{key}` is {value!r}, expected {words}")
        if kind is OneOrMany and isinstance(value, str):
            value = [value]
        found[name] = caller if kind is Caller and value is None else value
    if left:
        raise Wrong(f"unknown field `{next(iter(left))}`")
    return found


def message(text: str | None, binary: str | None) -> str | bytes:
    """The message of a send: `text`, or `binary` in base64."""
    given = last_message(text, binary)
    if given is None:
        raise Wrong("the message is missing: give `text`, or `binary` in base64")
    return given


def last_message(text: str | None, binary: str | None) -> str | bytes | None:
    """The last message of a close, which may be left out."""
    if binary is None:
        return text
    if text is not None:
        raise Wrong("a message is `text` or `binary`, not both")
    try:
        return base64.b64decode(binary, validate=True)
    except binascii.Error as error:
        raise Wrong(f"`binary` is not base64: {error}") from None
