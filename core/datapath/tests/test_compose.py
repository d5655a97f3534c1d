"""The composed text: what gets in, in which order, under which name."""

from __future__ import annotations

from pathlib import Path

import pytest

from axoneme.core.datapath.compiler import split_marks
from axoneme.core.datapath.compose import called_points, compose, merge_file, merge_text, units
from axoneme.core.datapath.registry import DatapathRegistry
from axoneme.core.errors import CompileError, DatapathError

SKELETON = "int demo(struct __sk_buff *skb)\n{\n\treturn AXO_STAGES(first);\n}\n"


def stage_file(folder: Path, name: str) -> Path:
    path = folder / f"{name}.bpf.c"
    path.write_text(
        f"static __always_inline int {name}(struct __sk_buff *skb, struct axo_ctx *ctx)\n"
        "{\n\treturn 0x7fff;\n}\n"
    )
    return path


@pytest.fixture
def registry(tmp_path: Path) -> DatapathRegistry:
    skeleton = tmp_path / "demo.bpf.c"
    skeleton.write_text(SKELETON)
    made = DatapathRegistry(include_dirs=[])
    made.program("demo", skeleton)
    return made


def origin_of(text: str, needle: str) -> tuple[str, int]:
    plain, origins = split_marks(text)
    return next(o for line, o in zip(plain.split("\n"), origins, strict=True) if needle in line)


def test_each_line_keeps_its_file_and_number(tmp_path: Path) -> None:
    """A line after an include, and a line in it, are still named by their own file."""
    (tmp_path / "a.h").write_text("int in_header;\n")
    main = tmp_path / "main.c"
    main.write_text('int before;\n#include "a.h"\nint after;\n')
    text = merge_file(main)
    assert origin_of(text, "in_header") == (str(tmp_path / "a.h"), 1)
    assert origin_of(text, "after") == (str(main), 3)


@pytest.mark.parametrize("guard", ["#pragma once\n{}", "/* c */\n#ifndef A\n#define A\n{}#endif\n"])
def test_guarded_header_is_merged_once(tmp_path: Path, guard: str) -> None:
    """Two includes of a guarded header cost one copy."""
    (tmp_path / "a.h").write_text(guard.format("int x;\n"))
    assert merge_text('#include "a.h"\n#include "a.h"\n', [tmp_path]).count("int x;") == 1


def test_header_first_seen_under_a_condition_is_merged_again(tmp_path: Path) -> None:
    """The copy inside an inactive #if does not stand for the one outside."""
    (tmp_path / "a.h").write_text("#ifndef A\n#define A\nint x;\n#endif\n")
    text = merge_text('#if 0\n#include "a.h"\n#endif\n#include "a.h"\n', [tmp_path])
    assert text.count("int x;") == 2


def test_x_macro_header_is_merged_each_time(tmp_path: Path) -> None:
    """A header without a guard is meant to be included more than once."""
    (tmp_path / "x.h").write_text('AXO_X(1, ONE, "one")\n')
    assert merge_text('#include "x.h"\n#include "x.h"\n', [tmp_path]).count("ONE") == 2


def test_missing_include_names_file_and_line(tmp_path: Path) -> None:
    """An include that is nowhere is an error at the including line."""
    main = tmp_path / "main.c"
    main.write_text('int x;\n#include "gone.h"\n')
    with pytest.raises(CompileError) as caught:
        merge_file(main)
    assert (caught.value.file, caught.value.line) == (str(main), 2)


def test_include_cycle_is_an_error(tmp_path: Path) -> None:
    """A header that includes itself ends in an error, not in a full memory."""
    main = tmp_path / "main.c"
    main.write_text('#include "main.c"\n')
    with pytest.raises(CompileError, match="nested too deep"):
        merge_file(main)


def test_stages_run_in_order_of_number_then_registration(
    registry: DatapathRegistry, tmp_path: Path
) -> None:
    """Lower order first; equal ones as registered."""
    for name, order in (("late", 10), ("one", 0), ("two", 0), ("early", -5)):
        registry.stage("first", name, stage_file(tmp_path, name), order=order)
    composed = compose(registry, units(registry)[0])
    assert [s.function for s in composed.stages] == ["early", "one", "two", "late"]
    calls = [composed.text.index(f"= {n}(skb") for n in ("early", "one", "two", "late")]
    assert calls == sorted(calls)


def test_source_of_a_point_that_is_not_called_stays_out(
    registry: DatapathRegistry, tmp_path: Path
) -> None:
    """A program carries nothing of stages that it never runs."""
    registry.stage("elsewhere", "other", stage_file(tmp_path, "other"))
    composed = compose(registry, units(registry)[0])
    assert "other(" not in composed.text
    assert composed.points == ("first",)


def test_stage_function_that_does_not_exist_names_the_source(
    registry: DatapathRegistry, tmp_path: Path
) -> None:
    """A typing error in plugin.py points at the plugin's C file."""
    source = stage_file(tmp_path, "right")
    registry.stage("first", "wrong", source)
    with pytest.raises(CompileError, match="wrong") as caught:
        compose(registry, units(registry)[0])
    assert caught.value.file == str(source)


def test_points_in_comments_and_definitions_do_not_count() -> None:
    """Only calls are call sites."""
    text = "/* AXO_STAGES(a) */ // AXO_STAGES(b)\n#define AXO_STAGES(point) x\nAXO_STAGES(c)\n"
    assert called_points(text) == ["c"]


def test_contradicting_defines_are_refused(registry: DatapathRegistry) -> None:
    """Two plugins cannot silently overwrite each other's constant."""
    registry.define("AXO_A", 1)
    registry.define("AXO_A", True)
    with pytest.raises(DatapathError, match="two values"):
        registry.define("AXO_A", 2)


def test_two_entries_of_one_skeleton_are_one_unit(registry: DatapathRegistry) -> None:
    """A skeleton is compiled once, however many entry functions it has."""
    registry.program("other", registry.programs["demo"].skeleton)
    assert [[p.name for p in u.programs] for u in units(registry)] == [["demo", "other"]]
