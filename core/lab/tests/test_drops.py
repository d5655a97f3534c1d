"""Which probe a drop event belongs to."""

from __future__ import annotations

import json
from typing import Any

from axoneme.core.lab.drops import Drop, _decode


def event(**changes: Any) -> dict[str, Any]:
    """A drop as an agent describes it."""
    return {
        "type": "drop",
        "reason": 133,
        "text": "Policy denied",
        "source": {"address": "10.0.0.1", "port": 40000},
        "destination": {"address": "10.0.0.2", "port": 80},
        "protocol": 6,
        "summary": "tcp SYN",
    } | changes


def decoded(**changes: Any) -> Drop:
    """The same through the wire."""
    drop = _decode("node1", json.dumps({"event": event(**changes)}).encode())
    assert drop is not None
    return drop


def test_a_drop_belongs_to_the_attempt_or_to_its_answer() -> None:
    """By addresses and the port that was aimed at, either way round."""
    assert list(decoded().signatures()) == [
        ("tcp", "10.0.0.1", "10.0.0.2", 80),
        ("tcp", "10.0.0.2", "10.0.0.1", 40000),
    ]


def test_an_echo_request_is_never_taken_for_the_answer_to_another() -> None:
    """Two pods that ping each other at the same time are told apart."""
    request = decoded(protocol=1, summary="icmp echo-request")
    reply = decoded(protocol=58, summary="icmp6 echo-reply")
    assert list(request.signatures()) == [("icmp", "10.0.0.1", "10.0.0.2", 0)]
    assert list(reply.signatures()) == [("icmp", "10.0.0.2", "10.0.0.1", 0)]


def test_anything_else_in_the_stream_is_passed_over() -> None:
    """Losses, greetings, other types, half a line."""
    for line in (
        b'{"event": {"lost": 3}}',
        b'{"event": {"type": "trace"}}',
        b"{",
        b'{"result": 1}',
    ):
        assert _decode("node1", line) is None
