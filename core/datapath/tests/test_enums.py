"""X-macro headers as Python enumerations."""

from __future__ import annotations

from pathlib import Path

import pytest

from axoneme.core.datapath.enums import find_enum, read_enums
from axoneme.core.datapath.registry import default_include_dirs
from axoneme.core.errors import DatapathError


def test_entries_by_macro(tmp_path: Path) -> None:
    """Numbers in both notations, with and without text, also in a continued macro."""
    header = tmp_path / "x.h"
    header.write_text(
        '#define LIST \\\n\tAXO_A(1, ONE, "the first") \\\n\tAXO_A(0x10, SIXTEEN, "later")\n'
        "AXO_B(3, THREE)\nint AXO_C(4, no);\n"
    )
    enums = read_enums(header)
    assert enums["AXO_A"].by_name == {"ONE": 1, "SIXTEEN": 16}
    assert enums["AXO_A"].text(1) == "the first"
    assert enums["AXO_B"].text(3) == "THREE"
    assert enums["AXO_A"].text(99) == "unknown (99)"
    assert "AXO_C" not in enums


def test_a_number_used_twice_is_refused(tmp_path: Path) -> None:
    """Two reasons with one number cannot be told apart."""
    header = tmp_path / "x.h"
    header.write_text('AXO_A(1, ONE, "a")\nAXO_A(1, UNO, "b")\n')
    with pytest.raises(DatapathError, match="both ONE and UNO"):
        read_enums(header)


def test_the_drop_reasons_are_there() -> None:
    """The core's own header is readable: policy has Cilium's number."""
    reasons = find_enum(default_include_dirs(), "AXO_DROP")
    assert reasons.by_name["POLICY"] == 133


def test_unknown_enumeration_is_an_error() -> None:
    """A misspelt macro is not an empty table."""
    with pytest.raises(DatapathError, match="AXO_NOPE"):
        find_enum(default_include_dirs(), "AXO_NOPE")
