"""Kubernetes label selectors over plain labels, from an object's field or from a text.

Semantics are those of ``metav1.LabelSelector`` and of ``labels.Parse``: an empty selector matches
everything, and ``NotIn`` (``!=``) also matches where the key is absent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from attrs import frozen

from axoneme.core.errors import InvalidObjectError

OPERATORS: Final = ("In", "NotIn", "Exists", "DoesNotExist")
_KEY: Final = r"[A-Za-z0-9](?:[-A-Za-z0-9_./]*[A-Za-z0-9])?"
_VALUE: Final = r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?)?"
_HAS: Final = re.compile(rf"(!?)\s*({_KEY})")
_EQUALS: Final = re.compile(rf"({_KEY})\s*(==|=|!=)\s*({_VALUE})")
_SET: Final = re.compile(rf"({_KEY})\s+(in|notin)\s*\(([^()]*)\)")
_COMMA: Final = re.compile(r",(?![^(]*\))")


@frozen
class Requirement:
    """One condition on one key."""

    key: str
    operator: str
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether labels meet it."""
        if self.operator == "In":
            return labels.get(self.key) in self.values
        if self.operator == "NotIn":
            return labels.get(self.key) not in self.values
        return (self.key in labels) == (self.operator == "Exists")


@frozen
class LabelSelector:
    """Requirements that all have to be met."""

    requirements: tuple[Requirement, ...] = ()

    @classmethod
    def of(cls, labels: Mapping[str, str]) -> LabelSelector:
        """What has all these labels."""
        return cls(tuple(Requirement(k, "In", frozenset([v])) for k, v in labels.items()))

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether labels meet every requirement."""
        return all(r.matches(labels) for r in self.requirements)


def decode_selector(where: str, field: str, value: Any) -> LabelSelector:
    """A ``matchLabels`` and ``matchExpressions`` mapping; absent is empty, which matches all."""
    if value is None:
        return LabelSelector()
    if not isinstance(value, Mapping):
        raise InvalidObjectError(where, field, "must be a mapping")
    found = list(_labels(where, f"{field}.matchLabels", value.get("matchLabels")))
    expressions = value.get("matchExpressions") or ()
    if not isinstance(expressions, list | tuple):
        raise InvalidObjectError(where, f"{field}.matchExpressions", "must be a list")
    for index, item in enumerate(expressions):
        found.append(_expression(where, f"{field}.matchExpressions[{index}]", item))
    return LabelSelector(tuple(found))


def _labels(where: str, field: str, value: Any) -> Iterator[Requirement]:
    if value is not None and not isinstance(value, Mapping):
        raise InvalidObjectError(where, field, "must be a mapping")
    for key, text in (value or {}).items():
        if not isinstance(key, str) or not isinstance(text, str):
            raise InvalidObjectError(where, f"{field}.{key}", f"must be a string, not {text!r}")
        yield Requirement(key, "In", frozenset([text]))


def _expression(where: str, field: str, item: Any) -> Requirement:
    if not isinstance(item, Mapping):
        raise InvalidObjectError(where, field, "must be a mapping")
    key, operator, values = item.get("key"), item.get("operator"), item.get("values") or ()
    if not isinstance(key, str) or not key:
        raise InvalidObjectError(where, f"{field}.key", f"must be a label's key, not {key!r}")
    if operator not in OPERATORS:
        raise InvalidObjectError(
            where, f"{field}.operator", f"{operator!r} is none of {', '.join(OPERATORS)}"
        )
    if not isinstance(values, list | tuple) or not all(isinstance(v, str) for v in values):
        raise InvalidObjectError(where, f"{field}.values", "must be a list of strings")
    if bool(values) != (operator in ("In", "NotIn")):
        wanted = "must not be empty" if not values else "must be empty"
        raise InvalidObjectError(where, f"{field}.values", f"{wanted} with operator {operator}")
    return Requirement(key, operator, frozenset(values))


def parse_selector(text: str) -> LabelSelector:
    """``a=b,c!=d,e in (f,g),h,!i``; ``ValueError`` names the part that is none of these."""
    parts = [part.strip() for part in _COMMA.split(text)] if text.strip() else []
    return LabelSelector(tuple(_term(part) for part in parts))


def _term(part: str) -> Requirement:
    if found := _HAS.fullmatch(part):
        return Requirement(found[2], "DoesNotExist" if found[1] else "Exists")
    if found := _EQUALS.fullmatch(part):
        operator = "NotIn" if found[2] == "!=" else "In"
        return Requirement(found[1], operator, frozenset([found[3]]))
    if found := _SET.fullmatch(part):
        values = [value.strip() for value in found[3].split(",")]
        if all(re.fullmatch(_VALUE, value) for value in values):
            operator = "In" if found[2] == "in" else "NotIn"
            return Requirement(found[1], operator, frozenset(values))
    raise ValueError(f"{part!r} is no term of a label selector")
