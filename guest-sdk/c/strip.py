"""Takes the debug information out of a wasm file and leaves the names of functions in it.

zig's linker keeps both or none. Usage: strip.py FILE
"""

import sys


def number(wasm, at):
    """The number in LEB128 at this place, and the place behind it."""
    value = shift = 0
    while True:
        byte = wasm[at]
        value |= (byte & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if byte < 0x80:
            return value, at


with open(sys.argv[1], "rb") as file:
    wasm = file.read()
kept = wasm[:8]
at = 8
while at < len(wasm):
    begin, kind = at, wasm[at]
    size, at = number(wasm, at + 1)
    length, name = number(wasm, at)
    is_debug = kind == 0 and wasm[name : name + length].startswith(b".debug")
    at += size
    if not is_debug:
        kept += wasm[begin:at]
with open(sys.argv[1], "wb") as file:
    file.write(kept)
