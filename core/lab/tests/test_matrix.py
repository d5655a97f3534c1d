"""What the matrix says about pairs that could not talk."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

from axoneme.core.lab import matrix
from axoneme.core.lab.matrix import Cell
from axoneme.core.lab.probe import Order, Result
from axoneme.core.lab.targets import Place

ADDRESSES = (ip_address("10.0.0.1"), ip_address("fd00::1"))


def cell(to: str, port: int, family: int = 4, verdict: str = "denied", why: str = "Nope") -> Cell:
    """An attempt of a/one that ended so."""
    source, target = (Place(name, "pod", ADDRESSES, Path("/x")) for name in ("a/one", to))
    reason = why if verdict == "denied" else None
    return Cell(Order(source, target, family, "tcp", port), Result(verdict, drop_reason=reason))


def test_families_and_ports_of_a_pair_share_a_line() -> None:
    """As long as the same families of each port were refused."""
    cells = [cell("a/two", port, family) for port in (80, 443) for family in (4, 6)]
    cells += [cell("a/two", 53, 6), cell("a/two", 53, 4, "allowed")]
    assert matrix.reasons(cells) == [
        "denied, Nope:",
        "  a/one → a/two TCP 80, TCP 443 IPv4+IPv6",
        "  a/one → a/two TCP 53 IPv6",
    ]


def test_only_a_few_pairs_a_reason_are_named() -> None:
    """Each reason has its own; the rest is counted, and how to see it is said."""
    cells = [cell(f"a/p{n}", 80) for n in range(20)] + [cell("a/q", 80, why="Other")]
    lines = matrix.reasons(cells, 2)
    assert lines[3:] == [
        "  … 18 more",
        "denied, Other:",
        "  a/one → a/q TCP 80 IPv4",
        "-v or -o json shows all",
    ]
    assert len(matrix.reasons(cells, None)) == 23


def test_the_legend_names_the_families_that_were_probed() -> None:
    """A cluster with one family has one mark a cell."""
    assert "IPv6:" in matrix.legend([cell("a/two", 80, 6)])
    assert "IPv4 then IPv6:" in matrix.legend([cell("a/two", 80, 6), cell("a/two", 80)])
