"""Cache, rules, messages: names come and go, hostile bytes are refused, nothing else."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from ipaddress import ip_address

import dns.flags
import dns.message
import dns.rrset
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from axoneme.core.model.l7 import L7Row
from axoneme.plugins.fqdn.cache import NameCache
from axoneme.plugins.fqdn.messages import (
    BadMessageError,
    Question,
    answers_question,
    read_answers,
    read_query,
    refusal,
    with_id,
)
from axoneme.plugins.fqdn.rules import RuleBook, from_plain, to_plain
from axoneme.plugins.fqdn.sockets import BORROWED, borrowing

POD, OTHER = "10.0.0.1", "10.0.0.2"
ONE, TWO, SIX = (ip_address(a) for a in ("192.0.2.1", "192.0.2.2", "2001:db8::1"))


def test_a_name_lives_as_long_as_its_answer() -> None:
    """Then it goes, unless a connection uses the address."""
    cache = NameCache(limit=10)
    assert cache.add(POD, "a.b", [(ONE, 60), (SIX, 60)], now=0) == {ONE, SIX}
    assert cache.add(POD, "a.b", [(ONE, 10)], now=5) == set()
    assert cache.collect(59, set()) == set() and len(cache.expired(60)) == 2
    assert cache.collect(60, {(POD, ONE)}) == {SIX}
    assert cache.names(ONE) == {"a.b"} and cache.names(SIX) == set()
    assert cache.collect(61, set()) == {ONE} and cache.addresses() == []


def test_an_address_of_two_names() -> None:
    """It has both until both are gone; one endpoint's end does not take another's names."""
    cache = NameCache(limit=10)
    cache.add(POD, "a.b", [(ONE, 60)], now=0)
    cache.add(OTHER, "c.d", [(ONE, 60)], now=0)
    assert cache.names(ONE) == {"a.b", "c.d"}
    assert cache.forget([POD]) == {ONE} and cache.names(ONE) == {"c.d"}
    assert cache.forget() == {ONE} and cache.names(ONE) == set()


def test_the_first_to_end_makes_room() -> None:
    """At most so many addresses for one name of one endpoint."""
    cache = NameCache(limit=2, min_ttl=5)
    cache.add(POD, "a.b", [(ONE, 1), (TWO, 60), (SIX, 30)], now=0)
    assert set(cache.addresses()) == {TWO, SIX}


def test_names_survive_on_disk() -> None:
    """What was dumped is loaded; what cannot be read is left out."""
    cache = NameCache(limit=10)
    cache.add(POD, "a.b", [(ONE, 60), (SIX, 30)], now=100.0)
    again = NameCache(limit=10)
    again.load([*cache.dump(), ["x"], None, [POD, "n", "no address", 1]])
    assert sorted(map(str, again.rows())) == sorted(map(str, cache.rows()))
    again.load({"not": "a list"})


def test_rules() -> None:
    """The server's own row or anybody's; the port; empty rules are everything."""
    rows = [
        L7Row(300, True, 400, 17, 53, 24, "dns", ("name:a.b", "pattern:*.c")),
        L7Row(300, True, 0, 17, 53, 24, "dns", ("name:z",)),
        L7Row(300, True, 401, 0, 0, 0, "", None),
    ]
    book = RuleBook(from_plain(to_plain(r)) for r in rows)
    assert book.allows(300, 400, 17, 53, "a.b") and book.allows(300, 400, 17, 53, "x.c")
    assert book.allows(300, 999, 17, 53, "z") and not book.allows(300, 999, 17, 53, "a.b")
    assert book.allows(300, 401, 17, 53, "anything")
    assert not book.allows(300, 400, 17, 54, "a.b") and not book.allows(300, 400, 6, 53, "a.b")
    assert not book.allows(301, 400, 17, 53, "a.b")
    wide = L7Row(300, True, 400, 17, 0, 8, "dns", ("name:w",), whole=True)
    book = RuleBook(from_plain(to_plain(r)) for r in [*rows, wide])
    assert not book.allows(300, 400, 17, 53, "z"), "anybody's are weighed in already"
    assert book.allows(300, 400, 17, 53, "w") and book.allows(300, 999, 17, 53, "z")


def reply(name: str, kind: str, *records: tuple[str, int, str, str]) -> tuple[bytes, Question]:
    """An answer's bytes and its question; records are owner, TTL, type, text."""
    query = dns.message.make_query(name, kind)
    question = read_query(query.to_wire())
    response = dns.message.make_response(query)
    for owner, ttl, rtype, text in records:
        response.answer.append(dns.rrset.from_text(owner, ttl, "IN", rtype, text))
    return response.to_wire(), question


def test_answers_behind_aliases() -> None:
    """Addresses of the end of the chain count for the name; the shortest life does."""
    wire, question = reply(
        "WWW.a.b.", "A",
        ("www.a.b.", 100, "CNAME", "x.cdn."), ("x.cdn.", 20, "CNAME", "y.cdn."),
        ("y.cdn.", 60, "A", "192.0.2.1"), ("stranger.", 60, "A", "192.0.2.9"),
    )  # fmt: skip
    found = read_answers(wire, question)
    assert (found.name, found.addresses) == ("www.a.b", ((ONE, 20),))


def test_an_endless_alias_ends() -> None:
    """Two names that point at each other give nothing, and the proxy goes on."""
    wire, question = reply("a.b.", "A", ("a.b.", 1, "CNAME", "c.d."), ("c.d.", 1, "CNAME", "a.b."))
    assert read_answers(wire, question).addresses == ()


def test_refusal() -> None:
    """Both codes, with the query's id and question."""
    question = read_query(dns.message.make_query("a.b", "A", use_edns=True).to_wire())
    for code, number in (("refused", 5), ("nameError", 3)):
        answer = dns.message.from_wire(refusal(question, code))
        assert (answer.rcode(), answer.id, len(answer.question)) == (number, question.id, 1)


def test_only_the_real_answer() -> None:
    """Another id, another question, a query, an answer without one: none of them is it."""
    wire, question = reply("a.b.", "A", ("a.b.", 1, "A", "192.0.2.1"))
    other, _ = reply("x.y.", "A")
    assert answers_question(with_id(wire, 7), 7, question)
    assert not answers_question(with_id(wire, 8), 7, question)
    assert not answers_question(with_id(other, 7), 7, question)
    query = dns.message.make_query("a.b", "A").to_wire()
    assert not answers_question(with_id(query, 7), 7, question)
    bare = struct.pack("!HHHHHH", 7, 0x8180, 0, 0, 0, 0)
    assert not answers_question(bare, 7, question)


GOOD, ASKED = reply("a.b.", "A", ("a.b.", 1, "A", "192.0.2.1"))


@given(st.binary(max_size=600))
@example(b"")
@example(bytes(12))
@example(struct.pack("!HHHHHH", 1, 0x100, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1")
@example(struct.pack("!HHHHHH", 1, 0x8100, 1, 65535, 0, 0) + b"\1a\0\0\1\0\1")
def test_any_bytes(data: bytes) -> None:
    """Every message is read or refused in one way (CVE-2025-23028)."""
    for read in (read_query, lambda d: read_answers(d, ASKED)):
        with suppress(BadMessageError):
            read(data)
    answers_question(data, 1, ASKED)


@given(st.data())
def test_any_change_of_a_good_answer(data: st.DataObject) -> None:
    """One byte off: still an answer, or refused."""
    place = data.draw(st.integers(0, len(GOOD) - 1))
    byte = data.draw(st.integers(0, 255))
    changed = GOOD[:place] + bytes([byte]) + GOOD[place + 1 :]
    with suppress(BadMessageError):
        read_answers(changed, ASKED)


@pytest.mark.parametrize("flags", [dns.flags.QR, 0x2000])
def test_what_is_no_query(flags: int) -> None:
    """An answer, or another operation, is not passed on."""
    query = dns.message.make_query("a.b", "A")
    query.flags |= flags
    with pytest.raises(BadMessageError):
        read_query(query.to_wire())


@pytest.mark.root
@pytest.mark.parametrize("version", [4, 6])
def test_a_borrowed_address_is_nobody_elses_meanwhile(version: int) -> None:
    """Two sockets never share address and port, whatever kind they are of."""
    address = ip_address({4: "192.0.2.77", 6: "2001:db8::77"}[version])
    found = [borrowing(address, socket.SOCK_DGRAM) for _ in range(200)]
    try:
        ports = [s.getsockname()[1] for s in found]
        assert len(set(ports)) == 200 and set(ports) <= set(BORROWED)
        assert {s.getsockname()[0] for s in found} == {str(address)}
    finally:
        for each in found:
            each.close()
