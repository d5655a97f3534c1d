"""The test kit that plugin authors get."""

from __future__ import annotations

import pytest

from axoneme.core.testing import capabilities


def test_unknown_capability_is_an_error() -> None:
    """A misspelt capability never turns into a test that is silently skipped."""
    with pytest.raises(ValueError, match="devise"):
        capabilities.missing("devise:geneve")


@pytest.mark.root
def test_device_kinds_are_asked_of_the_kernel() -> None:
    """veth exists wherever the kit is of use; a kind that nobody has ever heard of does not."""
    assert capabilities.missing("device:veth") == ""
    assert "nosuchkind" in capabilities.missing("device:nosuchkind")
