"""Label selectors as fields and as texts, and conditions in statuses."""

from __future__ import annotations

from typing import Any

import pytest

from axoneme.core.errors import InvalidObjectError
from axoneme.core.model.conditions import (
    Condition,
    has_condition,
    with_condition,
    without_condition,
)
from axoneme.core.model.selectors import LabelSelector, decode_selector, parse_selector


@pytest.mark.parametrize(
    ("text", "labels", "matches"),
    [
        ("", {}, True),
        ("a=b", {"a": "b"}, True),
        ("a == b", {"a": "c"}, False),
        ("a!=b", {}, True),
        ("a != b", {"a": "b"}, False),
        ("example.com/a", {"example.com/a": ""}, True),
        ("!a", {"a": ""}, False),
        ("! a", {}, True),
        ("a in (x, y),b notin (z)", {"a": "y"}, True),
        ("a in (x,y), b notin (z)", {"a": "x", "b": "z"}, False),
        ("a=", {"a": ""}, True),
        ("a in ()", {"a": ""}, True),
    ],
)
def test_texts(text: str, labels: dict[str, str], matches: bool) -> None:
    """The grammar of ``kubectl -l``."""
    assert parse_selector(text).matches(labels) == matches


@pytest.mark.parametrize("text", ["a=b=c", ",", "a in x", "a in (x", "a=b,", "a b", "a in (x y)"])
def test_texts_that_are_none(text: str) -> None:
    """The message names the part."""
    with pytest.raises(ValueError, match="is no term of a label selector"):
        parse_selector(text)


def test_fields() -> None:
    """Labels and expressions together; absent matches all."""
    value = {
        "matchLabels": {"a": "b"},
        "matchExpressions": [
            {"key": "c", "operator": "NotIn", "values": ["d"]},
            {"key": "e", "operator": "Exists"},
            {"key": "f", "operator": "DoesNotExist", "values": []},
        ],
    }
    selector = decode_selector("Pool p", "spec.s", value)
    assert selector.matches({"a": "b", "e": ""})
    assert not selector.matches({"a": "b", "e": "", "c": "d"})
    assert not selector.matches({"a": "b", "e": "", "f": ""})
    assert decode_selector("Pool p", "spec.s", None) == LabelSelector()


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ([], ""),
        ({"matchLabels": []}, ".matchLabels"),
        ({"matchLabels": {"a": None}}, ".matchLabels.a"),
        ({"matchExpressions": {"key": "a"}}, ".matchExpressions"),
        ({"matchExpressions": ["a"]}, ".matchExpressions[0]"),
        ({"matchExpressions": [{"operator": "Exists"}]}, ".matchExpressions[0].key"),
        ({"matchExpressions": [{"key": "a"}]}, ".matchExpressions[0].operator"),
        ({"matchExpressions": [{"key": "a", "operator": "In"}]}, ".matchExpressions[0].values"),
        (
            {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["x"]}]},
            ".matchExpressions[0].values",
        ),
    ],
)
def test_bad_fields_are_named(value: Any, field: str) -> None:
    """Object and field."""
    with pytest.raises(InvalidObjectError) as caught:
        decode_selector("Pool p", "spec.s", value)
    assert (caught.value.obj, caught.value.field) == ("Pool p", f"spec.s{field}")


def test_conditions_keep_their_time_while_their_status_stays() -> None:
    """Put, changed, removed; those of others are left alone."""
    other = {"type": "Other", "status": "True"}
    old = {
        "type": "X", "status": "True", "reason": "a", "message": "",
        "lastTransitionTime": "2020-01-01T00:00:00Z",
    }  # fmt: skip
    status = {"conditions": [other, old], "more": 1}
    assert with_condition(status, Condition("X", "True", "a")) == status
    same = with_condition(status, Condition("X", "True", "b", "text", 3))["conditions"][1]
    assert same["lastTransitionTime"] == "2020-01-01T00:00:00Z"
    assert (same["reason"], same["message"], same["observedGeneration"]) == ("b", "text", 3)
    flipped = with_condition(status, Condition("X", "False", "a"))["conditions"][1]
    assert flipped["lastTransitionTime"] > "2020-01-01T00:00:00Z"
    assert without_condition(status, "X") == {"more": 1, "conditions": [other]}
    assert without_condition({"conditions": [old]}, "X") == {}
    assert has_condition(status, "X") and not has_condition({"conditions": "bad"}, "X")
