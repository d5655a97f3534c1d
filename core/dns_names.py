"""DNS names and the patterns that policies match them with (Cilium's documentation, toFQDNs).

A name is compared in lower case and without its final dot. In a pattern ``*`` stands for any number
of characters of one label, never for a dot; ``**.`` in front for one or more whole labels; ``*``
alone for everything. Matching goes label by label and takes time that is bounded by the product of
two label lengths, whatever a pattern says: there is no regular expression in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from axoneme.core.model.policy import FqdnPeer

MAX_NAME: Final = 255
"""Bytes of a name (RFC 1035 §2.3.4)."""
MAX_LABEL: Final = 63

ANYTHING: Final = "*"
DEEP: Final = "**."
"""One or more labels, at the beginning of a pattern."""

_LABEL = re.compile(r"[-a-z0-9_]{1,63}")
_PATTERN_LABEL = re.compile(r"[-a-z0-9_*]{1,255}")


def canonical(name: str) -> str:
    """Lower case, without the final dot. The root is empty."""
    return name.lower().removesuffix(".")


def is_name(name: str) -> bool:
    """Whether a canonical name may stand in ``matchName``."""
    return 0 < len(name) <= MAX_NAME and all(_LABEL.fullmatch(x) for x in name.split("."))


def is_pattern(pattern: str) -> bool:
    """Whether a canonical pattern may stand in ``matchPattern``."""
    labels = pattern.split(".")
    return 0 < len(pattern) <= MAX_NAME and all(_PATTERN_LABEL.fullmatch(x) for x in labels)


def matches(pattern: str, name: str) -> bool:
    """Whether a canonical name matches a canonical pattern."""
    if pattern == ANYTHING:
        return True
    wanted, labels = pattern.split("."), name.split(".")
    if pattern.startswith(DEEP):
        rest = wanted[1:]
        if len(labels) <= len(rest):
            return False
        labels, wanted = labels[len(labels) - len(rest) :], rest
    return len(wanted) == len(labels) and all(map(_label_matches, wanted, labels))


def _label_matches(pattern: str, label: str) -> bool:
    """Classic two-pointer glob: on a mismatch only the last star gives way."""
    star, at, mark, position = -1, 0, 0, 0
    while position < len(label):
        if at < len(pattern) and pattern[at] == "*":
            star, mark = at, position
            at += 1
        elif at < len(pattern) and pattern[at] == label[position]:
            at += 1
            position += 1
        elif star >= 0:
            mark += 1
            at, position = star + 1, mark
        else:
            return False
    return pattern[at:].strip("*") == ""


def peer_matches(peer: FqdnPeer, name: str) -> bool:
    """Whether a canonical name is what a rule asks for."""
    return name == peer.name if peer.name else matches(peer.pattern, name)


NAME_RULE: Final = "name:"
PATTERN_RULE: Final = "pattern:"


def rule_text(peer: FqdnPeer) -> str:
    """A DNS rule as text, as in ``L7Rules`` of protocol ``dns``."""
    return NAME_RULE + peer.name if peer.name else PATTERN_RULE + peer.pattern


def allows(rules: Iterable[str], name: str) -> bool:
    """Whether any of some DNS rules lets a canonical name be asked for."""
    for rule in rules:
        if rule.startswith(NAME_RULE):
            if rule[len(NAME_RULE) :] == name:
                return True
        elif matches(rule.removeprefix(PATTERN_RULE), name):
            return True
    return False
