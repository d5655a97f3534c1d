"""The reference and the engine agree on generated policies of every kind."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings

from tests.policy.agreement import RELAXED, cases, compare

COUNTS: Counter[str] = Counter()


@settings(max_examples=60, deadline=None, suppress_health_check=RELAXED)
@given(cases())
def test_reference_and_engine_agree(listed: list[dict[str, Any]]) -> None:
    """Each case is every pod, peer, direction and packet."""
    compare(listed, COUNTS)


def test_counts_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """How much was asked, and that neither answer was rare."""
    with capsys.disabled():
        print(f"\npolicy agreement: {dict(COUNTS)}")
    if COUNTS["cases"]:
        assert COUNTS["allow"] > 1000 and COUNTS["deny"] > 1000
