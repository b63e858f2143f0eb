"""State of the plugin's own, in the buckets that its manifest grants under `[keyvalue]`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from componentize_py_types import Err

try:
    from wit_world.imports import (
        wasi_keyvalue_atomics_0_2_0_draft2 as atomics,
        wasi_keyvalue_batch_0_2_0_draft2 as batch,
        wasi_keyvalue_store_0_2_0_draft2 as store,
    )

    _IS_GRANTED = True
except ImportError:  # the manifest has no [keyvalue]
    _IS_GRANTED = False

from .checks import Delta, Message, Name, Names, OptionalName, Sendable, Values, as_list
from .contract import checked, to_bytes
from .types import Error

_ATTEMPTS = 100
"""How often `Bucket.update` begins anew before it gives up."""


@dataclass(frozen=True)
class Keys:
    """A part of a bucket's keys; `next` is the cursor for the next part, None at the end."""

    keys: list[str]
    next: str | None


def _error(error: Any) -> Error:
    if isinstance(error, store.Error_NoSuchStore):
        return Error("no-such-store", "there is no such bucket")
    if isinstance(error, store.Error_AccessDenied):
        return Error("access-denied", "the bucket is not granted")
    return Error("other", error.value)


_checked = checked(_error)


@_checked
def open(name: Name) -> Bucket | Error:
    """Opens a bucket that the manifest names."""
    if not _IS_GRANTED:
        return Error(
            "denied",
            f'the manifest grants no buckets: write [keyvalue] with buckets = ["{name}"] into it,'
            " run `jackfield wit`, and build again",
        )
    return Bucket(store.open(name))


class Bucket:
    """A bucket that has been opened, by `open`. Keys are texts, values are bytes."""

    def __init__(self, bucket: Any) -> None:
        self._bucket = bucket

    @_checked
    def get(self, key: Name) -> bytes | None | Error:
        """The value of this key; None where there is none."""
        value: bytes | None = self._bucket.get(key)
        return value

    @_checked
    def set(self, key: Name, value: Message) -> Error | None:
        """Gives the key this value. A dict or list is kept as its JSON text."""
        self._bucket.set(key, to_bytes(value))
        return None

    @_checked
    def delete(self, key: Name) -> Error | None:
        """Deletes the key; it is no error if there is none."""
        self._bucket.delete(key)
        return None

    @_checked
    def exists(self, key: Name) -> bool | Error:
        """Whether there is such a key."""
        return bool(self._bucket.exists(key))

    @_checked
    def keys(self, cursor: OptionalName = None) -> Keys | Error:
        """A part of the keys, at most about 1,000, in an order that the store has."""
        part = self._bucket.list_keys(cursor)
        return Keys(part.keys, part.cursor)

    @_checked
    def increment(self, key: Name, delta: Delta = 1) -> int | Error:
        """Adds to the number of this key in one step, and returns what it is now."""
        return int(atomics.increment(self._bucket, key, delta))

    @_checked
    def update(self, key: Name, change: Callable[[bytes | None], Sendable | Error]) -> bytes | Error:
        """Replaces the value by what `change` makes of it, and returns the new value.

        No other change comes in between: where one has, `change` is called again. An `Error` that
        `change` returns leaves the value as it is, and is the answer.
        """
        cas = atomics.Cas.new(self._bucket, key)
        for _ in range(_ATTEMPTS):
            new = change(cas.current())
            if isinstance(new, Error):
                return new
            if not isinstance(new, (str, bytes, dict, list)):
                raise TypeError(
                    "Bucket.update: change must return a str, bytes, a dict, a list or an Error,"
                    f" not {type(new).__name__}"
                )
            value = to_bytes(new)
            try:
                atomics.swap(cas, value)
                return value
            except Err as wrong:
                if not isinstance(wrong.value, atomics.CasError_CasFailed):
                    return _error(wrong.value.value)
                cas = wrong.value.value
        return Error("other", f"{key!r} was changed by others {_ATTEMPTS} times meanwhile")

    @_checked
    def get_many(self, keys: Names) -> list[bytes | None] | Error:
        """The values of up to 100 keys, in the order of the keys."""
        found = batch.get_many(self._bucket, as_list(keys))
        return [pair and pair[1] for pair in found]

    @_checked
    def set_many(self, values: Values) -> Error | None:
        """Gives up to 100 keys their values. Where it fails, some may have them."""
        batch.set_many(self._bucket, [(key, to_bytes(value)) for key, value in values.items()])
        return None

    @_checked
    def delete_many(self, keys: Names) -> Error | None:
        """Deletes up to 100 keys. Where it fails, some may be deleted."""
        batch.delete_many(self._bucket, as_list(keys))
        return None
