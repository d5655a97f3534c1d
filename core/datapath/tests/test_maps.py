"""Maps in the kernel: entries, batches, maps of maps, per-CPU values."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable

import pytest

from axoneme.core.datapath.maps import EXIST, NOEXIST, BpfMap, possible_cpus
from axoneme.core.errors import DatapathError, ExhaustedError

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: CAP_BPF"),
]


def key(number: int) -> bytes:
    return struct.pack("=I", number)


def pairs(count: int) -> list[tuple[bytes, bytes]]:
    return [(key(i), struct.pack("=Q", i)) for i in range(count)]


@pytest.mark.parametrize("kind", ["hash", "lru_hash"])
def test_batches_write_what_iteration_reads(kind: str) -> None:
    """40,000 entries, more than two batches, come back as they went in."""
    with BpfMap.create(kind, 4, 8, 100_000) as made:
        made.update_batch(pairs(40_000))
        assert dict(made.items()) == dict(pairs(40_000))


def test_lookup_update_delete() -> None:
    """Missing is None, deleting twice is False, flags are obeyed."""
    with BpfMap.create("hash", 4, 8, 8) as made:
        assert made.lookup(key(1)) is None
        made.update(key(1), bytes(8))
        with pytest.raises(DatapathError, match="exists"):
            made.update(key(1), bytes(8), NOEXIST)
        with pytest.raises(DatapathError, match="No such file"):
            made.update(key(2), bytes(8), EXIST)
        assert made.lookup(key(1)) == bytes(8)
        assert (made.delete(key(1)), made.delete(key(1))) == (True, False)


def test_wrong_sizes_never_reach_the_kernel() -> None:
    """The kernel would read beyond a short buffer."""
    with BpfMap.create("hash", 4, 8, 8) as made:
        calls: tuple[Callable[[], object], ...] = (
            lambda: made.update(b"abc", bytes(8)),
            lambda: made.update(key(1), bytes(7)),
            lambda: made.lookup(bytes(5)),
            lambda: made.update_batch([(key(1), bytes(8)), (key(2), bytes(7))]),
            lambda: made.delete_batch([bytes(3)]),
        )
        for call in calls:
            with pytest.raises(DatapathError):
                call()


def test_a_full_map_says_so() -> None:
    """Filling a hash beyond its size is ExhaustedError, in a batch and alone."""
    with BpfMap.create("hash", 4, 8, 4, name="axot_small") as made:
        with pytest.raises(ExhaustedError, match="axot_small is full"):
            made.update_batch(pairs(64))
        with pytest.raises(ExhaustedError):
            for number in range(100, 164):
                made.update(key(number), bytes(8))


def test_delete_batch_skips_what_is_not_there() -> None:
    """Every present key of the batch goes, whatever is between them."""
    with BpfMap.create("hash", 4, 8, 100) as made:
        made.update_batch(pairs(10))
        made.delete_batch([key(i) for i in (99, 1, 98, 97, 3, 96)])
        assert {k for k, _ in made.items()} == {key(i) for i in (0, 2, 4, 5, 6, 7, 8, 9)}


def test_replace_writes_only_the_difference() -> None:
    """One changed, one new, one gone."""
    with BpfMap.create("hash", 4, 8, 100) as made:
        made.update_batch(pairs(10))
        wanted = dict(pairs(11))
        wanted[key(3)] = struct.pack("=Q", 33)
        del wanted[key(7)]
        assert made.replace(wanted) == (2, 1)
        assert dict(made.items()) == wanted
        assert made.replace(wanted) == (0, 0)


def test_lpm_trie_without_entries_and_with() -> None:
    """A trie can be walked; its longest prefix wins."""
    with BpfMap.create("lpm_trie", 8, 4, 16, 1) as trie:
        assert list(trie.items()) == []
        trie.update(struct.pack("=I4s", 8, b"\x0a\0\0\0"), b"wide")
        trie.update(struct.pack("=I4s", 24, b"\x0a\1\2\0"), b"near")
        assert trie.lookup(struct.pack("=I4s", 32, b"\x0a\1\2\3")) == b"near"
        assert len(list(trie.items())) == 2


def test_map_of_maps_holds_its_inner_maps() -> None:
    """An inner map lives on in the outer one, and can be found again and replaced."""
    with (
        BpfMap.create("hash", 4, 8, 8) as template,
        BpfMap.create("hash_of_maps", 4, 4, 8, inner=template) as outer,
    ):
        with BpfMap.create("hash", 4, 8, 8) as inner:
            inner.update(key(5), struct.pack("=Q", 50))
            outer.set_map(key(1), inner)
        found = outer.get_map(key(1))
        assert found is not None
        with found:
            assert found.lookup(key(5)) == struct.pack("=Q", 50)
        assert outer.get_map(key(2)) is None
        assert len(list(outer.items())) == 1


def test_per_cpu_values_are_one_for_each_cpu() -> None:
    """A per-CPU value has a slot for each possible CPU."""
    cpus = possible_cpus()
    with BpfMap.create("percpu_hash", 4, 16, 8) as made:
        value = b"".join(struct.pack("=QQ", 1, cpu) for cpu in range(cpus))
        made.update(key(1), value)
        raw = made.lookup(key(1))
        assert raw is not None
        slots = [struct.unpack("=QQ", each) for each in made.cpu_values(raw)]
        assert slots == [(1, cpu) for cpu in range(cpus)]


def test_creation_error_names_the_map() -> None:
    """What the kernel refuses is said with name and sizes."""
    with pytest.raises(DatapathError, match="axot_bad"):
        BpfMap.create("hash", 4, 8, 0, name="axot_bad")
