"""What plugins say about the packet path before it is composed.

The registry is handed to ``axoneme_register_datapath``; it only remembers. ``compose`` turns it
into one text per program.
"""

from __future__ import annotations

import importlib.util
import zlib
from pathlib import Path

from attrs import define, evolve, field, frozen

from axoneme.core.datapath.kinds import kind as kind_named
from axoneme.core.errors import DatapathError


@frozen(order=True)
class Stage:
    """A C function ``static __always_inline int function(context *, struct axo_ctx *)`` that
    runs at ``point``. Lower ``order`` first; equal ones in order of registration."""

    order: int
    number: int
    point: str
    function: str
    source: Path


@frozen
class ProgramSpec:
    """A program: the skeleton that holds its entry function. Programs of the same ``kind``."""

    name: str
    skeleton: Path
    kind: str
    entry: str


@frozen
class TailCall:
    """Slot ``index`` of the prog array ``array`` (``axoscratch_*``) runs ``function``."""

    array: str
    index: int
    function: str


def bpf_folder() -> Path:
    """Where the packet path's own C is (``axoneme.bpf``)."""
    found = importlib.util.find_spec("axoneme.bpf")
    if found is None or found.origin is None:
        raise DatapathError("the package axoneme.bpf is not installed")
    return Path(found.origin).parent


def default_include_dirs() -> list[Path]:
    """The headers that come with the packet path."""
    return [bpf_folder() / "include"]


@define
class DatapathRegistry:
    """Stages, sources, constants, map sizes and programs of one node's packet path.

    Constants depend on the configuration alone, so that all nodes share one compiled object.
    """

    stages: list[Stage] = field(factory=list)
    sources: list[tuple[Path, str | None]] = field(factory=list)
    defines: dict[str, str] = field(factory=dict)
    map_sizes: dict[str, int] = field(factory=dict)
    programs: dict[str, ProgramSpec] = field(factory=dict)
    include_dirs: list[Path] = field(factory=default_include_dirs)
    structs: list[str] = field(factory=list)
    tail_calls: list[TailCall] = field(factory=list)
    alternatives: dict[str, dict[str, int]] = field(factory=dict)
    """Point → name → number of what was registered with :meth:`alternative`."""

    def stage(self, point: str, function: str, source: Path, *, order: int = 0) -> None:
        """Run ``function`` of ``source`` (a ``.bpf.c`` file) where programs call ``point``."""
        path = self._existing(source)
        self.stages.append(Stage(order, len(self.stages), point, function, path))

    def alternative(self, point: str, name: str, function: str, source: Path) -> int:
        """A stage that is one of several to choose from by name, at run time.

        Its number, 1 to 255, follows from the name alone, so it means the same to programs of
        another generation. The C knows it as ``AXO_<POINT>_<NAME>`` and returns ``AXO_NEXT`` when
        another one is wanted. Two names with one number are an error.
        """
        number = 1 + zlib.crc32(name.encode()) % 255
        known = self.alternatives.setdefault(point, {})
        for other, taken in known.items():
            if taken == number:
                raise DatapathError(
                    f"{point}: {name!r} has the number of {other!r}", hint="choose another name"
                )
        known[name] = number
        self.define(f"AXO_{point}_{name}".upper().replace("-", "_"), number)
        self.stage(point, function, source)
        return number

    def source(self, source: Path, *, program: str | None = None) -> None:
        """Add C that has no stage (maps, tail-call programs), to one program's unit or to all."""
        self.sources.append((self._existing(source), program))

    def define(self, name: str, value: int | str | bool = 1) -> None:
        """``#define name value`` for all programs; a contradiction is an error."""
        if not name.isidentifier():
            raise DatapathError(f"define {name!r} is not a C identifier")
        text = str(int(value)) if isinstance(value, bool) else str(value)
        if self.defines.setdefault(name, text) != text:
            raise DatapathError(
                f"define {name} has two values, {self.defines[name]} and {text}",
                hint="two plugins contradict each other",
            )

    def map_size(self, name: str, max_entries: int) -> None:
        """Override the number of entries that the C declares for a map."""
        if max_entries < 1:
            raise DatapathError(f"map {name}: size {max_entries} is not positive")
        self.map_sizes[name] = max_entries

    def program(self, name: str, skeleton: Path, kind: str = "tc", entry: str = "") -> None:
        """A program, whose entry function (by default of the same name) is in ``skeleton``."""
        kind_named(kind)
        if name in self.programs:
            raise DatapathError(f"program {name} is registered twice")
        self.programs[name] = ProgramSpec(name, self._existing(skeleton), kind, entry or name)

    def tail_call(self, array: str, index: int, function: str) -> None:
        """Fill a slot of a prog array, in each unit that has both the array and the function.

        Prog arrays belong to a generation of programs: all slots are filled before the entry
        program of that generation is attached.
        """
        if not array.startswith("axoscratch_"):
            raise DatapathError(
                f"prog array {array} would be shared by generations",
                hint="name it axoscratch_…",
            )
        self.tail_calls.append(TailCall(array, index, function))

    def include_dir(self, path: Path) -> None:
        """A folder where ``#include "…"`` is looked for, after the including file's own."""
        if path not in self.include_dirs:
            self.include_dirs.append(path)

    def struct(self, name: str) -> None:
        """Ask for the layout of ``struct name`` beyond those of keys and values."""
        if name not in self.structs:
            self.structs.append(name)

    def copy(self) -> DatapathRegistry:
        """An independent copy."""
        return evolve(
            self,
            stages=list(self.stages),
            sources=list(self.sources),
            defines=dict(self.defines),
            map_sizes=dict(self.map_sizes),
            programs=dict(self.programs),
            include_dirs=list(self.include_dirs),
            structs=list(self.structs),
            tail_calls=list(self.tail_calls),
            alternatives={p: dict(n) for p, n in self.alternatives.items()},
        )

    def points(self) -> dict[str, list[Stage]]:
        """The stages of each point, in the order in which they run."""
        result: dict[str, list[Stage]] = {}
        for stage in sorted(self.stages):
            result.setdefault(stage.point, []).append(stage)
        return result

    @staticmethod
    def _existing(path: Path) -> Path:
        if not path.is_file():
            raise DatapathError(f"C source {path} does not exist")
        return path.resolve()
