"""Names and patterns as documented, and in bounded time."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from axoneme.core import dns_names
from axoneme.core.model.policy import FqdnPeer


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("*", ["a", "a.b", "x.y.z.example.com"], []),
        ("*.cilium.io", ["sub.cilium.io", "a-b.cilium.io"], ["cilium.io", "a.b.cilium.io"]),
        ("*cilium.io", ["cilium.io", "sub-cilium.io"], ["sub.cilium.io"]),
        ("sub*.cilium.io", ["sub.cilium.io", "subs.cilium.io"], ["sub.s.cilium.io", "s.cilium.io"]),
        ("**.cilium.io", ["a.cilium.io", "a.b.c.cilium.io"], ["cilium.io", "a.cilium.iox"]),
        ("**.*.io", ["a.b.io", "x.a.b.io"], ["b.io"]),
        ("a.*.b", ["a.x.b"], ["a.b", "a.x.y.b"]),
        ("*.*", ["a.b"], ["a", "a.b.c"]),
        ("example.com", ["example.com"], ["www.example.com", "example.co"]),
        ("a*b*c.d", ["abc.d", "axxbyyc.d", "abbcc.d"], ["ab.d", "acb.d"]),
    ],
)
def test_patterns(pattern: str, yes: list[str], no: list[str]) -> None:
    """A star stays in its label; two stars in front are whole labels; one alone is everything."""
    assert [n for n in yes if not dns_names.matches(pattern, n)] == []
    assert [n for n in no if dns_names.matches(pattern, n)] == []


_LABEL = st.text("ab-*", min_size=1, max_size=6)
_NAME = st.lists(st.text("ab-", min_size=1, max_size=6), min_size=1, max_size=4).map(".".join)


@given(st.lists(_LABEL, min_size=1, max_size=4).map(".".join), _NAME)
def test_against_a_regular_expression(pattern: str, name: str) -> None:
    """The same answer as the expression that says it in another way."""
    body = re.escape(pattern.removeprefix("**.")).replace(r"\*", "[-a-z0-9_]*")
    deep = r"([-a-z0-9_]+\.)+" if pattern.startswith("**.") else ""
    wanted = pattern == "*" or re.fullmatch(deep + body, name) is not None
    assert dns_names.matches(pattern, name) == wanted


def test_a_hostile_pattern_costs_little() -> None:
    """Many stars against a long label: an exponential matcher would never come back."""
    assert not dns_names.matches("*a" * 120, "a" * 63)
    assert dns_names.matches("*a" * 60, "a" * 63)


@pytest.mark.parametrize("name", ["", ".", "a..b", "a b", "ä.de", "a" * 64, "x" * 256, "*.a"])
def test_what_is_no_name(name: str) -> None:
    """Empty labels, other characters, too long."""
    assert not dns_names.is_name(dns_names.canonical(name))


def test_case_and_final_dot() -> None:
    """Neither counts."""
    assert dns_names.canonical("WWW.Example.COM.") == "www.example.com"
    assert dns_names.peer_matches(FqdnPeer("a.b"), dns_names.canonical("A.B."))


def test_rules_as_text() -> None:
    """What a proxy gets is what the rule said."""
    rules = [dns_names.rule_text(p) for p in (FqdnPeer("a.b"), FqdnPeer(pattern="*.c"))]
    assert rules == ["name:a.b", "pattern:*.c"]
    asked = ("a.b", "x.c", "b")
    assert [dns_names.allows(rules, n) for n in asked] == [True, True, False]
