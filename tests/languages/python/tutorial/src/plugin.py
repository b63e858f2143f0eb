"""One room: everybody hears everybody, by name, until a backend closes it."""

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
    close_group,
    get_uid_by_client_id,
    keyvalue,
    read_json,
    send_to_client,
    send_to_group,
    set_timer,
)


class Lobby(Plugin):
    def on_connect(self, client: str, handshake: Handshake) -> Accept | Refuse:
        name = handshake.param("name")
        if not name:
            return Refuse(400, "say ?name=")
        visits = count_visit(name)
        if isinstance(visits, Error):
            return Refuse(503, str(visits))
        send_to_client(client, f"welcome, {name}: visit {visits}")
        return Accept(uid=name, groups="lobby")

    def on_message(self, client: str, message: str | bytes) -> None:
        name = get_uid_by_client_id(client)
        if isinstance(message, str) and isinstance(name, str):
            send_to_group("lobby", f"{name}: {message}", exclude=client)

    def on_close(self, client: str, departure: Departure) -> None:
        send_to_group("lobby", f"{departure.uid} has left")

    def on_call(self, caller: Caller, method: str, payload: bytes) -> Sendable | CallError:
        if method != "close":
            return super().on_call(caller, method, payload)  # unknown-method
        seconds = read_json(payload)
        if not isinstance(seconds, int) or seconds < 1:
            return CallError("invalid-argument", "say how many seconds")
        error = set_timer("close", seconds * 1000, scope="cluster")
        if error:
            return CallError("failed", str(error))
        reach = send_to_group("lobby", f"the lobby closes in {seconds} s")
        return CallError("failed", str(reach)) if isinstance(reach, Error) else str(reach.clients)

    def on_timer(self, name: str) -> None:
        close_group("lobby", 4000, "the lobby is closed")


def count_visit(name: str) -> int | Error:
    visits = keyvalue.open("default")
    return visits if isinstance(visits, Error) else visits.increment(name)
