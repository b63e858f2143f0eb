"""What the node calls. The names of these classes are those that componentize-py looks for."""

from __future__ import annotations

import importlib
import sys
import traceback
from functools import cache
from types import TracebackType
from typing import Any

from componentize_py_types import Err
from wit_world.exports import jackfield_plugin_call_handler_0_1_0 as call_handler
from wit_world.imports import jackfield_plugin_types_0_1_0 as wit

from . import sources
from .checks import as_list
from .contract import code_of, to_bytes
from .plugin import Plugin
from .types import Accept, CallError, Caller, Departure, Handshake, Refuse


@cache
def _plugin() -> Plugin:
    """The author's plugin, made at the first event of this instance."""
    sources.install()
    module = importlib.import_module("plugin")
    classes = [value for value in vars(module).values() if isinstance(value, type)]
    plugins = [kind for kind in classes if issubclass(kind, Plugin) and kind.__module__ == "plugin"]
    if len(plugins) != 1:
        names = ", ".join(kind.__name__ for kind in plugins) or "none"
        raise ImportError(f"src/plugin.py must have one class that derives from Plugin; it has {names}")
    return plugins[0]()


def _wrong(event: str, expected: str, answer: object) -> TypeError:
    return TypeError(f"{event} must return {expected}, not {type(answer).__name__} {answer!r}")


class JackfieldPluginHandler010:
    def on_connect(self, client: str, handshake: Any) -> Any:
        answer = _plugin().on_connect(
            client,
            Handshake(
                handshake.path,
                handshake.query,
                handshake.headers,
                handshake.remote_address,
                handshake.subprotocols,
                handshake.uid,
            ),
        )
        if answer is None:
            answer = Accept()
        if isinstance(answer, Refuse):
            raise Err(wit.Refusal(answer.status, answer.reason))
        if not isinstance(answer, Accept):
            raise _wrong("on_connect", "Accept, Refuse or None", answer)
        info = list(answer.info.items())
        return wit.Acceptance(answer.subprotocol, answer.uid, as_list(answer.groups), info)

    def on_message(self, client: str, message: Any) -> None:
        _plugin().on_message(client, message.value)

    def on_close(self, client: str, departure: Any) -> None:
        _plugin().on_close(
            client,
            Departure(
                departure.code,
                departure.reason,
                code_of(departure.by),  # type: ignore[arg-type]
                departure.uid,
                departure.groups,
                dict(departure.info),
            ),
        )


class JackfieldPluginLifecycle010:
    def on_start(self) -> None:
        refusal = _plugin().on_start()
        if refusal is not None:
            raise Err(str(refusal))

    def on_stop(self) -> None:
        _plugin().on_stop()


class JackfieldPluginCallHandler010:
    def on_call(self, caller: Any, method: str, payload: bytes) -> bytes:
        kind = Caller("api" if isinstance(caller, call_handler.Caller_Api) else "plugin", caller.value)
        answer = _plugin().on_call(kind, method, payload)
        if isinstance(answer, CallError):
            code = wit.CallErrorCode[answer.code.upper().replace("-", "_")]
            raise Err(wit.CallError(code, answer.message))
        if not isinstance(answer, (str, bytes, dict, list)):
            raise _wrong("on_call", "a str, bytes, a dict, a list or a CallError", answer)
        return to_bytes(answer)


class JackfieldPluginTimerHandler010:
    def on_timer(self, name: str) -> None:
        _plugin().on_timer(name)


def _show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """An uncaught exception, with the author's lines and without those of what calls or imports them.

    The node puts what stands on stderr into the log record of the trap that follows.
    """
    inside = (__file__.rpartition("/")[0], "<frozen importlib")
    shown = traceback.TracebackException(kind, error, trace)
    part: traceback.TracebackException | None = shown
    while part is not None:
        outside = [frame for frame in part.stack if not frame.filename.startswith(inside)]
        part.stack = traceback.StackSummary.from_list(outside)
        part = part.__cause__ or part.__context__
    print("".join(shown.format()), end="", file=sys.stderr, flush=True)


sys.excepthook = _show
# A line that is printed is a line of the log at once, and not when some buffer is full.
sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
