"""Maglev's promises: everybody alike, little moves, all nodes agree."""

from __future__ import annotations

from collections import Counter

import pytest

from axoneme.plugins.services.maglev import permutation, table

SEED = b"0123456789ab"


def names(count: int) -> list[bytes]:
    """Names of backends."""
    return [b"backend %d" % n for n in range(count)]


def test_a_permutation_visits_every_row() -> None:
    """Offset and skip lead everywhere."""
    offset, skip = permutation(b"x", 251, SEED)
    assert {(offset + j * skip) % 251 for j in range(251)} == set(range(251))


@pytest.mark.parametrize("count", [1, 3, 100])
def test_shares_are_alike(count: int) -> None:
    """Nobody has more than a row above the average, nearly."""
    rows = Counter(table(names(count), 16381, SEED))
    assert len(rows) == count
    assert max(rows.values()) - min(rows.values()) <= max(2, 0.02 * 16381 / count)


def test_order_and_repetition_do_not_matter() -> None:
    """Another node lists its backends otherwise and finds the same."""
    forward = names(7)
    back = list(reversed(forward))
    one, two = table(forward, 1021, SEED), table(back, 1021, SEED)
    assert [forward[i] for i in one] == [back[i] for i in two]
    assert table(forward, 1021, b"another seed")[:50] != one[:50]


def test_removing_one_of_a_hundred_moves_few_others() -> None:
    """P12 counts rows; connections follow the rows."""
    before, every = table(names(100), 65521, SEED), names(100)
    left = every[:50] + every[51:]
    after = table(left, 65521, SEED)
    kept = [i for i in range(65521) if before[i] != 50]
    moved = sum(left[after[i]] != every[before[i]] for i in kept)
    assert moved / len(kept) <= 0.01


def test_nobody_is_nobody() -> None:
    """An empty set has an empty table."""
    assert set(table([], 251, SEED)) == {-1}
