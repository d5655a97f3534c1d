"""The compiler process: bcc, and nothing else, between stdin and stdout.

bcc keeps 135 MiB of LLVM in memory and ends its process on some errors (a stack above 512
bytes, for one), so it never runs inside the agent: this module is run as ``python -m``, reads
one JSON request, and writes one JSON answer. What clang says goes to stderr.

The text's ``#line`` marks are taken out before clang sees it, and kept as a table: bcc's own
listing of instructions by source line (the only way to name the line that the verifier refused)
works on a text without marks only, and counts lines of a text that bcc has rewritten. So each
line carries its number in a trailing comment. Numbers in messages are translated back.
"""

from __future__ import annotations

import base64
import ctypes
import json
import os
import re
import sys
from pathlib import Path
from typing import Any, Final

KERNEL_TREE: Final = Path(__file__).parent / "kernel"
MAIN_FILE: Final = "/virtual/main.c"
_DEBUG_SOURCE: Final = 0x8
_LAYOUT_PREFIX: Final = "axolayout_"
_SIZE_PREFIX: Final = "axosize_"
# bcc creates every map that the C declares, at its full size, just to compile: half a gigabyte for
# a connection table. This definition declares them with one entry, and tells the wanted number
# as the length of an array in a struct, whose layout bcc reports.
_SMALL_MAPS: Final = """#line 1 "<axoneme: maps>"
#undef BPF_F_TABLE
#define BPF_F_TABLE(_type, _key, _leaf, _name, _entries, _flags) \\
struct _name##_table_t { \\
	_key key; \\
	_leaf leaf; \\
	_leaf *(*lookup)(_key *); \\
	_leaf *(*lookup_or_init)(_key *, _leaf *); \\
	_leaf *(*lookup_or_try_init)(_key *, _leaf *); \\
	int (*update)(_key *, _leaf *); \\
	int (*insert)(_key *, _leaf *); \\
	int (*delete)(_key *); \\
	void (*call)(void *, int index); \\
	void (*increment)(_key, ...); \\
	void (*atomic_increment)(_key, ...); \\
	void *(*sk_storage_get)(void *, void *, int); \\
	int (*sk_storage_delete)(void *); \\
	u32 max_entries; \\
	int flags; \\
}; \\
__attribute__((section("maps/" _type))) \\
struct _name##_table_t _name = {.flags = (_flags), .max_entries = 1}; \\
BPF_ANNOTATE_KV_PAIR(_name, _key, _leaf); \\
struct axosize_##_name { u8 high[((_entries) >> 16) + 1]; u8 low[((_entries) & 0xffff) + 1]; }; \\
struct axosize_##_name##_table_t { \\
	u32 key; \\
	struct axosize_##_name leaf; \\
	u32 max_entries; \\
	int flags; \\
}; \\
__attribute__((section("maps/array"))) \\
struct axosize_##_name##_table_t axosize_##_name##_ = {.flags = 0, .max_entries = 1}
#line 1 "<text>"
"""
_OF_MAPS: Final = re.compile(r"BPF_(?:HASH|ARRAY)_OF_MAPS\s*\(\s*(\w+)\s*,(?:[^;]*?,)?\s*\"(\w+)\"")
_OF_MAPS_TABLE: Final = re.compile(
    r"BPF_(?:F_)?TABLE\s*\(\s*\"(?:hash|array)_of_maps\$(\w+)\"\s*,[^,]+,[^,]+,\s*(\w+)"
)
_LISTING_FUNCTION: Final = re.compile(r"^Disassembly of function (\w+)")
_LISTING_LINE: Final = re.compile(r"^; .*//@(\d+) *// Line *\d+$")
_NUMBER_COMMENT: Final = re.compile(r" //@\d+")
_POSITION: Final = re.compile(re.escape(MAIN_FILE) + r":(\d+)")
_LISTING_INSTRUCTION: Final = re.compile(r"^ *(\d+):\t")
_LD_IMM64: Final = 0x18
_PSEUDO_MAP_FD: Final = 1


def split_marks(text: str) -> tuple[str, list[tuple[str, int]]]:
    """Blank out ``#line`` marks: the text, and for each of its lines the (file, line) it is."""
    mark = re.compile(r'^\s*#\s*line\s+(\d+)(?:\s+"([^"]*)")?')
    lines, origins = [], []
    file, number = "<text>", 1
    for line in text.split("\n"):
        found = mark.match(line)
        if found:
            number = int(found[1])
            file = found[2] if found[2] is not None else file
            lines.append("")
            origins.append((file, number))
            continue
        lines.append(line)
        origins.append((file, number))
        number += 1
    return "\n".join(lines), origins


def number_lines(text: str) -> str:
    """Append its number to each line that takes a comment."""
    return "\n".join(
        line if not line.strip() or line.endswith("\\") else f"{line} //@{number}"
        for number, line in enumerate(text.split("\n"), 1)
    )


def translate_log(log: str, origins: list[tuple[str, int]]) -> str:
    """Name the real files and lines in what clang said."""

    def real(found: re.Match[str]) -> str:
        index = int(found[1]) - 1
        if not 0 <= index < len(origins):
            return found[0]
        file, line = origins[index]
        return f"{file}:{line}"

    return _POSITION.sub(real, _NUMBER_COMMENT.sub("", log))


def inner_maps(text: str) -> dict[str, str]:
    """Outer map → the map that is the template of its inner maps; bcc does not tell."""
    plain = re.sub(r"/\*.*?\*/", " ", re.sub(r"//[^\n]*", "", text), flags=re.DOTALL)
    found = dict(_OF_MAPS.findall(plain))
    found.update({outer: inner for inner, outer in _OF_MAPS_TABLE.findall(plain)})
    return found


def parse_listing(log: str, origins: list[tuple[str, int]]) -> dict[str, list[list[Any]]]:
    """bcc's listing → function → ``[first instruction, file, line]``."""
    result: dict[str, list[list[Any]]] = {}
    current: list[list[Any]] = []
    line = 0
    for row in log.splitlines():
        if found := _LISTING_FUNCTION.match(row):
            current = result.setdefault(found[1], [])
            line = 0
        elif found := _LISTING_LINE.match(row):
            line = int(found[1])
        elif (found := _LISTING_INSTRUCTION.match(row)) and 0 < line <= len(origins):
            current.append([int(found[1]), *origins[line - 1]])
            line = 0
    return result


class _Module:
    """A compiled module of libbcc; it lives as long as this process."""

    def __init__(self, text: str, flags: list[str]) -> None:
        from bcc import lib  # noqa: PLC0415 # 64 MiB: here only

        self.lib: Any = lib
        more = ctypes.CDLL("libbcc.so.0")
        more.bpf_table_name.restype = ctypes.c_char_p
        more.bpf_table_name.argtypes = [ctypes.c_void_p, ctypes.c_ulonglong]
        more.bpf_num_tables.restype = ctypes.c_ulonglong
        more.bpf_num_tables.argtypes = [ctypes.c_void_p]
        for name in ("bpf_table_key_size", "bpf_table_leaf_size"):
            getattr(more, name).restype = ctypes.c_size_t
            getattr(more, name).argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        self.more: Any = more
        array = (ctypes.c_char_p * len(flags))(*[f.encode() for f in flags])
        self.handle = lib.bpf_module_create_c_from_string(
            text.encode(), _DEBUG_SOURCE, array, len(flags), False, None
        )

    def maps(self, inner: dict[str, str]) -> tuple[dict[str, list[Any]], dict[int, str]]:
        """Map rows by name, and names by descriptor."""
        rows: dict[str, list[Any]] = {}
        descriptors: dict[int, str] = {}
        for number in range(self.more.bpf_num_tables(self.handle)):
            raw = self.more.bpf_table_name(self.handle, number)
            name = raw.decode()
            descriptors[self.lib.bpf_table_fd(self.handle, raw)] = name
            kind = self.lib.bpf_table_type_id(self.handle, number)
            ring = kind == 27
            key = json.loads(self.lib.bpf_table_key_desc(self.handle, raw) or b'""')
            value = json.loads(self.lib.bpf_table_leaf_desc(self.handle, raw) or b'""')
            rows[name] = [
                name,
                kind,
                0 if ring else self.more.bpf_table_key_size(self.handle, raw),
                0 if ring else self.more.bpf_table_leaf_size(self.handle, raw),
                self.lib.bpf_table_max_entries_id(self.handle, number),
                self.lib.bpf_table_flags_id(self.handle, number),
                inner.get(name, ""),
                key,
                value,
            ]
        for name in [n for n in rows if n.startswith(_SIZE_PREFIX)]:
            high, low = (member[2][0] - 1 for member in rows.pop(name)[8][1])
            rows[name[len(_SIZE_PREFIX) : -1]][4] = high << 16 | low
        return rows, descriptors

    def functions(self) -> dict[str, bytes]:
        """Bytecode by function name."""
        result = {}
        for number in range(self.lib.bpf_num_functions(self.handle)):
            raw = self.lib.bpf_function_name(self.handle, number)
            start = self.lib.bpf_function_start(self.handle, raw)
            size = self.lib.bpf_function_size(self.handle, raw)
            result[raw.decode()] = ctypes.string_at(start, size)
        return result


def relocate(code: bytes, names: dict[int, str]) -> tuple[bytes, list[tuple[int, str]]]:
    """Take the map descriptors out of the bytecode; they mean nothing in another process."""
    clean = bytearray(code)
    found = []
    index = 0
    while index < len(code) // 8:
        at = index * 8
        opcode, registers = code[at], code[at + 1]
        if opcode == _LD_IMM64:
            if registers >> 4 == _PSEUDO_MAP_FD:
                fd = int.from_bytes(code[at + 4 : at + 8], "little", signed=True)
                found.append((index, names[fd]))
                clean[at + 4 : at + 8] = bytes(4)
            index += 1
        index += 1
    return bytes(clean), found


def compile_request(request: dict[str, Any]) -> dict[str, Any]:
    """Compile ``text`` with ``flags``; ``structs`` are further structs whose layout is wanted.

    ``log`` is the file that stderr goes to: it survives when bcc ends the process.
    """
    text, origins = split_marks(_SMALL_MAPS + request["text"])
    for name in request["structs"]:
        text += f'\nBPF_TABLE("array", u32, struct {name}, {_LAYOUT_PREFIX}{name}, 1);'
    module = _Module(number_lines(text), request["flags"])
    log = Path(request["log"]).read_text(errors="replace")
    if not module.handle:
        return {"error": translate_log(log, origins)}
    rows, descriptors = module.maps(inner_maps(text))
    lines = parse_listing(log, origins)
    functions = []
    for name, code in module.functions().items():
        clean, relocations = relocate(code, descriptors)
        functions.append([name, base64.b64encode(clean).decode(), relocations, lines.get(name, [])])
    layouts = {n: rows.pop(_LAYOUT_PREFIX + n)[8] for n in request["structs"]}
    return {
        "functions": functions,
        "maps": list(rows.values()),
        "structs": layouts,
        "license": "GPL",
        "warnings": [x for x in translate_log(log, origins).splitlines() if ": warning: " in x],
    }


def main() -> None:
    """Read one request, write one answer, and leave without bcc's slow tear-down."""
    os.environ["BCC_KERNEL_SOURCE"] = str(KERNEL_TREE)
    answer = compile_request(json.load(sys.stdin))
    sys.stdout.write(json.dumps(answer))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
