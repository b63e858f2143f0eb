"""What the plugin answers when it is called, by backends and other plugins."""

from typing import get_args

from jackfield import CallError, CallErrorCode, Caller, Sendable
from request import Request, answer


def answer_call(caller: Caller, method: str, payload: bytes) -> Sendable | CallError:
    if method == "echo":
        return payload
    if method == "caller":
        return f"{caller.kind} {caller.name}"
    try:
        text = payload.decode()
    except UnicodeDecodeError as error:
        return CallError("invalid-argument", f"the payload is no text: {error}")
    if method == "do":
        # A call is no client's: a request that means one has to name it.
        return answer(Request.named_or_whole(text), "")
    if method == "bytes":
        if not text.isdecimal():
            return CallError("invalid-argument", "`bytes` takes a number")
        return b"." * int(text)
    if method == "fail":
        for code in get_args(CallErrorCode):
            if text == code:
                return CallError(code, "asked to fail")
        return CallError("invalid-argument", "`fail` takes the code of an error")
    return CallError("unknown-method", f"there is no method {method!r}")
