"""The whole contract over JSON: one request a text message, one answer each.

The README of `plugins/console` lists all requests; `operations.py` has them as a table.
"""

import dataclasses
from typing import Any

from jackfield import (
    Accept,
    CallError,
    Caller,
    Departure,
    Error,
    Handshake,
    Plugin,
    Refuse,
    Sendable,
    identify,
    leave_group,
    log,
    send_to_client,
    send_to_group,
)
from methods import answer_call
from request import Request, answer, shown

WATCH_CLOSE = "watch-close"
"""Who wants to hear of clients that have left joins this group."""
TIMERS = "timers"
"""Who wants to hear of timers that fire joins this group."""
ON_TIMER = "do:"
"""A timer whose name begins so carries out the request that follows (or the name of one)."""


class Console(Plugin):
    def on_connect(self, client: str, handshake: Handshake) -> Accept | Refuse:
        for text in handshake.params("say"):
            tell(client, text)
        for text in handshake.params("do"):
            request = Request.named_or_whole(text)
            if isinstance(request, Error):
                return Refuse(400, str(request))
            outcome = request.run(client)
            if isinstance(outcome, Error):
                return Refuse(400, str(outcome))
            if request.id is not None:
                tell(client, {"id": request.id, **shown(outcome)})
        status = handshake.param("refuse")
        if status is not None:
            if not status.isdecimal() or int(status) > 65535:
                return Refuse(400, f"refuse={status}: give an HTTP status, as refuse=403")
            times = handshake.param("times") or ""
            reason = handshake.param("reason") or ""
            return Refuse(int(status), reason * (int(times) if times.isdecimal() else 1))
        connected: dict[str, Any] = {"event": "connected", "client": client}
        connected["generation"] = identify().generation
        if handshake.param("handshake") == "1":
            connected["handshake"] = dataclasses.asdict(handshake)
        tell(client, connected)
        # As it is asked for: whether it can be had is for the node to say.
        return Accept(
            uid=handshake.param("uid"),
            groups=handshake.params("group"),
            info={key[5:]: value for key, value in handshake.query if key.startswith("info.")},
            subprotocol=handshake.param("subprotocol"),
        )

    def on_message(self, client: str, message: str | bytes) -> None:
        tell(client, answer(Request.of_message(message), client))

    def on_close(self, client: str, departure: Departure) -> None:
        group_hears(WATCH_CLOSE, {"event": "closed", "client": client, **dataclasses.asdict(departure)})
        group = departure.info.get("on-close-leave")
        if group is not None:
            left = leave_group(client, group)
            group_hears(WATCH_CLOSE, {"event": "on-close-leave", **shown(left)})
        text = departure.info.get("on-close")
        if text is not None:
            done = answer(Request.named_or_whole(text), client)
            group_hears(WATCH_CLOSE, {"event": "on-close", **done})

    def on_call(self, caller: Caller, method: str, payload: bytes) -> Sendable | CallError:
        return answer_call(caller, method, payload)

    def on_timer(self, name: str) -> None:
        who = identify()
        fired = {"event": "timer", "name": name, "generation": who.generation, "node": who.node}
        group_hears(TIMERS, fired)
        if name.startswith(ON_TIMER):
            # A timer is no client's: a request that means one has to name it.
            done = answer(Request.named_or_whole(name.removeprefix(ON_TIMER)), "")
            group_hears(TIMERS, {"event": "on-timer", "name": name, **done})


def tell(client: str, message: Sendable) -> None:
    """A client that has left can't be told anything, and that is no news; other errors are."""
    error = send_to_client(client, message)
    if error and error.code not in ("not-found", "closed"):
        log("warn", f"no answer went to {client}: {error}")


def group_hears(group: str, event: dict[str, Any]) -> None:
    reach = send_to_group(group, event)
    if isinstance(reach, Error):
        log("warn", f"the group {group} was not told: {reach}")
