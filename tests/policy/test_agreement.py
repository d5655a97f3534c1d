"""The reference, the engine and the program agree on generated policies of every kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings

from tests.policy.agreement import HOST, RELAXED, cases, compare
from tests.policy.program import Program

ENGINE: Counter[str] = Counter()
KERNEL: Counter[str] = Counter()


@settings(max_examples=60, deadline=None, suppress_health_check=RELAXED)
@given(cases())
def test_reference_and_engine_agree(listed: list[dict[str, Any]]) -> None:
    """Each case is every pod, peer, direction and packet."""
    compare(listed, ENGINE)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """The pods' programs, loaded once."""
    with Program.loaded(tmp_path_factory.mktemp("axot-agreement"), HOST) as loaded:
        yield loaded


@pytest.mark.root
@settings(max_examples=300, deadline=None, suppress_health_check=RELAXED)
@given(listed=cases())
def test_the_program_agrees_too(program: Program, listed: list[dict[str, Any]]) -> None:
    """A part of each case's questions, as packets through the real program with the real maps."""
    compare(listed, KERNEL, program, share=0.05)


def test_counts_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """How much was asked, and that neither answer was rare."""
    with capsys.disabled():
        print(f"\npolicy agreement: {dict(ENGINE)}")
        print(f"with the program: {dict(KERNEL)}")
    for counts, least in ((ENGINE, 1000), (KERNEL, 300)):
        if counts["cases"]:
            assert counts["allow"] > least and counts["deny"] > least
