"""The reference and the engine agree on groups, services, names, DNS rules and modes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings

from tests.policy.agreement import RELAXED
from tests.policy.wider import cases, compare

COUNTS: Counter[str] = Counter()


@settings(max_examples=40, deadline=None, suppress_health_check=RELAXED)
@given(cases())
def test_reference_and_engine_agree(case: tuple[str, list[dict[str, Any]]]) -> None:
    """Each case is every pod, peer, direction and packet."""
    compare(*case, COUNTS)


def test_counts_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """How much was asked; which answers come how often is chance, that each comes is not."""
    with capsys.disabled():
        print(f"\nwider policy agreement: {dict(COUNTS)}")
    if COUNTS["cases"]:
        assert all(COUNTS[answer] for answer in ("allow", "deny", "redirect"))
