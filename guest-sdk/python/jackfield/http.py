"""Requests to the hosts that the plugin's manifest allows under `[http]`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from componentize_py_types import Err, Ok

try:
    from wit_world.imports import (
        wasi_http_outgoing_handler_0_2_4 as handler,
        wasi_http_types_0_2_4 as http,
        wasi_io_streams_0_2_4 as streams,
    )

    _IS_GRANTED = True
except ImportError:  # the manifest has no [http]
    _IS_GRANTED = False

from .checks import Info, Message, Name
from .contract import checked, to_bytes
from .types import Error

_WRITE_BYTES = 4096
"""What one call writes, as the contract of streams has it."""
_READ_BYTES = 64 << 10


@dataclass(frozen=True)
class Response:
    """A whole answer, of any status. Redirects are answers, too: none is followed."""

    status: int
    headers: list[tuple[str, bytes]]
    """The headers, with names in lower case, each as often as it came."""
    body: bytes

    @property
    def is_success(self) -> bool:
        """Whether the status is 200 to 299."""
        return 200 <= self.status < 300

    @property
    def text(self) -> str:
        """The body as text; what is no UTF-8 is shown as the replacement character."""
        return self.body.decode(errors="replace")

    def header(self, name: str) -> str | None:
        """The first value of a header; the case of its name does not matter."""
        name = name.lower()
        return next((value.decode("latin-1") for key, value in self.headers if key.lower() == name), None)


def _error(error: Any) -> Error:
    if error is None:
        return Error("invalid-argument", "the method, the host or the path of the request is wrong")
    # A case of WASI's error-code or header-error.
    variant, _, case = type(error).__name__.partition("_")
    code = re.sub(r"(?<!^)(?=[A-Z])", "-", case).lower()
    what = "a header of the request is wrong" if variant == "HeaderError" else "the request failed"
    detail = getattr(error, "value", None)
    if isinstance(detail, str):
        return Error(code, detail)
    return Error(code, what if detail is None else f"{what}: {detail}")


@checked(_error)
def request(
    method: Name, url: Name, headers: Info | None = None, body: Message = b""
) -> Response | Error:
    """Sends a request and waits for the whole answer, for at most the manifest's `http_timeout`.

    The error's code is WASI's, such as `connection-timeout`. A host that the manifest does not
    allow is `internal-error`, and so is a body that breaks off where the node tells no code for it;
    the text says why.
    """
    if not _IS_GRANTED:
        return Error(
            "denied",
            'the manifest grants no requests: write [http] with allow = ["https://HOST"] into it,'
            " run `jackfield wit`, and build again",
        )
    parts = re.match(r"(https?)://([^/?#]+)([^#]*)", url, re.IGNORECASE)
    if not parts:
        return Error("invalid-argument", f"{url!r} is no URL: write https://HOST/PATH")
    scheme, authority, path = parts.groups()
    fields = [(name, value.encode()) for name, value in (headers or {}).items()]
    outgoing = http.OutgoingRequest(http.Fields.from_list(fields))
    kind = getattr(http, f"Method_{method.capitalize()}", None)
    outgoing.set_method(kind() if kind and method.lower() != "other" else http.Method_Other(method))
    outgoing.set_scheme(http.Scheme_Https() if scheme.lower() == "https" else http.Scheme_Http())
    outgoing.set_authority(authority)
    outgoing.set_path_with_query(path if path.startswith("/") else f"/{path}")
    outgoing_body = outgoing.body()
    answer = handler.handle(outgoing, None)
    _write(outgoing_body, to_bytes(body))
    with answer.subscribe() as ready:
        ready.block()
    outer: Any = answer.get()  # its result says that the answer is asked for once
    response = outer.value
    if not isinstance(response, Ok):
        return _error(response.value)
    return _read(response.value)


def _write(body: Any, data: bytes) -> None:
    try:
        if data:
            with body.write() as stream:
                for at in range(0, len(data), _WRITE_BYTES):
                    stream.blocking_write_and_flush(data[at : at + _WRITE_BYTES])
        http.OutgoingBody.finish(body, None)
    except Err:
        # Who wants no more of it, the node or a server that answers early, says why by the answer.
        pass


def _read(response: Any) -> Response | Error:
    body = bytearray()
    with response.headers() as fields:
        headers = fields.entries()
    with response.consume() as incoming, incoming.stream() as stream:
        try:
            while True:
                body += stream.blocking_read(_READ_BYTES)
        except Err as wrong:
            if not isinstance(wrong.value, streams.StreamError_Closed):
                return _stream_error(wrong.value)
    return Response(response.status(), headers, bytes(body))


def _stream_error(error: Any) -> Error:
    if isinstance(error, streams.StreamError_LastOperationFailed):
        code = http.http_error_code(error.value)
        if code is not None:
            return _error(code)
        # Its first line says what; the rest is where in the node.
        return Error("internal-error", error.value.to_debug_string().partition("\n")[0])
    if isinstance(error, streams.StreamError_Closed):
        return Error("connection-terminated", "the connection broke off")
    return _error(error)
