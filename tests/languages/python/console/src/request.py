"""A request: what to do, with which arguments, and the id that its answer carries."""

import dataclasses
from typing import Any

from arguments import Wrong, decode
from jackfield import Error, read_json
from operations import OPERATIONS

EXPECTED = 'a request is a text message with a JSON object, {"id":7,"do":"join-group","group":"g"}'


@dataclasses.dataclass
class Request:
    id: Any
    """Any JSON value; None where the request has none."""
    do: Any
    arguments: dict[str, Any]

    @staticmethod
    def of_object(value: dict[str, Any]) -> "Request":
        left = dict(value)
        return Request(left.pop("id", None), left.pop("do", None), left)

    @staticmethod
    def of_message(message: str | bytes) -> "Request | Error":
        if isinstance(message, bytes):
            return _invalid(f"{EXPECTED}; this was a binary message")
        value = read_json(message)
        if isinstance(value, Error):
            return _invalid(f"{EXPECTED}: {value.message}")
        return Request.of_object(value) if isinstance(value, dict) else _invalid(EXPECTED)

    @staticmethod
    def named_or_whole(text: str) -> "Request | Error":
        """A whole request, or for short the name of one that needs no arguments: `panic`."""
        return Request.of_message(text) if text.startswith("{") else Request(None, text, {})

    def run(self, caller: str) -> Any:
        """What the operation answers, or an Error. `caller` is meant where no client is named."""
        if not isinstance(self.do, str):
            return _invalid(EXPECTED)
        if self.do == "repeat":
            return self._repeat(caller)
        if self.do not in OPERATIONS:
            names = ", ".join([*OPERATIONS, "repeat"])
            return _invalid(f"`do` can't be `{self.do}`; it is one of {names}")
        takes, function = OPERATIONS[self.do]
        try:
            return function(**decode(function, self.arguments, caller))
        except Wrong as wrong:
            return _invalid(f"{self.do} takes {takes}: {wrong}")

    def _repeat(self, caller: str) -> Any:
        """The same request many times within one event; the answer is the last one's."""
        try:
            arguments = decode(_repeated, self.arguments, caller)
        except Wrong as wrong:
            return _invalid(f"repeat takes times, request: {wrong}")
        outcome = None
        for _ in range(arguments["times"]):
            outcome = Request.of_object(arguments["request"]).run(caller)
            if isinstance(outcome, Error):
                return outcome
        return outcome


def _repeated(times: int, request: dict[str, Any]) -> None:
    """What `repeat` takes."""


def answer(request: Request | Error, caller: str) -> dict[str, Any]:
    """Carries the request out, if it is one: `{"id":7,"ok":…}` or `{"id":7,"error":{…}}`."""
    if isinstance(request, Error):
        return {"id": None, **shown(request)}
    return {"id": request.id, **shown(request.run(caller))}


def shown(outcome: Any) -> dict[str, Any]:
    """What a function of the contract may answer, as JSON has it: records are objects."""
    value = dataclasses.asdict(outcome) if dataclasses.is_dataclass(outcome) else outcome  # type: ignore[arg-type]
    return {"error" if isinstance(outcome, Error) else "ok": value}


def _invalid(message: str) -> Error:
    return Error("invalid-argument", message)
