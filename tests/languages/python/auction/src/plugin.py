"""Auctions: backends open them, clients bid, and a timer of the cluster ends them."""

import time
from typing import Any

from jackfield import (
    Accept,
    CallError,
    Caller,
    Error,
    Handshake,
    Plugin,
    Refuse,
    Sendable,
    config,
    get_uid_by_client_id,
    http,
    keyvalue,
    log,
    read_json,
    reply,
    send_to_group,
    set_timer,
)

GROUP = "auction"
ENDS = "end:"
"""What the name of a timer that ends an auction begins with; the item follows."""
SHORTEST_MS, LONGEST_MS = 10, 366 * 24 * 60 * 60 * 1000
"""The times that a timer may have."""


class Auction(Plugin):
    def on_connect(self, client: str, handshake: Handshake) -> Accept | Refuse:
        name = handshake.param("name")
        return Accept(uid=name, groups=GROUP) if name else Refuse(400, "say ?name=")

    def on_message(self, client: str, message: str | bytes) -> None:
        match read_json(message):
            case {"bid": {"item": str(item), "amount": int(amount)}} if type(amount) is int:
                self.bid(client, item, amount)
            case _:
                reply({"event": "refused", "why": 'send {"bid":{"item":…,"amount":…}}'})

    def bid(self, client: str, item: str, amount: int) -> None:
        by = get_uid_by_client_id(client)
        if isinstance(by, Error):
            log("warn", f"a bid is nobody's: {by}")
            return

        def raise_price(value: bytes | None) -> Sendable | Error:
            state = state_of(value)
            if state is None or not state["open"]:
                return Error("refused", "it is not open")
            if amount <= state["price"]:
                return Error("refused", f"the price is {state['price']}")
            end = state["end"]
            extend = extend_ms()
            if end - now() < extend:
                end = now() + extend
            return {"price": amount, "by": by, "end": end, "open": True}

        updated = update(item, raise_price)
        if isinstance(updated, Error):
            reply({"event": "refused", "item": item, "why": updated.message})
        else:
            send_to_group(GROUP, {"event": "bid", "item": item, "amount": amount, "by": by})

    def on_call(self, caller: Caller, method: str, payload: bytes) -> Sendable | CallError:
        asked = read_json(payload)
        match method, asked:
            case "open", {"item": str(item), "price": int(price), "ms": int(ms)} if item and type(price) is type(ms) is int:
                return open_item(item, price, ms)
            case "open", _:
                return CallError("invalid-argument", wrong(asked, '{"item":…,"price":…,"ms":…}'))
            case "state", {"item": str(item)}:
                return state_answer(item)
            case "state", _:
                return CallError("invalid-argument", wrong(asked, '{"item":…}'))
        return super().on_call(caller, method, payload)

    def on_timer(self, name: str) -> None:
        if name.startswith(ENDS):
            end_item(name.removeprefix(ENDS))


def open_item(item: str, price: int, ms: int) -> Sendable | CallError:
    if not SHORTEST_MS <= ms <= LONGEST_MS:
        return CallError("invalid-argument", f"ms is {ms}, and not {SHORTEST_MS} to {LONGEST_MS}")

    def begin(value: bytes | None) -> Sendable | Error:
        state = state_of(value)
        if state and state["open"]:
            return Error("open", f"{item} is open already")
        return {"price": price, "by": None, "end": now() + ms, "open": True}

    updated = update(item, begin)
    if isinstance(updated, Error):
        return CallError("invalid-argument" if updated.code == "open" else "failed", updated.message)
    timer = set_timer(ENDS + item, ms, scope="cluster")
    if timer:
        # Nothing would end it.
        update(item, closed)
        return CallError("failed", f"{item} has no timer: {timer}")
    return {"item": item, "ends_in_ms": ms}


def state_answer(item: str) -> Sendable | CallError:
    bucket = keyvalue.open("auctions")
    value = bucket if isinstance(bucket, Error) else bucket.get(item)
    if isinstance(value, Error):
        return CallError("failed", str(value))
    state = state_of(value)
    if state is None:
        return CallError("not-found", f"there is no auction of {item}")
    return {"item": item, "price": state["price"], "by": state["by"], "open": state["open"]}


def end_item(item: str) -> None:
    left = 0

    def end(value: bytes | None) -> Sendable | Error:
        nonlocal left
        state = state_of(value)
        if state is None or not state["open"]:
            return Error("over", "it is not open")
        left = state["end"] - now()
        return Error("later", "a bid has moved its end") if left > 0 else closed(value)

    ended = update(item, end)
    if not isinstance(ended, Error):
        tell_sold(item, state_of(ended) or {})
    elif ended.code == "later":
        again = set_timer(ENDS + item, max(left, SHORTEST_MS), scope="cluster")
        if again:
            log("error", f"nothing will end the auction of {item}: {again}")
    elif ended.code != "over":
        log("error", f"the auction of {item} has not ended: {ended}")


def tell_sold(item: str, state: dict[str, Any]) -> None:
    sold = {"event": "sold", "item": item, "amount": state["price"], "by": state["by"]}
    send_to_group(GROUP, sold)
    webhook = config.get("webhook")
    if isinstance(webhook, str):
        answer = http.request("POST", webhook, {"content-type": "application/json"}, sold)
        if isinstance(answer, Error):
            log("warn", f"{webhook} does not know that {item} is sold: {answer}")
        elif not answer.is_success:
            log("warn", f"{webhook} does not know that {item} is sold: it answered {answer.status}")


def closed(value: bytes | None) -> Sendable | Error:
    return {**(state_of(value) or {}), "open": False}


def update(item: str, change: Any) -> bytes | Error:
    bucket = keyvalue.open("auctions")
    return bucket if isinstance(bucket, Error) else bucket.update(item, change)


def state_of(value: bytes | None) -> dict[str, Any] | None:
    """What is known of an item: price, by, end (ms since 1970) and open. None: nothing."""
    state: dict[str, Any] | None = None if value is None else read_json(value)
    return state


def extend_ms() -> int:
    setting = config.get("extend_ms")
    return int(setting) if isinstance(setting, str) else 5000


def now() -> int:
    return int(time.time() * 1000)


def wrong(asked: Any, expected: str) -> str:
    """What was sent is no JSON, or not the JSON that is expected."""
    return f"send {expected}" + (f": {asked.message}" if isinstance(asked, Error) else "")
