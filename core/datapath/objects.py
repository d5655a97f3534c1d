"""What the compiler hands back: bytecode, map definitions, layouts. Plain values, JSON-able."""

from __future__ import annotations

import base64
import json
from bisect import bisect_right
from typing import Any, Final

from attrs import evolve, field, frozen

from axoneme.core.datapath.layouts import Layout, layout_of

MAP_TYPES: Final = {
    "hash": 1, "array": 2, "prog_array": 3, "perf_event_array": 4, "percpu_hash": 5,
    "percpu_array": 6, "stack_trace": 7, "cgroup_array": 8, "lru_hash": 9,
    "lru_percpu_hash": 10, "lpm_trie": 11, "array_of_maps": 12, "hash_of_maps": 13,
    "devmap": 14, "sockmap": 15, "cpumap": 16, "xskmap": 17, "sockhash": 18,
    "reuseport_sockarray": 20, "queue": 22, "stack": 23, "sk_storage": 24,
    "devmap_hash": 25, "ringbuf": 27, "bloom_filter": 30,
}  # fmt: skip
"""Kernel numbers of ``enum bpf_map_type``."""
MAP_TYPE_NAMES: Final = {number: name for name, number in MAP_TYPES.items()}
PERCPU_TYPES: Final = frozenset({5, 6, 10, 21})
OF_MAPS_TYPES: Final = frozenset({12, 13})


@frozen
class MapDef:
    """A map as the C declares it. Sizes in bytes; ``inner`` names the template of the inner
    maps; the descriptions are bcc's own (see ``layouts``)."""

    name: str
    type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int = 0
    inner: str = ""
    key_desc: Any = None
    value_desc: Any = None

    @property
    def type_name(self) -> str:
        """Such as ``lru_hash``."""
        return MAP_TYPE_NAMES.get(self.type, str(self.type))

    @property
    def key(self) -> Layout:
        """Layout of the key."""
        return layout_of(self.key_desc, f"{self.name}.key")

    @property
    def value(self) -> Layout:
        """Layout of the value."""
        return layout_of(self.value_desc, f"{self.name}.value")

    def resized(self, max_entries: int) -> MapDef:
        """The same with another number of entries."""
        return evolve(self, max_entries=max_entries)


@frozen
class Function:
    """One program. ``relocations``: (instruction, map name); ``lines``: (first instruction,
    file, line), ascending."""

    name: str
    code: bytes = field(repr=False)
    relocations: tuple[tuple[int, str], ...] = ()
    lines: tuple[tuple[int, str, int], ...] = field(default=(), repr=False)

    @property
    def instructions(self) -> int:
        """Number of 8-byte instruction slots."""
        return len(self.code) // 8

    def locate(self, instruction: int) -> tuple[str, int]:
        """Source file and line of an instruction; ``("", 0)`` if unknown."""
        position = bisect_right([first for first, _, _ in self.lines], instruction) - 1
        if position < 0:
            return "", 0
        _, file, line = self.lines[position]
        return file, line


@frozen
class CompiledObject:
    """The result of compiling one text."""

    functions: dict[str, Function]
    maps: dict[str, MapDef]
    structs: dict[str, Any]
    license: str = "GPL"

    def layout(self, name: str) -> Layout:
        """Layout of a struct that was asked for, or of a map's key or value."""
        return layout_of(self.structs[name], name)


def dump(compiled: CompiledObject) -> str:
    """As JSON text."""
    return json.dumps(
        {
            "functions": [
                [f.name, base64.b64encode(f.code).decode(), f.relocations, f.lines]
                for f in compiled.functions.values()
            ],
            "maps": [
                [
                    m.name,
                    m.type,
                    m.key_size,
                    m.value_size,
                    m.max_entries,
                    m.flags,
                    m.inner,
                    m.key_desc,
                    m.value_desc,
                ]
                for m in compiled.maps.values()
            ],
            "structs": compiled.structs,
            "license": compiled.license,
        }
    )


def load(text: str) -> CompiledObject:
    """The inverse of :func:`dump`; raises ``ValueError`` or ``KeyError`` on damage."""
    raw = json.loads(text)
    functions = {
        name: Function(
            name,
            base64.b64decode(code),
            tuple((int(i), str(m)) for i, m in relocations),
            tuple((int(i), str(f), int(n)) for i, f, n in lines),
        )
        for name, code, relocations, lines in raw["functions"]
    }
    maps = {row[0]: MapDef(*row) for row in raw["maps"]}
    return CompiledObject(functions, maps, dict(raw["structs"]), str(raw["license"]))
