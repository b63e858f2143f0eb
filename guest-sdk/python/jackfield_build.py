"""Builds the plugin of this folder: `python3 sdk/jackfield_build.py build/NAME.wasm`.

The sources are in `src`, of which `src/plugin.py` has the plugin; the world is in `wit`. What is
slow, Python with the modules that the plugin imports, is built once into `build/.python/KEY.wasm`,
and again only when the toolchain, the SDK, the world or the imports change. Sources that change
after that are compiled by each instance at its first event; after `rm -r build` none are.
"""

from __future__ import annotations

import ast
import fcntl
import hashlib
import marshal
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

SDK = Path(__file__).resolve().parent
TOOLCHAIN = Path(".toolchain")
# What builds keep, away from where a node looks for plugins.
WORK = Path("build/.python")
BASE = "[0-9a-f]" * 16 + ".wasm"
ROOM_BYTES = 64 << 10
# Each instance has all of it in its memory, of which it may have 64 MiB.
MOST_BYTES = 4 << 20
MARK = hashlib.sha256(b"the room for the sources of a jackfield plugin").digest()

# The runtime has no files, so what is imported late has to be there early: these modules are small,
# and some of them are imported by others only when a function is called (`_strptime`).
MODULES = """
_strptime abc base64 binascii bisect calendar collections.abc contextlib copy csv dataclasses datetime
decimal encodings.ascii encodings.idna encodings.latin_1 enum fractions functools hashlib heapq hmac html
io itertools jackfield.config jackfield.http jackfield.keyvalue json logging math operator random re
secrets statistics string struct textwrap time traceback typing unicodedata urllib.parse uuid zlib
""".split()

# Modules that a component has before those in `src`; Python's are a newer version's than this one here.
TAKEN = sys.stdlib_module_names | {"annotationlib", "compression"}
TAKEN_BY_SDK = re.compile(r"ahead|app|jackfield|poll_loop|wit_world|componentize_py_.*")
# The stamp of an installation says nothing of what such lines name.
OTHER_FILES = re.compile(r"^\s*(-[rce]|--(requirement|constraint|editable)\b).*", re.MULTILINE)


def main() -> None:
    output = Path(sys.argv[1] if len(sys.argv) == 2 else sys.exit(__doc__ or 2))
    WORK.mkdir(parents=True, exist_ok=True)
    with (WORK / "lock").open("w") as lock:
        # A second build of the project waits, and then finds what the first has made.
        fcntl.flock(lock, fcntl.LOCK_EX)
        for cut_off in WORK.glob("build-*"):
            shutil.rmtree(cut_off, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix="build-", dir=WORK) as scratch:
            build(output, Path(scratch))


def build(output: Path, scratch: Path) -> None:
    files = {path.as_posix(): path.read_bytes() for path in find("src")}
    if "src/plugin.py" not in files:
        sys.exit("there is no src/plugin.py")
    refuse_taken_names(files)
    if not Path("wit/world.wit").exists():
        sys.exit("there is no wit/world.wit: run `jackfield wit`")
    imports = sorted({*MODULES, *imported(files)})
    content = zlib.compress(marshal.dumps(files, 2), 9)
    if len(content) > MOST_BYTES:
        sys.exit(f"src has {len(content)} bytes, compressed, and may have {MOST_BYTES}")
    room = ROOM_BYTES
    while room < len(content) + 4:
        room *= 2
    install()
    base = python_with(imports, room, files, scratch)

    component = base.read_bytes()
    at = component.find(MARK * (room // len(MARK)))
    if at < 0:
        sys.exit(f"{base} has no room for the sources; delete it and build again")
    content = len(content).to_bytes(4, "little") + content
    output.parent.mkdir(parents=True, exist_ok=True)
    written = scratch / "plugin.wasm"
    with written.open("wb") as file:
        file.write(component[:at])
        file.write(content)
        file.write(component[at + len(content) :])
    # The output may be on another file system.
    shutil.move(written, output)


def find(folder: str) -> Iterator[Path]:
    """The files of a folder, without what tools keep there (`.mypy_cache`, `__pycache__`)."""
    for path in sorted(Path(folder).rglob("*")):
        if path.is_file() and not any(part[0] == "." or part == "__pycache__" for part in path.parts):
            yield path


def install() -> None:
    """Installs what `requirements.txt` pins into `.toolchain`, again only when it changes."""
    pins = Path("requirements.txt").read_text()
    if other := OTHER_FILES.search(pins):
        sys.exit(
            f"requirements.txt: `{other[0].strip()}` names other files, whose changes no build would notice:"
            " write the packages themselves into requirements.txt, each with its version"
        )
    # Projects may share one by a symbolic link, which `venv` would refuse.
    home = TOOLCHAIN.resolve()
    stamp = home / "jackfield-pins"
    if stamp.exists() and stamp.read_text() == pins:
        return
    print("installing requirements.txt into .toolchain", file=sys.stderr)
    shutil.rmtree(home, ignore_errors=True)
    uv = shutil.which("uv")
    if uv:
        run(uv, "venv", "--quiet", "--python", sys.executable, home)
        run(uv, "pip", "install", "--quiet", "--python", home, "-r", "requirements.txt")
    else:
        run(sys.executable, "-m", "venv", home)
        pip = home / "bin" / "pip"
        run(pip, "install", "--quiet", "--disable-pip-version-check", "-r", "requirements.txt")
    stamp.write_text(pins)


def modules(files: dict[str, bytes]) -> set[str]:
    """The names by which the plugin imports its own modules."""
    return {path.split("/")[1].removesuffix(".py") for path in files if path.endswith(".py")}


def refuse_taken_names(files: dict[str, bytes]) -> None:
    for name in sorted(modules(files)):
        if name in TAKEN or TAKEN_BY_SDK.fullmatch(name):
            path = f"src/{name}.py" if f"src/{name}.py" in files else f"src/{name}"
            whose = "Python" if name in TAKEN else "the SDK"
            sys.exit(f"{path}: {whose} has a module {name}, which would be imported in its place: rename it")


def imported(files: dict[str, bytes]) -> set[str]:
    """The modules that the plugin imports and that are not its own, wherever an import stands."""
    found: set[str] = set()
    for path, source in files.items():
        if not path.endswith(".py"):
            continue
        try:
            tree = ast.parse(source, path)
        except SyntaxError as error:
            line = (error.text or "").rstrip()
            sys.exit(f"{path}:{error.lineno}: {error.msg}\n{line}")
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                # A name may be a module, too; what is none is skipped.
                found.update(f"{node.module}.{alias.name}" for alias in node.names)
                found.add(node.module)
    own = modules(files)
    return {name for name in found if name.split(".")[0] not in own and "*" not in name}


def python_with(imports: list[str], room: int, files: dict[str, bytes], scratch: Path) -> Path:
    """A component of Python with these modules, the SDK, and room for the sources."""
    app = (
        "import importlib\n"
        "from jackfield import sources\n"
        "from jackfield.component import *\n"
        f"sources.reserve({room})\n"
        f"for name in {imports!r}:\n"
        "    try:\n"
        "        importlib.import_module(name)\n"
        "    except ModuleNotFoundError as missing:\n"
        "        # It is a name in a module, or the plugin itself says that it is missing.\n"
        "        if not f'{name}.'.startswith(f'{missing.name}.'):\n"
        "            raise\n"
        "from ahead import files\n"
        "sources.compile_ahead(files)\n"
    )
    key = hashlib.sha256(app.encode())
    inputs = [Path("requirements.txt"), *find("wit"), *sorted((SDK / "jackfield").glob("*.py"))]
    for path in inputs:
        key.update(f"\0{path.name}\0".encode() + path.read_bytes())
    base = WORK / f"{key.hexdigest()[:16]}.wasm"
    if base.exists():
        return base
    print("building Python with the modules of the plugin; this is done once", file=sys.stderr)
    (scratch / "app.py").write_text(app)
    ahead = {path: source for path, source in files.items() if path.endswith(".py")}
    (scratch / "ahead.py").write_text(f"files = {ahead!r}\n")
    (packages,) = TOOLCHAIN.glob("lib/python3*/site-packages")
    written = scratch / base.name
    run(
        TOOLCHAIN / "bin" / "componentize-py", "--wit-path", "wit", "--world", "app",
        "--full-names", "--quiet", "componentize", "app", "--output", written,
        "--python-path", scratch, "--python-path", SDK, "--python-path", packages,
    )  # fmt: skip
    for old in WORK.glob(BASE):
        old.unlink()
    written.replace(base)
    return base


def run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONUTF8": "1"})
    if done.returncode:
        # A stack of componentize-py itself tells an author nothing.
        said = (done.stdout + done.stderr).partition("Stack backtrace")[0].strip()
        sys.exit(f"{Path(command[0]).name} failed:\n{said}")


if __name__ == "__main__":
    main()
