"""What a feed saves: read back after any end of its writer, and as a whole or not at all."""

from __future__ import annotations

import gzip
import json
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from axoneme.core.k8s import saved as saving
from axoneme.core.k8s.reach import Reach
from axoneme.core.k8s.saved import DamagedError, Journal, Saved, gone, layout

SCOPE = "Pod spec.nodeName=n1"


def text(name: str, **more: str) -> bytes:
    """A slim object."""
    meta = {"name": name, "namespace": "default", "resourceVersion": "1"}
    return json.dumps({"metadata": meta, **more}).encode()


@pytest.fixture
def saved(tmp_path: Path) -> Iterator[Saved]:
    """A folder that is not there yet."""
    made = Saved(tmp_path / "objects")
    yield made
    made.close()


def settle(journal: Journal) -> None:
    """Until its base is written."""
    if journal._writing is not None:
        journal._writing.result(10)


def names(saved: Saved) -> list[str]:
    """Of what a successor reads."""
    found = saved.journal(SCOPE, "Pod").load()
    assert found is not None
    return sorted(name for _, name in found)


def test_a_successor_reads_what_was_noted_last(saved: Saved) -> None:
    """Base and log together; without them there is nothing, which is not the same as none."""
    journal = saved.journal(SCOPE, "Pod")
    assert journal.load() is None
    journal.begin([text("a"), text("b")], fresh=True)
    settle(journal)
    journal.note([text("c"), gone("default", "a"), text("b", spec="new")], list)
    found = saved.journal(SCOPE, "Pod").load()
    assert found == {("default", "b"): text("b", spec="new"), ("default", "c"): text("c")}
    assert saved.journal("Pod spec.nodeName=n2", "Pod").load() is None
    assert {p.stat().st_mode & 0o077 for p in saved.folder.iterdir()} == {0}


def test_a_line_that_a_kill_tore_was_never_acted_on(saved: Saved) -> None:
    """It is left out; what a successor notes after it counts."""
    journal = saved.journal(SCOPE, "Pod")
    journal.begin([text("a")], fresh=True)
    settle(journal)
    journal.note([text("b"), text("c")], list)
    (log,) = saved.folder.glob("*.log")
    os.truncate(log, log.stat().st_size - 7)
    assert names(saved) == ["a", "b"]
    successor = saved.journal(SCOPE, "Pod")
    successor.begin([text("a"), text("b")], fresh=False)
    successor.note([text("d")], list)
    settle(successor)
    assert names(saved) == ["a", "b", "d"]


def test_a_new_base_takes_the_place_of_a_long_log(
    saved: Saved, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is lost while it is written, and one pair of files is left."""
    monkeypatch.setattr(saving, "LEAST", 500)
    journal, present = saved.journal(SCOPE, "Pod"), {"a": text("a")}
    journal.begin(list(present.values()), fresh=True)
    for number in range(100):
        present[f"n{number}"] = text(f"n{number}")
        journal.note([present[f"n{number}"]], lambda: list(present.values()))
        if number % 10 == 0:
            settle(journal)
            assert names(saved) == sorted(present)
    settle(journal)
    assert names(saved) == sorted(present)
    assert len(list(saved.folder.glob("*.base"))) == 1
    assert len(list(saved.folder.glob("*.log"))) == 1


def test_between_two_bases_a_kill_loses_nothing(saved: Saved) -> None:
    """The new log is there, its base is not: the old base and both logs are read."""
    journal = saved.journal(SCOPE, "Pod")
    journal.begin([text("a")], fresh=True)
    settle(journal)
    journal.note([text("b")], list)
    journal.begin([text("a"), text("b")], fresh=False)
    settle(journal)
    journal.note([gone("default", "a")], list)
    (base,) = saved.folder.glob("*.2.base")
    base.unlink()
    with gzip.open(saved.folder / base.name.replace(".2.", ".1."), "wb") as file:
        head = {"format": saving.FORMAT, "layout": layout("Pod"), "count": 2}
        file.write(json.dumps(head).encode() + b"\n" + text("a") + b"\n" + text("b") + b"\n")
    assert names(saved) == ["b"]


def test_a_fresh_beginning_leaves_nothing_old_behind(saved: Saved) -> None:
    """Not even until its base is written: it would take a successor back in time."""
    journal = saved.journal(SCOPE, "Pod")
    journal.begin([text("old")], fresh=True)
    settle(journal)
    blocked = saved.journal(SCOPE, "Pod")
    blocked._thread.submit(time.sleep, 0.3)
    blocked.begin([text("new")], fresh=True)
    assert saved.journal(SCOPE, "Pod").load() is None
    settle(blocked)
    assert names(saved) == ["new"]


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 12)


def _head(**changes: object) -> Callable[[Path], None]:
    def work(path: Path) -> None:
        head, _, rest = gzip.decompress(path.read_bytes()).partition(b"\n")
        whole = json.dumps({**json.loads(head), **changes}).encode() + b"\n" + rest
        path.write_bytes(gzip.compress(whole))

    return work


def _empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("suffix", "harm", "words"),
    [
        ("base", _flip, "base"),
        ("base", _cut, "base"),
        ("base", _empty, "base"),
        ("base", lambda p: p.write_bytes(gzip.compress(b"[]\n")), "base"),
        ("base", lambda p: p.write_bytes(os.urandom(999)), "gzip"),
        ("base", _head(count=7), "holds 2 objects and should hold 7"),
        ("base", _head(format=2), "another release"),
        ("base", _head(layout="00000000"), "another release"),
        ("log", _flip, "damaged"),
        ("log", lambda p: p.write_bytes(b"hello\nworld\n"), "base"),
    ],
)
def test_what_is_damaged_is_ignored_as_a_whole(
    saved: Saved, suffix: str, harm: Callable[[Path], None], words: str
) -> None:
    """Half of the policies would be another policy. The error names the file."""
    journal = saved.journal(SCOPE, "Pod")
    journal.begin([text("a"), text("b")], fresh=True)
    settle(journal)
    journal.note([text("c"), text("d")], list)
    (path,) = saved.folder.glob(f"*.{suffix}")
    harm(path)
    with pytest.raises(DamagedError, match=words) as error:
        saved.journal(SCOPE, "Pod").load()
    assert str(saved.folder) in str(error.value)


def test_a_full_disk_leaves_nothing_rather_than_half(
    saved: Saved, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is tried again later."""
    journal = saved.journal(SCOPE, "Pod")
    journal.begin([text("a")], fresh=True)
    settle(journal)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, journal._log)
    os.close(full)
    journal.note([text("b")], list)
    assert "No space left" in journal.problem
    assert saved.journal(SCOPE, "Pod").load() is None
    journal.note([text("c")], list)
    assert saved.journal(SCOPE, "Pod").load() is None
    monkeypatch.setattr(journal, "_again", 0.0)
    journal.note([text("d")], lambda: [text("a"), text("d")])
    settle(journal)
    assert (journal.problem, names(saved)) == ("", ["a", "d"])


def test_feeds_that_are_no_more_are_forgotten(saved: Saved) -> None:
    """Nobody keeps their files up to date."""
    for scope in (SCOPE, "Service"):
        journal = saved.journal(scope, "Pod")
        journal.begin([text("a")], fresh=True)
        settle(journal)
    saved.keep_only([SCOPE])
    assert names(saved) == ["a"]
    assert saved.journal("Service", "Pod").load() is None


def test_other_fields_are_another_layout() -> None:
    """Each kind has its own; kinds that are kept whole share one."""
    assert len({layout("Pod"), layout("Node"), layout("CiliumNetworkPolicy")}) == 3
    assert layout("CiliumNetworkPolicy") == layout("CiliumCIDRGroup")


def test_an_outage_is_as_long_as_it_is_over_restarts(tmp_path: Path) -> None:
    """The successor says since when; after an answer the next one begins anew."""
    first = Reach(tmp_path)
    assert first.text() == ""
    first.lost("https://a cannot be reached: Connection refused")
    assert "Connection refused (since 2" in first.text()
    assert first.away() == ""  # a cut that lasts no moment
    second = Reach(tmp_path)
    second.lost("https://a cannot be reached: No route to host")
    assert second.since == first.since
    second.heard()
    assert (second.text(), second.seconds) == ("", 0.0)
    third = Reach(tmp_path)
    third.lost("https://a cannot be reached: Connection refused")
    assert third.since is not None and third.since > first.since  # type: ignore[operator]


@pytest.mark.parametrize("bad", ["", "yesterday", "2020-01-01T00:00:00", "9999-01-01T00:00:00Z"])
def test_a_time_that_cannot_be_is_ignored(tmp_path: Path, bad: str) -> None:
    """Then the outage begins with this process."""
    (tmp_path / "away").write_text(bad)
    reach = Reach(tmp_path)
    reach.lost("x")
    assert reach.since is not None
    assert abs(datetime.now(UTC) - reach.since) < timedelta(minutes=5)
