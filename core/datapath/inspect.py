"""Read-only views of maps and programs, for people: plain values that fit into JSON."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from attrs import frozen

from axoneme.core.datapath.layouts import Field, Layout
from axoneme.core.datapath.loader import Program, verified_insns
from axoneme.core.datapath.maps import BpfMap
from axoneme.core.datapath.objects import MAP_TYPES
from axoneme.core.datapath.typed import address_from_bytes

_COUNTED: Final = frozenset(
    MAP_TYPES[n] for n in ("hash", "lru_hash", "percpu_hash", "lpm_trie", "hash_of_maps")
)
_ADDRESS: Final = "axo_addr"


@frozen
class ProgramStats:
    """``runs`` and ``nanoseconds`` since loading; ``verified`` instructions were walked."""

    name: str
    id: int
    tag: str
    insns: int
    verified: int
    runs: int
    nanoseconds: int


def program_stats(program: Program) -> ProgramStats:
    """Ask the kernel."""
    runs, nanoseconds = program.stats()
    return ProgramStats(
        program.name,
        program.id,
        program.tag,
        program.insns,
        verified_insns(program.fd),
        runs,
        nanoseconds,
    )


def map_row(each: BpfMap) -> dict[str, Any]:
    """What ``map list`` shows; ``entries`` is ``None`` where counting makes no sense."""
    info = each.info
    return {
        "name": each.name,
        "type": info.type_name,
        "id": info.id,
        "key_size": info.key_size,
        "value_size": info.value_size,
        "max_entries": info.max_entries,
        "flags": info.flags,
        "entries": sum(1 for _ in each.items()) if info.type in _COUNTED else None,
        "memory": memory(each),
    }


def memory(each: BpfMap) -> int:
    """Bytes that the kernel holds for a map."""
    for line in Path(f"/proc/self/fdinfo/{each.fd}").read_text().splitlines():
        if line.startswith("memlock:"):
            return int(line.split()[1])
    return 0


def decode(layout: Layout, raw: bytes) -> Any:
    """Bytes of a C struct as a dictionary by field name; numbers in host order."""
    if len(layout.fields) == 1 and not layout.fields[0].name:
        return _plain(layout.fields[0], raw)
    return {f.name: _plain(f, raw) for f in layout.fields if not f.padding and not f.hidden}


def _plain(field: Field, raw: bytes) -> Any:
    part = raw[field.offset : field.offset + field.size]
    if field.struct is not None and field.struct.name == _ADDRESS and not field.count:
        return str(address_from_bytes(part))
    if field.kind == "struct" and field.struct is not None:
        return decode(field.struct, part)
    if field.kind == "scalar":
        return int.from_bytes(part, "little", signed=field.signed)
    return part.hex()


def dump(each: BpfMap, limit: int = 10_000) -> Iterator[dict[str, Any]]:
    """Entries of a map by field name; each CPU's value of a per-CPU map."""
    definition = each.definition
    for number, (key, value) in enumerate(each.items()):
        if number >= limit:
            return
        if definition is None:
            yield {"key": key.hex(), "value": value.hex()}
            continue
        values: Any = [decode(definition.value, part) for part in each.cpu_values(value)]
        yield {
            "key": decode(definition.key, key),
            "value": values if each.percpu else values[0],
        }
