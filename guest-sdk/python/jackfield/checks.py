"""Checks of the arguments that go to the node.

The runtime traps on a value of a wrong type, without a word of which. So each argument is looked at
here first, and what is wrong is a `TypeError` with the author's line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from functools import cache
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

LONE_SURROGATE = re.compile("[\ud800-\udfff]")
"""In a str of Python, a pair of surrogates is one letter."""


class Expected:
    """What an argument must be: in words, and as a test."""

    def __init__(self, words: str, test: Callable[[Any], bool]) -> None:
        self.words, self.test = words, test

    def or_none(self) -> Expected:
        return Expected(f"{self.words} or None", lambda value: value is None or self.test(value))


def is_text(value: Any) -> bool:
    """Whether it is a str that can leave the component: what has a lone surrogate is no Unicode."""
    return isinstance(value, str) and not LONE_SURROGATE.search(value)


def _is_texts(value: Any) -> bool:
    return isinstance(value, (list, tuple, set, frozenset)) and all(map(is_text, value))


def _is_map(value: Any, test: Callable[[Any], bool]) -> bool:
    return isinstance(value, dict) and all(map(is_text, value)) and all(map(test, value.values()))


def _is_bytes(value: Any) -> bool:
    return isinstance(value, (bytes, bytearray, memoryview))


def _number(bits: int, signed: bool = False) -> Expected:
    low, high = (-(1 << bits - 1), 1 << bits - 1) if signed else (0, 1 << bits)
    words = f"an int from {low} to {high - 1}"
    return Expected(
        words,
        lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value < high,
    )


_TEXT = Expected("a str (without lone surrogates)", is_text)
_SENDABLE = Expected(
    "a str, bytes, or a dict or list that is sent as JSON",
    lambda value: is_text(value) or _is_bytes(value) or isinstance(value, (dict, list)),
)

Sendable = str | bytes | dict[str, Any] | list[Any]
"""What can be sent: a text, bytes, or a dict or list, which goes as its JSON text."""

Name = Annotated[str, _TEXT]
OptionalName = Annotated[str | None, _TEXT.or_none()]
Names = Annotated[
    str | Collection[str],
    Expected("a str or a list of str", lambda value: is_text(value) or _is_texts(value)),
]
Info = Annotated[
    dict[str, str],
    Expected("a dict of str to str", lambda value: _is_map(value, is_text)),
]
Changes = Annotated[
    dict[str, str | None],
    Expected(
        "a dict of str to str or None",
        lambda value: _is_map(value, lambda item: item is None or is_text(item)),
    ),
]
Message = Annotated[Sendable, _SENDABLE]
Values = Annotated[
    dict[str, Sendable],
    Expected(f"a dict of str to {_SENDABLE.words}", lambda value: _is_map(value, _SENDABLE.test)),
]
OptionalMessage = Annotated[Sendable | None, _SENDABLE.or_none()]
Status = Annotated[int, _number(16)]
Limit = Annotated[int, _number(32)]
Milliseconds = Annotated[int, _number(64)]
OptionalMilliseconds = Annotated[int | None, _number(64).or_none()]
Delta = Annotated[int, _number(64, signed=True)]


def as_list(names: str | Collection[str]) -> list[str]:
    """One name or several, as the node takes them."""
    return [names] if isinstance(names, str) else list(names)


@cache
def expectations(described: Any) -> dict[str, Expected]:
    """What the parameters of a function, or the fields of a class, must be."""
    found = {}
    for name, hint in get_type_hints(described, include_extras=True).items():
        if get_origin(hint) is Literal:
            choices = get_args(hint)
            words = ", ".join(map(repr, choices))
            found[name] = Expected(f"one of {words}", choices.__contains__)
        else:
            for extra in getattr(hint, "__metadata__", ()):
                found[name] = extra
    return found


def check(function: str, argument: str, value: Any, expected: Expected) -> None:
    """Says what is wrong with an argument, if anything is."""
    if not expected.test(value):
        shown = repr(value)
        if len(shown) > 60:
            shown = shown[:60] + "…"
        kind = type(value).__name__
        raise TypeError(f"{function}: {argument} must be {expected.words}, not {kind} {shown}")


def check_fields(value: Any) -> None:
    """Checks the fields of a dataclass that the author has made."""
    kind: Any = type(value)
    for name, expected in expectations(kind).items():
        check(kind.__name__, name, getattr(value, name), expected)
