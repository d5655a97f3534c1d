"""The file of a dump: whole or not there, for its owner alone."""

from __future__ import annotations

import json
import stat
import tarfile
from pathlib import Path

import pytest

from axoneme.core.errors import AxonemeError
from axoneme.core.sysdump.archive import MOST, Archive


def plain(data: bytes) -> bytes:
    """Nothing to hide."""
    return data


def test_names_stay_below_the_folder(tmp_path: Path) -> None:
    """Whatever a pod or a plugin calls itself."""
    with Archive(tmp_path / "d.tar.gz", plain) as archive:
        archive.add("../../etc/passwd", b"1")
        archive.add("/abs/../x", b"2")
        archive.add("a b/\x1b[31m.log", b"3")
    with tarfile.open(tmp_path / "d.tar.gz") as tar:
        names = tar.getnames()
    assert names == ["d/etc/passwd", "d/abs/x", "d/a_b/__31m.log", "d/problems.json"]
    assert stat.S_IMODE((tmp_path / "d.tar.gz").stat().st_mode) == 0o600


def test_a_part_that_fails_is_noted(tmp_path: Path) -> None:
    """The rest is there."""
    with Archive(tmp_path / "d.tar.gz", plain) as archive:
        archive.attempt("bad.json", lambda: 1 / 0)
        archive.attempt("good.json", lambda: {"a": 1})
    with tarfile.open(tmp_path / "d.tar.gz") as tar:
        found = tar.extractfile("d/problems.json")
        assert found is not None and json.load(found) == ["bad.json: division by zero"]
        assert "d/good.json" in tar.getnames() and "d/bad.json" not in tar.getnames()


def test_of_a_long_file_the_end_is_kept(tmp_path: Path) -> None:
    """What happened last is what one looks for."""
    with Archive(tmp_path / "d.tar.gz", plain) as archive:
        archive.add("long.log", b"a" * MOST + b"end")
    with tarfile.open(tmp_path / "d.tar.gz") as tar:
        found = tar.extractfile("d/long.log")
        assert found is not None
        text = found.read()
    assert text.endswith(b"end") and len(text) < MOST + 100


def test_an_error_leaves_no_file(tmp_path: Path) -> None:
    """Nor a half one; a place that cannot be written is named."""
    with pytest.raises(KeyError), Archive(tmp_path / "d.tar.gz", plain) as archive:
        archive.add("a", b"b")
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(AxonemeError, match="cannot write"):
        Archive(tmp_path / "none" / "d.tar.gz", plain)
