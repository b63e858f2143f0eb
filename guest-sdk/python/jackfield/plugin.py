"""What a plugin is: a class with the events that it wants."""

from __future__ import annotations

from .checks import Sendable
from .types import Accept, CallError, Caller, Departure, Handshake, Refuse


class Plugin:
    """Derive one class from this one, and write the events that the plugin wants.

    A node makes several instances of a component, and one object of the class in each. What the
    object keeps is a cache: other instances do not see it, and a reload or a trap ends it.
    """

    def on_start(self) -> str | None:
        """A new build is about to take over on this node. A text refuses it, and stands in the log."""
        return None

    def on_stop(self) -> None:
        """The last event of this build on this node has ended."""

    def on_connect(self, client: str, handshake: Handshake) -> Accept | Refuse | None:
        """A client asks to come in. None accepts it as it is."""
        return None

    def on_message(self, client: str, message: str | bytes) -> None:
        """A whole message of the client: a text is a str, a binary one is bytes."""

    def on_close(self, client: str, departure: Departure) -> None:
        """The client has left; calls about it answer `closed`."""

    def on_call(self, caller: Caller, method: str, payload: bytes) -> Sendable | CallError:
        """A backend or another plugin calls. A dict or list is answered as its JSON text."""
        return CallError("unknown-method", f"there is no method {method!r}")

    def on_timer(self, name: str) -> None:
        """A timer fires."""
