"""DNS messages, by dnspython: just what the proxy must know of them (RFC 1035, RFC 6891).

Everything here comes from pods and from servers that nobody vouches for: whatever cannot be read is
:class:`BadMessageError` and nothing else. A query is read up to its question, an answer whole.
"""

from __future__ import annotations

import struct
from ipaddress import ip_address
from typing import Any, Final

import dns.exception
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
from attrs import frozen

from axoneme.core.dns_names import canonical
from axoneme.plugins.fqdn.sockets import Address

HEADER: Final = 12
MAX_CHAIN: Final = 32
"""Aliases that are followed in one answer."""
MAX_ADDRESSES: Final = 4096

RCODES: Final = {"refused": dns.rcode.REFUSED, "nameError": dns.rcode.NXDOMAIN}


class BadMessageError(ValueError):
    """Bytes that are no DNS message that could be dealt with."""


@frozen
class Question:
    """What a query asks for. ``name`` is canonical; ``kind`` a record type's number."""

    id: int
    name: str
    kind: int
    message: Any


@frozen
class Answers:
    """Addresses that an answer gives for the name that was asked, with seconds to live."""

    name: str
    addresses: tuple[tuple[Address, int], ...]


def read_query(wire: bytes) -> Question:
    """The question of a query."""
    message = _parse(wire, question_only=True)
    if message.flags & dns.flags.QR or message.opcode() != dns.opcode.QUERY:
        raise BadMessageError("is no query")
    if len(message.question) != 1:
        raise BadMessageError("has not one question")
    asked = message.question[0]
    name = canonical(asked.name.to_text())
    return Question(message.id, name, int(asked.rdtype), message)


def with_id(wire: bytes, number: int) -> bytes:
    """The same message under another id."""
    return struct.pack("!H", number) + wire[2:]


def answers_question(wire: bytes, number: int, question: Question) -> bool:
    """Whether a message is an answer to the query that was sent under ``number``."""
    if len(wire) < HEADER or struct.unpack_from("!H", wire)[0] != number or not wire[2] & 0x80:
        return False
    try:
        message = _parse(wire, question_only=True)
    except BadMessageError:
        return False
    if not message.question:  # allowed in errors, and then nothing can be learnt
        return bool(message.rcode() != dns.rcode.NOERROR)
    asked = message.question[0]
    return (canonical(asked.name.to_text()), int(asked.rdtype)) == (question.name, question.kind)


def read_answers(wire: bytes, question: Question) -> Answers:
    """The addresses of an answer, also behind aliases; the shortest life along the way counts."""
    if question.kind not in (dns.rdatatype.A, dns.rdatatype.AAAA, dns.rdatatype.ANY):
        return Answers(question.name, ())
    message = _parse(wire, question_only=False)
    if message.rcode() != dns.rcode.NOERROR:
        return Answers(question.name, ())
    names = {question.name: 2**31 - 1}
    given = [r for r in message.answer if r.rdclass == dns.rdataclass.IN]
    aliases = [r for r in given if r.rdtype == dns.rdatatype.CNAME]
    for _ in range(min(len(aliases), MAX_CHAIN)):
        for rrset in aliases:
            owner = canonical(rrset.name.to_text())
            if owner in names:
                for record in rrset:
                    life = min(names[owner], rrset.ttl)
                    names.setdefault(canonical(record.target.to_text()), life)
    found: dict[Address, int] = {}
    for rrset in given:
        life = names.get(canonical(rrset.name.to_text()))
        if life is None or rrset.rdtype not in (dns.rdatatype.A, dns.rdatatype.AAAA):
            continue
        for record in rrset:
            if len(found) < MAX_ADDRESSES:
                found[ip_address(record.address)] = min(life, rrset.ttl)
    return Answers(question.name, tuple(found.items()))


def refusal(question: Question, rcode: str) -> bytes:
    """The answer to a query that is not allowed."""
    response = dns.message.make_response(question.message, recursion_available=True)
    response.set_rcode(RCODES[rcode])
    wire: bytes = response.to_wire()
    return wire


def _parse(wire: bytes, *, question_only: bool) -> Any:
    try:
        return dns.message.from_wire(
            wire, question_only=question_only, ignore_trailing=True, one_rr_per_rrset=False
        )
    except (dns.exception.DNSException, ValueError, struct.error, IndexError, KeyError) as error:
        raise BadMessageError(str(error) or type(error).__name__) from None
