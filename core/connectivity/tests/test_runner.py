"""Scenarios as data, and the runner's promises, on a world that is told what to answer."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence

import pytest

from axoneme.core.connectivity import report
from axoneme.core.connectivity.model import (
    ALLOWED,
    DENIED,
    REFUSED,
    Attempt,
    Check,
    Facts,
    Scenario,
)
from axoneme.core.connectivity.runner import Documents, prepared, run
from axoneme.core.connectivity.scenarios.every import ALL, chosen
from axoneme.core.connectivity.workloads import NAMESPACE, PODS
from axoneme.core.errors import AxonemeError, NotFoundError

POLICY = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n"


class Told:
    """A world that answers by a function of how often it was asked."""

    def __init__(self, answer: Callable[[int, Attempt], str], *, families: tuple[int, ...] = (4,)):
        self.facts = Facts("told", families, ("a",), False, False, {"enable-x": "false"})
        self.answer, self.rounds = answer, 0
        self.there: list[str] = []
        self.log: list[str] = []

    def prepare(self) -> None:
        self.log.append("prepare")

    def apply(self, documents: Documents) -> None:
        self.there += [d["metadata"]["name"] for d in documents]

    def remove(self, documents: Documents) -> None:
        for d in documents:
            self.there.remove(d["metadata"]["name"])

    def attempt(self, attempts: Sequence[Attempt]) -> None:
        self.rounds += 1
        for attempt in attempts:
            attempt.verdict = self.answer(self.rounds, attempt)

    def close(self) -> None:
        self.log.append("close")

    def clean(self) -> None:
        self.log.append("clean")


def scenario(*checks: Check, needs: tuple[str, ...] = ()) -> Scenario:
    """With one object."""
    return Scenario("one", "theme", "of a test", checks, POLICY, needs)


def test_a_change_may_take_a_while() -> None:
    """Denied in the third round only: passed, and nothing is left."""
    world = Told(lambda n, a: DENIED if n >= 3 else ALLOWED)
    (outcome,) = run(world, [scenario(Check("a", "b", expect=DENIED))], patience=5)
    assert outcome.state == "passed" and outcome.attempts == 1
    assert not world.there


def test_what_held_only_at_first_does_not_count() -> None:
    """One check comes true late; by then the other is no longer as it was."""
    early, late = Check("a", "b"), Check("a", "c", expect=DENIED)

    def answer(n: int, a: Attempt) -> str:
        return DENIED if n >= 2 else ALLOWED

    (outcome,) = run(Told(answer), [scenario(early, late)], patience=0.5)
    assert outcome.state == "failed"
    assert outcome.problems == ["IPv4 a → b:8080 (tcp): expected allowed, was denied"]


def test_refusals_and_families() -> None:
    """Who expects a denial takes a reset as well; who expects a reset takes no silence."""
    world = Told(lambda n, a: REFUSED if a.check.target == "r" else DENIED, families=(4, 6))
    good = scenario(Check("a", "r", expect=DENIED), Check("a", "r", expect=REFUSED))
    bad = scenario(Check("a", "s", expect=REFUSED))
    first, second = run(world, [good, bad], patience=0.2)
    assert (first.state, first.attempts) == ("passed", 4)
    assert second.state == "failed" and len(second.problems) == 2


@pytest.mark.parametrize(
    ("need", "why"),
    [
        ("two-nodes", "one node only"),
        ("outside", "no address outside is known (--external)"),
        ("from-outside", "nobody outside can be asked to connect"),
        ("enable-x=true", "enable-x is false"),
        ("enable-y=true", "enable-y is not set"),
    ],
)
def test_what_a_world_lacks_is_said(need: str, why: str) -> None:
    """Skipped, and nothing was applied."""
    world = Told(lambda n, a: ALLOWED)
    (outcome,) = run(world, [scenario(Check("a", "b"), needs=(need,))], patience=1)
    assert (outcome.state, outcome.problems) == ("skipped", [why])
    assert world.rounds == 0


def test_a_world_that_breaks_is_a_failure_and_goes_on() -> None:
    """An error of one scenario is its own; its objects go, too."""

    def answer(n: int, a: Attempt) -> str:
        if a.check.target == "bad":
            raise AxonemeError("the prober failed")
        return ALLOWED

    world = Told(answer)
    first, second = run(world, [scenario(Check("a", "bad")), scenario(Check("a", "b"))], patience=1)
    assert first.problems == ["the prober failed"] and second.state == "passed"
    assert not world.there


def test_workloads_go_after_an_interrupt() -> None:
    """Ctrl-C in the middle."""
    world = Told(lambda n, a: ALLOWED)
    with pytest.raises(KeyboardInterrupt), prepared(world):
        raise KeyboardInterrupt
    assert world.log == ["prepare", "clean"]


def test_scenarios_are_complete() -> None:
    """Names are unique, places are known, every policy has a check that it must not break."""
    names = [s.name for s in ALL]
    assert len(names) == len(set(names)) >= 30
    places = {*PODS, "host-a", "host-b", "outside", "nodeport-a", "nodeport-b"}
    for each in ALL:
        for check in each.checks:
            assert check.source in places, each.name
            assert check.target in places or check.target.startswith("svc:"), each.name
        for body in each.documents():
            space = body["metadata"].get("namespace")
            assert space == NAMESPACE or body["metadata"]["name"].startswith("axoneme-test")


def test_choosing() -> None:
    """By name, theme and pattern; a typing error gets a hint."""
    assert {s.theme for s in chosen(["services"])} == {"services"}
    assert [s.name for s in chosen(["client-egress", "!*-port"])] == ["client-egress"]
    assert "pod-to-pod" not in [s.name for s in chosen(["!pod-*"])]
    with pytest.raises(NotFoundError) as error:
        chosen(["client-ingres"])
    assert error.value.hint == "did you mean client-ingress?"


def test_reports() -> None:
    """JUnit is XML with the numbers of the table; hostile text stays text."""
    world = Told(lambda n, a: a.check.target if a.check.target == "<&>" else ALLOWED)
    outcomes = run(
        world,
        [
            scenario(Check("a", "b")),
            scenario(Check("a", "<&>")),
            scenario(Check("a", "b"), needs=("two-nodes",)),
        ],
        patience=0.1,
    )
    root = ET.fromstring(report.junit(outcomes, "told"))
    suite = root[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("3", "1", "1")
    assert [[c.tag for c in case] for case in suite] == [[], ["failure"], ["skipped"]]
    assert "<&>" in (suite[1][0].text or "")
    assert report.summary(outcomes)[-1][:5] == ("all", 1, 1, 1, 2)
