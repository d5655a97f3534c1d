"""Trying scenarios one after the other, and leaving nothing behind.

A change takes a moment to reach every node, so checks that fail are tried again until a deadline;
then, when each has come as expected once, all are tried once more: what held only because an older
state was still in force does not count.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from axoneme.core.connectivity.model import Attempt, Facts, Outcome, Scenario
from axoneme.core.errors import AxonemeError

Documents = Sequence[Mapping[str, Any]]


class World(Protocol):
    """Where scenarios are tried."""

    facts: Facts

    def prepare(self) -> None:
        """Have the workloads run, ready to be asked."""
        ...

    def apply(self, documents: Documents) -> None:
        """Create or replace objects."""
        ...

    def remove(self, documents: Documents) -> None:
        """Delete objects; those that are gone are fine."""
        ...

    def attempt(self, attempts: Sequence[Attempt]) -> None:
        """Try all at once, and write down what came of each."""
        ...

    def clean(self) -> None:
        """Remove the workloads."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


def run(
    world: World,
    scenarios: Iterable[Scenario],
    *,
    patience: float,
    tell: Callable[[int, Outcome], None] = lambda number, outcome: None,
) -> list[Outcome]:
    """Try them; ``tell`` hears of each as it ends. ``patience``: seconds for one to come true."""
    found = []
    for number, scenario in enumerate(scenarios, 1):
        outcome = _one(world, scenario, patience)
        found.append(outcome)
        tell(number, outcome)
    return found


def _one(world: World, scenario: Scenario, patience: float) -> Outcome:
    lack = world.facts.lacks(scenario)
    if lack:
        return Outcome(scenario, "skipped", problems=[lack])
    outcome, began = Outcome(scenario), time.monotonic()
    documents = scenario.documents()
    try:
        try:
            world.apply(documents)
            attempts = _attempts(scenario, world.facts)
            outcome.attempts = len(attempts)
            outcome.problems = _try(world, attempts, began + patience)
        finally:
            world.remove(documents)
    except AxonemeError as error:
        outcome.problems.append(str(error))
    outcome.seconds = time.monotonic() - began
    outcome.state = "failed" if outcome.problems else "passed"
    return outcome


def _attempts(scenario: Scenario, facts: Facts) -> list[Attempt]:
    return [
        Attempt(check, family)
        for check in scenario.checks
        for family in check.families
        if family in facts.families
    ]


def _try(world: World, attempts: list[Attempt], end: float) -> list[str]:
    while True:
        # A name is looked up before its address is tried: the policy waits for the answer.
        asked = [a for a in attempts if a.check.lookup]
        rest = [a for a in attempts if not a.check.lookup]
        for group in (asked, rest):
            if group:
                world.attempt(group)
        bad = [a for a in attempts if not a.good]
        while bad and time.monotonic() < end:
            time.sleep(0.1)
            world.attempt(bad)
            bad = [a for a in bad if not a.good]
            if not bad:
                world.attempt(attempts)
                bad = [a for a in attempts if not a.good]
        return [str(a) for a in bad]


@contextlib.contextmanager
def prepared(world: World, *, keep: bool = False) -> Any:
    """The workloads run inside the block, and are gone after it, whatever happens in it."""
    try:
        world.prepare()
        yield world
    finally:
        if not keep:
            world.clean()
