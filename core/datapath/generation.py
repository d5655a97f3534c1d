"""One generation of programs: all of them loaded, verified and complete, before any is attached.

Maps named ``axoscratch_*`` and prog arrays belong to one unit of one generation, so old and new
programs never meet in them. The kernel empties a prog array when the last descriptor and pin
are gone, even while programs use it: they are pinned under ``generations/<n>/`` until the next
generation has taken over everywhere, so that tail calls also work while no agent runs.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from attrs import define, field

from axoneme.core.datapath.compose import Composed
from axoneme.core.datapath.loader import Program, create_maps, load_function
from axoneme.core.datapath.maps import BpfMap
from axoneme.core.datapath.objects import MAP_TYPES, CompiledObject, MapDef
from axoneme.core.datapath.registry import TailCall
from axoneme.core.errors import DatapathError

log = logging.getLogger(__name__)

SCRATCH: Final = "axoscratch_"


@define
class Generation:
    """``number`` rises by one with each start."""

    number: int
    programs: dict[str, Program] = field(factory=dict)
    scratch: dict[str, dict[str, BpfMap]] = field(factory=dict)
    hidden: list[Program] = field(factory=list)
    """Targets of tail calls."""

    def load(
        self,
        composed: Composed,
        compiled: CompiledObject,
        shared: Mapping[str, BpfMap],
        tail_calls: list[TailCall],
    ) -> None:
        """Load one unit; raises ``VerifierError`` or ``DatapathError``."""
        unit = composed.unit
        private = {
            n: d for n, d in compiled.maps.items() if n.startswith(SCRATCH) and n not in shared
        }
        maps = create_maps(private, shared)
        self.scratch[unit.name] = {n: maps[n] for n in private}
        for spec in unit.programs:
            if spec.entry not in compiled.functions:
                raise DatapathError(
                    f"program {spec.name}: {unit.skeleton} has no function {spec.entry}"
                )
            self.programs[spec.name] = load_function(
                compiled.functions[spec.entry], maps, spec.kind, name=spec.name
            )
        for call in tail_calls:
            function = compiled.functions.get(call.function)
            if function is None or call.array not in private:
                continue
            program = load_function(function, maps, unit.kind)
            self.hidden.append(program)
            maps[call.array].update(struct.pack("=I", call.index), struct.pack("=I", program.fd))

    def pin(self, folder: Path) -> None:
        """Keep prog arrays filled beyond this process."""
        for unit, maps in self.scratch.items():
            for name, each in maps.items():
                if each.info.type == MAP_TYPES["prog_array"]:
                    each.pin(folder / str(self.number) / f"{unit}-{name}")

    def unpin(self, folder: Path) -> None:
        """Undo :meth:`pin`, also of a part."""
        shutil.rmtree(folder / str(self.number), ignore_errors=True)

    def close(self) -> None:
        """Close every descriptor; what is attached or pinned lives on."""
        for program in [*self.programs.values(), *self.hidden]:
            program.close()
        for maps in self.scratch.values():
            for each in maps.values():
                each.close()
        self.programs.clear()
        self.hidden.clear()
        self.scratch.clear()


def next_number(folder: Path) -> int:
    """One above the generations that are pinned."""
    numbers = [int(p.name) for p in folder.iterdir() if p.name.isdigit()] if folder.exists() else []
    return max(numbers, default=0) + 1


def sweep(folder: Path, keep: int) -> None:
    """Remove the pins of all generations but one."""
    if not folder.is_dir():
        return
    for old in folder.iterdir():
        if old.name != str(keep):
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(old)


def merge_definitions(
    compiled: Mapping[str, CompiledObject], sizes: Mapping[str, int]
) -> dict[str, MapDef]:
    """The shared maps of all units; one name with two meanings is an error."""
    merged: dict[str, MapDef] = {}
    first: dict[str, str] = {}
    for unit, each in compiled.items():
        for name, definition in each.maps.items():
            if name.startswith(SCRATCH):
                continue
            if definition.type == MAP_TYPES["prog_array"]:
                raise DatapathError(
                    f"prog array {name} of {unit} would be shared by generations",
                    hint=f"name it {SCRATCH}…",
                )
            if merged.setdefault(name, definition) != definition:
                raise DatapathError(
                    f"map {name} is declared differently in {first[name]} and {unit}"
                )
            first.setdefault(name, unit)
    for each in compiled.values():  # a template may be private by name, its users are not
        merged.update(
            {d.inner: each.maps[d.inner] for d in merged.values() if d.inner in each.maps}
        )
    return {n: d.resized(sizes[n]) if n in sizes else d for n, d in merged.items()}


def templates(
    definitions: Mapping[str, MapDef], compiled: Mapping[str, CompiledObject]
) -> set[str]:
    """Maps that only show what inner maps look like: no program uses them."""
    used = {
        name
        for each in compiled.values()
        for function in each.functions.values()
        for _, name in function.relocations
    }
    return {d.inner for d in definitions.values() if d.inner} - used
