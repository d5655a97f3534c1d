"""Maglev's table (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer",
NSDI 2016, section 3.4): each backend has a permutation of the rows, and they take turns at their
next free one. Equal seeds and backends give equal tables everywhere.
"""

from __future__ import annotations

import array
import hashlib
from collections.abc import Sequence


def permutation(name: bytes, size: int, seed: bytes) -> tuple[int, int]:
    """Offset and skip of a backend: row ``j`` of its permutation is ``(offset + j * skip) % size``.

    ``size`` is prime, so that every skip from 1 on visits all rows.
    """
    raw = hashlib.blake2b(name, digest_size=16, key=seed).digest()
    offset = int.from_bytes(raw[:8], "big") % size
    return offset, int.from_bytes(raw[8:], "big") % (size - 1) + 1


def table(names: Sequence[bytes], size: int, seed: bytes) -> array.array[int]:
    """For each row the index of a backend in ``names``, whose order does not matter."""
    order = sorted(range(len(names)), key=lambda i: names[i])
    rows = array.array("i", [-1]) * size
    if not order:
        return rows
    turns = [[i, *permutation(names[i], size, seed)] for i in order]
    left = size
    while True:
        for turn in turns:
            index, at, skip = turn
            while rows[at] >= 0:
                at += skip
                if at >= size:
                    at -= size
            rows[at] = index
            turn[1] = at
            left -= 1
            if not left:
                return rows
