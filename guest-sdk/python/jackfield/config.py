"""The plugin's settings: `[config]` of its manifest."""

from __future__ import annotations

from wit_world.imports import wasi_config_store_0_2_0_rc_1 as store

from .checks import Name
from .contract import checked
from .types import Error

_checked = checked(lambda error: Error("internal", error.value))


@_checked
def get(name: Name) -> str | None | Error:
    """The setting of this name; None where there is none. A node that has the manifest gives no Error."""
    value: str | None = store.get(name)
    return value


@_checked
def get_all() -> dict[str, str] | Error:
    """All settings."""
    return dict(store.get_all())
