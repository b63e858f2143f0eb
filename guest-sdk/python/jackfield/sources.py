"""The author's files, which the build writes into a finished component.

Most of a build is the compilation and the start of Python itself, which are the same each time. So
they are done once, with room for the files in the memory that the component begins with. A build
writes the files into that room, and an instance imports them from there at its first event. Files
that are still what they were when Python was built have been compiled then.
"""

from __future__ import annotations

import hashlib
import marshal
import sys
import zlib
from collections.abc import Sequence
from importlib.abc import ExecutionLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import CodeType, ModuleType

_room = b""
_compiled: dict[tuple[str, bytes], CodeType] = {}


def reserve(size: int) -> None:
    """Makes the room. What is in it until the build has written, the build looks for."""
    global _room
    _room = hashlib.sha256(b"the room for the sources of a jackfield plugin").digest() * (size // 32)


def compile_ahead(files: dict[str, bytes]) -> None:
    """Compiles the modules that there are when Python is built."""
    for path, source in files.items():
        _compiled[path, source] = compile(source, path, "exec", dont_inherit=True)


def install() -> None:
    """Lets the author's modules be imported."""
    size = int.from_bytes(_room[:4], "little")
    sys.meta_path.append(_Files(marshal.loads(zlib.decompress(_room[4 : 4 + size]))))


class _Files(MetaPathFinder, ExecutionLoader):
    """Imports modules from files in memory, named `src/plugin.py`; `pkgutil.get_data` reads others."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self._files = files

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        file = self._find(fullname)
        if file is None:
            return None
        is_package = file.endswith("/__init__.py")
        spec = spec_from_loader(fullname, self, origin=file, is_package=is_package)
        if spec is not None:
            spec.has_location = True
        return spec

    def _find(self, module: str) -> str | None:
        path = "src/" + module.replace(".", "/")
        names = (path + ".py", path + "/__init__.py")
        return next((name for name in names if name in self._files), None)

    def get_filename(self, fullname: str) -> str:
        file = self._find(fullname)
        if file is None:
            raise ImportError(f"there is no module {fullname}", name=fullname)
        return file

    def get_code(self, fullname: str) -> CodeType | None:
        file = self.get_filename(fullname)
        return _compiled.get((file, self._files[file])) or super().get_code(fullname)

    def get_source(self, fullname: str) -> str:
        return self._files[self.get_filename(fullname)].decode()

    def is_package(self, fullname: str) -> bool:
        return self.get_filename(fullname).endswith("/__init__.py")

    def get_data(self, path: str) -> bytes:
        if path not in self._files:
            raise FileNotFoundError(f"there is no file {path}")
        return self._files[path]
