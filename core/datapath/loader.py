"""Load compiled functions: relocate their maps, ask the verifier, translate its refusal."""

from __future__ import annotations

import errno
import os
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final

from attrs import frozen

from axoneme.core.datapath import syscalls as sc
from axoneme.core.datapath.build import Source, compile_source
from axoneme.core.datapath.kinds import Kind, kind
from axoneme.core.datapath.maps import BpfMap
from axoneme.core.datapath.objects import OF_MAPS_TYPES, CompiledObject, Function, MapDef
from axoneme.core.errors import DatapathError, VerifierError

_LOG_SIZES: Final = (1 << 20, 1 << 24)
_LOG_INSTRUCTION: Final = re.compile(r"^(\d+): \(", re.M)
_TAIL_LINES: Final = 12
_PROG_INFO_SIZE: Final = 232


@frozen
class Program:
    """A loaded program. ``tag`` is the kernel's hash of its instructions."""

    name: str
    fd: int
    id: int
    tag: str
    insns: int
    kind: str = "tc"

    def stats(self) -> tuple[int, int]:
        """``(runs, nanoseconds)`` since loading, counted while BPF statistics are on."""
        raw = sc.info_by_fd(self.fd, _PROG_INFO_SIZE)
        nanoseconds, runs = struct.unpack_from("=QQ", raw, 192)
        return runs, nanoseconds

    def close(self) -> None:
        """Close the descriptor; the program lives on while it is attached or pinned."""
        os.close(self.fd)


def program_info(fd: int) -> tuple[int, str, int, str]:
    """``(id, tag, type, name)`` of a program descriptor (``struct bpf_prog_info``)."""
    raw = sc.info_by_fd(fd, _PROG_INFO_SIZE)
    prog_type, number, tag = struct.unpack_from("=II8s", raw)
    (name,) = struct.unpack_from("=16s", raw, 64)
    return number, tag.hex(), prog_type, name.split(b"\0")[0].decode()


def verified_insns(fd: int) -> int:
    """Instructions that the verifier walked through: the measure of complexity."""
    (count,) = struct.unpack_from("=I", sc.info_by_fd(fd, _PROG_INFO_SIZE), 216)
    return int(count)


def create_maps(
    definitions: Mapping[str, MapDef], have: Mapping[str, BpfMap] | None = None
) -> dict[str, BpfMap]:
    """Create the maps that are not in ``have``; templates of inner maps before their users."""
    maps = dict(have or {})
    order = sorted(definitions.values(), key=lambda d: d.type in OF_MAPS_TYPES)
    for definition in order:
        if definition.name not in maps:
            maps[definition.name] = create_map(definition, maps)
    return maps


def create_map(definition: MapDef, maps: Mapping[str, BpfMap]) -> BpfMap:
    """Create one map as declared; a map of maps takes its template from ``maps``."""
    inner = None
    if definition.type in OF_MAPS_TYPES:
        inner = maps.get(definition.inner)
        if inner is None:
            raise DatapathError(
                f"map {definition.name}: its inner map {definition.inner!r} is not declared"
            )
    made = BpfMap.create(
        definition.type,
        definition.key_size,
        definition.value_size,
        definition.max_entries,
        definition.flags,
        definition.name,
        inner=inner,
    )
    made.definition = definition
    return made


def link_code(function: Function, maps: Mapping[str, BpfMap]) -> bytes:
    """The bytecode with this process's map descriptors in it."""
    code = bytearray(function.code)
    for index, name in function.relocations:
        code[index * 8 + 4 : index * 8 + 8] = struct.pack("=i", maps[name].fd)
    return bytes(code)


def load_function(
    function: Function, maps: Mapping[str, BpfMap], of: str | Kind, *, name: str = ""
) -> Program:
    """Load one function; raises ``VerifierError`` with the source line that was refused."""
    what = of if isinstance(of, Kind) else kind(of)
    code = link_code(function, maps)
    label = name or function.name
    fd, _ = sc.prog_load(
        what.prog_type,
        code,
        name=label,
        expected_attach_type=what.attach_type,
        flags=what.load_flags,
    )
    if fd < 0:
        raise _refusal(function, what, code, label, -fd)
    number, tag, _, _ = program_info(fd)
    return Program(label, fd, number, tag, function.instructions, what.name)


def _refusal(function: Function, what: Kind, code: bytes, name: str, code_no: int) -> Exception:
    """Load again with a log, only now that it is needed."""
    if code_no == errno.EPERM:
        return DatapathError(
            f"program {name} cannot be loaded: {os.strerror(code_no)}",
            errno=code_no,
            hint="root or CAP_BPF and CAP_NET_ADMIN are needed",
        )
    text = ""
    for size in _LOG_SIZES:
        fd, text = sc.prog_load(
            what.prog_type,
            code,
            name=name,
            expected_attach_type=what.attach_type,
            flags=what.load_flags,
            log_level=1,
            log_size=size,
        )
        if fd >= 0:
            os.close(fd)
            break
        if fd != -errno.ENOSPC:
            break
    return refusal(function, name, text, os.strerror(code_no))


def refusal(function: Function, name: str, text: str, reason: str) -> VerifierError:
    """Name the source line of the last instruction in the verifier's log."""
    lines = text.rstrip().splitlines()
    seen = _LOG_INSTRUCTION.findall(text)
    file, line = function.locate(int(seen[-1])) if seen else ("", 0)
    said = [
        x for x in lines if x and not x.startswith(("processed ", "max_states", "verification"))
    ]
    message = said[-1].strip() if said else reason
    return VerifierError(
        f"program {name}: the verifier says: {message}",
        file=file,
        line=line,
        log="\n".join(lines[-_TAIL_LINES:]),
    )


class Loaded:
    """Programs and maps of one text, for tests and tools: closes what it opened."""

    def __init__(
        self, compiled: CompiledObject, maps: dict[str, BpfMap], programs: dict[str, Program]
    ) -> None:
        self.compiled = compiled
        self.maps = maps
        self.programs = programs

    def __enter__(self) -> Loaded:
        return self

    def __exit__(
        self, kind_: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every descriptor."""
        for program in self.programs.values():
            program.close()
        for each in self.maps.values():
            each.close()


def load_text(
    text: str,
    *,
    kind: str = "tc",
    flags: tuple[str, ...] = (),
    structs: tuple[str, ...] = (),
    sizes: Mapping[str, int] | None = None,
    cache_dir: Path | None = None,
    name: str = "text",
    kinds: Mapping[str, str] | None = None,
) -> Loaded:
    """Compile a text and load each of its functions as ``kind``, with fresh unpinned maps.

    ``kinds`` says by name which functions are of another one.

    ``sizes`` overrides the number of entries of maps. Quoted includes are merged by
    ``compose.merge_file`` or ``compose.merge_text`` before.
    """
    compiled = compile_source(Source(name, text, flags, structs), cache_dir)
    wanted = {
        n: d.resized(sizes[n]) if sizes and n in sizes else d for n, d in compiled.maps.items()
    }
    loaded = Loaded(compiled, create_maps(wanted), {})
    try:
        for function in compiled.functions.values():
            of = (kinds or {}).get(function.name, kind)
            loaded.programs[function.name] = load_function(function, loaded.maps, of)
    except BaseException:
        loaded.close()
        raise
    return loaded
