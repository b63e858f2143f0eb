"""One room: everybody hears everybody, by name."""

from jackfield import Accept, Departure, Handshake, Plugin, Refuse, get_uid_by_client_id, send_to_group


class Lobby(Plugin):
    def on_connect(self, client: str, handshake: Handshake) -> Accept | Refuse:
        name = handshake.param("name")
        if not name:
            return Refuse(400, "say ?name=")
        return Accept(uid=name, groups="lobby")

    def on_message(self, client: str, message: str | bytes) -> None:
        name = get_uid_by_client_id(client)
        if isinstance(message, str) and isinstance(name, str):
            send_to_group("lobby", f"{name}: {message}", exclude=client)

    def on_close(self, client: str, departure: Departure) -> None:
        send_to_group("lobby", f"{departure.uid} has left")
