"""What all calls to the node have in common: their arguments are checked, an error is a value."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from componentize_py_types import Err
from wit_world.imports import jackfield_plugin_types_0_1_0 as wit

from .checks import Sendable, check, expectations, is_text
from .types import Error

P = ParamSpec("P")
R = TypeVar("R")


def checked(error_of: Callable[[Any], Error]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Makes a function check its arguments, and return as a value what the node raises."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        code = function.__code__
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> Any:
            expected = expectations(function)
            # Too few, too many, or unknown ones: Python says so when it calls the function.
            for name, value in (*zip(names, args), *kwargs.items()):
                if name in expected:
                    check(function.__qualname__, name, value, expected[name])
            try:
                return function(*args, **kwargs)
            except Err as wrong:
                return error_of(wrong.value)

        return call

    return decorate


def code_of(value: Any) -> str:
    """An enum of the contract, as the contract writes it: `not-found`."""
    return str(value.name).lower().replace("_", "-")


contract = checked(lambda error: Error(code_of(error.code), error.message))


def _text_or_bytes(value: Sendable) -> str | bytes:
    if isinstance(value, (dict, list)):
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        # JSON writes lone surrogates as escapes, which are ASCII.
        return text if is_text(text) else json.dumps(value, separators=(",", ":"))
    return value if isinstance(value, str) else bytes(value)


def to_bytes(value: Sendable) -> bytes:
    """What a value is where no text is known: a text is its UTF-8."""
    value = _text_or_bytes(value)
    return value.encode() if isinstance(value, str) else value


def to_message(message: Sendable) -> Any:
    """A message as the contract has it."""
    message = _text_or_bytes(message)
    return wit.Message_Text(message) if isinstance(message, str) else wit.Message_Binary(message)


def to_optional_message(message: Sendable | None) -> Any:
    return None if message is None else to_message(message)
