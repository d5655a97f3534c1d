"""Compose one C text per skeleton: constants, stage sources, dispatchers, skeleton.

A skeleton writes ``AXO_STAGES(point)`` where plugins may take part. The composer generates
``axo_stages_<point>(skb, ctx)``, which calls the stages in order while they return ``AXO_NEXT``;
a point without stages costs no instruction. Quoted includes are merged into the text (bcc
rewrites map calls in the main text only), with ``#line`` marks that name the real file.

A skeleton may hold several entry functions; it is compiled once, as one unit.

Order of the text: constants; declarations of the dispatchers; the stage sources that this
unit calls (each includes what it needs); the dispatchers; the skeleton. A header may
therefore call ``AXO_STAGES`` itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from attrs import define, field, frozen

from axoneme.core.datapath.kinds import Kind, kind
from axoneme.core.datapath.registry import DatapathRegistry, ProgramSpec, Stage
from axoneme.core.errors import CompileError

_INCLUDE: Final = re.compile(r'^\s*#\s*include\s+(?:"([^"]+)"|<([^>]+)>)')
_ONCE: Final = re.compile(r"^\s*#\s*pragma\s+once\b")
_IF: Final = re.compile(r"^\s*#\s*if")
_ENDIF: Final = re.compile(r"^\s*#\s*endif")
_CALL: Final = re.compile(r"\bAXO_STAGES\(\s*(\w+)\s*\)")
_COMMENT: Final = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_MAX_DEPTH: Final = 32
NEXT: Final = 0x7FFF
"""``AXO_NEXT``: the stage has nothing more to say, go on."""


@frozen
class Unit:
    """The programs of one skeleton: one text, one compilation. Their kinds may differ, but not what
    they take; ``kind`` is the first one's."""

    name: str
    skeleton: Path
    kind: str
    programs: tuple[ProgramSpec, ...]


@frozen
class Composed:
    """The text of one unit, the points it calls and the stages that got in."""

    unit: Unit
    text: str
    points: tuple[str, ...]
    stages: tuple[Stage, ...]


@define
class _Merger:
    """Merges quoted includes; guarded files go in once per text."""

    include_dirs: Sequence[Path]
    once: set[Path] = field(factory=set)
    conditions: int = 0
    """Open ``#if`` around the current line, include guards not counted."""

    def merge(self, path: Path, depth: int = 0) -> list[str]:
        """The lines of a file with its includes in place, beginning with its mark."""
        try:
            text = path.read_text()
        except (OSError, UnicodeDecodeError) as exc:
            raise CompileError(f"cannot be read: {exc}", file=str(path), line=1) from exc
        return self.merge_text(text, path, depth)

    def merge_text(self, text: str, path: Path, depth: int = 0) -> list[str]:
        """The same for a text that stands for ``path``."""
        if path in self.once:
            return []
        source = text.split("\n")
        guard = _guard(source)
        if guard and not self.conditions:  # under an #if the text may not count
            self.once.add(path)
        lines = [f'#line 1 "{path}"']
        for number, line in enumerate(source, 1):
            lines.append(line)
            if number not in guard:
                self.conditions += bool(_IF.match(line)) - bool(_ENDIF.match(line))
            if _ONCE.match(line):
                lines[-1] = ""
            found = _INCLUDE.match(line)
            included = self._resolve(found, path, number) if found else None
            if included is None:
                continue
            if depth >= _MAX_DEPTH:
                raise CompileError("includes are nested too deep", file=str(path), line=number)
            lines[-1:] = self.merge(included, depth + 1)
            lines.append(f'#line {number + 1} "{path}"')
        return lines

    def _resolve(self, found: re.Match[str], path: Path, number: int) -> Path | None:
        """The file to merge; ``None`` leaves an ``#include <…>`` to the compiler."""
        quoted, angled = found[1], found[2]
        name = quoted or angled
        folders = [path.parent, *self.include_dirs] if quoted else list(self.include_dirs)
        for folder in folders:
            if (folder / name).is_file():
                return (folder / name).resolve()
        if quoted:
            raise CompileError(f"include file {name!r} not found", file=str(path), line=number)
        return None


def _guard(lines: list[str]) -> tuple[int, ...]:
    """Line numbers of the guard that spans a whole file; empty if it has none."""
    plain = _COMMENT.sub(lambda c: "\n" * c[0].count("\n"), "\n".join(lines)).split("\n")
    code = [(n, line.strip()) for n, line in enumerate(plain, 1) if line.strip()]
    if code and _ONCE.match(code[0][1]):
        return (code[0][0],)
    if len(code) < 3:
        return ()
    opening = re.match(r"#\s*ifndef\s+(\w+)$", code[0][1])
    if not opening or not re.match(rf"#\s*define\s+{opening[1]}$", code[1][1]):
        return ()
    depth = 0
    for position, (_, line) in enumerate(code):
        depth += bool(_IF.match(line)) - bool(_ENDIF.match(line))
        if depth == 0:
            return (code[0][0], code[-1][0]) if position == len(code) - 1 else ()
    return ()


def merge_file(path: Path, include_dirs: Iterable[Path] = ()) -> str:
    """A file with its quoted includes merged: ready for ``loader.load_text``."""
    return "\n".join(_Merger(list(include_dirs)).merge(path.resolve())) + "\n"


def merge_text(text: str, include_dirs: Iterable[Path] = (), name: str = "/text.bpf.c") -> str:
    """A text with its quoted includes merged; ``name`` stands in messages."""
    return "\n".join(_Merger(list(include_dirs)).merge_text(text, Path(name))) + "\n"


def called_points(text: str) -> list[str]:
    """Points of the ``AXO_STAGES(point)`` calls of a text, in order, each once."""
    plain = _COMMENT.sub(" ", text)
    code = "\n".join(x for x in plain.split("\n") if not re.match(r"\s*#\s*define\s", x))
    return list(dict.fromkeys(_CALL.findall(code)))


def units(registry: DatapathRegistry) -> list[Unit]:
    """The registered programs by skeleton; a unit is named after its file."""
    grouped: dict[tuple[Path, str], list[ProgramSpec]] = {}
    for spec in registry.programs.values():
        grouped.setdefault((spec.skeleton, kind(spec.kind).context), []).append(spec)
    return [
        Unit(skeleton.name.split(".")[0], skeleton, specs[0].kind, tuple(specs))
        for (skeleton, _), specs in grouped.items()
    ]


def compose_structs(text: str, wanted: Iterable[str]) -> tuple[str, ...]:
    """Those of the wanted structs that a text defines: not every unit includes every header."""
    return tuple(n for n in wanted if re.search(rf"\bstruct {re.escape(n)}\s*\{{", text))


def compose(registry: DatapathRegistry, unit: Unit) -> Composed:
    """The text of one unit, with the sources of just the stages that it calls."""
    by_point = registry.points()
    names = {None, unit.name, *(p.name for p in unit.programs)}
    points: list[str] = []
    files: list[Path] = [path for path, program in registry.sources if program in names]
    while True:
        merger = _Merger(registry.include_dirs)
        bodies = [merger.merge(path) for path in dict.fromkeys(files)]
        skeleton = merger.merge(unit.skeleton)
        found = called_points("\n".join(line for body in [*bodies, skeleton] for line in body))
        stages = [s for p in found for s in by_point.get(p, [])]
        wanted = list(dict.fromkeys([*files, *(s.source for s in stages)]))
        if wanted == files and found == points:
            break
        files, points = wanted, found
    lines = [
        *_head(registry, unit, points, by_point),
        *(line for body in bodies for line in body),
        f'#line 1 "<axoneme: stages of {unit.name}>"',
        *(line for p in points for line in _dispatcher(p, by_point.get(p, []), unit)),
        *skeleton,
    ]
    return Composed(unit, "\n".join(lines) + "\n", tuple(points), tuple(stages))


def _signature(point: str, of: Kind) -> str:
    return (
        f"static __always_inline int axo_stages_{point}"
        f"({of.context} *{of.argument}, struct axo_ctx *ctx)"
    )


def _head(
    registry: DatapathRegistry,
    unit: Unit,
    points: list[str],
    by_point: dict[str, list[Stage]],
) -> list[str]:
    of = kind(unit.kind)
    lines = [f'#line 1 "<axoneme: constants of {unit.name}>"']
    lines += [f"#define {name} {value}" for name, value in sorted(registry.defines.items())]
    lines += [f"#define {name}" for name in of.defines]
    lines.append(f"#define AXO_PROGRAM_{unit.name.upper()} 1")
    lines += [f"#define AXO_HAVE_{p} {len(stages)}" for p, stages in sorted(by_point.items())]
    lines.append(f"#define AXO_STAGES(point) axo_stages_##point({of.argument}, ctx)")
    lines.append(f"#define AXO_CONTEXT {of.context} *{of.argument}")
    lines.append(f"#define AXO_ARGUMENT {of.argument}")
    lines.append("struct axo_ctx;")
    lines += [f"{_signature(p, of)};" for p in points]
    return lines


def _dispatcher(point: str, stages: list[Stage], unit: Unit) -> list[str]:
    of = kind(unit.kind)
    lines = [_signature(point, of), "{", f"\tint axo_verdict = {NEXT:#x};"]
    for stage in stages:
        line = _definition_line(stage)
        lines.append(f'#line {line} "{stage.source}"')
        lines.append(f"\taxo_verdict = {stage.function}({of.argument}, ctx);")
        lines.append(f'#line {line} "{stage.source}"')
        lines.append(f"\tif (axo_verdict != {NEXT:#x}) return axo_verdict;")
    return [*lines, "\treturn axo_verdict;", "}"]


def _definition_line(stage: Stage) -> int:
    """Where the stage's function is defined; an error if the source has none of that name."""
    pattern = re.compile(rf"\b{re.escape(stage.function)}\s*\(")
    for number, line in enumerate(stage.source.read_text().split("\n"), 1):
        if pattern.search(line):
            return number
    raise CompileError(
        f"stage function {stage.function} of point {stage.point} is not defined here",
        file=str(stage.source),
        line=1,
    )
